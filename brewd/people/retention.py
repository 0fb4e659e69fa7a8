"""Retention: what is older than it is kept is deleted.

Messages, as long as their café says, in Postgres and in the memory of its room; and numbers that name nobody: what happened in an hour, what a
question cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import trio

from brewd.cafe.commands import Command, Discard
from brewd.runtime.clock import Clock, as_datetime, as_ms, rfc3339
from brewd.store.postgres import Postgres

ROWS_MAX: Final = 500
REST_S: Final = 0.01
DAY_MS: Final = 86_400_000


class Rooms(Protocol):
    def order(self, cafe_id: str, command: Command) -> None: ...


class Retention:
    """The body of the job. `days`: how long messages are kept in cafés that have no time of their own; `rest_s`: a pause after each transaction."""

    def __init__(self, *, pg: Postgres, clock: Clock, rooms: Rooms, days: int, rest_s: float = REST_S) -> None:
        self._pg = pg
        self._clock = clock
        self._rooms = rooms
        self._days = days
        self._rest_s = rest_s

    async def run(self) -> Mapping[str, int]:
        """Café by café, a few rows in each transaction. Raises `StoreError`; what was done by then is done."""
        due = await self._pg.fetch("purge_due", as_datetime(self._clock.now_ms()), self._days, timeout_s=60.0)
        total = 0
        for row in due:
            while deleted := await self._pg.count("purge_messages", row["id"], row["before"], ROWS_MAX):
                total += deleted
                await trio.sleep(self._rest_s)
            self._rooms.order(row["id"], Discard(rfc3339(as_ms(row["before"]))))
        return {"cafes": len(due), "messages": total}


class Numbers:
    """The body of the job. `days`: how long hours and questions are kept, in every café; `rest_s`: a pause after each transaction."""

    def __init__(self, *, pg: Postgres, clock: Clock, days: int, rest_s: float = REST_S) -> None:
        self._pg = pg
        self._clock = clock
        self._days = days
        self._rest_s = rest_s

    async def run(self) -> Mapping[str, int]:
        """A few rows in each transaction. Raises `StoreError`; what was done by then is done."""
        return {"hours": await self._purged("purge_cafe_analytics"), "queries": await self._purged("purge_agent_queries")}

    async def _purged(self, name: str) -> int:
        before, total = as_datetime(self._clock.now_ms() - self._days * DAY_MS), 0
        while deleted := await self._pg.count(name, before, ROWS_MAX):
            total += deleted
            await trio.sleep(self._rest_s)
        return total
