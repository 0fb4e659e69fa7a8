from __future__ import annotations

import pytest

from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.edge.http.site import Site, make_site
from tests.people.world import make_world


@pytest.fixture
async def site(pg: Postgres, clock: Clock, ids: Ids) -> Site:
    return await make_site(make_world(pg, clock, ids))
