"""The only source of time.

Wall time is the wall time at the start plus trio's clock since, so a test's `MockClock` moves both, and a step of the
machine's clock never runs time backwards under a room.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

import trio


class Clock:
    """Wall and monotonic time. Build it inside `trio.run`. `start_ms`: wall time now, in ms since 1970 UTC (tests fix it)."""

    __slots__ = ("_base_ms",)

    def __init__(self, start_ms: int | None = None) -> None:
        wall_ms = time.time() * 1000 if start_ms is None else start_ms
        self._base_ms = wall_ms - trio.current_time() * 1000

    def now_ms(self) -> int:
        """Wall time in whole ms since 1970 UTC."""
        return int(self._base_ms + trio.current_time() * 1000)

    def monotonic_s(self) -> float:
        """Seconds on trio's clock; only differences mean anything."""
        return trio.current_time()

    def deadline_s(self, at_ms: int) -> float:
        """The wall time `at_ms` as a deadline on trio's clock."""
        return (at_ms - self._base_ms) / 1000


@lru_cache(maxsize=16)
def _to_the_second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.")


@lru_cache(maxsize=64)
def rfc3339(at_ms: int) -> str:
    """`2026-11-22T10:00:00.000Z` for a wall time in ms."""
    return f"{_to_the_second(at_ms // 1000)}{at_ms % 1000:03d}Z"


def from_rfc3339(text: str) -> int:
    """Wall time in ms of what `rfc3339` wrote."""
    return as_ms(datetime.fromisoformat(text))


@lru_cache(maxsize=64)  # what a turn accepts, it accepts in the same ms
def as_datetime(at_ms: int) -> datetime:
    """An aware UTC `datetime`, which is what asyncpg takes for `timestamptz`."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)


def as_ms(at: datetime) -> int:
    """Wall time in ms of an aware `datetime`."""
    return round(at.timestamp() * 1000)
