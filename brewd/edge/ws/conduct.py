"""What is held against one socket, and when it has been too much. Most sockets never have any of it."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0

BAD_FRAMES_MAX: Final = 20
REFUSED_FRAMES_MAX: Final = 200
"""Frames over the limit, of which even a client that obeys may send a burst before it hears of the first refusal."""


class Conduct:
    """Owns the times of the last offences."""

    __slots__ = ("_bad_at_s", "_refused_at_s")

    def __init__(self) -> None:
        self._bad_at_s: deque[float] = deque(maxlen=BAD_FRAMES_MAX)
        self._refused_at_s: deque[float] = deque(maxlen=REFUSED_FRAMES_MAX)

    def not_understood(self, now_s: float) -> bool:
        """A frame was not understood; whether that makes too many within `WINDOW_S`."""
        return _too_many(self._bad_at_s, now_s)

    def refused(self, now_s: float) -> bool:
        """A frame was one too many for its second; whether that makes too many of those."""
        return _too_many(self._refused_at_s, now_s)


def _too_many(times_s: deque[float], now_s: float) -> bool:
    times_s.append(now_s)
    return len(times_s) == times_s.maxlen and now_s - times_s[0] <= WINDOW_S
