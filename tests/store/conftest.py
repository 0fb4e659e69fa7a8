"""What the tests of the stores share: a data directory to start servers in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brewd.store.embedded import data_lock
from tests.conftest import copy_data


@pytest.fixture
def data_dir(prepared_data: Path, tmp_path: Path) -> Iterator[Path]:
    """A locked data directory of this test's own in which Postgres ran before."""
    directory = copy_data(prepared_data, tmp_path / "data")
    with data_lock(directory):
        yield directory
