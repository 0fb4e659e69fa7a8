"""What every café has spent on the agent: budgets in memory, read back from `agent_queries` when a café is first asked about, and every call written down.

Owns a budget a café. A call is written before it starts, with about the most that it can cost, so that a crash forgets no call:
one whose end was not written down yet counts as that. `row_writer` does the writing.
"""

from __future__ import annotations

from typing import Any, Final

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.agent.budget import Budget, Period
from brewd.agent.context import day_starts_ms, local_time
from brewd.agent.row_writer import RowWriter
from brewd.agent.rows import Entry
from brewd.agent.settings import AgentConfig
from brewd.people.cafes import Cafes
from brewd.runtime.clock import Clock, as_datetime
from brewd.store.mirror import Mirror, RedisCommand
from brewd.store.postgres import Postgres

ACCOUNTS_MAX: Final = 20_000
ANALYTICS_TTL_S: Final = 32 * 86_400
EXPIRE_AT_ONCE: Final = 1000


class Summary(Struct, frozen=True, rename="camel"):
    """Of one café, by its own calendar. `hit_rate`: the share of this month's questions that made no call; None without any."""

    cost_today_microcents: int
    cost_month_microcents: int
    queries_today: int
    queries_month: int
    cached_today: int
    cached_month: int

    @property
    def hit_rate(self) -> float | None:
        return round(self.cached_month / self.queries_month, 4) if self.queries_month else None


class Account:
    """One café's budget, and how many questions there were. `timezone`: by whose clock."""

    __slots__ = ("budget", "cached_month", "cached_today", "queries_month", "queries_today", "timezone")

    def __init__(self, period: Period, timezone: str, found: Summary) -> None:
        self.budget = Budget(period, spent_today=found.cost_today_microcents, spent_month=found.cost_month_microcents)
        self.queries_today, self.queries_month = found.queries_today, found.queries_month
        self.cached_today, self.cached_month = found.cached_today, found.cached_month
        self.timezone = timezone

    def turn(self, period: Period, timezone: str, config: AgentConfig) -> None:
        """It is that day, and the owner wants it so."""
        if period.day > self.budget.period.day:
            self.queries_today = self.cached_today = 0
            if period.month != self.budget.period.month:
                self.queries_month = self.cached_month = 0
        self.timezone = timezone
        self.budget.turn(period)
        self.budget.daily_cents, self.budget.monthly_cents = config.daily_budget_cents, config.monthly_budget_cents

    def renewed_ms(self) -> int:
        """When the budget that is spent begins anew: with the café's next day, or its next month."""
        period = self.budget.period
        return day_starts_ms(period.next_month if self.budget.exhausted() == "this month" else period.next_day, self.timezone)

    def counted(self, *, cached: bool) -> None:
        self.queries_today += 1
        self.queries_month += 1
        self.cached_today += cached
        self.cached_month += cached


class AgentLog:
    """See the module. One for the process."""

    def __init__(self, *, pg: Postgres, cafes: Cafes, mirror: Mirror, clock: Clock, writer: RowWriter) -> None:
        self.writer: Final = writer
        self._pg = pg
        self._cafes = cafes
        self._mirror = mirror
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._reading = trio.Lock()

    async def account(self, cafe_id: str, config: AgentConfig) -> Account:
        """The café's account as of now. Raises `Rejected` (`not_found`) and `StoreError`."""
        timezone = (await self._cafes.get(cafe_id)).timezone
        period = Period(local_time(self._clock.now_ms(), timezone).date())
        if cafe_id not in self._accounts:
            async with self._reading:
                if cafe_id not in self._accounts:
                    found = await self._totals(cafe_id, period, timezone)
                    self._make_room()
                    self._accounts[cafe_id] = Account(period, timezone, found)
        account = self._accounts[cafe_id]
        account.turn(period, timezone, config)
        return account

    async def begin(self, entry: Entry) -> None:
        """Write a call down before it is made. Raises as `RowWriter.begin`: then it must not be made."""
        await self.writer.begin(replace(entry, outcome=entry.outcome_of(entry.outcome)))

    def end(self, entry: Entry) -> None:
        """What came of a call, or a question that needed none: written behind. Never blocks."""
        account = self._accounts.get(entry.cafe_id)
        if account is not None and not entry.proactive:
            account.counted(cached=entry.cached)
        self.writer.end(entry)
        self._mirror.note(f"agent:analytics:{entry.cafe_id}", lambda full: self._analytics(entry.cafe_id))

    async def summary(self, cafe_id: str) -> Summary:
        """From Postgres, when what is queued has been written, if that is soon. Raises `Rejected` (`not_found`) and `StoreError`."""
        await self.writer.flush(1.0)
        timezone = (await self._cafes.get(cafe_id)).timezone
        return await self._totals(cafe_id, Period(local_time(self._clock.now_ms(), timezone).date()), timezone)

    async def expire(self) -> int:
        """Who asked and what, of everyone whose time is over, is deleted; how many questions that were. Raises `StoreError`."""
        count = 0
        while True:
            rows = await self._pg.fetch("agent_query_expire", as_datetime(self._clock.now_ms()), EXPIRE_AT_ONCE)
            count += len(rows)
            if len(rows) < EXPIRE_AT_ONCE:
                return count

    async def _totals(self, cafe_id: str, period: Period, timezone: str) -> Summary:
        since = (as_datetime(day_starts_ms(day, timezone)) for day in (period.month, period.day))
        row: Any = await self._pg.fetchrow("agent_query_totals", cafe_id, *since)
        return Summary(row["cost_today"], row["cost_month"], row["queries_today"], row["queries_month"], row["cached_today"], row["cached_month"])

    def _analytics(self, cafe_id: str) -> list[RedisCommand]:
        account = self._accounts.get(cafe_id)
        if account is None:
            return []
        key, budget = f"agent:analytics:{cafe_id}", account.budget
        values = {
            "day": budget.period.day.isoformat(),
            "queriesToday": account.queries_today,
            "cachedToday": account.cached_today,
            "costTodayMicrocents": budget.spent_today,
            "queriesMonth": account.queries_month,
            "cachedMonth": account.cached_month,
            "costMonthMicrocents": budget.spent_month,
        }
        return [("HSET", key, *(part for pair in values.items() for part in pair)), ("EXPIRE", key, ANALYTICS_TTL_S)]

    def _make_room(self) -> None:
        """Forget who has nothing in flight: it is read again."""
        if len(self._accounts) >= ACCOUNTS_MAX and not self.writer.pending:
            self._accounts = {cafe_id: account for cafe_id, account in self._accounts.items() if account.budget.reserved}
