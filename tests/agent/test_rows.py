"""The statement that writes questions down, in the real Postgres."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from brewd.agent.row_writer import ROWS_MAX
from brewd.agent.rows import PUT_S, Entry, encoded
from brewd.runtime.clock import as_datetime
from tests.agent.table import Table


def paused(pid: int) -> int:
    """How often a process has left its core by itself."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary_ctxt_switches")]
    return int(line.split()[1])


def question(table: Table, cafe_id: str, user_id: str | None) -> Entry:
    return Entry(
        id=table.ids.uuid7(), cafe_id=cafe_id, user_id=user_id, session_id=None, staff=user_id is None, query="what is good here?",
        persona="bartender", model="claude-sonnet-5-5", at_ms=table.clock.now_ms(),
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="how often a process pauses is read from /proc")
async def test_a_write_leaves_its_core_again_and_again(table: Table) -> None:
    cafe, sql = await table.cafe(), table.pg.queries["agent_query_put"]
    rows = encoded(question(table, cafe.id, None) for _ in range(ROWS_MAX))

    async def write(connection: Any) -> int:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        before = paused(pid)
        await connection.execute(sql, rows.decode())
        return paused(pid) - before

    pauses: int = await table.pg._bridge.call(table.pg._pool.use, write, 5.0, False)
    assert pauses >= ROWS_MAX // 4 + 1
    assert len(await table.logged("outcome")) == ROWS_MAX


async def test_a_write_looks_for_its_customers_and_for_nobody_else(table: Table) -> None:
    """Also where Postgres knows nothing of the table: it has not looked since a café filled up."""
    cafe, now_ms = await table.cafe(), table.clock.now_ms()
    await table.pg.execute(
        "customer_add_many", cafe.id, [table.ids.uuid7() for _ in range(500)], [f"Guest{n}" for n in range(500)], as_datetime(now_ms),
        as_datetime(now_ms + 3_600_000),
    )  # fmt: skip
    rows = encoded([question(table, cafe.id, (await table.guest(cafe)).user_id)]).decode()

    async def explained(connection: Any) -> str:
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute("PREPARE put (text) AS " + table.pg.queries["agent_query_put"].replace("$1::json", "$1::text::json"))
        lines = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE put ('{rows}')")
        await connection.execute("DEALLOCATE put")
        return "\n".join(line[0] for line in lines)

    plan = await table.pg._bridge.call(table.pg._pool.use, explained, 5.0, True)
    assert "Index Scan using customer_pkey" in plan
    assert "customer_username_key" not in plan
    assert "Seq Scan on customer" not in plan


async def test_a_write_waits_neither_for_the_disk_nor_for_a_lock_longer_than_it_is_waited_for(table: Table) -> None:
    rows = encoded([question(table, (await table.cafe()).id, None)]).decode()

    async def settings(connection: Any) -> list[str]:
        await connection.execute(table.pg.queries["agent_query_put"], rows)
        return [await connection.fetchval(f"SHOW {name}") for name in ("synchronous_commit", "lock_timeout")]

    commit, lock = await table.pg._bridge.call(table.pg._pool.use, settings, 5.0, True)
    assert (commit, lock) == ("off", "1500ms")
    assert PUT_S > 1.5
