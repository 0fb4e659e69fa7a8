"""The bridge carries results, exceptions and cancellation, costs two wake-ups a call, and ends cleanly."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.runtime.bridge import Bridge, BridgeClosed, FarCancelled, Gate, deadline, open_bridge


async def _add(a: int, b: int) -> int:
    return a + b


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_call_returns_what_the_coroutine_returns(bridge: Bridge) -> None:
    assert await bridge.call(_add, 2, 3) == 5


async def test_the_far_side_is_one_other_thread(bridge: Bridge) -> None:
    async def where() -> int:
        return threading.get_ident()

    threads = {await bridge.call(where) for _ in range(10)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_an_exception_comes_back_as_the_very_object(bridge: Bridge) -> None:
    error = LookupError("gone")

    async def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        await bridge.call(fail)
    assert caught.value is error


async def test_a_wrong_argument_list_reaches_the_caller(bridge: Bridge) -> None:
    with pytest.raises(TypeError, match="missing 1 required"):
        await bridge.call(_add, 2)
    assert await bridge.call(_add, 1, 1) == 2


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
async def test_an_exit_on_the_far_side_does_not_take_the_loop_down(bridge: Bridge, exit_type: type[BaseException]) -> None:
    async def leave() -> None:
        raise exit_type

    with pytest.raises(RuntimeError, match=exit_type.__name__):
        await bridge.call(leave)
    assert await bridge.call(_add, 1, 1) == 2


async def test_cancelling_cancels_the_coroutine_and_waits_for_its_end(bridge: Bridge) -> None:
    steps: list[str] = []
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except FarCancelled:
            steps.append("cancelled")
            await asyncio.sleep(0.02)
            steps.append("cleaned up")
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.call, work)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
    assert steps == ["cancelled", "cleaned up"]


async def test_a_call_cancelled_before_it_starts_never_runs(bridge: Bridge) -> None:
    ran: list[bool] = []

    async def work() -> None:
        ran.append(True)

    with trio.CancelScope() as scope:
        scope.cancel()
        await bridge.call(work)
    assert scope.cancelled_caught
    assert await bridge.call(_add, 1, 1) == 2
    assert ran == []


async def test_a_call_cancelled_while_the_loop_is_busy_is_never_lost(bridge: Bridge) -> None:
    """The cancel overtakes nothing: it waits behind the start of the very task it is meant for."""
    busy, done = threading.Event(), threading.Event()

    def occupy() -> None:
        busy.set()
        done.wait(5)

    bridge.post(occupy)
    await trio.to_thread.run_sync(busy.wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.call, _for_ever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        done.set()
    assert await bridge.call(_add, 1, 1) == 2


async def test_a_result_that_comes_in_spite_of_a_cancel_is_delivered(bridge: Bridge) -> None:
    started = threading.Event()

    async def stubborn() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except FarCancelled:
            return "done all the same"
        return "?"

    answers: list[str] = []

    async def ask() -> None:
        answers.append(await bridge.call(stubborn))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
    assert answers == ["done all the same"]


async def test_an_error_during_the_cancel_is_delivered(bridge: Bridge) -> None:
    started = threading.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while cleaning up")

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="while cleaning up")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.call, work)
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()


async def test_a_coroutine_that_cancels_itself_is_an_error_and_no_cancellation(bridge: Bridge) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(BridgeClosed, match="far side"):
        await bridge.call(give_up)


async def test_calls_run_side_by_side(bridge: Bridge) -> None:
    answers: list[int] = []
    everyone = asyncio.Barrier(50)

    async def meet(n: int) -> int:
        await everyone.wait()
        return n

    async def ask(n: int) -> None:
        answers.append(await bridge.call(meet, n))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(ask, n)
    assert sorted(answers) == list(range(50))


async def test_context_variables_go_over(bridge: Bridge) -> None:
    incident = contextvars.ContextVar("incident", default="none")
    incident.set("42")

    async def read() -> str:
        return incident.get()

    assert await bridge.call(read) == "42"


async def test_post_runs_a_function_there_without_waiting(bridge: Bridge) -> None:
    seen: list[int] = []
    bridge.post(seen.append, 1)
    bridge.post(seen.append, 2)
    await bridge.call(_add, 1, 1)
    assert seen == [1, 2]


class _CountingLoop:
    """Passes on to a loop, and counts the wake-ups from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wakeups = 0

    def call_soon_threadsafe(self, fn: Callable[..., object], *args: Any) -> None:
        self.wakeups += 1
        self._loop.call_soon_threadsafe(fn, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class _CountingToken:
    """Passes on to trio, and counts the wake-ups from another thread."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self.wakeups = 0

    def run_sync_soon(self, fn: Callable[..., object], *args: Any) -> None:
        self.wakeups += 1
        self._token.run_sync_soon(fn, *args)


async def test_a_call_costs_one_wakeup_in_each_direction(bridge: Bridge) -> None:
    async def far_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop: Any = _CountingLoop(await bridge.call(far_loop))
    token: Any = _CountingToken(trio.lowlevel.current_trio_token())
    counted = Bridge(loop=loop, token=token)
    for n in range(20):
        assert await counted.call(_add, n, 1) == n + 1
    assert (loop.wakeups, token.wakeups) == (20, 20)


async def test_a_closed_bridge_takes_no_calls() -> None:
    async with open_bridge() as bridge:
        assert await bridge.call(_add, 1, 1) == 2
    with pytest.raises(BridgeClosed):
        await bridge.call(_add, 1, 1)
    bridge.post(_add, 1, 1)


async def test_who_is_cancelled_when_the_bridge_closes_ends_as_cancelled() -> None:
    async with open_bridge() as bridge:
        pass
    with trio.CancelScope() as scope:
        scope.cancel()
        await bridge.call(_add, 1, 1)
    assert scope.cancelled_caught


async def test_closing_ends_calls_of_others_and_the_thread() -> None:
    ended: list[str] = []

    async def ask(bridge: Bridge) -> None:
        with pytest.raises(BridgeClosed):
            await bridge.call(_for_ever)
        ended.append("closed")

    async with trio.open_nursery() as nursery, open_bridge() as bridge:
        nursery.start_soon(ask, bridge)
        await trio.testing.wait_all_tasks_blocked()
        await bridge.call(_add, 1, 1)
    assert ended == ["closed"]
    assert not any(thread.name == "brewd-asyncio" for thread in threading.enumerate())


async def test_far_deadlines_keep_real_time_under_a_turned_clock(mock_clock: MockClock, bridge: Bridge) -> None:
    async def late() -> None:
        async with deadline(0.05):
            await asyncio.Event().wait()

    mock_clock.jump(1_000_000)
    before = time.monotonic()
    with pytest.raises(TimeoutError):
        await bridge.call(late)
    assert 0.04 < time.monotonic() - before < 2


async def test_a_gate_lets_only_so_many_through(bridge: Bridge) -> None:
    inside = [0, 0]

    async def pass_through(gate: Gate) -> None:
        async with gate:
            inside[0] += 1
            inside[1] = max(inside)
            await asyncio.sleep(0)
            inside[0] -= 1

    gate = Gate(3)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(bridge.call, pass_through, gate)
    assert inside == [0, 3]
