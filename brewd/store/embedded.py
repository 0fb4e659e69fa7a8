"""Real servers of our own, private to the data directory: what makes `brewd dev` need nothing but brewd.

    with data_lock(data_dir):
        async with embedded_postgres(data_dir) as postgres, embedded_redis(data_dir) as redis:
            supervisor.spawn("postgres", postgres.watch, essential=True)
            supervisor.spawn("redis", redis.watch, essential=True)

`watch` ends with an error when its server does, and starts the server when it is called again, so a restart is the
supervisor's, with its intensity and its backoff. The servers end in order on the way out, and at once when brewd dies, however it dies. Enter these on the thread that runs
trio, the main thread of the daemon: the kernel ties each server to the thread that started it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from brewd.store.child import EmbeddedError
from brewd.store.embedded_postgres import PostgresServer
from brewd.store.embedded_redis import RedisServer

__all__ = ["EmbeddedError", "PostgresServer", "RedisServer", "data_lock", "embedded_postgres", "embedded_redis"]


@asynccontextmanager
async def embedded_postgres(data_dir: Path, *, settings: Mapping[str, str] | None = None) -> AsyncIterator[PostgresServer]:
    """A running Postgres with its cluster in `data_dir`, which must exist and be locked. `settings` override its configuration.

    Ready in well under a second, but for the very first time. Raises `EmbeddedError` when it cannot run here.
    """
    server = PostgresServer(data_dir=data_dir, settings=settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def embedded_redis(data_dir: Path) -> AsyncIterator[RedisServer]:
    """A running Valkey or Redis that is private to `data_dir`, which must exist and be locked. Raises `EmbeddedError`."""
    server = RedisServer(data_dir=data_dir)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@contextmanager
def data_lock(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` (made if need be) for this process alone. Raises `EmbeddedError` when it cannot be used or another brewd holds it.

    The kernel releases the lock when the process ends, however it ends, so there is no stale lock.
    """
    # Root's servers run as `nobody`, who has to pass through; each thing inside guards itself.
    try:
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"the data directory {data_dir} cannot be used: {error.strerror}; name another one in data.dir") from None
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
