"""Postgres and Redis as a daemon uses them: embedded or elsewhere, opened once, with the schema up to date."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
from msgspec import Struct

from brewd.config import Config
from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge
from brewd.runtime.clock import Clock
from brewd.runtime.log import get_logger
from brewd.runtime.supervisor import ENDLESS, Restart, Supervisor
from brewd.store.embedded import PostgresServer, RedisServer
from brewd.store.messages import Messages
from brewd.store.migrate import migrate, migrations_dir
from brewd.store.postgres import Postgres, open_postgres

if TYPE_CHECKING:
    from brewd.store.redis import Redis

log = get_logger("brewd")

RETRY_S: Final = 0.5
REPLICA_POOL_MAX: Final = 2
CONNECTIONS_BESIDE: Final = 30
"""That our own Postgres takes beside the pool's: the journal's, the ledger's, the agent's worker's, and whoever looks in with `psql` or `pg_dump`."""

ENDLESS_RESTART: Final = Restart(intensity=ENDLESS, period_s=5.0, backoff_s=0.02)
"""Service goes on without Redis and without the ledger, so there is no end to trying: ever more slowly within a period."""


class Stores(Struct, frozen=True):
    """`replica`: where analytics are read; `postgres` itself when there is none. `behind`: for the ledger, whose writes no message waits for."""

    postgres: Postgres
    replica: Postgres
    behind: Postgres
    redis: Redis
    messages: Messages


@asynccontextmanager
async def open_stores(config: Config, root: Supervisor, bridge: Bridge, *, meanwhile: Callable[[], Awaitable[None]]) -> AsyncIterator[Stores]:
    """Open both; the servers that are ours are watched over by `root`. `meanwhile` runs while they start. Raises `EmbeddedError`, `OSError`."""
    async with AsyncExitStack() as stack:
        dsn, url = await stack.enter_async_context(_embedded(config, root, meanwhile))
        from brewd.store.redis import open_redis

        ours = config.postgres.url == "embedded"
        postgres = await stack.enter_async_context(
            open_postgres(bridge, dsn=dsn, pool_max=config.postgres.pool_max, prepared=config.postgres.prepared, ours=ours)
        )
        replica = postgres
        if config.postgres.replica_url:
            replica = await stack.enter_async_context(
                open_postgres(bridge, dsn=config.postgres.replica_url, pool_max=REPLICA_POOL_MAX, prepared=config.postgres.prepared)
            )
        lane = await stack.enter_async_context(postgres.lane())
        behind = await stack.enter_async_context(postgres.lane(background=True))
        redis = await stack.enter_async_context(open_redis(bridge, url=url))
        yield Stores(postgres, replica, behind, redis, Messages(lane=lane, pool=postgres, timeout_s=config.journal.timeout_s))


@asynccontextmanager
async def _embedded(config: Config, root: Supervisor, meanwhile: Callable[[], Awaitable[None]]) -> AsyncIterator[tuple[str, str]]:
    """The addresses of Postgres and Redis, once those of them that are ours run."""
    connections = {"max_connections": str(config.postgres.pool_max + CONNECTIONS_BESIDE)}
    postgres = PostgresServer(data_dir=config.data.path, settings=connections) if config.postgres.url == "embedded" else None
    redis = RedisServer(data_dir=config.data.path) if config.redis.url == "embedded" else None
    servers: list[PostgresServer | RedisServer] = [server for server in (postgres, redis) if server is not None]
    try:
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(server.start)
            await meanwhile()
        if postgres is not None:
            root.spawn("postgres", postgres.watch, essential=True)
        if redis is not None:
            root.spawn("redis", redis.watch, restart=ENDLESS_RESTART)
        yield config.postgres.url if postgres is None else postgres.dsn, config.redis.url if redis is None else redis.url
    finally:
        root.discard("redis")
        root.discard("postgres")
        for server in reversed(servers):
            await server.stop()


async def migrated(postgres: Postgres, clock: Clock, place: str) -> None:
    """Bring the schema up to date, waiting for a Postgres that is not there yet; `place` is where, for the log. Raises `MigrationError`."""
    while True:
        try:
            for name in await migrate(postgres, migrations_dir(), clock):
                log.info("migrated", name=name)
        except StoreError as error:
            log.warning("waiting_for_postgres", where=place, error=str(error))
            await trio.sleep(RETRY_S)
        else:
            return
