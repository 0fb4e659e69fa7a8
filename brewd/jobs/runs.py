"""The runs of the jobs, as Postgres has them: who may run one now, that it still runs, and how it ended.

A claim is a row that has not ended; a unique index lets there be one for each job, however many daemons share the database. It is held
by moving its lease on. A claim whose lease is over is nobody's: its process died, and whoever comes next records it as lost.

Every method raises `StoreError` when Postgres does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import Ids
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres

LEASE_MS = 30_000
"""So long after the death of a daemon another one takes its runs for lost."""

KEPT_MS = 30 * 86_400_000

Outcome = Literal["ok", "failed", "interrupted", "lost", "first"]


class Run(Struct, frozen=True):
    """A run, under way (`ended_ms` None) or over. Times are wall ms."""

    id: str
    job: str
    due_ms: int
    started_ms: int
    ended_ms: int | None = None
    outcome: str | None = None
    detail: Mapping[str, Any] = {}


class Busy(Struct, frozen=True):
    """Somebody runs it, and is alive at least until then."""

    started_ms: int
    until_ms: int


class Handled(Struct, frozen=True):
    """It ran for this time already, or for a later one."""


Claim = Run | Busy | Handled


class Runs:
    """See the module."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids

    async def first(self, job: str, due_ms: int) -> None:
        """A job that never ran is known from here on, and what was due before is not caught up."""
        await self._pg.execute("job_first", self._ids.uuid7(), job, as_datetime(due_ms), as_datetime(self._clock.now_ms()))

    async def claim(self, job: str, due_ms: int) -> Claim:
        """The right to run it now, for the time `due_ms`; it ends with `end`, or when it is not held for `LEASE_MS`."""
        now_ms = self._clock.now_ms()
        run = Run(self._ids.uuid7(), job, due_ms, now_ms)
        return await self._pg.transaction(_claim, run)

    async def hold(self, run: Run) -> bool:
        """It is still under way. False: somebody took it for lost, and runs it anew."""
        until = as_datetime(self._clock.now_ms() + LEASE_MS)
        return await self._pg.fetchrow("job_hold", run.id, until) is not None

    async def end(self, run: Run, outcome: Outcome, detail: Mapping[str, Any]) -> None:
        """It is over. Does nothing to a run that somebody took for lost. Old runs of the job are forgotten."""
        now_ms = self._clock.now_ms()
        await self._pg.execute("job_end", run.id, as_datetime(now_ms), outcome, msgspec.json.encode(detail).decode())
        await self._pg.execute("job_prune", run.job, as_datetime(now_ms - KEPT_MS))

    async def last(self, jobs: Sequence[str]) -> dict[str, Run]:
        """By name, the newest run of each; of those that never ran, none."""
        return {row["job"]: _run(row) for row in await self._pg.fetch("job_last", list(jobs))}


async def _claim(tx: Tx, run: Run) -> Claim:
    await tx.execute("job_lost", run.job, as_datetime(run.started_ms))
    lease = as_datetime(run.started_ms + LEASE_MS)
    if await tx.fetchrow("job_claim", run.id, run.job, as_datetime(run.due_ms), as_datetime(run.started_ms), lease) is not None:
        return run
    row = await tx.fetchrow("job_under_way", run.job)
    return Handled() if row is None else Busy(as_ms(row["started_at"]), as_ms(row["lease_until"]))


def _run(row: Mapping[str, Any]) -> Run:
    ended_at = row["ended_at"]
    return Run(
        row["id"], row["job"], as_ms(row["due_at"]), as_ms(row["started_at"]), None if ended_at is None else as_ms(ended_at),
        row["outcome"], msgspec.json.decode(row["detail"]),
    )  # fmt: skip
