"""The room over HTTP: its history, who is there, what it talks about, and taking a message back.

History is read from Postgres and so works while a café is out of order; everything else is asked of the room.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from brewd.cafe.commands import Delete, PresenceQuery, TopicsQuery, Who
from brewd.cafe.events import DeleteAnswer, PresenceAnswer, TopicsAnswer
from brewd.edge.http.endpoint import MEMBER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.store.messages import Messages
from brewd.store.records import Message

Seq = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """With `since`: what follows it. Else: what precedes `before`, or the end."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    before: Seq | None = None
    since: Seq | None = None


class MessagesAnswer(Struct, frozen=True, rename="camel"):
    """Ascending by `seq`. `has_more`: further on in the direction that was asked for."""

    messages: list[Message]
    has_more: bool
    epoch: str


class TopicsPageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=50)] = 10


async def messages(parts: HttpParts, call: Call[Any, PageQuery]) -> MessagesAnswer:
    cafe_id = call.own_cafe(call.ids["cafeId"])
    epoch = await parts.cafes.epoch(cafe_id)
    history = Messages(lane=parts.pg, pool=parts.pg, timeout_s=5)
    limit, before, since = call.query.limit, call.query.before, call.query.since
    if since is not None:
        # One more than asked for shows whether there is more; a gapless seq makes "before" a matter of counting.
        found = await history.after(cafe_id, since, limit + 1)
        inside = [message for message in found if before is None or message.seq < before]
        return MessagesAnswer(inside[:limit], len(inside) > limit, epoch)
    found = await history.before(cafe_id, before if before is not None else 2**62, limit + 1)
    return MessagesAnswer(found[-limit:], len(found) > limit, epoch)


async def delete(parts: HttpParts, call: Call[Any, NoQuery]) -> DeleteAnswer:
    who = Who(call.who.user_id, call.who.username, call.who.badge, staff=call.who.is_staff, moderator=call.who.role == "moderator")
    answer: DeleteAnswer = await parts.directory.ref(call.who.cafe_id).ask(Delete(who, call.ids["id"]))
    return answer


async def presence(parts: HttpParts, call: Call[Any, NoQuery]) -> PresenceAnswer:
    cafe_id = call.own_cafe(call.ids["cafeId"])
    answer: PresenceAnswer = await parts.directory.ref(cafe_id).ask(PresenceQuery())
    return answer


async def topics(parts: HttpParts, call: Call[Any, TopicsPageQuery]) -> TopicsAnswer:
    cafe_id = call.own_cafe(call.ids["cafeId"])
    answer: TopicsAnswer = await parts.directory.ref(cafe_id).ask(TopicsQuery(call.query.limit))
    return answer


_FROM_THE_ROOM: Final = ("not_in_cafe", "cafe_unavailable", "mailbox_full")

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/chat/messages/<uuid:cafeId>",
        handler=messages,
        tag="chat",
        summary="A page of the café's messages",
        roles=MEMBER,
        query=PageQuery,
        answer=MessagesAnswer,
        codes=("not_in_cafe",),
    ),
    Endpoint(
        method="DELETE",
        path="/api/chat/messages/<uuid:id>",
        handler=delete,
        tag="chat",
        summary="Take back a message: its author or a moderator",
        roles=MEMBER,
        answer=DeleteAnswer,
        codes=(*_FROM_THE_ROOM, "not_found"),
    ),
    Endpoint(
        method="GET",
        path="/api/chat/presence/<uuid:cafeId>",
        handler=presence,
        tag="chat",
        summary="Who is in the room",
        roles=MEMBER,
        answer=PresenceAnswer,
        codes=_FROM_THE_ROOM,
    ),
    Endpoint(
        method="GET",
        path="/api/chat/topics/<uuid:cafeId>",
        handler=topics,
        tag="chat",
        summary="What the room talks about",
        roles=MEMBER,
        query=TopicsPageQuery,
        answer=TopicsAnswer,
        codes=_FROM_THE_ROOM,
    ),
)
