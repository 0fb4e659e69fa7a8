"""The statement that writes questions down, in the real Postgres."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from brewd.agent.row_writer import ROWS_MAX
from brewd.agent.rows import Entry, encoded
from tests.agent.table import Table


def paused(pid: int) -> int:
    """How often a process has left its core by itself."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary_ctxt_switches")]
    return int(line.split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="how often a process pauses is read from /proc")
async def test_a_write_leaves_its_core_again_and_again(table: Table) -> None:
    cafe, sql = await table.cafe(), table.pg.queries["agent_query_put"]
    rows = encoded(
        Entry(
            id=table.ids.uuid7(), cafe_id=cafe.id, user_id=None, session_id=None, staff=True, query="what is good here?",
            persona="bartender", model="claude-sonnet-5-5", at_ms=table.clock.now_ms(),
        )
        for _ in range(ROWS_MAX)
    )  # fmt: skip

    async def write(connection: Any) -> int:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        before = paused(pid)
        await connection.execute(sql, rows.decode())
        return paused(pid) - before

    pauses: int = await table.pg._bridge.call(table.pg._pool.use, write, 5.0, False)
    assert pauses >= ROWS_MAX // 4 + 1
    assert len(await table.logged("outcome")) == ROWS_MAX
