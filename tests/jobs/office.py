"""Schedulers over a real Postgres, on a clock that stands still until it is moved, and jobs that say when they run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from brewd.errors import StoreError
from brewd.jobs.job import Job
from brewd.jobs.runs import Run, Runs
from brewd.jobs.scheduler import Scheduler
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.conftest import START_MS

HOUR_MS = 3_600_000
TEN_MS = START_MS
"""When the clock stands at the start: ten o'clock sharp."""


class Work:
    """The body of a job. `fails`: what the next runs raise, one by one; `held`: whether it goes on until `let_go`."""

    def __init__(self, *fails: Exception, held: bool = False) -> None:
        self.fails = list(fails)
        self.held = held
        self.ran = 0
        self.at_once = 0
        self.at_once_max = 0
        self.cancelled = 0
        self._free = trio.Event()
        self._more = trio.Event()

    async def __call__(self) -> Mapping[str, int]:
        self.ran += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        self._more.set()
        self._more = trio.Event()
        try:
            if self.fails:
                raise self.fails.pop(0)
            if self.held:
                await self._free.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1
        return {"done": self.ran}

    def let_go(self) -> None:
        self.held = False
        self._free.set()

    async def begun(self, times: int) -> None:
        while self.ran < times:
            await self._more.wait()


class Line:
    """The way to Postgres, which is seen to be in use, and can be cut for so many calls (`away`)."""

    def __init__(self, pg: Postgres) -> None:
        self._pg = pg
        self.away = 0
        self.under_way = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._pg, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.away > 0:
                self.away -= 1
                raise StoreError("Postgres: no answer")
            self.under_way += 1
            try:
                return await real(*args, **kwargs)
            finally:
                self.under_way -= 1

        return call


class Office:
    def __init__(self, pg: Postgres, clock: Clock, ids: Ids) -> None:
        self.pg = pg
        self.line = Line(pg)
        self.clock = clock
        self.ids = ids
        self.runs = Runs(pg=pg, clock=clock, ids=ids)

    def scheduler(self, work: Work, *, cron: str = "0 * * * *", deadline_s: float = 600.0, pg: Any = None) -> Scheduler:
        return Scheduler(jobs=[Job("tidy", cron, work, deadline_s)], pg=pg or cast("Any", self.line), clock=self.clock, ids=self.ids)

    @asynccontextmanager
    async def working(self, *schedulers: Scheduler) -> AsyncIterator[None]:
        """They run, and have come to wait for something."""
        async with trio.open_nursery() as nursery:
            for scheduler in schedulers:
                nursery.start_soon(scheduler.run)
            await self.settled()
            yield
            nursery.cancel_scope.cancel()

    async def settled(self) -> None:
        """What was begun without waiting for the clock is done: there is nothing left but to wait for the clock, or for a test."""
        await trio.testing.wait_all_tasks_blocked()
        while self.line.under_way:
            await self.pg.check()
            await trio.testing.wait_all_tasks_blocked()

    async def begun(self, work: Work, times: int) -> None:
        """It has run, or runs, so many times, and nothing else is left to do at this time."""
        await work.begun(times)
        await self.settled()

    async def ended(self, outcome: str, times: int = 1) -> list[Run]:
        """The runs with that outcome, once there are so many."""
        for _ in range(5000):
            rows = await self.history()
            found = [run for run in rows if run.outcome == outcome]
            if len(found) >= times:
                return found
        raise AssertionError(f"not {times} {outcome}: {rows}")

    async def history(self) -> list[Run]:
        """Everything that ran, in order; not what stands for the beginning."""
        rows = await self.pg.transaction(_history)
        return [Run(row["id"], row["job"], round(row["due"] * 1000), 0, None, row["outcome"], {}) for row in rows]


async def _history(tx: Any) -> Any:
    return await tx._connection.fetch(
        "SELECT id::text, job, extract(epoch FROM due_at)::float AS due, outcome FROM job_run WHERE outcome IS DISTINCT FROM 'first' ORDER BY started_at, id"
    )
