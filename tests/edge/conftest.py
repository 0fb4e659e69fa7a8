"""A daemon for each test, ended with it; what it logged as an error fails the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from trio.testing import MockClock

from brewd.config import Config
from tests.edge.ws.house import House, house_config, open_house

Opened = Callable[[Config], AbstractAsyncContextManager[House]]


@pytest.fixture
def config(tmp_path: Path, postgres_dsn: str, redis_url: str) -> Config:
    return house_config(tmp_path, postgres_dsn, redis_url)


@pytest.fixture
async def house(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    async with open_house(config) as house:
        yield house
    logged = [line for line in capsys.readouterr().err.splitlines() if '"level":"error"' in line]
    assert not logged, "\n".join(logged)


@pytest.fixture
def flow() -> MockClock:
    """Time that passes slowly, since the machine may be busy, and can be jumped over. Ask for it by name in the test: that makes it the run's clock."""
    return MockClock(rate=0.2)
