"""The transactions that record a tip and award badges, and how their rows read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from brewd.cafe.events import BadgeView
from brewd.people.badge_rules import REGULAR, WINDOW_MS, Facts, Visit, earned
from brewd.people.records import Queries
from brewd.people.visits import zone_of
from brewd.runtime.clock import as_datetime, as_ms, rfc3339

Due = tuple[str, str, str, datetime]
"""A badge that was earned: an id for it in case it is new, the patron, the type, and when it ends."""


class Tip(Struct, frozen=True, kw_only=True):
    """`staff_id`: who recorded it. `at_ms`: wall time."""

    id: str
    cafe_id: str
    user_id: str
    staff_id: str
    amount_cents: int
    currency: str
    at_ms: int


class Plan(Struct, frozen=True):
    """What recording a tip needs, made beforehand: no chance and no time on the far side of the bridge.

    `patron_id`, `key_hash`: for a user without a patron, who gets one that nobody has the key of.
    """

    tip: Tip
    patron_id: str
    key_hash: bytes
    badge_id: str


class Awards(Struct, frozen=True):
    """Rows of badges that are different now (`fresh`: awarded, else prolonged), and of the users who have them."""

    changed: Sequence[Mapping[str, Any]] = ()
    bearers: Sequence[Mapping[str, Any]] = ()


class Done(Struct, frozen=True):
    """`tips_ms`: those within the window. `badge`: the row of the one this tip earned, newly or for longer."""

    tips_ms: list[int]
    badge: Mapping[str, Any] | None
    awards: Awards


async def adopt(tx: Queries, plan: Plan) -> bool:
    """Give the user a patron, if they have none; whether there is such a live user. By itself, for whoever records a tip locks the patron first."""
    tip, now = plan.tip, as_datetime(plan.tip.at_ms)
    row = await tx.fetchrow("tip_patronless", tip.user_id, tip.cafe_id, now)
    if row is None:
        return False
    if row["patron_id"] is None:
        await tx.execute("patron_add", plan.patron_id, tip.cafe_id, plan.key_hash, now, row["expires_at"])
        await tx.execute("customer_patron", tip.user_id, plan.patron_id)
    return True


async def record(tx: Queries, plan: Plan) -> Done | None:
    """None when there is no such live user in the café, or they have no patron. The patron's row is locked, so of tips at one instant each sees those before it."""
    tip, now = plan.tip, as_datetime(plan.tip.at_ms)
    row = await tx.fetchrow("tip_patron", tip.user_id, tip.cafe_id, now)
    if row is None:
        return None
    patron_id = row["patron_id"]
    await tx.execute("tip_add", tip.id, tip.cafe_id, patron_id, tip.user_id, tip.staff_id, tip.amount_cents, tip.currency, now)
    rows = await tx.fetch("tip_times", tip.user_id, as_datetime(tip.at_ms - WINDOW_MS))
    tips_ms = [row["at_ms"] for row in rows]
    end_ms = earned(Facts(tips_ms=tips_ms), tip.at_ms).get(REGULAR)
    if end_ms is None:
        return Done(tips_ms, None, Awards())
    awards = await award(tx, [(plan.badge_id, patron_id, REGULAR, as_datetime(end_ms))], tip.at_ms)
    held = await tx.fetch("badge_of_user", tip.user_id, now)
    return Done(tips_ms, next((row for row in held if row["type"] == REGULAR), None), awards)


async def award(tx: Queries, due: Sequence[Due], now_ms: int) -> Awards:
    """Award and prolong; what is there already for as long stays as it is."""
    now = as_datetime(now_ms)
    changed = await tx.fetch("badge_award", *map(list, zip(*due, strict=True)), now)
    if not changed:
        return Awards()
    regular = [(row["patron_id"], row["expires_at"]) for row in changed if row["type"] == REGULAR]
    if regular:
        await tx.execute("badge_hold", *map(list, zip(*regular, strict=True)), now, REGULAR)
    return Awards(changed, await tx.fetch("badge_bearers", [row["patron_id"] for row in changed], now))


def facts(row: Mapping[str, Any]) -> Facts:
    """Of a row of `badge_facts`."""
    days = zip(row["days"], row["early"], row["late"], row["matches"], strict=True)
    return Facts(zone_of(row["timezone"]), row["tips_ms"], [Visit(*day) for day in days])


def view(row: Mapping[str, Any]) -> BadgeView:
    return BadgeView(row["type"], rfc3339(as_ms(row["awarded_at"])), rfc3339(as_ms(row["expires_at"])))
