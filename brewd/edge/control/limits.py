"""`limits.*`: what a café allows its guests, shown, changed while it runs, tried on the last hour, and given back to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType, field

from brewd.edge.control.moderation import operator
from brewd.edge.control.server import Method, Params, method
from brewd.runtime.clock import rfc3339

if TYPE_CHECKING:
    from brewd.cafe.limits import Overrides
    from brewd.people.allowances import Allowances
    from brewd.people.cafes import Cafes
    from brewd.people.moderation import Moderation

_TRY_S = 30.0


class OneCafe(Params, frozen=True, kw_only=True):
    cafe_id: UUID


class Change(Params, frozen=True, kw_only=True):
    """`values` by names like `message.per_hour`; null takes the café's own value away. `profile`: null is the default one, absent leaves it as it is."""

    cafe_id: UUID
    values: dict[str, int | float | None] = field(default_factory=dict)
    profile: str | UnsetType | None = UNSET


class Reset(Params, frozen=True, kw_only=True):
    """`user`: their id, or their name in the café. `action`: message, poke or agent; null for all of them."""

    cafe_id: UUID
    user: str
    action: str | None = None


def limits_methods(*, allowances: Allowances, moderation: Moderation, cafes: Cafes) -> dict[str, Method]:
    async def show(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        limits = msgspec.to_builtins(await allowances.show(cafe.id))
        return {"profile": cafe.limits_profile, "limits": limits, "own": cafe.limits_overrides}

    async def change(params: Change) -> dict[str, Any]:
        return {"changed": await allowances.set(str(params.cafe_id), _by_limit(params.values), profile=params.profile)}

    async def attempt(params: Change) -> dict[str, Any]:
        trial = await allowances.attempt(str(params.cafe_id), _by_limit(params.values), profile=params.profile)
        return {
            "since": rfc3339(trial.since_ms),
            "sends": trial.sends,
            "refused": trial.refused,
            "senders": trial.senders,
            "complete": trial.complete,
        }

    async def reset(params: Reset) -> dict[str, Any]:
        by = await operator(cafes, params.cafe_id)
        user_id = await moderation.find(by.cafe_id, params.user)
        await allowances.reset(by, user_id, params.action)
        return {"userId": user_id, "action": params.action}

    return {
        "limits.show": method(OneCafe, show),
        "limits.set": method(Change, change),
        "limits.try": method(Change, attempt, deadline_s=_TRY_S),
        "limits.reset": method(Reset, reset),
    }


def _by_limit(values: dict[str, int | float | None]) -> Overrides:
    nested: Overrides = {}
    for name, value in values.items():
        limit, _, key = name.partition(".")
        nested.setdefault(limit, {})[key] = value
    return nested
