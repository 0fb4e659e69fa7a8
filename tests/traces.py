"""Looking for somebody everywhere: in every row of every table, and in every key and value of Redis."""

from __future__ import annotations

from typing import Any

from brewd.store.postgres import Postgres
from brewd.store.redis import Redis

_READ = {"string": ("GET",), "hash": ("HGETALL",), "set": ("SMEMBERS",), "list": ("LRANGE", 0, -1), "zset": ("ZRANGE", 0, -1)}


async def in_postgres(pg: Postgres, *texts: str) -> dict[str, int]:
    """Table → rows in which one of the texts stands, in whatever column."""

    async def look(tx: Any) -> dict[str, int]:
        connection = tx._connection
        names = await connection.fetch("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'")
        found = {}
        for name in [row["name"] for row in names]:
            found[name] = await connection.fetchval(
                f"SELECT count(*) FROM {name} t WHERE EXISTS (SELECT FROM unnest($1::text[]) AS x WHERE position(lower(x) IN lower(t::text)) > 0)",
                list(texts),
            )
        return {name: count for name, count in found.items() if count}

    return await pg.transaction(look)


async def in_redis(redis: Redis, *texts: str) -> list[str]:
    """The keys in whose name or value one of the texts stands."""
    found, cursor = [], "0"
    while True:
        ((cursor, keys),) = await redis.pipeline([("SCAN", cursor, "COUNT", 1000)])
        for key in keys:
            (kind,) = await redis.pipeline([("TYPE", key)])
            if kind == "none":  # it has just expired
                continue
            verb, *rest = _READ[kind]
            (value,) = await redis.pipeline([(verb, key, *rest)])
            if any(text.lower() in f"{key} {value}".lower() for text in texts):
                found.append(key)
        if str(cursor) == "0":
            return found
