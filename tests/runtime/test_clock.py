"""One source of time: it starts where it is told and moves with trio's clock, which a test may turn."""

from __future__ import annotations

import time

import pytest
from trio.testing import MockClock

from brewd.runtime.clock import Clock, as_datetime, as_ms, rfc3339

AT_MS = 1_795_341_600_123


async def test_wall_and_deadlines_move_with_trios_clock(mock_clock: MockClock) -> None:
    clock = Clock(AT_MS)
    began_s = clock.monotonic_s()
    mock_clock.jump(86_400.5)
    assert clock.now_ms() == AT_MS + 86_400_500
    assert clock.monotonic_s() - began_s == pytest.approx(86_400.5)
    assert clock.deadline_s(clock.now_ms() + 1000) == pytest.approx(clock.monotonic_s() + 1, abs=0.002)


async def test_without_a_start_it_is_the_time_of_the_machine() -> None:
    assert abs(Clock().now_ms() - time.time() * 1000) < 1000


@pytest.mark.parametrize(
    ("at_ms", "text"), [(AT_MS, "2026-11-22T10:00:00.123Z"), (0, "1970-01-01T00:00:00.000Z"), (951_782_400_007, "2000-02-29T00:00:00.007Z")]
)
def test_times_are_written_to_the_millisecond_and_read_back(at_ms: int, text: str) -> None:
    assert rfc3339(at_ms) == text
    assert as_ms(as_datetime(at_ms)) == at_ms
