"""A data directory with a cluster in it, ready to be copied: making one takes a second, a copy a few milliseconds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from brewd.store.embedded import PostgresServer, data_lock


@pytest.fixture(scope="session")
def prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared") / "data"

    async def prepare() -> None:
        server = PostgresServer(data_dir=directory)
        await server.start()
        await server.stop()

    with data_lock(directory):
        trio.run(prepare)
    return directory


@pytest.fixture
def data_dir(prepared_data: Path, tmp_path: Path) -> Iterator[Path]:
    """A data directory of this test's own in which Postgres ran before."""
    directory = tmp_path / "data"
    subprocess.run(["cp", "-a", str(prepared_data), str(directory)], check=True)
    with data_lock(directory):
        yield directory
