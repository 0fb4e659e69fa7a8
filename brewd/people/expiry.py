"""Expiry: what is over leaves the database, a little at a time, so that nobody who is chatting notices.

Customers whose time is over are erased as `erasure` does it, but that the log of moderation goes on naming those who are banned or muted still,
until that is over too. Then goes what is left of nobody: names on receipts that were not used, sessions, patrons who did not come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import trio

from brewd.people.erasure import EXPIRED, ROWS_MAX, Erasure
from brewd.runtime.clock import Clock, as_datetime
from brewd.store.postgres import Postgres

REST_S: Final = 0.012
"""After each transaction and each command, so that what waited meanwhile comes first."""

_RECEIPT_MS: Final = 86_400_000
"""So long after its token has expired, whoever comes with a receipt is told so, and not that there is no such name."""


class Expiry:
    """The body of the job. `rows_max`: in one transaction; `rest_s`: after each."""

    def __init__(self, *, pg: Postgres, clock: Clock, erasure: Erasure, rows_max: int = ROWS_MAX, rest_s: float = REST_S) -> None:
        self._pg = pg
        self._clock = clock
        self._erasure = erasure
        self._rows_max = rows_max
        self._rest_s = rest_s

    async def run(self) -> Mapping[str, int]:
        """Until nothing is left that is over. Raises `StoreError`; what was done by then is done."""
        await self._erasure.pay()
        done: Counter[str] = Counter()
        while people := await self._erasure.over(self._rows_max):
            receipt = await self._erasure.people(people, close=EXPIRED, spared=frozenset({"moderation_actions"}), rest_s=self._rest_s)
            done["users"] += len(people)
            done.update({table: count for table, count in receipt.tables.items() if table != "customer"})
            done["keys"] += sum((receipt.keys or {}).values())
        done["moderation_actions"] += await self._log()
        done["patrons"] += await self._patrons()
        now_ms = self._clock.now_ms()
        done["receipt"] += await self._emptied("receipt_unused_over", now_ms - _RECEIPT_MS)
        done["session"] += await self._emptied("session_over", now_ms)
        await self._emptied("erased_over", now_ms)
        return {name: count for name, count in done.items() if count}

    async def _log(self) -> int:
        total = 0
        while rows := await self._pg.fetch("moderated_over", as_datetime(self._clock.now_ms()), self._rows_max):
            total += await self._erasure.log_of([row["id"] for row in rows], self._rest_s)
        return total

    async def _patrons(self) -> int:
        total = 0
        while rows := await self._pg.fetch("patron_over", as_datetime(self._clock.now_ms()), self._rows_max):
            await self._erasure.patrons([row["id"] for row in rows], self._rest_s)
            total += len(rows)
        return total

    async def _emptied(self, name: str, before_ms: int) -> int:
        total = 0
        while touched := await self._pg.count(name, as_datetime(before_ms), self._rows_max):
            total += touched
            await trio.sleep(self._rest_s)
        return total
