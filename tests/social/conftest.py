from __future__ import annotations

import pytest

from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.people.world import World, make_world
from tests.social.channels import Corner


@pytest.fixture
async def world(pg: Postgres, clock: Clock, ids: Ids) -> World:
    return make_world(pg, clock, ids)


@pytest.fixture
async def corner(world: World) -> Corner:
    return Corner(world, await world.cafe())
