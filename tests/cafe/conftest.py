"""A world for those who need nothing special of it, and the log kept aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.cafe.world import World, open_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What was logged: one mapping a line."""
    with capture_logs() as lines:
        yield lines
