"""Who guesses gets nowhere, whoever fails by mistake gets on, and nobody is kept out by what others do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.config import EdgeLimits
from brewd.edge.attempts import PAUSE_MS, Attempts
from brewd.edge.limits import QUARTER_MS
from brewd.edge.networks import Networks
from brewd.edge.standing import OverLimit, Standing
from brewd.errors import Rejected, StoreError
from brewd.people.network import Evidence
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.people.world import World, make_world

AT_HOME = "198.51.100.7"
AT_CAFE = "203.0.113.9"
LIMITS = EdgeLimits()


class Door:
    """Attempts that end as the test says, and what they were told."""

    def __init__(self, world: World, config: EdgeLimits = LIMITS) -> None:
        self.networks = Networks(world.clock)
        self.attempts = Attempts(config=config, clock=world.clock, networks=self.networks, cafes=world.cafes)
        self.told: list[Standing] = []

    async def join(self, cafe: Cafe, name: str, address: str | None = AT_HOME, ends: str | None = "unauthorized") -> None:
        """`ends`: the code it is refused with; None: it is good."""
        async with self.attempts.join(Evidence(address=address), cafe.id, name, self.told.append):
            await trio.lowlevel.checkpoint()
            if ends is not None:
                raise Rejected(ends, "No.")

    async def login(self, cafe: Cafe, address: str | None = AT_HOME, ends: str | None = "unauthorized") -> None:
        async with self.attempts.login(address, cafe.id, self.told.append):
            await trio.lowlevel.checkpoint()
            if ends is not None:
                raise Rejected(ends, "No.")

    async def refresh(self, address: str | None = AT_HOME, ends: str | None = "unauthorized") -> None:
        async with self.attempts.refresh(address, self.told.append):
            await trio.lowlevel.checkpoint()
            if ends is not None:
                raise Rejected(ends, "No.")


async def code(attempt: Any) -> str:
    """How it ended: `ok`, the code of the refusal, or the limit that was in the way."""
    try:
        await attempt
    except OverLimit as over:
        return over.standing.limit
    except Rejected as refused:
        return refused.code
    return "ok"


async def wait_ms(attempt: Any) -> int:
    with pytest.raises(OverLimit) as caught:
        await attempt
    return int(caught.value.extras["retryAfterMs"])


@pytest.fixture
async def world(pg: Postgres, clock: Clock, ids: Ids, mock_clock: MockClock) -> World:
    return make_world(pg, clock, ids)


@pytest.fixture
async def cafe(world: World) -> Cafe:
    return await world.cafe(cidrs=("203.0.113.0/24",))


@pytest.fixture
async def door(world: World) -> Door:
    return Door(world)


async def test_five_failures_close_an_address_and_the_wait_is_exact(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    """Whatever they were: the five are one count."""
    for number, attempt in enumerate([door.join(cafe, "a"), door.login(cafe), door.refresh(), door.join(cafe, "b", ends="network_check_failed")]):
        assert await code(attempt) in ("unauthorized", "network_check_failed")
        mock_clock.jump(1)
        assert door.told[-1] == Standing("failures", 5, 900, 4 - number, QUARTER_MS - number * 1000)
    assert await code(door.join(cafe, "c")) == "unauthorized"
    for attempt in (door.join(cafe, "d", ends=None), door.login(cafe, ends=None), door.refresh(ends=None)):
        assert await wait_ms(attempt) == QUARTER_MS - 4000
    assert await code(door.refresh("198.51.100.8", ends=None)) == "ok"
    mock_clock.jump((QUARTER_MS - 4000 - 1) / 1000)
    assert await wait_ms(door.refresh(ends=None)) == 1
    mock_clock.jump(0.001)
    assert await code(door.refresh()) == "unauthorized"
    assert await wait_ms(door.refresh()) == 1000


async def test_successes_and_what_is_not_the_clients_fault_never_count(door: Door, cafe: Cafe) -> None:
    for number in range(300):
        assert await code(door.join(cafe, f"n{number}", ends=None)) == "ok"
        assert await code(door.login(cafe, ends=None)) == "ok"
        assert await code(door.refresh(ends=None)) == "ok"
        assert await code(door.login(cafe, ends="rate_limited")) == "rate_limited"
    with pytest.raises(StoreError):
        async with door.attempts.refresh(AT_HOME, door.told.append):
            raise StoreError("away")
    assert door.told[-1] == Standing("failures", 5, 900, 5)


async def test_a_name_is_closed_from_everywhere_and_others_are_not(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    for number in range(5):
        assert await code(door.join(cafe, " Quiet ".upper(), f"198.51.100.{number}")) == "unauthorized"
    for address in ("192.0.2.1", AT_CAFE, None):
        assert await code(door.join(cafe, "quiet", address, ends=None)) == "username-failures"
        assert await code(door.join(cafe, "other", address, ends=None)) == "ok"
    mock_clock.jump(899.999)
    assert await wait_ms(door.join(cafe, "Quiet", AT_CAFE, ends=None)) == 1
    mock_clock.jump(0.001)
    assert await code(door.join(cafe, "Quiet", AT_CAFE, ends=None)) == "ok"


async def test_a_right_code_that_comes_too_late_is_no_guess(door: Door, cafe: Cafe) -> None:
    for _ in range(100):
        assert await code(door.join(cafe, "slow", AT_CAFE, ends="token_expired")) == "token_expired"
    assert await code(door.join(cafe, "slow", AT_CAFE, ends=None)) == "ok"


async def test_a_thousand_guesses_at_once_are_not_looked_at_all(door: Door, cafe: Cafe) -> None:
    looked_at: Counter[str] = Counter()

    async def guess(name: str, address: str) -> None:
        looked_at[await code(door.join(cafe, name, address))] += 1

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(guess, f"n{number}", AT_HOME)
    assert looked_at == {"unauthorized": 5, "failures": 995}
    looked_at.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(guess, "one", AT_CAFE)
    assert looked_at == {"unauthorized": 5, "username-failures": 995}


async def test_a_family_that_joins_at_once_from_home_is_let_in(door: Door, cafe: Cafe) -> None:
    ends: Counter[str] = Counter()

    async def come(name: str) -> None:
        ends[await code(door.join(cafe, name, ends=None))] += 1

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(come, f"n{number}")
    assert ends == {"ok": 40}
    assert await code(door.join(cafe, "n")) == "unauthorized"


async def besiege(door: Door, cafe: Cafe) -> None:
    for number in range(50):
        assert await code(door.join(cafe, f"guess {number}", AT_CAFE)) == "unauthorized"


async def test_in_a_siege_right_codes_pass_and_who_failed_pauses(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    await besiege(door, cafe)
    mock_clock.jump(60)
    more = Counter([await code(door.join(cafe, f"more {number}", AT_CAFE)) for number in range(1000)])
    assert more == {"cafe-failures": 200, "failures": 800}
    for address in (AT_CAFE, AT_HOME, None):
        assert await code(door.join(cafe, f"honest {address}", address, ends=None)) == "ok"
    # Somebody in there mistypes.
    assert await wait_ms(door.join(cafe, "honest", AT_CAFE)) == PAUSE_MS
    assert await wait_ms(door.join(cafe, "honest", AT_CAFE, ends=None)) == PAUSE_MS
    mock_clock.jump((PAUSE_MS - 1) / 1000)
    assert await wait_ms(door.join(cafe, "honest", AT_CAFE, ends=None)) == 1
    mock_clock.jump(0.001)
    assert await code(door.join(cafe, "honest", AT_CAFE, ends=None)) == "ok"


async def test_in_a_siege_one_name_has_five_tries_all_the_same(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    await besiege(door, cafe)
    for _ in range(4):
        assert await wait_ms(door.join(cafe, "one", AT_CAFE)) == PAUSE_MS
        mock_clock.jump(PAUSE_MS / 1000)
    assert await wait_ms(door.join(cafe, "one", AT_CAFE)) == QUARTER_MS - 4 * PAUSE_MS
    assert await code(door.join(cafe, "one", AT_CAFE, ends=None)) == "username-failures"


async def test_a_siege_from_outside_pauses_the_addresses_that_failed(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    await besiege(door, cafe)
    assert await wait_ms(door.join(cafe, "a", AT_HOME)) == PAUSE_MS
    assert await wait_ms(door.join(cafe, "b", AT_HOME, ends=None)) == PAUSE_MS
    assert await code(door.join(cafe, "b", "198.51.100.8", ends=None)) == "ok"
    mock_clock.jump(PAUSE_MS / 1000)
    assert await code(door.join(cafe, "b", AT_HOME, ends=None)) == "ok"


async def test_a_siege_ends_and_is_of_one_cafe(door: Door, cafe: Cafe, world: World, mock_clock: MockClock, capsys: pytest.CaptureFixture[str]) -> None:
    await besiege(door, cafe)
    assert "guessing" in "".join(capsys.readouterr())
    other = await world.cafe(name="Other")
    assert await code(door.join(other, "a", "192.0.2.1")) == "unauthorized"
    assert await code(door.login(cafe, AT_CAFE)) == "unauthorized"
    mock_clock.jump(900)
    assert await code(door.join(cafe, "a", AT_CAFE)) == "unauthorized"


async def test_guesses_at_staff_are_stopped_and_strangers_do_not_keep_staff_out_at_work(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    for number in range(50):
        assert await code(door.login(cafe, f"2001:db8:0:{number:x}::1")) == "unauthorized"
    assert await code(door.login(cafe, "2001:db8:1::1", ends=None)) == "cafe-failures"
    assert await wait_ms(door.login(cafe, AT_HOME, ends=None)) == QUARTER_MS
    assert await code(door.login(cafe, AT_CAFE, ends=None)) == "ok"
    for _ in range(50):
        assert await code(door.login(cafe, AT_CAFE)) == "unauthorized"
    assert await code(door.login(cafe, AT_CAFE, ends=None)) == "cafe-failures"
    assert await code(door.join(cafe, "guest", AT_CAFE, ends=None)) == "ok"
    mock_clock.jump(900)
    assert await code(door.login(cafe, AT_CAFE, ends=None)) == "ok"


async def test_staff_are_not_kept_out_where_they_logged_in_yesterday(door: Door, cafe: Cafe, mock_clock: MockClock) -> None:
    assert await code(door.login(cafe, AT_HOME, ends=None)) == "ok"
    mock_clock.jump(86_000)
    for number in range(50):
        assert await code(door.login(cafe, f"192.0.2.{number}")) == "unauthorized"
    assert await code(door.login(cafe, "192.0.2.200", ends=None)) == "cafe-failures"
    assert await code(door.login(cafe, AT_HOME, ends=None)) == "ok"


async def test_a_cafes_address_has_many_times_the_failures_and_is_not_closed_after_them(world: World, cafe: Cafe) -> None:
    door = Door(world, EdgeLimits(failures_per_cafe_per_15min=0, cafe_network_factor=3))
    for number in range(15):
        assert await code(door.join(cafe, f"n{number}", AT_CAFE)) == "unauthorized"
    assert door.told[-1].quota == 15
    assert door.told[-1].remaining == 0
    assert await code(door.join(cafe, "n", AT_CAFE)) == "failures"
    assert await code(door.join(cafe, "m", AT_CAFE, ends=None)) == "ok"
    for _ in range(15):
        assert await code(door.refresh(AT_CAFE)) == "unauthorized"
    assert await code(door.refresh(AT_CAFE)) == "failures"
    assert await code(door.refresh(AT_CAFE, ends=None)) == "ok"
    for _ in range(15):
        assert await code(door.login(cafe, AT_CAFE)) == "unauthorized"
    assert await code(door.login(cafe, AT_CAFE, ends=None)) == "failures"


async def test_an_address_is_a_cafes_own_there_only(door: Door, world: World, cafe: Cafe) -> None:
    """To another café's staff and guests it is a stranger like others."""
    other = await world.cafe(name="Other")
    for _ in range(5):
        assert await code(door.login(other, AT_CAFE)) == "unauthorized"
    assert await code(door.login(other, AT_CAFE, ends=None)) == "failures"
    assert await code(door.login(cafe, AT_CAFE, ends=None)) == "ok"


