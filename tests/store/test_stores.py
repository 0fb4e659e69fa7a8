"""The stores of a daemon, opened as its config says."""

from __future__ import annotations

from pathlib import Path

import trio

from brewd import config as cfg
from brewd.runtime.bridge import Bridge
from brewd.runtime.supervisor import open_supervisor
from brewd.store.postgres import Postgres
from brewd.store.stores import open_stores


async def test_our_own_postgres_has_a_place_for_every_connection_of_the_config(bridge: Bridge, data_dir: Path) -> None:
    config = cfg.Config(data=cfg.Data(dir=str(data_dir)), postgres=cfg.Postgres(pool_max=60))
    queries = {"places": "SELECT current_setting('max_connections')::int"}
    async with open_supervisor("brewd") as root, open_stores(config, root, bridge, meanwhile=trio.lowlevel.checkpoint) as stores:
        postgres = Postgres(bridge=bridge, queries=queries, place=stores.postgres.place, pool_max=1)
        try:
            ((places,),) = await postgres.fetch("places")
        finally:
            postgres.close()
    assert places > 60 + 6  # and those are the journal's, the ledger's, and four of the agent's worker
