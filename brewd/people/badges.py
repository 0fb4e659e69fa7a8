"""Tips and badges: recorded, awarded as soon as they are earned, told at once, and taken away when they end.

A badge belongs to a patron. Whoever is there as a user of that patron has it: on every socket, in every room command, in every
check of a token, from the moment it is stored. The `regular` one stands in the user's row and, in memory, in `holders`; so a join,
a login and a message need to look nowhere else.

`run` is the actor behind it: it tells rooms whose badge has ended, and judges those who were seen. On a crash it starts anew; what it
had in hand is found again by the night's job.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.cafe.effects import Seen
from brewd.cafe.events import BadgeAwarded, BadgeView, Event
from brewd.cafe.limits import Tier
from brewd.errors import Rejected, StoreError
from brewd.people.awards import Awards, Done, Due, Plan, Tip, adopt, award, facts, record, view
from brewd.people.badge_rules import DAY_MS, REGULAR, SEEN_DAYS, TIPS_KEPT_MS, WINDOW_MS, Eligibility, earned, eligibility
from brewd.people.cafes import Cafes
from brewd.people.currencies import currency_code
from brewd.people.holders import Bearer, Holders, bearer_from
from brewd.people.records import invalid
from brewd.people.tokens import Identity
from brewd.people.visits import Visits
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import BEFORE_ALL, Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres

log = get_logger("badges")

AMOUNT_MAX_CENTS: Final = 100_000
TICK_S: Final = 1.0
BATCH: Final = 100
"""Patrons judged at a time: a few ms of arithmetic between two turns of the event loop."""

PURGE_BATCH: Final = 1000
BATCH_S: Final = 5.0
_JOINED_MS: Final = 2 * DAY_MS


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def set_badge(self, cafe_id: str, user_id: str, badge: str | None) -> None: ...
    def notify(self, cafe_id: str, user_id: str, event: Event) -> None: ...


class Recorded(Struct, frozen=True):
    """`badge`: the one this tip has earned, newly or for longer."""

    tip: Tip
    eligibility: Eligibility
    badge: BadgeView | None


class Status(Struct, frozen=True):
    """`tier`: what they may do now; None where nothing is limited."""

    badges: tuple[BadgeView, ...]
    eligibility: Eligibility
    tier: Tier | None


class Badges:
    """Every method raises `StoreError` when Postgres does not answer; each query has a deadline of its own. Add to `on_change` who must know of users with another badge."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, cafes: Cafes, holders: Holders, visits: Visits, rooms: Rooms) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._cafes = cafes
        self._holders = holders
        self._visits = visits
        self._rooms = rooms
        self._unsure = False
        self.on_change: list[Callable[[Bearer], None]] = []

    async def record_tip(self, cafe_id: str, staff_id: str, user_id: str, amount_cents: int, currency: str) -> Recorded:
        """One tip of a live user of this café. Recorded twice is two tips. Cancelling does not undo it once it is on its way.

        Raises `Rejected`: `not_found` (the user), `invalid_request` (the amount, the currency); and `StoreError`, and then it may have been recorded.
        """
        if not 1 <= amount_cents <= AMOUNT_MAX_CENTS:
            raise invalid("amountCents", f"must be a whole number of cents from 1 to {AMOUNT_MAX_CENTS}")
        now_ms = self._clock.now_ms()
        tip = Tip(
            id=self._ids.uuid7(), cafe_id=cafe_id, user_id=user_id, staff_id=staff_id,
            amount_cents=amount_cents, currency=currency_code("currency", currency), at_ms=now_ms,
        )  # fmt: skip
        plan = Plan(tip, self._ids.uuid7(), self._ids.secret(32), self._ids.uuid4())
        done: Done | None = await self._stored(record, plan)
        if done is None and await self._stored(adopt, plan):
            done = await self._stored(record, plan)
        if done is None:
            raise Rejected("not_found", "There is no such user here, or their time is over.")
        self._tell(done.awards)
        return Recorded(tip, eligibility(done.tips_ms, now_ms), None if done.badge is None else view(done.badge))

    async def status(self, identity: Identity) -> Status:
        """What a user has, how far the next `regular` is, and what they may do."""
        now_ms = self._clock.now_ms()
        rows = await self._pg.fetch("badge_of_user", identity.user_id, as_datetime(now_ms))
        tips = await self._pg.fetch("tip_times", identity.user_id, as_datetime(now_ms - WINDOW_MS))
        limits = (await self._cafes.terms(identity.cafe_id)).limits
        tier = None if limits is None else limits.of(identity.badge)
        return Status(tuple(view(row) for row in rows), eligibility([row["at_ms"] for row in tips], now_ms), tier)

    async def warm(self) -> None:
        """Load who has a badge that counts. Call it before serving."""
        await self._catch_up(load=True)

    async def run(self) -> NoReturn:
        while True:
            await trio.sleep(TICK_S)
            try:
                await self.tick()
            except StoreError as error:
                log.warning("waiting_for_postgres", error=str(error))

    async def tick(self) -> None:
        """Whose badge has ended is told so; who was seen is judged."""
        over = self._holders.over()
        for bearer in over:
            self._rooms.set_badge(bearer.cafe_id, bearer.user_id, None)
        if over or self._unsure:
            await self._catch_up(load=self._unsure)
        seen = self._visits.take(BATCH)
        if seen:
            await self._judge_seen(seen)

    async def calculate(self) -> dict[str, int]:
        """The night's look at everybody: who joined in the last days is counted, and every patron is judged. Changes nothing the second time."""
        counts = Counter[str](joined=0, patrons=0, awarded=0, prolonged=0)
        since, after = as_datetime(self._clock.now_ms() - _JOINED_MS), BEFORE_ALL
        while joined := await self._pg.fetch("visit_joined", after, since, BATCH, timeout_s=BATCH_S):
            await self._visits.write([Seen(row["id"], row["at_ms"]) for row in joined], timeout_s=BATCH_S)
            counts["joined"], after = counts["joined"] + len(joined), joined[-1]["id"]
        after = BEFORE_ALL
        while patrons := await self._pg.fetch("badge_patrons", after, BATCH, timeout_s=BATCH_S):
            counts.update(await self._judge([row["id"] for row in patrons]))
            counts["patrons"], after = counts["patrons"] + len(patrons), patrons[-1]["id"]
        return dict(counts)

    async def expire(self) -> dict[str, int]:
        """What is over goes: badges, and the tips and days that no badge can come of any more."""
        now_ms = self._clock.now_ms()
        days_end = as_datetime(now_ms - (SEEN_DAYS + 2) * DAY_MS).date()
        return {
            "users": await self._end(),
            "badges": await self._purge("badge_purge", as_datetime(now_ms)),
            "tips": await self._purge("tip_purge", as_datetime(now_ms - TIPS_KEPT_MS)),
            "visits": await self._purge("visit_purge", days_end),
        }

    def matched(self, *user_ids: str) -> None:
        """These users have just got a channel, which is stored. Never blocks: they are judged with the next tick."""
        for user_id in user_ids:
            self._visits.seen(Seen(user_id, self._clock.now_ms()))

    def recheck(self) -> None:
        """Somebody took badges away in Postgres, with the patron: what is known here is looked up with the next tick. Never blocks."""
        self._unsure = True

    async def _catch_up(self, *, load: bool) -> None:
        """Bring Postgres up to what has ended here and, with `load`, memory up to Postgres."""
        self._unsure = False
        try:
            await self._end()
            if load:
                await self._load()
        except StoreError:
            self._unsure = True
            raise

    async def _purge(self, name: str, until: Any) -> int:
        total, gone = 0, PURGE_BATCH
        while gone == PURGE_BATCH:
            gone = len(await self._pg.fetch(name, until, PURGE_BATCH, timeout_s=BATCH_S))
            total += gone
        return total

    async def _judge_seen(self, seen: Sequence[Seen]) -> None:
        try:
            patrons = await self._visits.write(seen, timeout_s=BATCH_S)
        except StoreError:
            for one in seen:
                self._visits.seen(one)
            raise
        await self._judge(patrons)

    async def _judge(self, patron_ids: Sequence[str]) -> dict[str, int]:
        """Award what these patrons have earned; how many badges are new, and how many hold longer."""
        now_ms = self._clock.now_ms()
        rows = await self._pg.fetch("badge_facts", list(patron_ids), as_datetime(now_ms - TIPS_KEPT_MS), timeout_s=BATCH_S)
        due: list[Due] = []
        for row in rows:
            held = dict(zip(row["types"], row["ends_ms"], strict=True))
            due += [
                (self._ids.uuid4(), row["id"], kind, as_datetime(end_ms)) for kind, end_ms in earned(facts(row), now_ms).items() if end_ms > held.get(kind, 0)
            ]
        if not due:
            return {}
        awards: Awards = await self._stored(award, due, now_ms)
        self._tell(awards)
        fresh = sum(row["fresh"] for row in awards.changed)
        return {"awarded": fresh, "prolonged": len(awards.changed) - fresh}

    async def _end(self) -> int:
        """Take ended badges out of the users' rows; how many there were."""
        total, ended = 0, PURGE_BATCH
        while ended == PURGE_BATCH:
            rows = await self._pg.fetch("badge_over", as_datetime(self._clock.now_ms()), PURGE_BATCH, timeout_s=BATCH_S)
            for bearer in map(bearer_from, rows):
                if bearer.expires_ms > self._clock.now_ms():
                    self._changed(bearer)
            ended = len(rows)
            total += ended
        return total

    async def _load(self) -> None:
        for at, row in enumerate(await self._pg.fetch("badge_held", as_datetime(self._clock.now_ms()), timeout_s=BATCH_S)):
            bearer = bearer_from(row)
            before, now = self._holders.badge(bearer.user_id, None), self._show(bearer)
            if before != now.badge:
                self._told(now)
            if not at % BATCH:
                await trio.lowlevel.checkpoint()

    async def _stored(self, work: Any, *args: Any) -> Any:
        """A transaction whose outcome is told whatever becomes of the caller; one whose outcome is not known is looked up with the next tick."""
        try:
            with trio.CancelScope(shield=True):  # it has a deadline of its own
                return await self._pg.transaction(work, *args, timeout_s=BATCH_S)
        except StoreError:
            self._unsure = True
            raise

    def _tell(self, awards: Awards) -> None:
        bearers = defaultdict[str, list[Bearer]](list)
        for row in awards.bearers:
            bearers[row["patron_id"]].append(bearer_from(row))
        for row in awards.changed:
            for bearer in bearers[row["patron_id"]]:
                if row["type"] == REGULAR:
                    self._changed(bearer)
                if row["fresh"]:
                    self._rooms.notify(bearer.cafe_id, bearer.user_id, BadgeAwarded(view(row)))

    def _changed(self, bearer: Bearer) -> None:
        self._told(self._show(bearer))

    def _told(self, bearer: Bearer) -> None:
        for listener in self.on_change:
            listener(bearer)

    def _show(self, bearer: Bearer) -> Bearer:
        """As Postgres had it a moment ago; how it is now, for an answer that was overtaken by another takes nothing back."""
        self._holders.hold(bearer)
        badge = self._holders.badge(bearer.user_id, None)
        self._rooms.set_badge(bearer.cafe_id, bearer.user_id, badge)
        return replace(bearer, badge=badge)
