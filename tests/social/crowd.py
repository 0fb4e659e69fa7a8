"""A crowd in Postgres: cafés full of guests with interests, made in one statement each."""

from __future__ import annotations

from typing import Any

from brewd.store.postgres import Postgres

INTERESTS = [f"interest {n:02}" for n in range(40)]

_GUESTS = """
INSERT INTO customer (id, cafe_id, username, interests, interests_at, created_at, expires_at)
SELECT gen_random_uuid(), '{cafe_id}', 'guest ' || n,
    (SELECT array_agg(DISTINCT 'interest ' || to_char((n * 7 + k * (1 + n % 5)) % 40, 'FM00')) FROM generate_series(0, 7) k),
    '2026-11-22T09:00Z', '2026-11-22T09:00Z', '2026-11-23T09:00Z'
FROM generate_series(1, {count}) n;
"""

_CAFES = """
INSERT INTO cafe (id, name, created_at) SELECT gen_random_uuid(), 'café ' || n, '2026-11-22T09:00Z' FROM generate_series(1, {count}) n;
INSERT INTO customer (id, cafe_id, username, interests, interests_at, created_at, expires_at)
SELECT gen_random_uuid(), cafe.id, 'guest ' || n, array['interest ' || to_char(n % 40, 'FM00'), 'interest ' || to_char(n / 40 % 40, 'FM00')],
    '2026-11-22T09:00Z', '2026-11-22T09:00Z', '2026-11-23T09:00Z'
FROM cafe, generate_series(1, {guests}) n WHERE cafe.id <> '{cafe_id}';
ANALYZE customer;
"""


async def fill(pg: Postgres, cafe_id: str, guests: int, *, cafes: int = 0) -> None:
    """So many guests with eight interests each in one café, and as many with two in each of some others."""

    async def work(tx: Any) -> None:
        await tx.script(_GUESTS.format(cafe_id=cafe_id, count=guests) + _CAFES.format(cafe_id=cafe_id, count=cafes, guests=guests))

    await pg.transaction(work, timeout_s=30)


async def explain(pg: Postgres, name: str, *args: Any, generic: bool = False) -> str:
    """The plan of a named query, executed. `generic`: the one that a prepared statement ends up with, made without looking at the arguments."""
    values = ", ".join(_literal(arg) for arg in args)

    async def work(tx: Any) -> str:
        await tx.script(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan; PREPARE {name} AS {pg.queries[name]}")
        rows = await tx._connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE {name}({values})")
        await tx.script(f"DEALLOCATE {name}")
        return "\n".join(row[0] for row in rows)

    return await pg.transaction(work)


def _literal(arg: Any) -> str:
    return "'{" + ",".join(map(str, arg)) + "}'" if isinstance(arg, list) else f"'{arg}'"
