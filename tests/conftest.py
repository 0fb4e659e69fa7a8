"""Real servers for the tests: one embedded Postgres and one embedded Valkey for the whole run, a fresh database for each test.

`postgres_dsn` and `redis_url` work in any test; `bridge`, `pg`, `redis`, `clock` and `ids` live in the test's own trio run.
A fresh database is a copy of a migrated template, made in a few milliseconds.
"""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest
import trio

from brewd.runtime.bridge import Bridge, open_bridge
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.embedded import PostgresServer, RedisServer, data_lock, embedded_postgres
from brewd.store.migrate import migrate, migrations_dir
from brewd.store.postgres import Postgres, open_postgres
from brewd.store.redis import Redis, open_redis

START_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z

# The test's cluster is thrown away, so it need not survive a crash of the machine; what brewd itself asks of Postgres stays as it is.
_THROWN_AWAY = {"fsync": "off", "full_page_writes": "off", "max_connections": "60"}


class Databases:
    """Copies of the migrated template, one for each test that asks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._runner = asyncio.Runner()
        self._made = 0
        self._admin: asyncpg.Connection = self._runner.run(asyncpg.connect(self.dsn("postgres")))
        self._runner.run(self._admin.execute("CREATE DATABASE template_brewd"))
        # Copying files takes a third of the time that logging every page takes. Before version 15 there is no other way.
        self._strategy = "STRATEGY FILE_COPY" if self._admin.get_server_version() >= (15, 0) else ""
        trio.run(self._migrate)

    def dsn(self, name: str) -> str:
        return self._dsn.replace("/brewd?", f"/{name}?")

    async def _migrate(self) -> None:
        async with open_bridge() as bridge, open_postgres(bridge, dsn=self.dsn("template_brewd"), pool_max=1) as pg:
            await migrate(pg, migrations_dir(), Clock(START_MS))

    @contextmanager
    def fresh(self, template: str = "template_brewd") -> Iterator[str]:
        """The DSN of a new database."""
        self._made += 1
        name = f"t{self._made}"
        self._runner.run(self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self._strategy}"))
        try:
            yield self.dsn(name)
        finally:
            self._runner.run(self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)"))

    def close(self) -> None:
        self._runner.run(self._admin.close())
        self._runner.close()


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which Postgres ran before. To be copied: making one takes a second, a copy a fraction of that."""
    directory = tmp_path_factory.mktemp("prepared") / "data"

    async def prepare() -> None:
        async with embedded_postgres(directory):
            pass

    with data_lock(directory):
        trio.run(prepare)
    return directory


def copy_data(prepared_data: Path, to: Path) -> Path:
    """A copy of a data directory, owners and all; the directory `to` is made by it."""
    subprocess.run(["cp", "-a", str(prepared_data), str(to)], check=True)
    return to


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sim-seeds", type=int, default=1000, metavar="N", help="how many seeds the simulation runs (tests/sim)")
    parser.addoption("--sim-seed", type=int, default=None, metavar="K", help="run this seed of the simulation alone")


@pytest.fixture(scope="session")
def postgres_server(prepared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    server = PostgresServer(data_dir=copy_data(prepared_data, tmp_path_factory.mktemp("postgres") / "data"), settings=_THROWN_AWAY)
    trio.run(server.start)
    yield server
    trio.run(server.stop)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(data_dir=tmp_path_factory.mktemp("redis"))
    trio.run(server.start)
    yield server
    trio.run(server.stop)


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Iterator[Databases]:
    databases = Databases(postgres_server.dsn)
    yield databases
    databases.close()


@pytest.fixture
def postgres_dsn(databases: Databases) -> Iterator[str]:
    """A migrated, empty database for this test alone."""
    with databases.fresh() as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(databases: Databases) -> Iterator[str]:
    """A database in which nothing was migrated yet."""
    with databases.fresh("template0") as dsn:
        yield dsn


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """A Redis without any key."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.settimeout(5)
        plain.connect(unquote(urlsplit(redis_server.url).path))
        plain.sendall(b"FLUSHALL\r\n")
        assert plain.recv(64) == b"+OK\r\n"
    return redis_server.url


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with open_bridge() as bridge:
        yield bridge


@pytest.fixture
async def pg(bridge: Bridge, postgres_dsn: str) -> AsyncIterator[Postgres]:
    async with open_postgres(bridge, dsn=postgres_dsn, pool_max=5) as pg:
        yield pg


@pytest.fixture
async def redis(bridge: Bridge, redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(bridge, url=redis_url) as redis:
        yield redis


@pytest.fixture
async def clock() -> Clock:
    """Starts at 2026-11-22T10:00:00Z and moves with trio's clock: with pytest-trio's `mock_clock`, only when told to."""
    return Clock(START_MS)


@pytest.fixture
async def ids(clock: Clock) -> Ids:
    """The same ids in every run."""
    return Ids(clock, random.Random(7).randbytes)


@pytest.fixture
def checkout() -> Path:
    """The top of the repository."""
    return Path(__file__).parent.parent
