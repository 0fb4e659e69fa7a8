"""Everything random comes from one place, so a test can replay it, and says no more than it should."""

from __future__ import annotations

import random
import uuid

import pytest
from trio.testing import MockClock

from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids


async def test_the_same_entropy_gives_the_same_ids(clock: Clock) -> None:
    one, two = (Ids(clock, random.Random(1).randbytes) for _ in range(2))
    assert [one.uuid7(), one.uuid4(), one.code(9), one.secret(8), one.below(99)] == [two.uuid7(), two.uuid4(), two.code(9), two.secret(8), two.below(99)]


async def test_a_uuid7_sorts_by_time_and_is_well_formed(mock_clock: MockClock) -> None:
    clock = Clock(1_795_341_600_000)
    ids = Ids(clock)
    made = []
    for _ in range(50):
        made.append(ids.uuid7())
        mock_clock.jump(0.002)
    assert made == sorted(made)
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)
    assert uuid.UUID(made[0]).int >> 80 == 1_795_341_600_000


async def test_a_uuid4_tells_nothing_of_the_time(ids: Ids) -> None:
    made = {ids.uuid4() for _ in range(100)}
    assert len(made) == 100
    assert {uuid.UUID(text).version for text in made} == {4}


@pytest.mark.parametrize("symbols", [1, 4, 8, 13])
async def test_a_code_uses_every_symbol_that_can_be_read_aloud_and_no_other(ids: Ids, symbols: int) -> None:
    codes = [ids.code(symbols) for _ in range(500)]
    assert {len(code) for code in codes} == {symbols}
    assert set("".join(codes)) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


async def test_a_choice_stays_below_its_limit_and_reaches_every_value(ids: Ids) -> None:
    assert {ids.below(7) for _ in range(500)} == set(range(7))


async def test_secrets_come_from_the_operating_system_by_default(clock: Clock) -> None:
    assert len({Ids(clock).secret() for _ in range(10)}) == 10
    assert len(Ids(clock).secret(48)) == 48
