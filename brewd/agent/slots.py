"""Places among the calls in flight: so many in one café, and so many in all. Who finds none waits briefly, in order, and few at a time."""

from __future__ import annotations

from typing import Final

import trio

WAITING_MAX: Final = 200
WAITING_CAFE_MAX: Final = WAITING_MAX // 4
"""Of one café: they wait for its own places, and would keep the guests of others from those that come free."""


class Slots:
    """`cafe_max` and `all_max` may be taken; a café that wants many does not keep the others out."""

    def __init__(self, *, cafe_max: int, all_max: int) -> None:
        self._cafe_max = cafe_max
        self._all_max = all_max
        self._taken: dict[str, int] = {}
        self._waiting: dict[trio.Event, str] = {}

    @property
    def in_flight(self) -> int:
        return sum(self._taken.values())

    def try_take(self, cafe_id: str) -> bool:
        """Take a place if there is one that nobody waits for."""
        if not self._free(cafe_id) or any(self._free(other) for other in self._waiting.values()):
            return False
        self._take(cafe_id)
        return True

    async def take(self, cafe_id: str, timeout_s: float) -> bool:
        """Take a place, waiting for it at most that long; whether there was one. Cancelling it takes none."""
        if self.try_take(cafe_id):
            return True
        if len(self._waiting) >= WAITING_MAX or list(self._waiting.values()).count(cafe_id) >= WAITING_CAFE_MAX:
            return False
        turn = trio.Event()
        self._waiting[turn] = cafe_id
        try:
            with trio.move_on_after(timeout_s):
                await turn.wait()
        except BaseException:
            if self._waiting.pop(turn, None) is None:  # it was given a place meanwhile
                self.give(cafe_id)
            raise
        return self._waiting.pop(turn, None) is None

    def give(self, cafe_id: str) -> None:
        """A place is free again: the first who waits and can have it gets it."""
        left = self._taken[cafe_id] - 1
        if left:
            self._taken[cafe_id] = left
        else:
            del self._taken[cafe_id]
        for turn, waiting_id in list(self._waiting.items()):
            if self._free(waiting_id):
                del self._waiting[turn]
                self._take(waiting_id)
                turn.set()
                return

    def _free(self, cafe_id: str) -> bool:
        return self._taken.get(cafe_id, 0) < self._cafe_max and self.in_flight < self._all_max

    def _take(self, cafe_id: str) -> None:
        self._taken[cafe_id] = self._taken.get(cafe_id, 0) + 1
