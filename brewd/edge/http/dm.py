"""Direct messages over HTTP, and each route as an event on a WebSocket."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from brewd.cafe.spam import Violation
from brewd.edge.http.chat import Seq
from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.social.dm import CONTENT_MAX_CHARS, Channel, Read
from brewd.store.records import DirectMessage


class ChannelsAnswer(Struct, frozen=True):
    """The one in which something was said last comes first; at most 500."""

    channels: list[Channel]


class DmPageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """What precedes `before`, or the end."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    before: Seq | None = None


class DmMessagesAnswer(Struct, frozen=True):
    """Ascending by `seq`."""

    messages: list[DirectMessage]


class DmSendBody(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`client_msg_id` stands for the first message sent with it in this channel: sending with it again is answered with that one."""

    content: Annotated[str, Meta(min_length=1, max_length=CONTENT_MAX_CHARS)]
    client_msg_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class DmSendAnswer(Struct, frozen=True):
    """`warnings`: it went out, and the next of its kind may not."""

    message: DirectMessage
    duplicate: bool
    warnings: tuple[Violation, ...]


class DmDeleteAnswer(Struct, frozen=True):
    message: DirectMessage


class DmReadBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to `seq` is read. Less than before changes nothing, more than there is means all there is."""

    seq: Seq


class DmTypingBody(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    is_typing: bool = True


async def channels(parts: HttpParts, call: Call[Any, NoQuery]) -> ChannelsAnswer:
    return ChannelsAnswer(await parts.dms.channels(call.who))


async def messages(parts: HttpParts, call: Call[Any, DmPageQuery]) -> DmMessagesAnswer:
    return DmMessagesAnswer(await parts.dms.messages(call.who, call.ids["channelId"], limit=call.query.limit, before=call.query.before))


async def send(parts: HttpParts, call: Call[DmSendBody, NoQuery]) -> DmSendAnswer:
    sent = await parts.dms.send(call.who, call.ids["channelId"], call.body.content, call.body.client_msg_id)
    return DmSendAnswer(sent.message, sent.duplicate, sent.warnings)


async def delete(parts: HttpParts, call: Call[Any, NoQuery]) -> DmDeleteAnswer:
    return DmDeleteAnswer(await parts.dms.delete(call.who, call.ids["messageId"]))


async def read(parts: HttpParts, call: Call[DmReadBody, NoQuery]) -> Read:
    return await parts.dms.read(call.who, call.ids["channelId"], call.body.seq)


async def typing(parts: HttpParts, call: Call[DmTypingBody, NoQuery]) -> None:
    await parts.dms.typing(call.who, call.ids["channelId"], on=call.body.is_typing)


_FROM_THE_ROOM: Final = ("cafe_unavailable", "mailbox_full")

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/dm/channels",
        handler=channels,
        tag="dm",
        summary="With whom I can talk alone",
        roles=USER,
        answer=ChannelsAnswer,
        codes=_FROM_THE_ROOM,
        event="dm:channels",
    ),
    Endpoint(
        method="GET",
        path="/api/dm/<uuid:channelId>/messages",
        handler=messages,
        tag="dm",
        summary="A page of what was said in a channel",
        roles=USER,
        query=DmPageQuery,
        answer=DmMessagesAnswer,
        codes=("not_found",),
        event="dm:messages",
    ),
    Endpoint(
        method="POST",
        path="/api/dm/<uuid:channelId>/messages",
        handler=send,
        tag="dm",
        summary="Say something to the other one of a channel; `conflict` when they are not here any more",
        roles=USER,
        body=DmSendBody,
        answer=DmSendAnswer,
        status=201,
        codes=("not_found", "conflict", "muted", "spam_blocked", "rate_limited", *_FROM_THE_ROOM),
        event="dm:send",
    ),
    Endpoint(
        method="DELETE",
        path="/api/dm/messages/<uuid:messageId>",
        handler=delete,
        tag="dm",
        summary="Take back a direct message of mine",
        roles=USER,
        answer=DmDeleteAnswer,
        codes=("not_found",),
        event="dm:delete",
    ),
    Endpoint(
        method="PUT",
        path="/api/dm/<uuid:channelId>/read",
        handler=read,
        tag="dm",
        summary="How far I have read; my other sockets are told",
        roles=USER,
        body=DmReadBody,
        answer=Read,
        codes=("not_found",),
        event="dm:read",
    ),
    Endpoint(
        method="POST",
        path="/api/dm/<uuid:channelId>/typing",
        handler=typing,
        tag="dm",
        summary="The other one is shown that I type, for 3 s at a time, or that I stopped",
        roles=USER,
        body=DmTypingBody,
        status=204,
        codes=("not_found", "conflict", *_FROM_THE_ROOM),
        event="dm:typing",
    ),
)
