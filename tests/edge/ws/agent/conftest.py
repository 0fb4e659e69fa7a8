from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from brewd.config import Config
from brewd.people.records import Cafe
from tests.agent.upstream import Upstream, open_upstream
from tests.edge.ws.agent.queries import unlimited
from tests.edge.ws.house import House, Person


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream
        with trio.fail_after(2):
            while upstream.streaming or upstream.connections:
                await trio.sleep(0.01)


@pytest.fixture
def config(config: Config, upstream: Upstream, tmp_path: Path) -> Config:
    return unlimited(config, upstream, tmp_path)


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)
