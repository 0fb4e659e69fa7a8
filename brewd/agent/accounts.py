"""What every café has spent on the agent: budgets in memory, read back from `agent_queries` when a café is first asked about, and every call written down.

Owns a budget a café, and a bounded queue of log entries that are written behind. A call is written before it starts, with what is
reserved for it, so that a crash forgets no call: one whose end was not written down yet counts as what was reserved. No commit of it waits
for the disk (see the SQL). Who writes is whoever makes the calls, if it can (`written_by`), or else this process.
On a crash of `run` what is queued stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Final, NoReturn

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.agent.budget import Budget, Period
from brewd.agent.calls import GiveWay
from brewd.agent.context import day_starts_ms, local_time
from brewd.agent.rows import Put, RowsRefused, put_rows
from brewd.agent.settings import AgentConfig
from brewd.errors import StoreError
from brewd.people.cafes import Cafes
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.log import get_logger
from brewd.store.mirror import Mirror, RedisCommand
from brewd.store.postgres import Postgres

log = get_logger("agent")

PENDING_MAX: Final = 10_000
BATCH_MAX: Final = 500
GATHER_S: Final = 1.0
"""What ends within this time is written together: a commit for each would hold up those of the rooms."""

RETRY_S: Final = 0.5
ACCOUNTS_MAX: Final = 20_000
ANALYTICS_TTL_S: Final = 32 * 86_400
EXPIRE_AT_ONCE: Final = 1000

STARTED: Final = "started"

_encode: Final = msgspec.json.Encoder().encode


class Entry(Struct, frozen=True, kw_only=True):
    """A row of `agent_queries`. `latency_ms`: until the first word."""

    id: str
    cafe_id: str
    user_id: str | None
    session_id: str | None
    staff: bool
    query: str | None
    persona: str
    model: str
    at_ms: int
    outcome: str = STARTED
    cached: bool = False
    latency_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_microcents: int = 0
    proactive: bool = False

    def outcome_of(self, outcome: str) -> str:
        """As it is written down: what nobody asked for is told apart."""
        return f"proactive:{outcome}" if self.proactive else outcome


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
    """One café's budget, and how many questions there were."""

    __slots__ = ("budget", "cached_month", "cached_today", "queries_month", "queries_today")

    def __init__(self, period: Period, found: Summary) -> None:
        self.budget = Budget(period, spent_today=found.cost_today_microcents, spent_month=found.cost_month_microcents)
        self.queries_today, self.queries_month = found.queries_today, found.queries_month
        self.cached_today, self.cached_month = found.cached_today, found.cached_month

    def turn(self, period: Period, config: AgentConfig) -> None:
        """It is that day, and the owner wants it so."""
        if period.day > self.budget.period.day:
            self.queries_today = self.cached_today = 0
            if period.month != self.budget.period.month:
                self.queries_month = self.cached_month = 0
        self.budget.turn(period)
        self.budget.daily_cents, self.budget.monthly_cents = config.daily_budget_cents, config.monthly_budget_cents

    def counted(self, *, cached: bool) -> None:
        self.queries_today += 1
        self.queries_month += 1
        self.cached_today += cached
        self.cached_month += cached


