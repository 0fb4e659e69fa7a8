"""The scheduler over a real Postgres: each job when it is due, once, whatever fails, dies or is away."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from brewd.errors import Rejected, StoreError
from brewd.jobs.runs import LEASE_MS, Busy, Run
from brewd.jobs.scheduler import HOLD_S
from brewd.runtime.clock import as_datetime
from tests.jobs.office import HOUR_MS, TEN_MS, Office, Work

ELEVEN_MS = TEN_MS + HOUR_MS


def later(clock: MockClock, seconds: float) -> None:
    """So much, and a little: a deadline that the clock has just come to may be a rounding away."""
    clock.jump(seconds + 0.01)


async def test_a_job_runs_when_it_is_due_and_that_is_recorded(office: Office, mock_clock: MockClock) -> None:
    work = Work()
    scheduler = office.scheduler(work)
    async with office.working(scheduler):
        assert work.ran == 0  # what was due before it was known is not caught up
        later(mock_clock, 3599)
        await office.settled()
        assert work.ran == 0
        for hours in (1, 2, 3):
            later(mock_clock, 1 if hours == 1 else 3600)
            await office.begun(work, hours)
            (*_, run) = await office.ended("ok", hours)
            assert run.due_ms == TEN_MS + hours * HOUR_MS
            await office.settled()
        assert work.ran == 3
    (listed,) = await scheduler.list()
    assert (listed.next_ms, listed.last and listed.last.detail) == (TEN_MS + 4 * HOUR_MS, {"done": 3})


async def test_what_was_missed_is_caught_up_once(office: Office, mock_clock: MockClock) -> None:
    async with office.working(office.scheduler(Work())):
        pass
    later(mock_clock, 5 * 3600 + 60)
    work = Work()
    async with office.working(office.scheduler(work)):
        await office.ended("ok")
        await office.settled()
    assert [run.due_ms for run in await office.history()] == [TEN_MS + 5 * HOUR_MS]
    work = Work()
    async with office.working(office.scheduler(work)):  # and not by the next daemon either
        assert work.ran == 0


async def test_two_daemons_on_one_database_run_each_job_once(office: Office, mock_clock: MockClock) -> None:
    work = Work()
    async with office.working(office.scheduler(work), office.scheduler(work), office.scheduler(work)):
        for hour in range(1, 6):
            later(mock_clock, 3600)
            await office.ended("ok", hour)
            await office.settled()
    assert (work.ran, work.at_once_max) == (5, 1)
    assert [run.due_ms for run in await office.history()] == [TEN_MS + hour * HOUR_MS for hour in range(1, 6)]


async def test_a_job_that_fails_runs_again_at_its_next_time(office: Office, mock_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    work = Work(ZeroDivisionError("by zero"))
    scheduler = office.scheduler(work)
    async with office.working(scheduler):
        later(mock_clock, 3600)
        await office.ended("failed")
        await office.settled()
        (listed,) = await scheduler.list()
        assert listed.last is not None
        assert listed.last.detail == {"error": "ZeroDivisionError: by zero"}
        later(mock_clock, 120)
        await office.settled()
        assert work.ran == 1
        later(mock_clock, 3600)
        await office.ended("ok")
    assert "job_failed" in "".join(capsys.readouterr())


async def test_a_job_that_storage_interrupts_is_tried_again_with_pauses(office: Office, mock_clock: MockClock) -> None:
    work = Work(StoreError("gone"), StoreError("gone"))
    async with office.working(office.scheduler(work)):
        later(mock_clock, 3600)
        await office.ended("interrupted")
        await office.settled()
        assert work.ran == 1
        later(mock_clock, 1)
        await office.ended("interrupted", 2)
        await office.settled()
        later(mock_clock, 1)
        await office.settled()
        assert work.ran == 2  # the second pause is longer
        later(mock_clock, 1)
        (run,) = await office.ended("ok")
        assert run.due_ms == ELEVEN_MS


async def test_a_postgres_that_is_away_is_waited_for(office: Office, mock_clock: MockClock) -> None:
    work = Work()
    office.line.away = 2
    async with office.working(office.scheduler(work)):
        for pause_s in (1, 2):
            later(mock_clock, pause_s)
            await office.settled()
        office.line.away = 1
        later(mock_clock, 3600)
        await office.settled()
        assert work.ran == 0
        later(mock_clock, 1)
        (run,) = await office.ended("ok")
        assert run.due_ms == ELEVEN_MS


async def test_an_outage_over_several_times_is_made_up_for_once(office: Office, mock_clock: MockClock) -> None:
    work = Work()
    async with office.working(office.scheduler(work)):
        office.line.away = 1
        later(mock_clock, 3600)
        await office.settled()
        later(mock_clock, 3 * 3600)
        (run,) = await office.ended("ok")
        assert run.due_ms == ELEVEN_MS + 3 * HOUR_MS
        await office.settled()
        assert work.ran == 1


async def test_a_run_has_a_deadline(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    async with office.working(office.scheduler(work, deadline_s=25)):
        later(mock_clock, 3600)
        await office.begun(work, 1)
        for _ in range(3):
            later(mock_clock, 9)
            await office.settled()
        await office.ended("failed")
        assert work.cancelled == 1


async def test_a_run_whose_daemon_was_killed_is_lost_and_done_again(office: Office, mock_clock: MockClock) -> None:
    await office.runs.first("tidy", TEN_MS)
    later(mock_clock, 3600)
    dead = await office.runs.claim("tidy", ELEVEN_MS)
    assert isinstance(dead, Run)
    work = Work()
    async with office.working(office.scheduler(work)):
        assert work.ran == 0  # it may be alive
        for _ in range(4):
            later(mock_clock, HOLD_S)
            await office.settled()
        (run,) = await office.ended("ok")
    assert run.due_ms == ELEVEN_MS
    assert [(run.id == dead.id, run.outcome) for run in await office.history()] == [(True, "lost"), (False, "ok")]
    await office.runs.end(dead, "ok", {})  # it was alive after all, and comes too late to say so
    assert [run.outcome for run in await office.history()] == ["lost", "ok"]


async def test_a_long_run_is_nobody_elses(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    async with office.working(office.scheduler(work), office.scheduler(work)):
        later(mock_clock, 3600)
        await office.begun(work, 1)
        for _ in range(9):  # three leases long
            later(mock_clock, HOLD_S)
            await office.settled()
        assert isinstance(await office.runs.claim("tidy", ELEVEN_MS + 1), Busy)
        work.let_go()
        await office.ended("ok")
        later(mock_clock, HOLD_S)
        await office.settled()
    assert (work.ran, work.at_once_max) == (1, 1)


async def test_a_run_that_was_taken_for_lost_ends(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    async with office.working(office.scheduler(work)):
        later(mock_clock, 3600)
        await office.begun(work, 1)
        await office.pg.execute("job_lost", "tidy", as_datetime(office.clock.now_ms() + LEASE_MS))
        later(mock_clock, HOLD_S)
        while not work.cancelled:
            await office.settled()


async def test_a_run_that_cannot_be_held_ends_before_somebody_else_may_begin(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    async with office.working(office.scheduler(work)):
        later(mock_clock, 3600)
        await office.begun(work, 1)
        office.line.away = 100
        for _ in range(2):
            assert not work.cancelled
            later(mock_clock, HOLD_S)
            await office.settled()
        later(mock_clock, HOLD_S / 2)
        await office.settled()
        assert (work.cancelled, isinstance(await office.runs.claim("tidy", ELEVEN_MS), Busy)) == (1, True)


async def test_what_the_end_of_the_daemon_interrupts_the_next_one_does_at_once(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    async with office.working(office.scheduler(work)):
        later(mock_clock, 3600)
        await office.begun(work, 1)
    assert [run.outcome for run in await office.history()] == ["interrupted"]
    again = Work()
    async with office.working(office.scheduler(again)):
        (run,) = await office.ended("ok")
    assert run.due_ms == ELEVEN_MS


async def test_a_job_can_be_run_at_any_time(office: Office, mock_clock: MockClock) -> None:
    work = Work()
    scheduler = office.scheduler(work)
    async with office.working(scheduler):
        later(mock_clock, 60)
        run = await scheduler.run_now("tidy")
        assert (run.outcome, run.detail, run.due_ms) == ("ok", {"done": 1}, TEN_MS + 60_010)
        later(mock_clock, 3540)
        await office.begun(work, 2)


async def test_a_job_under_way_is_not_begun_again(office: Office, mock_clock: MockClock) -> None:
    work = Work(held=True)
    scheduler = office.scheduler(work)
    async with office.working(scheduler):
        later(mock_clock, 3600)
        await office.begun(work, 1)
        with pytest.raises(Rejected, match=r"tidy is under way since 2026-11-22T11:00:00\.\d+Z") as caught:
            await scheduler.run_now("tidy")
        assert caught.value.code == "conflict"
        (listed,) = await scheduler.list()
        assert listed.last is not None
        assert (listed.last.ended_ms, listed.last.outcome) == (None, None)


async def test_a_name_that_is_none_is_answered_with_those_there_are(office: Office) -> None:
    with pytest.raises(Rejected, match="no job 'expire'; there are tidy") as caught:
        await office.scheduler(Work()).run_now("expire")
    assert caught.value.code == "not_found"


async def test_old_runs_are_forgotten_and_never_the_newest(office: Office, mock_clock: MockClock) -> None:
    scheduler = office.scheduler(Work())
    for _ in range(3):
        await scheduler.run_now("tidy")
        later(mock_clock, 60)
    later(mock_clock, 31 * 86_400)
    await scheduler.run_now("tidy")
    assert len(await office.history()) == 1
    later(mock_clock, 31 * 86_400)
    await office.pg.execute("job_prune", "tidy", as_datetime(office.clock.now_ms()))
    assert len(await office.history()) == 1


async def test_a_bug_in_what_keeps_a_job_is_for_the_supervisor(office: Office, mock_clock: MockClock) -> None:
    """Whatever is no `StoreError` and does not come from a body ends `run`, which is restarted."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await office.scheduler(Work(), pg=cast("Any", Broken())).run()
    await trio.lowlevel.checkpoint()
