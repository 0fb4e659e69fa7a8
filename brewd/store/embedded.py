"""Real servers of our own, private to the data directory: what makes `brewd dev` need nothing but brewd.

    with data_lock(data_dir):
        async with embedded_postgres(data_dir) as postgres, embedded_redis(data_dir) as redis:
            nursery.start_soon(postgres.watch)
            nursery.start_soon(redis.watch)

The servers end in order on the way out, and at once when brewd dies, however it dies. Enter these on the thread that runs
trio, the main thread of the daemon: the kernel ties each server to the thread that started it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, Protocol

import trio

from brewd.runtime.log import get_logger
from brewd.store.child import EmbeddedError
from brewd.store.embedded_postgres import PostgresServer
from brewd.store.embedded_redis import RedisServer

__all__ = ["EmbeddedError", "EmbeddedPostgres", "EmbeddedRedis", "data_lock", "embedded_postgres", "embedded_redis"]

_RESTARTS_MAX: Final = 5
_RESTARTS_PERIOD_S: Final = 60.0
_BACKOFF_MAX_S: Final = 2.0


class _Server(Protocol):
    async def start(self) -> None: ...
    async def wait(self) -> int: ...
    def last_words(self) -> str: ...


class EmbeddedPostgres(PostgresServer):
    async def watch(self) -> None:
        """Restart the server whenever it ends. Runs until cancelled; raises `EmbeddedError` past 5 restarts in a minute."""
        await _watch("postgres", self)


class EmbeddedRedis(RedisServer):
    async def watch(self) -> None:
        """Restart the server whenever it ends. Runs until cancelled; raises `EmbeddedError` past 5 restarts in a minute."""
        await _watch("redis", self)


@asynccontextmanager
async def embedded_postgres(data_dir: Path, *, settings: Mapping[str, str] | None = None) -> AsyncIterator[EmbeddedPostgres]:
    """A running Postgres with its cluster in `data_dir`, which must exist and be locked. `settings` override its configuration.

    Ready in well under a second, but for the very first time. Raises `EmbeddedError` when it cannot run here.
    """
    server = EmbeddedPostgres(data_dir=data_dir, settings=settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def embedded_redis(data_dir: Path) -> AsyncIterator[EmbeddedRedis]:
    """A running Valkey or Redis that is private to `data_dir`, which must exist and be locked. Raises `EmbeddedError`."""
    server = EmbeddedRedis(data_dir=data_dir)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def data_lock(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` (made if need be, 0700 then) for this process alone. Raises `EmbeddedError` when another brewd holds it.

    The kernel releases the lock when the process ends, however it ends, so there is no stale lock.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise EmbeddedError(f"another brewd{f' (process {holder})' if holder else ''} uses the data directory {data_dir}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _watch(name: str, server: _Server) -> None:
    log = get_logger("brewd.embedded")
    restarts: list[float] = []
    while True:
        status = await server.wait()
        now = trio.current_time()
        restarts = [at for at in restarts if at > now - _RESTARTS_PERIOD_S]
        log.error("an embedded server ended; it is started again", server=name, status=status, last_words=server.last_words())
        if len(restarts) >= _RESTARTS_MAX:
            raise EmbeddedError(f"{name} ended {_RESTARTS_MAX + 1} times within {_RESTARTS_PERIOD_S:g} s, the last time with: {server.last_words()}")
        if restarts:
            await trio.sleep(min(_BACKOFF_MAX_S, 0.1 * 2 ** len(restarts)))
        restarts.append(now)
        await server.start()
        log.info("an embedded server is back", server=name)