class AgentLog:
    """See the module. One for the process."""

    def __init__(self, *, pg: Postgres, cafes: Cafes, mirror: Mirror, clock: Clock, give_way: GiveWay) -> None:
        self._pg = pg
        self._put: Put = partial(put_rows, pg)
        self._give_way = give_way
        self._cafes = cafes
        self._mirror = mirror
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._pending: deque[Entry] = deque()
        self._written = 0
        self._at_once = BATCH_MAX
        self._woken = trio.Event()
        self._hurry = trio.Event()
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
                    self._accounts[cafe_id] = Account(period, found)
        account = self._accounts[cafe_id]
        account.turn(period, config)
        return account

    async def begin(self, entry: Entry) -> None:
        """Write a call down before it is made. Raises `StoreError`: then it must not be made."""
        await self._put(_rows([replace(entry, outcome=entry.outcome_of(entry.outcome))]))

    @contextmanager
    def written_by(self, put: Put | None) -> Iterator[None]:
        """For the block, rows are written by `put`, if there is one."""
        own = self._put
        self._put = put or own
        try:
            yield
        finally:
            self._put = own

    def end(self, entry: Entry) -> None:
        """What came of a call, or a question that needed none: written behind. Never blocks."""
        account = self._accounts.get(entry.cafe_id)
        if account is not None and not entry.proactive:
            account.counted(cached=entry.cached)
        if len(self._pending) >= PENDING_MAX:
            log.error("query_not_kept", cafe=entry.cafe_id, outcome=entry.outcome, cost_microcents=entry.cost_microcents)
            return
        self._pending.append(entry)
        self._woken.set()
        self._mirror.note(f"agent:analytics:{entry.cafe_id}", lambda full: self._analytics(entry.cafe_id))

    async def summary(self, cafe_id: str) -> Summary:
        """From Postgres, when what is queued has been written, if that is soon. Raises `Rejected` (`not_found`) and `StoreError`."""
        await self.flush(1.0)
        timezone = (await self._cafes.get(cafe_id)).timezone
        return await self._totals(cafe_id, Period(local_time(self._clock.now_ms(), timezone).date()), timezone)

    def forget(self, user_ids: Collection[str]) -> None:
        """Who asked and what, of these customers, is not written down any more. Never blocks."""
        self._pending = deque(_anonymous(entry) if entry.user_id in user_ids else entry for entry in self._pending)

    async def expire(self) -> int:
        """The same of everyone whose time is over; how many questions that were. Raises `StoreError`."""
        count = 0
        while True:
            rows = await self._pg.fetch("agent_query_expire", as_datetime(self._clock.now_ms()), EXPIRE_AT_ONCE)
            count += len(rows)
            if len(rows) < EXPIRE_AT_ONCE:
                return count

    async def run(self) -> NoReturn:
        """Write what is queued until cancelled; what is queued then stays. Tries again for as long as Postgres is away."""
        while True:
            while self._pending:
                await self._give_way()
                await self._write(list(islice(self._pending, self._at_once)))
                if len(self._pending) < BATCH_MAX:
                    await self._gather()
            self._at_once = BATCH_MAX
            await self._woken.wait()
            self._woken = trio.Event()

    async def flush(self, timeout_s: float) -> None:
        """Return when what is queued now is written, or after that time."""
        until = self._written + len(self._pending)
        with trio.move_on_after(timeout_s):
            while self._written < until:
                self._hurry.set()
                await trio.sleep(0.005)

    async def _gather(self) -> None:
        self._hurry = trio.Event()
        with trio.move_on_after(GATHER_S):
            await self._hurry.wait()

    async def _write(self, batch: list[Entry]) -> None:
        """One batch, or a pause. What cannot be written, alone, is dropped with a line in the log."""
        put = self._put
        try:
            await put(_rows(batch))
        except StoreError as error:
            if put is not self._put:  # somebody else writes by now
                return
            log.warning("waiting_for_postgres", pending=len(self._pending), error=str(error))
            await trio.sleep(RETRY_S)
            return
        except RowsRefused as error:
            if len(batch) > 1:
                self._at_once = 1
                return
            log.error("query_not_kept", cafe=batch[0].cafe_id, error=str(error))
        for _ in batch:
            self._pending.popleft()
        self._written += len(batch)

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
        if len(self._accounts) >= ACCOUNTS_MAX and not self._pending:
            self._accounts = {cafe_id: account for cafe_id, account in self._accounts.items() if account.budget.reserved}


def _anonymous(entry: Entry) -> Entry:
    return replace(entry, user_id=None, session_id=None, query=None)


def _rows(entries: list[Entry]) -> bytes:
    """The argument of `agent_query_put`. One row an id: where a question is in there twice, its end."""
    last = {entry.id: entry for entry in entries}.values()
    return _encode(list(last))
