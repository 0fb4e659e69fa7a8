"""Analytics: what happened in a café, hour by hour; counted once an hour is over, and read from a replica where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from brewd.errors import StoreError
from brewd.people.records import invalid
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import BEFORE_ALL
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres

log = get_logger("analytics")

HOUR_MS: Final = 3_600_000
LATE_MS: Final = 60_000
"""So long after its end an hour is over: what was said in its last second is stored by then."""

SPAN_MAX_MS: Final = 31 * 24 * HOUR_MS
SPAN_DEFAULT_MS: Final = 24 * HOUR_MS
_CAFES_AT_ONCE: Final = 50
_COUNT_S: Final = 60.0


class Hour(Struct, frozen=True):
    """One hour of a café, from `at_ms` (wall ms) on."""

    at_ms: int
    messages: int
    authors: int
    joins: int
    pokes: int
    matches: int
    agent_queries: int


class Analytics:
    """`replica`: where reading is done when it answers; the same as `pg` when there is none. Methods raise `StoreError`."""

    def __init__(self, *, pg: Postgres, replica: Postgres, clock: Clock) -> None:
        self._pg = pg
        self._replica = replica
        self._clock = clock

    async def run(self) -> Mapping[str, int]:
        """The body of the job: count every hour that is over and not counted yet, a few cafés in each transaction."""
        over_ms = self._clock.now_ms() - LATE_MS
        before, after, hours = as_datetime(over_ms - over_ms % HOUR_MS), BEFORE_ALL, 0
        while True:
            row = await self._pg.fetchrow("analytics_count", after, _CAFES_AT_ONCE, before, timeout_s=_COUNT_S)
            assert row is not None
            hours += row["hours"]
            if row["cafes"] < _CAFES_AT_ONCE:
                return {"hours": hours}
            after = row["last"]

    async def rows(self, cafe_id: str, from_ms: int | None = None, to_ms: int | None = None) -> list[Hour]:
        """The hours of a café that begin from `from_ms` on and before `to_ms`, without those in which nothing happened; by default the last day.

        Raises `Rejected` (`invalid_request`) for a span that is none or longer than 31 days.
        """
        if to_ms is None:
            to_ms = self._clock.now_ms() if from_ms is None else from_ms + SPAN_DEFAULT_MS
        if from_ms is None:
            from_ms = max(0, to_ms - SPAN_DEFAULT_MS)
        if to_ms <= from_ms:
            raise invalid("to", "must be later than from")
        if to_ms - from_ms > SPAN_MAX_MS:
            raise invalid("from", "must be at most 31 days before to; ask for the rest by itself")
        arguments = (cafe_id, as_datetime(from_ms), as_datetime(to_ms))
        try:
            rows = await self._replica.fetch("analytics_rows", *arguments)
        except StoreError as error:
            if self._replica is self._pg:
                raise
            log.warning("replica_unavailable", error=str(error))
            rows = await self._pg.fetch("analytics_rows", *arguments)
        return [_hour(row) for row in rows]


def _hour(row: Mapping[str, Any]) -> Hour:
    return Hour(as_ms(row["hour"]), row["messages"], row["authors"], row["joins"], row["pokes"], row["matches"], row["agent_queries"])
