"""The scripted server, and rooms whose time and chance the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from brewd.client import Policy, Room, connect
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from tests.client.scripted import CAFE, Scripted, scripted, token

Enter = Callable[..., AbstractAsyncContextManager[Room]]


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as server:
        yield server


@pytest.fixture
def enter(server: Scripted, mock_clock: Any, clock: Clock) -> Enter:
    """`connect` to the scripted server. Long waits are for the test to jump over; chance is always one half."""
    mock_clock.rate = 1.0  # the sockets are real, and so are the deadlines around them: a failing test must not hang in one
    ids = Ids(clock, lambda size: b"\x80" + bytes(size - 1))

    def enter(policy: Policy | None = None, *, access: str | None = None, refresh: str | None = None) -> AbstractAsyncContextManager[Room]:
        access = access or token(3600)
        return connect(server.url, token=access, refresh_token=refresh, cafe_id=CAFE, policy=policy or Policy(), clock=clock, ids=ids)

    return enter
