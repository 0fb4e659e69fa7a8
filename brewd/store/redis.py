"""Redis, seen from trio: commands in one round trip, over the bridge.

Redis is a mirror: brewd never decides by it. A call therefore raises `StoreError` as soon as the answer is late, and the
caller goes on without it. There are no retries here; who writes the mirror rewrites it once Redis is back. A command that
Redis itself refuses (a wrong type, a wrong argument count) is a bug and passes through as the driver's own error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio as driver
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge, Gate, deadline

_CONNECTIONS_MAX: Final = 8
_CONNECT_MAX_S: Final = 1.0
_UNREACHABLE: Final = (OSError, exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ReadOnlyError, exceptions.OutOfMemoryError)


class Redis:
    """A few connections to one Redis. Made by `open_redis`; used from trio. Texts come back as `str`."""

    __slots__ = ("_bridge", "_far")

    def __init__(self, *, bridge: Bridge, url: str) -> None:
        self._bridge = bridge
        self._far = _Far(url)

    async def pipeline(self, commands: Sequence[tuple[Any, ...]], *, timeout_s: float = 1.0) -> list[Any]:
        """Send all commands at once and return their answers in order. Not a transaction: others may come in between.

        Raises `StoreError` when Redis is gone or too slow; some of the commands may have been carried out.
        """
        if not commands:
            return []
        return await self._bridge.call(self._far.pipeline, commands, timeout_s)

    async def check(self, timeout_s: float = 1.0) -> None:
        """One round trip. Raises `StoreError` when it fails."""
        await self.pipeline([("PING",)], timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Cut all connections, without waiting for Redis."""
        await self._bridge.call(self._far.close)


class _Far:
    """The part that lives on the bridge's loop."""

    def __init__(self, url: str) -> None:
        self._gate = Gate(_CONNECTIONS_MAX)
        self._client = driver.Redis.from_url(
            url,
            decode_responses=True,
            protocol=2,
            max_connections=_CONNECTIONS_MAX,
            socket_connect_timeout=_CONNECT_MAX_S,
            socket_timeout=None,  # the deadline around the whole call is the only clock
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )

    async def pipeline(self, commands: Sequence[tuple[Any, ...]], timeout_s: float) -> list[Any]:
        try:
            async with deadline(timeout_s), self._gate, self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: list[Any] = await pipe.execute()
                return answers
        except TimeoutError as error:
            await self._expire()
            raise StoreError(f"Redis: no answer within {timeout_s:g} s") from error
        except _UNREACHABLE as error:
            await self._expire()
            raise StoreError(f"Redis: {error}") from error

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    async def _expire(self) -> None:
        # What is idle now was opened before the failure; the next call shall not be the one to find out that it is dead.
        await self._client.connection_pool.disconnect(inuse_connections=False)


@asynccontextmanager
async def open_redis(bridge: Bridge, *, url: str) -> AsyncIterator[Redis]:
    """Redis at `url` (`redis://`, `rediss://` or `unix://`). Never waits for the server."""
    client = Redis(bridge=bridge, url=url)
    try:
        yield client
    finally:
        await client.aclose()
