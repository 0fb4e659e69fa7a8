"""All deadlines of the process in one heap: each rings once, in its turn, unless it was cancelled or brought forward."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.runtime.alarm import Alarm, Alarms


@pytest.fixture
async def alarms() -> AsyncIterator[Alarms]:
    alarms = Alarms()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        await wait_all_tasks_blocked()
        yield alarms
        nursery.cancel_scope.cancel()


class Rung(list[tuple[str, float]]):
    """What rang, and when."""

    def alarm(self, alarms: Alarms, name: str) -> Alarm:
        return Alarm(alarms, lambda: self.append((name, trio.current_time())))


async def test_each_rings_at_its_time(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    for name, at_s in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        rung.alarm(alarms, name).set(at_s)
    await trio.sleep(10)
    assert rung == [("a", 1.0), ("b", 2.0), ("c", 3.0)]


async def test_two_at_the_same_instant_both_ring_in_the_order_they_were_set(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    rung.alarm(alarms, "first").set(1.0)
    rung.alarm(alarms, "second").set(1.0)
    await trio.sleep(2)
    assert rung == [("first", 1.0), ("second", 1.0)]


async def test_the_earlier_of_two_deadlines_is_kept(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    alarm = rung.alarm(alarms, "it")
    alarm.set(5.0)
    alarm.set(2.0)
    alarm.set(4.0)
    await trio.sleep(10)
    assert rung == [("it", 2.0)]


async def test_it_can_be_set_again_when_it_has_rung_even_to_a_time_it_was_set_to_before(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    alarm = rung.alarm(alarms, "it")
    alarm.set(5.0)
    alarm.set(2.0)
    await trio.sleep(3)
    alarm.set(5.0)
    await trio.sleep(10)
    assert rung == [("it", 2.0), ("it", 5.0)]


async def test_a_cancelled_one_is_silent(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    alarm = rung.alarm(alarms, "it")
    alarm.set(1.0)
    alarm.cancel()
    await trio.sleep(2)
    assert rung == []
    alarm.set(3.0)
    await trio.sleep(2)
    assert rung == [("it", 3.0)]


async def test_what_is_due_already_rings_at_once(alarms: Alarms, autojump_clock: MockClock) -> None:
    rung = Rung()
    await trio.sleep(5)
    rung.alarm(alarms, "late").set(1.0)
    await wait_all_tasks_blocked()
    assert rung == [("late", 5.0)]


async def test_one_may_set_itself_again_while_it_rings(alarms: Alarms, autojump_clock: MockClock) -> None:
    times: list[float] = []

    def ring() -> None:
        times.append(trio.current_time())
        if len(times) < 3:
            alarm.set(trio.current_time() + 1)

    alarm = Alarm(alarms, ring)
    alarm.set(1.0)
    await trio.sleep(10)
    assert times == [1.0, 2.0, 3.0]


async def test_alarms_set_before_it_runs_are_kept(autojump_clock: MockClock) -> None:
    alarms, rung = Alarms(), Rung()
    rung.alarm(alarms, "early").set(1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert rung == [("early", 1.0)]


async def test_those_within_a_grain_share_a_wakeup_late_by_no_more_than_it(autojump_clock: MockClock) -> None:
    alarms, rung = Alarms(grain_s=0.5), Rung()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        for at_s in (1.0, 1.2, 1.6):
            rung.alarm(alarms, f"{at_s}").set(at_s)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert rung == [("1.0", 1.5), ("1.2", 1.5), ("1.6", pytest.approx(2.1))]
