"""Named queries over the bridge: what comes back, what is raised, and that nobody waits longer than agreed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import trio

from brewd.errors import StoreConflict, StoreError
from brewd.runtime.bridge import Bridge
from brewd.store import pool
from brewd.store.pool import Tx
from brewd.store.postgres import Place, Postgres

QUERIES = {
    "one": "SELECT 1",
    "numbers": "SELECT n FROM generate_series(1, $1::int) AS n",
    "sleep": "SELECT pg_sleep($1::float8)",
    "make": "CREATE TABLE thing (id int PRIMARY KEY, word text NOT NULL)",
    "add": "INSERT INTO thing (id, word) VALUES ($1, $2)",
    "words": "SELECT word FROM thing ORDER BY id",
    "broken": "SELECT nonsense FROM nowhere",
    "backend": "SELECT pg_backend_pid()",
    "end_backend": "SELECT pg_terminate_backend($1)",
    "backends": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
}


@asynccontextmanager
async def opened(bridge: Bridge, dsn: str, pool_max: int = 3, prepared: bool = True, background: bool = False) -> AsyncIterator[Postgres]:
    pg = Postgres(bridge=bridge, queries=QUERIES, place=Place(dsn, prepared, ours=background), pool_max=pool_max, background=background)
    try:
        yield pg
    finally:
        pg.close()


@pytest.fixture
async def pg(bridge: Bridge, postgres_dsn: str) -> AsyncIterator[Postgres]:
    async with opened(bridge, postgres_dsn) as pg:
        yield pg


async def fill(tx: Tx, *words: str) -> int:
    for number, word in enumerate(words):
        await tx.execute("add", number, word)
    return len(words)


async def test_rows_a_row_and_a_value(pg: Postgres) -> None:
    assert [row["n"] for row in await pg.fetch("numbers", 3)] == [1, 2, 3]
    row = await pg.fetchrow("numbers", 3)
    assert row is not None
    assert row["n"] == 1
    assert await pg.fetchrow("numbers", 0) is None
    assert await pg.fetchval("numbers", 3) == 1
    assert await pg.fetchval("numbers", 0) is None
    await pg.execute("one")
    await pg.check()


async def test_an_unknown_name_is_a_bug(pg: Postgres) -> None:
    with pytest.raises(KeyError, match="no_such_query"):
        await pg.fetch("no_such_query")


async def test_a_transaction_commits_all_or_nothing(pg: Postgres) -> None:
    await pg.execute("make")
    assert await pg.transaction(fill, "a", "b") == 2

    async def fail(tx: Tx) -> None:
        await tx.execute("add", 7, "c")
        raise LookupError("changed my mind")

    with pytest.raises(LookupError):
        await pg.transaction(fail)
    assert [row["word"] for row in await pg.fetch("words")] == ["a", "b"]


async def test_a_transaction_that_hides_a_failed_statement_is_no_success(pg: Postgres) -> None:
    await pg.execute("make")

    async def hide(tx: Tx) -> None:
        try:
            await tx.fetch("broken")
        except asyncpg.PostgresError:
            return

    with pytest.raises(RuntimeError, match="rolled it back"):
        await pg.transaction(hide)
    await pg.check()


async def test_a_unique_violation_names_its_constraint(pg: Postgres) -> None:
    await pg.execute("make")
    await pg.execute("add", 1, "a")
    with pytest.raises(StoreConflict) as caught:
        await pg.execute("add", 1, "b")
    assert caught.value.constraint == "thing_pkey"
    with pytest.raises(StoreConflict):
        await pg.transaction(lambda tx: tx.execute("add", 1, "b"))
    assert [row["word"] for row in await pg.fetch("words")] == ["a"]


async def test_a_bug_in_a_query_passes_through_and_costs_no_connection(pg: Postgres) -> None:
    await pg.execute("make")
    backend = await pg.fetchval("backend")
    with pytest.raises(asyncpg.UndefinedTableError):
        await pg.fetch("broken")
    with pytest.raises(asyncpg.NotNullViolationError):
        await pg.execute("add", 1, None)
    with pytest.raises(asyncpg.DataError):
        await pg.fetch("numbers", "three")
    assert await pg.fetchval("backend") == backend


@pytest.mark.parametrize("sqlstate", ["08006", "53300", "57P01", "57P03", "58030", "40001", "40P01", "55P03", "25006"])
async def test_what_speaks_of_the_server_is_a_store_error(bridge: Bridge, postgres_dsn: str, sqlstate: str) -> None:
    """Lost, full, shutting down, out of order, beaten by another transaction, locked, a standby: come back later."""
    queries = {"fail": f"DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}'; END $$"}
    pg = Postgres(bridge=bridge, queries=queries, place=Place(postgres_dsn, prepared=True), pool_max=1)
    with pytest.raises(StoreError, match="not now"):
        await pg.execute("fail")
    with pytest.raises(StoreError, match="not now"):
        await pg.transaction(lambda tx: tx.execute("fail"))
    await pg.check()
    pg.close()


async def test_too_slow_is_a_store_error_at_the_deadline(pg: Postgres) -> None:
    before = time.monotonic()
    with pytest.raises(StoreError, match=r"within 0\.1 s"):
        await pg.fetch("sleep", 30.0, timeout_s=0.1)
    with pytest.raises(StoreError, match=r"within 0\.1 s"):
        await pg.transaction(lambda tx: tx.fetch("sleep", 30.0), timeout_s=0.1)
    assert time.monotonic() - before < 1
    await pg.check()


async def test_cancelling_cuts_the_connection_and_leaves_the_pool_usable(pg: Postgres) -> None:
    for call in (pg.fetch("sleep", 30.0), pg.transaction(lambda tx: tx.fetch("sleep", 30.0))):
        before = time.monotonic()
        with trio.move_on_after(0.05) as scope:
            await call
        assert scope.cancelled_caught
        assert time.monotonic() - before < 1
    assert [row["n"] for row in await pg.fetch("numbers", 2)] == [1, 2]


async def test_when_all_places_are_taken_the_wait_has_an_end(bridge: Bridge, postgres_dsn: str) -> None:
    async with opened(bridge, postgres_dsn, pool_max=2) as pg, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(pg.fetch, "sleep", 0.4)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StoreError, match="all 2 connections were busy"):
            await pg.fetch("one", timeout_s=0.1)
        assert await pg.fetchval("one", timeout_s=2) == 1  # it queues up and gets its turn


async def test_never_more_connections_than_agreed(bridge: Bridge, postgres_dsn: str) -> None:
    async with opened(bridge, postgres_dsn, pool_max=3) as pg:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(pg.fetch, "sleep", 0.002)
        assert 1 <= await pg.fetchval("backends") + 1 <= 3


async def test_a_lost_connection_is_a_store_error_and_the_next_call_has_a_new_one(pg: Postgres) -> None:
    async with pg.lane() as lane:
        for caller in (lane, pg):
            backend = await caller.fetchval("backend")
            async with opened(pg._bridge, pg.place.dsn) as other:
                await other.fetch("end_backend", backend)
            # The kernel may not have told us yet that the other end is gone: either the loss shows here, or it was noticed in time.
            try:
                now = await caller.fetchval("backend")
            except StoreError:
                now = await caller.fetchval("backend")
            assert now != backend


async def test_a_connection_lost_in_mid_query_is_a_store_error(pg: Postgres) -> None:
    failures: list[StoreError] = []

    async with pg.lane() as lane, trio.open_nursery() as nursery:
        backend = await lane.fetchval("backend")

        async def wait() -> None:
            try:
                await lane.fetch("sleep", 30.0, timeout_s=5)
            except StoreError as error:
                failures.append(error)

        nursery.start_soon(wait)
        await trio.sleep(0.05)
        await pg.fetch("end_backend", backend)
    assert len(failures) == 1
    assert "terminating connection" in str(failures[0])


async def test_a_lane_is_one_connection_of_its_own(pg: Postgres) -> None:
    async with pg.lane() as lane:
        assert {await lane.fetchval("backend") for _ in range(3)} == {await lane.fetchval("backend")}
        seen: list[Any] = []

        async def note() -> None:
            seen.append(await lane.fetchval("backend"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(note)
        assert len(set(seen)) == 1
        assert await pg.fetchval("backend") not in seen


async def test_opening_waits_for_no_server(bridge: Bridge, tmp_path: Any) -> None:
    async with opened(bridge, f"postgresql://brewd@/brewd?host={tmp_path}") as pg:
        with pytest.raises(StoreError, match="cannot connect"):
            await pg.check()
        with pytest.raises(StoreError, match="cannot connect"):
            await pg.transaction(fill)


async def test_a_server_that_accepts_and_says_nothing_is_given_up_after_a_second(bridge: Bridge, tmp_path: Any) -> None:
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(str(tmp_path / ".s.PGSQL.5432"))
    listener.listen(5)
    with listener:
        async with opened(bridge, f"postgresql://brewd@/brewd?host={tmp_path}") as pg:
            before = time.monotonic()
            with pytest.raises(StoreError, match="no connection within 1 s"):
                await pg.fetch("one", timeout_s=5)
            assert time.monotonic() - before < 1.8


async def test_without_prepared_statements_everything_works_the_same(bridge: Bridge, postgres_dsn: str) -> None:
    """Behind a PgBouncer in transaction mode, no statement outlives its transaction."""
    async with opened(bridge, postgres_dsn, prepared=False) as pg:
        await pg.execute("make")
        await pg.transaction(fill, "a", "b")
        assert [row["word"] for row in await pg.fetch("words")] == ["a", "b"]
        with pytest.raises(StoreConflict):
            await pg.execute("add", 1, "x")
        with pytest.raises(asyncpg.UndefinedTableError):
            await pg.fetch("broken")
        assert await pg.fetchval("numbers", 1) == 1
        async with pg.lane() as lane:
            assert await lane.fetchval("one") == 1


async def test_a_server_that_cannot_be_made_nice_yet_is_asked_to_with_the_next_call(bridge: Bridge, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def be_nice(pid: int, nice: int) -> bool:
        asked.append(pid)
        return len(asked) == 3

    monkeypatch.setattr(pool, "be_nice", be_nice)
    async with opened(bridge, postgres_dsn, background=True) as pg:
        backends = [await pg.fetchval("backend") for _ in range(5)]
    assert asked == backends[:3]
