from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from brewd.agent import row_writer
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from brewd.store.redis import Redis
from tests.agent.table import Table, open_table
from tests.agent.upstream import Upstream, open_upstream

Open = Callable[..., AbstractAsyncContextManager[Table]]


@pytest.fixture(autouse=True)
def no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for others to begin."""
    monkeypatch.setattr(row_writer, "BEGIN_GAP_S", 0)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text("sk-ant-test-key\n")
    return str(path)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@pytest.fixture
async def opened(pg: Postgres, redis: Redis, clock: Clock, ids: Ids, upstream: Upstream, key_file: str) -> Open:
    """A table with the given keys of the config: `async with opened(in_flight_max=1) as table`."""

    def open_one(**config: Any) -> AbstractAsyncContextManager[Table]:
        return open_table(pg=pg, redis=redis, clock=clock, ids=ids, upstream=upstream, **{"key_file": key_file, **config})

    return open_one


@pytest.fixture
async def table(opened: Open) -> AsyncIterator[Table]:
    async with opened() as table:
        yield table


@pytest.fixture
def flow() -> MockClock:
    """Time that nearly stands still until it is jumped over. Ask for it by name in the test."""
    return MockClock(rate=0.05)
