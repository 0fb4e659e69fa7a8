"""The events a room has for its reader, in order and bounded.

When the reader falls behind, the room stops reading its socket, the server's own bounds take over, and nothing is lost that cannot be fetched
again. One case must give way: a reader that sends a message from inside its loop waits for an answer that stands behind events it has not taken.
So while a call waits for its answer the bound is lifted; the call's deadline bounds it instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from brewd.client.events import Event


class Inbox:
    """A queue of at most about `size_max` events for one reader, and the end of the story behind them. `size_max=0`: there is no reader, keep nothing."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._events: deque[Event] = deque()
        self._calls = 0
        self._ended = False
        self._failure: Exception | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def put(self, event: Event) -> None:
        """Queue an event, past the bound if need be: whoever puts many waits for `roomy` between."""
        if self._size_max:
            self._events.append(event)
            self._changed.unpark_all()

    def end(self, failure: Exception | None) -> None:
        """Nothing more comes: readers get what is queued, then `failure`, or the end of the iteration."""
        if not self._ended:
            self._ended, self._failure = True, failure
            self._changed.unpark_all()

    @property
    def failure(self) -> Exception | None:
        return self._failure

    @property
    def ended(self) -> bool:
        return self._ended

    async def get(self) -> Event:
        """The next event. Raises the failure it ended with, or `StopAsyncIteration`."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._ended:
                raise self._failure or StopAsyncIteration
            await self._changed.park()
        event = self._events.popleft()
        self._changed.unpark_all()
        return event

    async def roomy(self) -> None:
        """Wait until there is room for more, or somebody waits for an answer behind it."""
        while self._events and len(self._events) >= self._size_max and not self._calls:
            await self._changed.park()

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Lift the bound while a call waits for its answer."""
        self._calls += 1
        self._changed.unpark_all()
        try:
            yield
        finally:
            self._calls -= 1
