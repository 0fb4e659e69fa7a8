"""The bridge carries results, exceptions and cancellation, and ends cleanly."""

from __future__ import annotations

from brewd.runtime.bridge import Bridge


async def _add(a: int, b: int) -> int:
    return a + b


async def test_a_call_returns_what_the_coroutine_returns(bridge: Bridge) -> None:
    assert await bridge.call(_add, 2, 3) == 5
