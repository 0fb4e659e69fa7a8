"""The Postgres connections, on the far side of the bridge: opened when needed, kept, and cut off when anything is wrong.

Two rules make an outage short. No connection is waited for once it failed its caller: a server that is paused or gone
answers neither a cancel request nor a goodbye, so the socket is aborted on the spot. And one such failure expires every
connection that was open at that moment, so that the first call after the outage starts with a fresh one.

Connections are not reset when they come back. The queries of brewd leave nothing behind in a session (no SET, no session
lock, no LISTEN, no open cursor), and the reset would cost every call a second round trip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from brewd.errors import StoreConflict, StoreError
from brewd.runtime.bridge import Gate, deadline
from brewd.runtime.process import be_nice, let_others_first

T = TypeVar("T")
Connection = Any  # an asyncpg.Connection: the driver has no types
Work = Callable[[Connection], Awaitable[T]]

_CONNECT_MAX_S: Final = 1.0
_NICE: Final = 10
"""For who stands back: a tenth of the share of the others. With less, what takes it a millisecond could take it a hundred on a core that is always busy."""

_UNREACHABLE: Final = ("08", "53", "57", "58", "40", "55P03", "25006", "28", "3D")
"""SQLSTATEs, by prefix, that speak of the server and not of the query: connection, resources, operator's hand, system
error, a transaction that lost against another, lock timeout, a standby after a failover, no entry, no such database."""


class _Connection(asyncpg.Connection):
    """A connection that, when its query is abandoned, hangs up instead of asking the server to stop: a paused one never answers."""

    __slots__ = ("_stands_back",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stands_back = False

    def stand_back(self) -> None:
        """Have others on the core of the server's process run first, as far as the kernel lets us; where it wants to be asked another time, with the next call."""
        if not self._stands_back:
            let_others_first(self.get_server_pid())
            self._stands_back = be_nice(self.get_server_pid(), _NICE)

    def _cancel_current_command(self, *_: Any) -> None:
        self.terminate()


class Pool:
    """At most `size_max` connections to `dsn`. Lives on the bridge's loop. Opens nothing until the first use.

    `prepared=False` is for a PgBouncer in transaction mode: no named statements, and each use inside one transaction, so
    that the parse and the execution of a query meet the same server connection.
    `background=True`, for a server on this machine only: its process of each connection lets others on its core run first, and has a tenth of their share.
    """

    def __init__(self, *, dsn: str, size_max: int, prepared: bool, background: bool) -> None:
        self._dsn = dsn
        self._prepared = prepared
        self._background = background
        self._gate = Gate(size_max)
        self._size_max = size_max
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._outages = 0

    async def use(self, work: Work[T], timeout_s: float, transaction: bool) -> T:
        """Give `work` a connection, inside one transaction if asked. Translates errors; see `brewd.errors`.

        The time for a free place, for connecting and for the work itself together are `timeout_s` at most.
        """
        placed = False
        try:
            async with deadline(timeout_s), self._gate:
                placed = True
                return await self._on_connection(work, transaction or not self._prepared)
        except TimeoutError as error:
            if not placed:
                raise StoreError(f"Postgres: all {self._size_max} connections were busy for {timeout_s:g} s") from error
            self._expire()
            raise StoreError(f"Postgres: no answer within {timeout_s:g} s") from error

    def close(self) -> None:
        """Cut every connection, idle or not."""
        self._outages += 1
        for connection in [*self._idle, *self._busy]:
            connection.terminate()
        self._idle.clear()

    async def _on_connection(self, work: Work[T], transaction: bool) -> T:
        connection = self._pop_idle()
        if connection is None:
            connection = await self._connect()
        if self._background:
            connection.stand_back()
        outages = self._outages
        self._busy.add(connection)
        keep = False
        try:
            result = await (_transact(connection, work) if transaction else work(connection))
            keep = True
            return result
        except Exception as error:
            if connection.is_closed() or _speaks_of_server(error):
                self._expire()
                raise StoreError(f"Postgres: {_sentence(error)}") from error
            keep = True
            if isinstance(error, asyncpg.UniqueViolationError):
                raise StoreConflict(error.constraint_name or "") from error
            raise
        finally:
            # Not kept: it failed, or the caller gave up mid-query, by its deadline or otherwise, which is no `Exception`.
            self._busy.discard(connection)
            if keep and outages == self._outages and not connection.is_closed():
                self._idle.append(connection)
            else:
                connection.terminate()

    def _pop_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()  # the one used last: its caches are warm, and those below it grow old together
            if not connection.is_closed():
                return connection
        return None

    async def _connect(self) -> Connection:
        try:
            async with deadline(_CONNECT_MAX_S):
                connection = await asyncpg.connect(
                    self._dsn,
                    timeout=None,
                    connection_class=_Connection,
                    statement_cache_size=200 if self._prepared else 0,
                    max_cached_statement_lifetime=0,
                )
                return connection
        except TimeoutError as error:
            self._expire()
            raise StoreError(f"Postgres: no connection within {_CONNECT_MAX_S:g} s") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError) as error:
            self._expire()
            raise StoreError(f"Postgres: cannot connect: {_sentence(error)}") from error

    def _expire(self) -> None:
        """An outage: none of the connections open now is trusted again."""
        self._outages += 1
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


async def _transact(connection: Connection, work: Work[T]) -> T:
    # Not the driver's own transaction block: when the caller gives up, that one waits for a rollback on a connection that
    # is about to be cut. The server rolls back by itself what it loses the connection of.
    await connection.execute("BEGIN")
    try:
        result = await work(connection)
    except Exception:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    if await connection.execute("COMMIT") != "COMMIT":
        raise RuntimeError("a statement of this transaction failed and the error was not passed on: Postgres rolled it back")
    return result


def _speaks_of_server(error: Exception) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_UNREACHABLE)
    return isinstance(error, OSError | TimeoutError)


def _sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class Tx:
    """One open transaction, for code that runs on the bridge's loop (see `Postgres.transaction`). Named queries only, but for `script`."""

    __slots__ = ("_connection", "_queries")

    def __init__(self, connection: Connection, queries: Callable[[str], str]) -> None:
        self._connection = connection
        self._queries = queries

    async def fetch(self, name: str, *args: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(self._queries(name), *args)
        return rows

    async def fetchrow(self, name: str, *args: Any) -> asyncpg.Record | None:
        return await self._connection.fetchrow(self._queries(name), *args)

    async def fetchval(self, name: str, *args: Any) -> Any:
        return await self._connection.fetchval(self._queries(name), *args)

    async def execute(self, name: str, *args: Any) -> None:
        await self._connection.execute(self._queries(name), *args)

    async def script(self, sql: str) -> None:
        """Run SQL text of any number of statements, without arguments: for migrations."""
        await self._connection.execute(sql)


Transaction = Callable[..., Coroutine[Any, Any, T]]
"""`async def fn(tx: Tx, *args) -> T`; runs on the bridge's loop, awaits nothing but `tx`."""
