"""One clock-watcher for every timer in the process.

Ten thousand rooms with a sleeping task each would cost more than their messages. `Alarms` keeps all deadlines in one heap and
one task; each owner has at most one alarm pending and decides what is due when it rings.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import NoReturn

import trio


class Alarm:
    """One owner's alarm. `set` keeps the earlier of two deadlines: an owner that rang re-arms for what is left."""

    __slots__ = ("_alarms", "at_s", "ring")

    def __init__(self, alarms: Alarms, ring: Callable[[], None]) -> None:
        self._alarms = alarms
        self.ring = ring
        self.at_s = math.inf

    def set(self, at_s: float) -> None:
        """Ring at `at_s` on trio's clock, unless it already rings sooner."""
        if at_s < self.at_s:
            self.at_s = at_s
            self._alarms.add(self)

    def cancel(self) -> None:
        self.at_s = math.inf


class Alarms:
    """Owns the heap of deadlines. `run` rings each in its turn; `ring` is called synchronously and must not raise.

    `grain_s`: how late an alarm may ring, so that a thousand of them a second do not each wake the process.
    """

    def __init__(self, grain_s: float = 0.0) -> None:
        self._grain_s = grain_s
        self._heap: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self._scope: trio.CancelScope | None = None

    def add(self, alarm: Alarm) -> None:
        self._count += 1  # breaks ties: alarms themselves have no order
        heapq.heappush(self._heap, (alarm.at_s, self._count, alarm))
        if self._scope is not None and alarm.at_s + self._grain_s < self._scope.deadline:
            self._scope.deadline = alarm.at_s + self._grain_s

    async def run(self) -> NoReturn:
        while True:
            self.ring_due(trio.current_time())
            with trio.CancelScope(deadline=self._heap[0][0] + self._grain_s if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()

    def ring_due(self, now_s: float) -> None:
        """Ring everything due at `now_s`; entries that were cancelled or set anew are skipped."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, _, alarm = heapq.heappop(self._heap)
            if alarm.at_s == at_s:
                alarm.at_s = math.inf
                alarm.ring()
