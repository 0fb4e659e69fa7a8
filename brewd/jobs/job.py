"""A job as data, and when it is due. Pure: the time is an argument. Cron expressions are in UTC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from cronsim import CronSim
from msgspec import Struct

from brewd.runtime.clock import as_ms

DEADLINE_S = 600.0


class Job(Struct, frozen=True):
    """`run` does it and says what it did, in numbers: `{"users": 12}`. It may be run again at any time, also after it was cut off half-way.

    Raises `StoreError` when storage is away: it is tried again soon. Anything else it raises is recorded, and it is tried again at the next
    time. `cron` has five fields, in UTC. After `deadline_s` it is cancelled.
    """

    name: str
    cron: str
    run: Callable[[], Awaitable[Mapping[str, int]]]
    deadline_s: float = DEADLINE_S

    def next_ms(self, after_ms: int) -> int:
        """The first time it is due after a wall time, in ms."""
        return as_ms(next(CronSim(self.cron, _datetime(after_ms))))

    def last_ms(self, at_ms: int) -> int:
        """The last time it was due, up to and including a wall time, in ms."""
        return as_ms(next(CronSim(self.cron, _datetime(at_ms) + timedelta(seconds=1), reverse=True)))


def _datetime(at_ms: int) -> datetime:
    """To the second, which is more than cron knows of."""
    return datetime.fromtimestamp(at_ms // 1000, UTC)
