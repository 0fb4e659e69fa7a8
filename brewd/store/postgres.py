"""Postgres, seen from trio: named queries with a deadline each, over the bridge.

A call raises `StoreError` when Postgres is not reachable, went away, or was too slow (for a write: nothing is known about
the outcome, unless it says that no connection could be had), and `StoreConflict` when a row would break a unique rule.
Anything else (a syntax error, a missing value) is a bug and passes through as the driver's own error.

Opening never waits for the server: connections are made when needed, so brewd can start while Postgres still comes back.
Cancelling a call cuts the connection it ran on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg
from msgspec import Struct

from brewd.runtime.bridge import Bridge
from brewd.store.pool import Pool, Transaction, Tx
from brewd.store.queries import load_queries

T = TypeVar("T")


class Place(Struct, frozen=True):
    """What another process opens the same Postgres with: arguments of `open_postgres`. The dsn may have a password in it.
    `ours`: its processes are those of our own embedded server."""

    dsn: str
    prepared: bool
    ours: bool = False


class Postgres:
    """A pool of connections and the queries that run on them. Made by `open_postgres`; used from trio."""

    __slots__ = ("_bridge", "_pool", "_queries", "place")

    def __init__(self, *, bridge: Bridge, queries: Mapping[str, str], place: Place, pool_max: int, background: bool = False) -> None:
        self._bridge = bridge
        self._queries = queries
        self.place: Final = place
        self._pool = Pool(dsn=place.dsn, size_max=pool_max, prepared=place.prepared, background=background and place.ours)

    @property
    def queries(self) -> Mapping[str, str]:
        """Query name → SQL, as loaded from the `.sql` files."""
        return self._queries

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[asyncpg.Record]:
        """All rows of the named query."""
        sql = self._sql(name)

        async def work(connection: Any) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args)
            return rows

        return await self._bridge.call(self._pool.use, work, timeout_s, False)

    async def fetchrow(self, name: str, *args: Any, timeout_s: float = 5.0) -> asyncpg.Record | None:
        """The first row of the named query, or None."""
        sql = self._sql(name)

        async def work(connection: Any) -> asyncpg.Record | None:
            row: asyncpg.Record | None = await connection.fetchrow(sql, *args)
            return row

        return await self._bridge.call(self._pool.use, work, timeout_s, False)

    async def fetchval(self, name: str, *args: Any, timeout_s: float = 5.0) -> Any:
        """The first column of the first row, or None."""
        row = await self.fetchrow(name, *args, timeout_s=timeout_s)
        return None if row is None else row[0]

    async def execute(self, name: str, *args: Any, timeout_s: float = 5.0) -> None:
        """Run the named query for its effect."""
        await self.fetch(name, *args, timeout_s=timeout_s)

    async def count(self, name: str, *args: Any, timeout_s: float = 5.0) -> int:
        """Run the named query for its effect, and say how many rows it touched."""
        sql = self._sql(name)

        async def work(connection: Any) -> int:
            status: str = await connection.execute(sql, *args)
            return int(status.rpartition(" ")[2])

        return await self._bridge.call(self._pool.use, work, timeout_s, False)

    async def transaction(self, fn: Transaction[T], *args: Any, timeout_s: float = 5.0) -> T:
        """Run `await fn(tx, *args)` on the bridge's loop inside one transaction; commit when it returns, roll back when it raises.

        `fn` does database work and nothing else: it holds up every other caller of the loop while it computes, and it must
        not touch trio. `timeout_s` covers all of it, the commit too.
        """

        async def work(connection: Any) -> T:
            return await fn(Tx(connection, self._sql), *args)

        return await self._bridge.call(self._pool.use, work, timeout_s, True)

    async def check(self, timeout_s: float = 1.0) -> None:
        """One round trip. Raises `StoreError` when it fails."""

        async def work(connection: Any) -> None:
            await connection.fetchval("SELECT 1")

        await self._bridge.call(self._pool.use, work, timeout_s, False)

    @asynccontextmanager
    async def lane(self, *, background: bool = False) -> AsyncIterator[Lane]:
        """One connection that nobody else uses, for one caller with a steady stream of work (the journal, the ledger).

        It has the same methods, never waits for a free place, and reconnects on the next call after any failure. `background`: as in `open_postgres`.
        """
        lane = Lane(bridge=self._bridge, queries=self._queries, place=self.place, pool_max=1, background=background)
        try:
            yield lane
        finally:
            lane.close()

    def close(self) -> None:
        """Cut all connections, without waiting."""
        self._bridge.post(self._pool.close)

    def _sql(self, name: str) -> str:
        return self._queries[name]


class Lane(Postgres):
    """A pool of one. Calls on it queue up behind each other."""

    __slots__ = ()


@asynccontextmanager
async def open_postgres(
    bridge: Bridge, *, dsn: str, pool_max: int = 10, prepared: bool = True, ours: bool = False, background: bool = False
) -> AsyncIterator[Postgres]:
    """Postgres at `dsn` with at most `pool_max` connections. `prepared=False` behind a PgBouncer in transaction mode.

    `ours`: it is our own embedded server; then, with `background`, what it does for this pool lets others run first.
    Raises `QueryError` when a `.sql` file is broken. Never waits for the server.
    """
    place = Place(dsn, prepared, ours)
    postgres = Postgres(bridge=bridge, queries=load_queries(), place=place, pool_max=pool_max, background=background)
    try:
        yield postgres
    finally:
        postgres.close()
