"""A bounded mailbox for one reader, and the slot an answer comes back in.

`Mailbox` owns the commands an actor has not read yet. `tell` never blocks: a full mailbox says so at once, and the sender
decides what that means. `wait` parks the one reader; many `tell`s in one tick of the event loop wake it once, which is what
lets an actor take everything that gathered in one go.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, cast

import outcome
import trio

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue of at most `limit` items, first in, first out."""

    __slots__ = ("_items", "_reader", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._items: deque[T] = deque()
        self._reader: trio.lowlevel.Task | None = None

    def __len__(self) -> int:
        return len(self._items)

    def tell(self, item: T) -> bool:
        """Queue `item` and wake the reader. False, and nothing queued, when the mailbox is full."""
        if len(self._items) >= self.limit:
            return False
        self._items.append(item)
        if self._reader is not None:
            self.wake()
        return True

    def push(self, item: T) -> None:
        """Queue what must not be refused, past the limit if need be. The caller bounds how many of those there can be."""
        self._items.append(item)
        self.wake()

    def wake(self) -> None:
        """Wake the reader although nothing was queued; no effect when it is not waiting."""
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def take(self) -> T:
        """The oldest item. `IndexError` when there is none."""
        return self._items.popleft()

    async def wait(self) -> None:
        """Return when an item is there or `wake` was called. Always a checkpoint. One reader at a time."""
        if self._items:
            await trio.lowlevel.checkpoint()
            return
        if self._reader is not None:
            raise trio.BusyResourceError("this mailbox has a reader already")

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)


class Slot(Generic[T]):
    """Room for one answer. The first of `set` and `fail` counts; answering someone who left is a no-op."""

    __slots__ = ("_done", "_result")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._result: outcome.Outcome[T] | None = None

    def set(self, value: T) -> None:
        self._finish(outcome.Value(value))

    def fail(self, error: Exception) -> None:
        self._finish(outcome.Error(error))

    def _finish(self, result: outcome.Outcome[T]) -> None:
        if self._result is None:
            self._result = result
            self._done.set()

    async def get(self, timeout_s: float) -> T:
        """Wait for the answer and return it, or raise what `fail` was given; `trio.TooSlowError` after `timeout_s`."""
        with trio.fail_after(timeout_s):
            await self._done.wait()
        return cast("outcome.Outcome[T]", self._result).unwrap()
