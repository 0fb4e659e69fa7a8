from __future__ import annotations

import pytest

from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.jobs.office import Office


@pytest.fixture
async def office(pg: Postgres, clock: Clock, ids: Ids) -> Office:
    return Office(pg, clock, ids)
