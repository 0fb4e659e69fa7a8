"""A moderator's orders about the guests of their café, and the log of what was done there."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.edge.http.endpoint import MODERATOR, Call, Endpoint, Handler, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id, Time
from brewd.people.moderation import DURATION_MAX_S, LOG_MAX, REASON_MAX_CHARS, Action, Moderator
from brewd.people.records import clean_text
from brewd.runtime.clock import rfc3339


class OrderBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Whom, and why."""

    user_id: UUID
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_MAX_CHARS, description="in the log; a mute's is told to the guest, and a kick's or ban's")]


class LastingOrderBody(OrderBody, frozen=True, rename="camel", forbid_unknown_fields=True):
    """For how long, too."""

    duration_s: Annotated[float, Meta(ge=1, le=DURATION_MAX_S, description="of a mute (24 h without it) or a ban (31 days without it)")] | None = None


class ActionShape(Struct, frozen=True, rename="camel"):
    """What was done. `staff_name` null: by brewd itself, by the rule `rule`; `staff_id` null with a name: by the operator, or by staff who left."""

    id: Id
    action: str
    user_id: Id
    username: str
    reason: str
    created_at: Time
    staff_id: Id | None
    staff_name: str | None
    until: Time | UnsetType = UNSET
    rule: str | UnsetType = UNSET
    message_id: Id | UnsetType = UNSET


class LogQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`before`: the id of the last entry of the page before. `user_id`: about this guest alone."""

    limit: Annotated[int, Meta(ge=1, le=LOG_MAX)] = 50
    before: UUID | None = None
    user_id: UUID | None = None


class LogAnswer(Struct, frozen=True, rename="camel"):
    """Newest first. `has_more`: older ones follow."""

    actions: list[ActionShape]
    has_more: bool


async def mute(parts: HttpParts, call: Call[LastingOrderBody, NoQuery]) -> ActionShape:
    by, user_id, reason = _order(call)
    return _shape(await parts.moderation.mute(by, user_id, reason=reason, duration_s=call.body.duration_s))


async def unmute(parts: HttpParts, call: Call[OrderBody, NoQuery]) -> ActionShape:
    by, user_id, reason = _order(call)
    return _shape(await parts.moderation.unmute(by, user_id, reason=reason))


async def kick(parts: HttpParts, call: Call[OrderBody, NoQuery]) -> ActionShape:
    by, user_id, reason = _order(call)
    return _shape(await parts.moderation.kick(by, user_id, reason=reason))


async def ban(parts: HttpParts, call: Call[LastingOrderBody, NoQuery]) -> ActionShape:
    by, user_id, reason = _order(call)
    return _shape(await parts.moderation.ban(by, user_id, reason=reason, duration_s=call.body.duration_s))


async def unban(parts: HttpParts, call: Call[OrderBody, NoQuery]) -> ActionShape:
    by, user_id, reason = _order(call)
    return _shape(await parts.moderation.unban(by, user_id, reason=reason))


async def moderation_log(parts: HttpParts, call: Call[Any, LogQuery]) -> LogAnswer:
    asked = call.query
    page = await parts.moderation.log(call.who.cafe_id, user_id=_text(asked.user_id), limit=asked.limit, before=_text(asked.before))
    return LogAnswer([_shape(action) for action in page.actions], page.has_more)


def _order(call: Call[Any, NoQuery]) -> tuple[Moderator, str, str]:
    """Who, whom and why. A person who orders something says why."""
    return Moderator.of(call.who), str(call.body.user_id), clean_text("reason", call.body.reason, max_chars=REASON_MAX_CHARS)


def _text(id: UUID | None) -> str | None:
    return None if id is None else str(id)


def _shape(action: Action) -> ActionShape:
    return ActionShape(
        id=action.id,
        action=action.action,
        user_id=action.user_id,
        username=action.username,
        reason=action.reason,
        created_at=rfc3339(action.at_ms),
        staff_id=action.staff_id,
        staff_name=action.staff_name,
        until=UNSET if action.until_ms is None else rfc3339(action.until_ms),
        rule=UNSET if action.rule is None else action.rule,
        message_id=UNSET if action.message_id is None else action.message_id,
    )


def _endpoint(handler: Handler, summary: str) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/api/moderation/{handler.__name__}",
        handler=handler,
        tag="moderation",
        summary=summary,
        roles=MODERATOR,
        body=LastingOrderBody if handler in (mute, ban) else OrderBody,
        answer=ActionShape,
        codes=("not_found",),
    )


ENDPOINTS: Final = (
    _endpoint(mute, "Nothing of this guest is heard or seen for a while"),
    _endpoint(unmute, "Let a guest speak again"),
    _endpoint(kick, "Close every socket of a guest (4003); their token is still good"),
    _endpoint(ban, "Keep a guest out (4004), and whoever joins with the same patron key"),
    _endpoint(unban, "Let a guest in again"),
    Endpoint(
        method="GET",
        path="/api/moderation/log",
        handler=moderation_log,
        tag="moderation",
        summary="What was done in the café: by whom, to whom, why, until when",
        roles=MODERATOR,
        query=LogQuery,
        answer=LogAnswer,
    ),
)
