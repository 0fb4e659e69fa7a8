"""Requests by address, receipts by barista: exactly as many as there may be, in bounded memory."""

from __future__ import annotations

import gc
import ipaddress
import random
import sys
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest
from trio.testing import MockClock

from brewd.config import EdgeLimits
from brewd.edge.attempts import NAMES_MAX, Attempts
from brewd.edge.limits import ROOM, Limits
from brewd.edge.networks import Networks
from brewd.edge.standing import OverLimit, Standing, headers
from brewd.errors import Rejected
from brewd.people.network import Evidence
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock

HERE = "198.51.100.7"


def make(clock: Clock, **config: int) -> Limits:
    networks = Networks(clock)
    networks.learn("corner", ("203.0.113.0/24",))
    return Limits(config=EdgeLimits(**config), clock=clock, networks=networks)


def wait_ms(limits: Limits, address: str = HERE) -> int:
    with pytest.raises(OverLimit) as caught:
        limits.anonymous(address)
    assert caught.value.code == "rate_limited"
    assert caught.value.standing.remaining == 0
    return int(caught.value.extras["retryAfterMs"])


async def test_a_hundred_requests_and_then_one_every_nine_seconds(clock: Clock, mock_clock: MockClock) -> None:
    limits = make(clock)
    for left in reversed(range(100)):
        assert limits.anonymous(HERE) == Standing("anonymous", 100, 900, left, 9000)
    assert wait_ms(limits) == 9000
    mock_clock.jump(8.999)
    assert wait_ms(limits) == 1
    mock_clock.jump(0.001)
    assert limits.anonymous(HERE) == Standing("anonymous", 100, 900, 0, 9000)
    assert wait_ms(limits) == 9000
    mock_clock.jump(900)
    assert limits.anonymous(HERE) == Standing("anonymous", 100, 900, 99, 9000)


async def test_addresses_are_counted_by_themselves_and_ipv6_by_64(clock: Clock, mock_clock: MockClock) -> None:
    limits = make(clock, anonymous_per_15min=2)
    for address in ("2001:db8::1", "2001:db8::2"):
        assert limits.anonymous(address)
    assert wait_ms(limits, "2001:db8::ffff:3") == 450_000
    assert limits.anonymous("2001:db8:0:1::3")
    for address in (HERE, f"::ffff:{HERE}"):
        assert limits.anonymous(address)
    assert wait_ms(limits, HERE) == 450_000


async def test_a_cafes_own_network_has_fifty_times_as_much(clock: Clock, mock_clock: MockClock) -> None:
    limits = make(clock)
    for _ in range(5000):
        assert limits.anonymous("203.0.113.9")
    assert wait_ms(limits, "203.0.113.9") == 180
    assert (limits.sockets_max("203.0.113.9"), limits.sockets_max(HERE)) == (10_000, 200)


async def test_an_address_that_is_no_cafes_any_more_does_not_pay_for_its_rush(clock: Clock, mock_clock: MockClock) -> None:
    networks = Networks(clock)
    networks.learn("corner", ("203.0.113.0/24",))
    limits = Limits(config=EdgeLimits(), clock=clock, networks=networks)
    for _ in range(4000):
        limits.anonymous("203.0.113.9")
    networks.learn("corner", ())
    assert wait_ms(limits, "203.0.113.9") == 9000


async def test_without_an_address_or_a_limit_nothing_is_counted(clock: Clock) -> None:
    limits = make(clock, anonymous_per_15min=1)
    for _ in range(10):
        assert limits.anonymous(None) is None
    limits = make(clock, anonymous_per_15min=0, receipts_per_hour=0, sockets_per_address=0)
    for _ in range(1000):
        assert limits.anonymous(HERE) is None
        with limits.receipt("ana", lambda _: None):
            pass
    assert limits.sockets_max(HERE) == limits.sockets_max("203.0.113.9") == 0
    assert not limits.by_address
    assert make(clock, anonymous_per_15min=1, cafe_network_factor=0).anonymous("203.0.113.9") is None
    assert make(clock, cafe_network_factor=0).sockets_max("203.0.113.9") == 0


