"""What somebody may still do, asked without using any of it; and everything back for somebody by a moderator."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct

from brewd.cafe.commands import LimitsQuery, Who
from brewd.cafe.events import LimitsAnswer
from brewd.cafe.limits import Action
from brewd.edge.http.endpoint import MODERATOR, USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.standing import Standing
from brewd.people.moderation import Moderator


class CheckBody(Struct, frozen=True, forbid_unknown_fields=True):
    action: Action


class ResetBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    user_id: UUID
    action: Annotated[Action, Meta(description="all of them without it")] | None = None


async def limits_status(parts: HttpParts, call: Call[Any, NoQuery]) -> LimitsAnswer:
    return _told(call, await _limits(parts, call))


async def limits_check(parts: HttpParts, call: Call[CheckBody, NoQuery]) -> LimitsAnswer:
    views = (await _limits(parts, call)).limits
    return _told(call, LimitsAnswer({action: view for action, view in views.items() if action == call.body.action}))


async def limits_reset(parts: HttpParts, call: Call[ResetBody, NoQuery]) -> None:
    await parts.allowances.reset(Moderator.of(call.who), str(call.body.user_id), call.body.action)


async def _limits(parts: HttpParts, call: Call[Any, Any]) -> LimitsAnswer:
    """As the room of the caller has them. Empty where there are no limits."""
    who = Who(call.who.user_id, call.who.username, call.who.badge)
    answer: LimitsAnswer = await parts.directory.ref(call.who.cafe_id).ask(LimitsQuery(who, call.who.session_id))
    return answer


def _told(call: Call[Any, Any], answer: LimitsAnswer) -> LimitsAnswer:
    """The answer, which the headers say as well: how many are left, and, where the next one has to wait, for how long."""
    for action, view in answer.limits.items():
        call.tell(Standing(action, view.limit, None, view.remaining, view.retry_after_ms or None))
    return answer


_FROM_THE_ROOM: Final = ("cafe_unavailable", "mailbox_full")

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/ratelimit/status",
        handler=limits_status,
        tag="limits",
        summary="What I may still do",
        roles=USER,
        answer=LimitsAnswer,
        codes=_FROM_THE_ROOM,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/ratelimit/check",
        handler=limits_check,
        tag="limits",
        summary="Whether I may do one thing now, without doing it",
        roles=USER,
        body=CheckBody,
        answer=LimitsAnswer,
        codes=_FROM_THE_ROOM,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/ratelimit/reset",
        handler=limits_reset,
        tag="limits",
        summary="Give a guest everything back",
        roles=MODERATOR,
        body=ResetBody,
        status=204,
        codes=("not_found",),
    ),
)
