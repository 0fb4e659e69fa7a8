"""What would become of a text, asked without sending it; and whether somebody is muted."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from brewd.cafe.commands import MuteQuery, SpamQuery
from brewd.cafe.events import MuteAnswer, SpamAnswer
from brewd.cafe.text import is_blank
from brewd.edge.http.endpoint import MODERATOR, USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.errors import Rejected
from brewd.people.moderation import Moderator
from brewd.people.records import invalid


class SpamBody(Struct, frozen=True, forbid_unknown_fields=True):
    content: Annotated[str, Meta(min_length=1, description="as long as a message may be")]


async def spam_check(parts: HttpParts, call: Call[SpamBody, NoQuery]) -> SpamAnswer:
    content, size_max = call.body.content, parts.config.room.message_max_chars
    if len(content) > size_max:
        raise invalid("content", f"{len(content)} characters; at most {size_max} are allowed")
    if is_blank(content):
        raise invalid("content", "there is nothing in it to read")
    answer: SpamAnswer = await parts.directory.ref(call.who.cafe_id).ask(SpamQuery(call.who.user_id, content))
    return answer


async def mute_status(parts: HttpParts, call: Call[Any, NoQuery]) -> MuteAnswer:
    user_id = call.ids["userId"]
    if user_id != call.who.user_id:
        await _of_my_guest(parts, call, user_id)
    answer: MuteAnswer = await parts.directory.ref(call.who.cafe_id).ask(MuteQuery(user_id))
    return answer


async def mute_end(parts: HttpParts, call: Call[Any, NoQuery]) -> None:
    await parts.moderation.unmute(Moderator.of(call.who), call.ids["userId"])


async def _of_my_guest(parts: HttpParts, call: Call[Any, Any], user_id: str) -> None:
    """Raise `Rejected` unless a moderator asks about a guest of their own café."""
    if call.who.role != "moderator":
        raise Rejected("forbidden", "This is for whoever is muted and for moderators only.")
    if (await parts.users.show(user_id)).cafe_id != call.who.cafe_id:
        raise Rejected("not_found", "There is no such user.")


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/api/v1/spam/check",
        handler=spam_check,
        tag="spam",
        summary="What would become of this text; nothing is sent, counted or remembered",
        roles=USER,
        body=SpamBody,
        answer=SpamAnswer,
        codes=("cafe_unavailable", "mailbox_full"),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/spam/mute/<uuid:userId>",
        handler=mute_status,
        tag="spam",
        summary="Whether somebody is muted: for themselves, or a moderator",
        roles=USER | MODERATOR,
        answer=MuteAnswer,
        codes=("not_found", "cafe_unavailable", "mailbox_full"),
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/spam/mute/<uuid:userId>",
        handler=mute_end,
        tag="spam",
        summary="Let somebody speak again, and forgive the spam that led to it",
        roles=MODERATOR,
        status=204,
        codes=("not_found",),
    ),
)
