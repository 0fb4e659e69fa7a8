"""A Postgres whose first answer is late."""

from __future__ import annotations

from typing import Any

import trio

from brewd.store.postgres import Postgres


class Late:
    """The first transaction is `done` long before whoever asked is `told`. Everything else is as it was."""

    def __init__(self, pg: Postgres) -> None:
        self._pg = pg
        self.done = trio.Event()
        self.told = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pg, name)

    async def transaction(self, *args: Any) -> Any:
        answer = await self._pg.transaction(*args)
        if not self.done.is_set():
            self.done.set()
            await self.told.wait()
        return answer
