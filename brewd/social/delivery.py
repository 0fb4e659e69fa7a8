"""Late delivery: what a user is told at a moment that says nothing about when it was caused.

Owns a bounded heap of events that wait, for a few seconds at most. Everything in it can be read elsewhere, so it survives nothing:
what waits when the process ends, or does not fit, is found there. On a crash the heap stays as it is.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final, NoReturn

import trio
from msgspec import Struct

from brewd.cafe.events import Event
from brewd.runtime.clock import Clock

WAITING_MAX: Final = 20_000


class _Waiting(Struct, frozen=True, order=True):
    at_ms: int
    id: str


class Delivery:
    """`notify(cafe_id, user_id, event)` is the directory's."""

    def __init__(self, *, clock: Clock, notify: Callable[[str, str, Event], None], waiting_max: int = WAITING_MAX) -> None:
        self._clock = clock
        self._notify = notify
        self._waiting_max = waiting_max
        self._heap: list[_Waiting] = []
        self._events: dict[str, tuple[str, str, Event]] = {}
        self._scope: trio.CancelScope | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._events)

    def later(self, id: str, at_ms: int, cafe_id: str, user_id: str, event: Event) -> None:
        """Tell a user at `at_ms`. `id` is for `drop`. Never blocks; with too many waiting, the event is not told at all."""
        if len(self._heap) >= self._waiting_max:
            return
        self._events[id] = cafe_id, user_id, event
        heapq.heappush(self._heap, _Waiting(at_ms, id))
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._clock.deadline_s(at_ms))

    def drop(self, id: str) -> None:
        """It is out of date: do not tell it, if that has not happened yet."""
        self._events.pop(id, None)

    async def run(self) -> NoReturn:
        while True:
            self._tell_due()
            deadline_s = self._clock.deadline_s(self._heap[0].at_ms) if self._heap else math.inf
            with trio.CancelScope(deadline=deadline_s) as self._scope:
                await trio.sleep_forever()

    def _tell_due(self) -> None:
        now_ms = self._clock.now_ms()
        while self._heap and self._heap[0].at_ms <= now_ms:
            found = self._events.pop(heapq.heappop(self._heap).id, None)
            if found is not None:
                self._notify(*found)