async def test_ten_receipts_an_hour_and_the_wait_is_exact(clock: Clock, mock_clock: MockClock) -> None:
    limits = make(clock)
    told: list[Standing] = []
    for number in range(10):
        with limits.receipt("ana", told.append):
            pass
        assert told[-1] == Standing("receipts", 10, 3600, 9 - number, 3_600_000 - number * 60_000)
        mock_clock.jump(60)
    with pytest.raises(OverLimit) as caught, limits.receipt("ana", told.append):
        raise AssertionError("it must not be made")
    assert caught.value.extras["retryAfterMs"] == 3_000_000
    with limits.receipt("ben", told.append):
        pass
    mock_clock.jump(2999.999)
    with pytest.raises(OverLimit), limits.receipt("ana", told.append):
        raise AssertionError("it must not be made")
    mock_clock.jump(0.001)
    with limits.receipt("ana", told.append):
        pass


async def test_a_receipt_that_was_not_made_does_not_count_and_one_under_way_does(clock: Clock) -> None:
    limits = make(clock, receipts_per_hour=2)
    for _ in range(10):
        with pytest.raises(Rejected, match="conflict"), limits.receipt("ana", lambda _: None):
            raise Rejected("conflict", "There is one already.")
    with limits.receipt("ana", lambda _: None), limits.receipt("ana", lambda _: None), pytest.raises(OverLimit), limits.receipt("ana", lambda _: None):
        raise AssertionError("it must not be made")


def test_headers_are_structured_fields() -> None:
    assert headers([]) == []
    assert headers([Standing("anonymous", 100, 900, 7, 8001), Standing("failures", 5, 900, 5)]) == [
        ("RateLimit-Policy", '"anonymous";q=100;w=900, "failures";q=5;w=900'),
        ("RateLimit", '"anonymous";r=7;t=9, "failures";r=5'),
    ]


def strangers(count: int) -> list[str]:
    """Half of them IPv6."""
    chance = random.Random(5)
    return [str(ipaddress.IPv6Address(chance.getrandbits(128)) if n % 2 else ipaddress.IPv4Address(chance.getrandbits(32))) for n in range(count)]


def size_bytes(*roots: Any) -> int:
    """What hangs on to these, each object once; not what everything hangs on to."""
    seen: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType | MethodType | Clock | Networks):
            seen[id(one)] = one
            waiting += gc.get_referents(one)
    return sum(sys.getsizeof(one) for one in seen.values())


async def test_a_hundred_thousand_addresses_are_bounded_and_a_flooder_is_not_forgotten(clock: Clock, mock_clock: MockClock) -> None:
    limits = make(clock)
    for _ in range(100):
        limits.anonymous(HERE)
    for address in strangers(100_000):
        limits.anonymous(address)
    assert len(limits) == ROOM
    assert size_bytes(limits) < ROOM * 260
    assert wait_ms(limits) == 9000


async def test_failures_are_bounded_too(clock: Clock, mock_clock: MockClock) -> None:
    class NoCafes:
        async def get(self, cafe_id: str) -> Cafe:
            raise Rejected("not_found", "There is no such café.")

    attempts = Attempts(config=EdgeLimits(), clock=clock, networks=Networks(clock), cafes=NoCafes())  # type: ignore[arg-type]

    async def fail(address: str, name: str) -> str:
        try:
            async with attempts.join(Evidence(address=address), "corner", name, lambda _: None):
                raise Rejected("unauthorized", "Wrong.")
        except Rejected as refused:
            return str(refused.extras.get("limit"))

    for number in range(5):
        await fail(HERE, f"n{number}")
    for number, address in enumerate(strangers(40_000)):
        await fail(address, f"name {number}")
    assert size_bytes(attempts) < (ROOM + NAMES_MAX) * 400
    assert await fail(HERE, "n") == "failures"
