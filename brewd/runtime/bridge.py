"""The way from trio to asyncio and back: the only file that knows asyncio.

The drivers of Postgres and Redis speak asyncio only. One thread runs one uvloop loop that owns all their connections, and
trio calls over to it. A call costs one wake-up in each direction: `call_soon_threadsafe` there, `run_sync_soon` back.

Cancelling the trio side cancels the asyncio task and waits until that task has really ended, so nothing a caller gave up
on keeps running behind its back. Code on the far side therefore must end soon once it is cancelled: it cuts its connection
and leaves; it never waits for the peer's goodbye. Deadlines of the far side run on real time (`deadline`), which is what
the outside world keeps, also when a test turns trio's clock.

`Gate` and `deadline` are what far-side code needs of asyncio; it imports them from here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import outcome
import trio
import uvloop

T = TypeVar("T")

Gate = asyncio.Semaphore
"""Lets a fixed number of far-side tasks through at a time, first come, first served."""

deadline = asyncio.timeout
"""`async with deadline(s)` on the far side: `TimeoutError` when the block takes longer than `s` seconds of real time."""

FarCancelled = asyncio.CancelledError
"""What a far-side coroutine sees when the caller gave up. Clean up without waiting, then let it pass."""

_CLOSE_MAX_S: Final = 5.0


class BridgeClosed(Exception):
    """The bridge was closed before or during the call; nothing is known about what the call did."""


class _Call:
    """One crossing: the trio task that waits, and the asyncio task that works for it."""

    __slots__ = ("raise_cancel", "task", "waiter")

    def __init__(self, waiter: trio.lowlevel.Task) -> None:
        self.waiter = waiter
        self.task: asyncio.Task[Any] | None = None
        self.raise_cancel: Callable[[], Any] | None = None

    def result(self) -> outcome.Outcome[Any]:
        """What the finished asyncio task means to trio. Runs on trio's thread."""
        task = self.task
        assert task is not None
        if task.cancelled():
            if self.raise_cancel is not None:
                cancelled: outcome.Outcome[Any] = outcome.capture(self.raise_cancel)
                return cancelled
            return outcome.Error(BridgeClosed("the call was cancelled on the far side"))
        error = task.exception()
        if error is not None:
            return outcome.Error(error)
        return outcome.Value(task.result())


class Bridge:
    """Calls coroutine functions on the asyncio loop. Made by `open_bridge`; used from the trio thread that opened it."""

    __slots__ = ("_closed", "_loop", "_token")

    def __init__(self, *, loop: asyncio.AbstractEventLoop, token: trio.lowlevel.TrioToken) -> None:
        self._loop = loop
        self._token = token
        self._closed = False

    async def call(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run `await fn(*args)` on the loop and return what it returns.

        Whatever it raises is raised here, the very same object. Cancelling this call cancels the coroutine and then
        waits for its end; a coroutine that finishes all the same has its result delivered. Raises `BridgeClosed` when the
        bridge is closed, before or meanwhile.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # first, so that what is ended together with the bridge is not taken for crashed
        if self._closed:
            raise BridgeClosed("the bridge is closed")
        call = _Call(trio.lowlevel.current_task())
        self._loop.call_soon_threadsafe(self._start, call, fn, args)

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            call.raise_cancel = raise_cancel
            self._loop.call_soon_threadsafe(self._cancel, call)
            return trio.lowlevel.Abort.FAILED  # the far side still runs: trio waits for its end

        answer: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return answer

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Run the plain function `fn(*args)` on the loop, soon, without waiting. After closing this does nothing."""
        if not self._closed:
            self._loop.call_soon_threadsafe(fn, *args)

    def close(self) -> None:
        """Take no more calls."""
        self._closed = True

    def _start(self, call: _Call, fn: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
        call.task = task = self._loop.create_task(_run(fn, args))

        def done(_: asyncio.Task[Any]) -> None:
            self._token.run_sync_soon(_finish, call)

        task.add_done_callback(done)

    @staticmethod
    def _cancel(call: _Call) -> None:
        # Callbacks of one thread run in the order they were posted, so the task exists by now.
        assert call.task is not None
        call.task.cancel()


def _finish(call: _Call) -> None:
    trio.lowlevel.reschedule(call.waiter, call.result())


async def _run(fn: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> Any:
    # The call of `fn` happens inside the task, so that a wrong argument list, too, reaches the one who called.
    # asyncio lets these two escape through the loop itself, which would leave every caller waiting for ever.
    try:
        return await fn(*args)
    except (KeyboardInterrupt, SystemExit) as error:
        raise RuntimeError(f"{type(error).__name__} on the far side of the bridge") from error


@asynccontextmanager
async def open_bridge() -> AsyncIterator[Bridge]:
    """Start the asyncio thread; stop it on the way out. Calls still running then are cancelled.

    Closing waits at most 5 s for far-side tasks to end; the thread is a daemon thread, so a stuck one never keeps the process alive.
    """
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=_serve, args=(loop,), name="brewd-asyncio", daemon=True)
    thread.start()
    bridge = Bridge(loop=loop, token=trio.lowlevel.current_trio_token())
    try:
        yield bridge
    finally:
        bridge.close()
        with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_MAX_S):
            loop.call_soon_threadsafe(loop.stop)
            await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: run until stopped, then end what is left and close the loop."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=_CLOSE_MAX_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
