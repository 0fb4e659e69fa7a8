"""`user.kick`, `user.ban`, `user.unban`, `user.mute`, `user.unmute`, `message.delete`, `message.announce`, `moderation.log`: the orders of an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from brewd.edge.control.server import Method, Params, method
from brewd.people.moderation import Moderator
from brewd.people.records import clean_text
from brewd.runtime.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brewd.people.cafes import Cafes
    from brewd.people.moderation import Action, Moderation

_OPERATOR = "operator"


class Order(Params, frozen=True, kw_only=True):
    """`user`: their id, or their name in the café."""

    cafe_id: UUID
    user: str
    reason: str = ""


class OrderFor(Order, frozen=True, kw_only=True):
    duration_s: float | None = None


class OneMessage(Params, frozen=True, kw_only=True):
    cafe_id: UUID
    message_id: UUID


class Announcement(Params, frozen=True, kw_only=True):
    """`name`: who it is signed with; None: the café."""

    cafe_id: UUID
    content: str
    name: str | None = None


class ReadLog(Params, frozen=True, kw_only=True):
    """`user` as in an order; `before`: the id of an entry."""

    cafe_id: UUID
    user: str | None = None
    limit: int = 50
    before: UUID | None = None


def moderation_methods(*, moderation: Moderation, cafes: Cafes) -> dict[str, Method]:
    def order(carry_out: Callable[..., Awaitable[Action]]) -> Callable[[Order], Awaitable[dict[str, Any]]]:
        async def run(params: Order) -> dict[str, Any]:
            by = await operator(cafes, params.cafe_id)
            lasting = {"duration_s": params.duration_s} if isinstance(params, OrderFor) else {}
            done = await carry_out(by, await moderation.find(by.cafe_id, params.user), reason=params.reason, **lasting)
            return {"action": _action_json(done), "changed": done.changed}

        return run

    async def delete(params: OneMessage) -> dict[str, Any]:
        return {"message": await moderation.delete(await operator(cafes, params.cafe_id), str(params.message_id))}

    async def announce(params: Announcement) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        name = cafe.name if params.name is None else clean_text("name", params.name, max_chars=40)
        return {"message": await moderation.announce(await operator(cafes, params.cafe_id), name, params.content)}

    async def read_log(params: ReadLog) -> dict[str, Any]:
        cafe_id = (await operator(cafes, params.cafe_id)).cafe_id
        user_id = None if params.user is None else await moderation.find(cafe_id, params.user)
        page = await moderation.log(cafe_id, user_id=user_id, limit=params.limit, before=None if params.before is None else str(params.before))
        return {"actions": [_action_json(action) for action in page.actions], "hasMore": page.has_more}

    return {
        "user.kick": method(Order, order(moderation.kick)),
        "user.ban": method(OrderFor, order(moderation.ban)),
        "user.unban": method(Order, order(moderation.unban)),
        "user.mute": method(OrderFor, order(moderation.mute)),
        "user.unmute": method(Order, order(moderation.unmute)),
        "message.delete": method(OneMessage, delete),
        "message.announce": method(Announcement, announce),
        "moderation.log": method(ReadLog, read_log),
    }


async def operator(cafes: Cafes, cafe_id: UUID) -> Moderator:
    """In whose name orders are given here: somebody above the cafés, with no account. Raises `Rejected` (`not_found`) when there is no such café."""
    return Moderator((await cafes.get(str(cafe_id))).id, _OPERATOR)


def _action_json(action: Action) -> dict[str, Any]:
    return {
        "id": action.id,
        "action": action.action,
        "userId": action.user_id,
        "username": action.username,
        "staffId": action.staff_id,
        "staffName": action.staff_name,
        "rule": action.rule,
        "reason": action.reason,
        "messageId": action.message_id,
        "createdAt": rfc3339(action.at_ms),
        "until": None if action.until_ms is None else rfc3339(action.until_ms),
    }
