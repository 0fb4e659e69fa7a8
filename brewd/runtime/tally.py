"""What is counted for each of very many keys, in bounded memory: pure, without a clock.

Whoever counts strangers is at the mercy of their number. A tally holds `room` keys and not one more. A newcomer to a full one
takes the place of the key that matters least among the few that are looked at next, so a flood of fresh keys displaces mostly
itself; a key that is over its limit is never forgotten for a newcomer. When there are only such, the newcomer is not remembered:
somebody with more fresh keys than there is room for is not stopped by counting keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from brewd.runtime.bucket import Window

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")

LOOK: Final = 8
"""Keys looked at when a newcomer comes: what has run out by itself goes, so a tally also shrinks while it is used."""

SET_ASIDE_MAX: Final = 256
"""Keys over their limit that one newcomer may come across before it goes without a place."""

FORGET: Final = 0.0
HOLD: Final = math.inf


class Tally(Generic[K, S]):
    """`grip(state, now)`: how much a state matters, from `FORGET` (it says nothing any more) to `HOLD` (it must stay)."""

    __slots__ = ("_grip", "_held", "_loose", "_room", "_states")

    def __init__(self, *, room: int, grip: Callable[[S, int], float]) -> None:
        self._room = room
        self._grip = grip
        self._states: dict[K, S] = {}
        # Every key is in one of these. Those seen over their limit are set aside: looking for a place must not mean looking past all of them.
        self._loose: _Round[K] = _Round()
        self._held: _Round[K] = _Round()

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: K) -> S | None:
        """The state of a key, if it is remembered."""
        return self._states.get(key)

    def put(self, key: K, state: S, now: int) -> bool:
        """Remember the state of a key. False, and nothing remembered, when a newcomer finds no place."""
        if key not in self._states:
            self._release(now)
            if not self._make_place(now):
                return False
            self._loose.keys.append(key)
        self._states[key] = state
        return True

    def _release(self, now: int) -> None:
        """Look at some of those set aside: they may be over their limit no more."""
        held = self._held
        for _ in range(min(LOOK, len(held.keys))):
            at, key = held.next()
            grip = self._grip(self._states[key], now)
            if grip < HOLD:
                held.remove(at)
                if grip > FORGET:
                    self._loose.keys.append(key)
                else:
                    del self._states[key]

    def _make_place(self, now: int) -> bool:
        """Let go what has run out among the next keys and, when that leaves no room, the one of them that matters least."""
        loose, looks, aside = self._loose, min(LOOK, len(self._loose.keys)), SET_ASIDE_MAX
        least, least_grip = -1, HOLD
        while looks and aside and loose.keys:
            at, key = loose.next()
            grip = self._grip(self._states[key], now)
            if FORGET < grip < HOLD:
                looks -= 1
                if grip < least_grip:
                    least, least_grip = at, grip
                continue
            loose.remove(at)
            if least == len(loose.keys):  # it was the last one, and is now where the removed one was
                least = at
            if grip == HOLD:
                aside -= 1
                self._held.keys.append(key)
            else:
                looks -= 1
                del self._states[key]
        if len(self._states) < self._room:
            return True
        if least < 0:
            return False
        del self._states[loose.keys[least]]
        loose.remove(least)
        return True


class Windows(Generic[K]):
    """When something happened, by key, in the last `period_ms`. A key with `limit` times in it is over its limit."""

    __slots__ = ("_limit", "_period_ms", "_times", "_window")

    def __init__(self, *, limit: int, period_ms: int, room: int) -> None:
        self._limit = limit
        self._period_ms = period_ms
        self._window = Window(limit, period_ms)
        self._times: Tally[K, tuple[int, ...]] = Tally(room=room, grip=self._grip)

    def __len__(self) -> int:
        return len(self._times)

    def recent(self, key: K, now_ms: int) -> tuple[int, ...]:
        """The times that still count, oldest first."""
        return self._recent(self._times.get(key) or (), now_ms)

    def wait_ms(self, key: K, now_ms: int, most: int) -> int:
        """How long until it happened less than `most` times; 0 when it did. Exact: one ms less is too early."""
        recent = self.recent(key, now_ms)
        return recent[-most] + self._period_ms - now_ms if len(recent) >= most else 0

    def add(self, key: K, now_ms: int, most: int) -> tuple[int, ...]:
        """It happens now; the last `most` times that count, this one with them. More are not kept."""
        times_ms = (*self.recent(key, now_ms), now_ms)[-most:]
        self._times.put(key, times_ms, now_ms)
        return times_ms

    def take_back(self, key: K, at_ms: int) -> None:
        """What was added at `at_ms` did not happen."""
        times_ms = list(self._times.get(key) or ())
        if at_ms in times_ms:
            times_ms.remove(at_ms)
            self._times.put(key, tuple(times_ms), at_ms)

    def _grip(self, times_ms: tuple[int, ...], now_ms: int) -> float:
        """How many times are left; as many as there may be are not forgotten."""
        recent = len(self._recent(times_ms, now_ms))
        return HOLD if recent >= self._limit else float(recent)

    def _recent(self, times_ms: tuple[int, ...], now_ms: int) -> tuple[int, ...]:
        all_count = not times_ms or times_ms[0] > now_ms - self._period_ms
        return times_ms if all_count else self._window.recent(times_ms, now_ms)


class _Round(Generic[K]):
    """Keys in an order that a hand goes round in."""

    __slots__ = ("_hand", "keys")

    def __init__(self) -> None:
        self.keys: list[K] = []
        self._hand = 0

    def next(self) -> tuple[int, K]:
        """The key the hand comes to, and where it is."""
        at = self._hand if self._hand < len(self.keys) else 0
        self._hand = at + 1
        return at, self.keys[at]

    def remove(self, at: int) -> None:
        """Take out the key at `at`; the last one takes its place. Where the hand just was, it looks again."""
        last = self.keys.pop()
        if at < len(self.keys):
            self.keys[at] = last
        if at == self._hand - 1:
            self._hand = at
