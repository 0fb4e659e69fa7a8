"""Tips as baristas record them, and what guests have earned by them."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.cafe.events import BadgeView
from brewd.cafe.limits import HOUR_MS, Tier
from brewd.edge.http.endpoint import BARISTA, USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id, Time
from brewd.people.awards import Tip
from brewd.people.badge_rules import REGULAR, Eligibility
from brewd.people.badges import AMOUNT_MAX_CENTS
from brewd.runtime.clock import rfc3339


class TipBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    user_id: UUID
    amount_cents: Annotated[int, Meta(ge=1, le=AMOUNT_MAX_CENTS)]
    currency: Annotated[str, Meta(min_length=3, max_length=3, description="of ISO 4217, in any case")] = "EUR"


class TipShape(Struct, frozen=True, rename="camel"):
    id: Id
    cafe_id: Id
    user_id: Id
    staff_id: Id
    amount_cents: int
    currency: str
    created_at: Time


class TipAnswer(Struct, frozen=True):
    tip: TipShape
    eligibility: Eligibility
    badge: Annotated[BadgeView, Meta(description="the one this tip has earned, newly or for longer")] | UnsetType = UNSET


class MessagePerks(Struct, frozen=True, rename="camel"):
    per_hour: float
    burst: int
    cooldown_ms: int


class PokePerks(Struct, frozen=True, rename="camel"):
    per_day: int


class AgentPerks(Struct, frozen=True, rename="camel"):
    per_session: int
    cooldown_ms: int


class Perks(Struct, frozen=True):
    """What the caller may do, having the badge they have or none."""

    message: MessagePerks
    poke: PokePerks
    agent: AgentPerks


class StatusAnswer(Struct, frozen=True, rename="camel"):
    """`badge_status`: the one that messages show and that has limits of its own, or none. `perks`: null where nothing is limited."""

    badge_status: str
    badges: tuple[BadgeView, ...]
    eligibility: Eligibility
    perks: Perks | None


async def record_tip(parts: HttpParts, call: Call[TipBody, NoQuery]) -> TipAnswer:
    given, staff = call.body, call.who
    user_id = str(given.user_id)
    with parts.guard.limits.tip(staff.user_id, user_id, call.tell):
        done = await parts.badges.record_tip(staff.cafe_id, staff.user_id, user_id, given.amount_cents, given.currency)
    return TipAnswer(_tip(done.tip), done.eligibility, UNSET if done.badge is None else done.badge)


async def badge_status(parts: HttpParts, call: Call[Any, NoQuery]) -> StatusAnswer:
    status = await parts.badges.status(call.who)
    held = any(badge.type == REGULAR for badge in status.badges)
    return StatusAnswer(REGULAR if held else "none", status.badges, status.eligibility, None if status.tier is None else _perks(status.tier))


def _tip(tip: Tip) -> TipShape:
    return TipShape(tip.id, tip.cafe_id, tip.user_id, tip.staff_id, tip.amount_cents, tip.currency, rfc3339(tip.at_ms))


def _perks(tier: Tier) -> Perks:
    rate = tier.message
    return Perks(
        MessagePerks(rate.tokens * HOUR_MS / rate.period_ms, rate.burst, rate.gap_ms),
        PokePerks(tier.poke.limit),
        AgentPerks(tier.agent.limit, tier.agent_gap_ms),
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/api/badges/record-tip",
        handler=record_tip,
        tag="badges",
        summary="Record a tip of a guest; sent twice it is two tips",
        roles=BARISTA,
        body=TipBody,
        answer=TipAnswer,
        status=201,
        codes=("not_found",),
    ),
    Endpoint(
        method="GET",
        path="/api/badges/status",
        handler=badge_status,
        tag="badges",
        summary="What I have earned, what the next badge needs, and what I may do",
        roles=USER,
        answer=StatusAnswer,
        codes=("not_found",),
        event="badges:status",
    ),
)