async def test_without_an_address_names_and_cafes_are_counted(door: Door, cafe: Cafe) -> None:
    for number in range(40):
        assert await code(door.join(cafe, f"n{number}", None)) == "unauthorized"
        assert await code(door.refresh(None)) == "unauthorized"
    assert door.told == []
    for _ in range(5):
        assert await code(door.join(cafe, "one", None)) == "unauthorized"
    assert await code(door.join(cafe, "one", None, ends=None)) == "username-failures"


async def test_zero_is_no_limit(world: World, cafe: Cafe) -> None:
    door = Door(world, EdgeLimits(failures_per_15min=0, failures_per_cafe_per_15min=0, failures_per_username_per_15min=0))
    for address in (AT_HOME, AT_CAFE):
        for _ in range(100):
            assert await code(door.join(cafe, "n", address)) == "unauthorized"
            assert await code(door.login(cafe, address)) == "unauthorized"
            assert await code(door.refresh(address)) == "unauthorized"
    assert door.told == []


async def test_a_cafe_that_does_not_exist_is_a_failure_like_another(door: Door, world: World) -> None:
    nowhere = Cafe(id=world.ids.uuid7(), name="", created_ms=0)
    for _ in range(5):
        assert await code(door.join(nowhere, "n", ends="not_found")) == "not_found"
    assert await code(door.join(nowhere, "n", ends="not_found")) == "failures"
