"""The scheduler: runs each job when it is due, once, wherever how many daemons share the database.

Owns no state that matters: what ran stands in Postgres (see `runs`). A task for each job waits until it is due, claims the run, does it
under a deadline, and records how it ended. What was missed while no daemon ran is caught up once at the start, for the last time it was due.

A job that fails is logged and recorded, and tried again at its next time. While Postgres is away, everything is tried again with growing
pauses. On the end of the daemon a run is recorded as interrupted, and the next daemon does it at once; after a crash it is taken for lost
when its lease is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import trio
from msgspec import Struct

from brewd.errors import Rejected, StoreError
from brewd.jobs.job import Job
from brewd.jobs.runs import LEASE_MS, Busy, Outcome, Run, Runs
from brewd.runtime.bridge import BridgeClosed
from brewd.runtime.clock import Clock, rfc3339
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres

log = get_logger("jobs")

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
HOLD_S: Final = LEASE_MS / 3000
END_MAX_S: Final = 2.0
"""For recording how a run ended, also while the daemon ends."""


class Listed(Struct, frozen=True):
    """A job, the last run of it, if it ever ran, and the next."""

    job: Job
    last: Run | None
    next_ms: int


class Scheduler:
    """See the module. `jobs`: their names are given once."""

    def __init__(self, *, jobs: Sequence[Job], pg: Postgres, clock: Clock, ids: Ids) -> None:
        self._jobs = {job.name: job for job in jobs}
        if len(self._jobs) != len(jobs):
            raise ValueError("a job's name is given twice")
        self._clock = clock
        self._runs = Runs(pg=pg, clock=clock, ids=ids)

    async def run(self) -> NoReturn:
        async with trio.open_nursery() as nursery:
            for job in self._jobs.values():
                nursery.start_soon(self._keep, job)
        raise AssertionError("unreachable")

    async def list(self) -> Sequence[Listed]:
        """All jobs, in the order in which they were given. Raises `StoreError`."""
        last = await self._runs.last(list(self._jobs))
        now_ms = self._clock.now_ms()
        return [Listed(job, last.get(job.name), job.next_ms(now_ms)) for job in self._jobs.values()]

    @property
    def deadline_max_s(self) -> float:
        """The longest that any run may take."""
        return max((job.deadline_s for job in self._jobs.values()), default=0.0)

    async def run_now(self, name: str) -> Run:
        """Run a job out of turn, and wait for its end. Cancelling it interrupts the run.

        Raises `StoreError` when it cannot be claimed, and `Rejected`: `not_found` for a name that is none, `conflict` when it is under way.
        """
        job = self._jobs.get(name)
        if job is None:
            raise Rejected("not_found", f"There is no job {name!r}; there are {', '.join(self._jobs)}.")
        claim = await self._runs.claim(name, self._clock.now_ms())
        if isinstance(claim, Run):
            return await self._carry_out(job, claim)
        if isinstance(claim, Busy):
            raise Rejected("conflict", f"{name} is under way since {rfc3339(claim.started_ms)}; see brewd jobs list.")
        raise Rejected("conflict", f"{name} ran at this very moment; see brewd jobs list.")

    async def _keep(self, job: Job) -> NoReturn:
        """One job, for ever."""
        await self._known(job)
        while True:
            await self._up_to_date(job)
            await trio.sleep_until(self._clock.deadline_s(job.next_ms(self._clock.now_ms())))

    async def _known(self, job: Job) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                return await self._runs.first(job.name, job.last_ms(self._clock.now_ms()))
            except StoreError as error:
                pause_s = await self._waited(job, error, pause_s)

    async def _up_to_date(self, job: Job) -> None:
        """Return when the job has run for the last time it was due, here or elsewhere. However long that takes, older times are not made up for."""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                claim = await self._runs.claim(job.name, job.last_ms(self._clock.now_ms()))
            except StoreError as error:
                pause_s = await self._waited(job, error, pause_s)
                continue
            if isinstance(claim, Busy):
                await trio.sleep(min(HOLD_S, max(0.1, (claim.until_ms - self._clock.now_ms()) / 1000)))
                continue
            if not isinstance(claim, Run):
                return
            run = await self._carry_out(job, claim)
            if run.outcome != "interrupted":
                return
            pause_s = await self._waited(job, str(run.detail.get("error", "")), pause_s)

    async def _waited(self, job: Job, error: object, pause_s: float) -> float:
        """After a pause; the next one."""
        log.warning("job_waits", job=job.name, error=str(error), pause_s=pause_s)
        await trio.sleep(pause_s)
        return min(2 * pause_s, RETRY_MAX_S)

    async def _carry_out(self, job: Job, run: Run) -> Run:
        """Do it, and record how it ended, also when this is cancelled. What the body raises goes into the record."""
        outcome: Outcome = "interrupted"
        detail: Mapping[str, Any] = {"error": "the daemon was stopped, or whoever asked for it gave up"}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hold, run, nursery.cancel_scope)
                outcome, detail = await self._outcome(job)
                nursery.cancel_scope.cancel()
        finally:
            ended_ms = self._clock.now_ms()
            with trio.CancelScope(shield=True):
                await self._end(run, outcome, detail)
        log.info(
            "job_done", job=job.name, outcome=outcome, took_s=(ended_ms - run.started_ms) / 1000, **{f"did_{name}": count for name, count in detail.items()}
        )
        return Run(run.id, run.job, run.due_ms, run.started_ms, ended_ms, outcome, detail)

    async def _outcome(self, job: Job) -> tuple[Outcome, Mapping[str, Any]]:
        try:
            with trio.fail_after(job.deadline_s):
                return "ok", await job.run()
        except StoreError as error:
            return "interrupted", {"error": str(error)}
        except trio.TooSlowError:
            log.warning("job_late", job=job.name, deadline_s=job.deadline_s)
            return "failed", {"error": f"not done within {job.deadline_s:g} s"}
        except Exception as error:
            log.error("job_failed", job=job.name, exc_info=error)
            return "failed", {"error": f"{type(error).__name__}: {error}"}

    async def _hold(self, run: Run, scope: trio.CancelScope) -> None:
        """Move the lease on. When it cannot be, or was lost, somebody else may run the job by now: end it here."""
        held_s = trio.current_time()
        while True:
            await trio.sleep(HOLD_S)
            try:
                if not await self._runs.hold(run):
                    break
                held_s = trio.current_time()
            except StoreError:
                if trio.current_time() - held_s + HOLD_S > LEASE_MS / 1000:
                    break
        log.warning("job_lost", job=run.job)
        scope.cancel()

    async def _end(self, run: Run, outcome: Outcome, detail: Mapping[str, Any]) -> None:
        """A run whose end cannot be recorded is taken for lost later, and done again: no job minds."""
        with trio.move_on_after(END_MAX_S):
            try:
                await self._runs.end(run, outcome, detail)
                return
            except (StoreError, BridgeClosed) as error:
                log.warning("job_not_recorded", job=run.job, outcome=outcome, error=str(error))
