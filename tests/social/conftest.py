from __future__ import annotations

import pytest

from brewd.people.records import Cafe
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.social.world import World, make_social


@pytest.fixture
async def world(pg: Postgres, clock: Clock, ids: Ids) -> World:
    return make_social(pg, clock, ids)


@pytest.fixture
async def cafe(world: World) -> Cafe:
    return await world.people.cafe()
