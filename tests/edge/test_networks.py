"""What an address is counted under, and which addresses are a café's own."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from brewd.edge.networks import PROVED_MS, STAFF_MS, Networks, key_of
from brewd.people.network import Evidence
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.people.world import make_world


@pytest.fixture
async def networks(clock: Clock) -> Networks:
    return Networks(clock)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:c000:201", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "127.0.0.1", False),
        ("", "nonsense", False),
    ],
)
def test_ipv6_is_counted_by_64_and_ipv4_in_its_clothes_as_ipv4(one: str, other: str, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same
    assert len(key_of(one)) <= 8


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("203.0.113.255", True),
        ("::ffff:203.0.113.1", True),
        ("203.0.114.0", False),
        ("2001:db8:1:2::5", True),
        ("2001:db8:1:3::5", False),
        ("198.51.100.4", True),
        ("198.51.100.5", False),
        ("nonsense", False),
    ],
)
async def test_an_address_in_a_cafes_networks_is_its_own(networks: Networks, address: str, own: bool) -> None:
    networks.learn("other", ("192.0.2.0/24",))
    networks.learn("corner", ("203.0.113.0/24", "2001:db8:1:2::/64", "198.51.100.4/32"))
    assert networks.owns("corner", address) is own
    assert networks.is_cafe(address) is own
    assert not networks.owns("other", address)


async def test_networks_change_and_two_cafes_may_share_one(networks: Networks) -> None:
    for cafe in ("a", "b"):
        networks.learn(cafe, ("203.0.113.0/24",))
    networks.learn("a", ("192.0.2.0/24",))
    assert (networks.owns("a", "203.0.113.1"), networks.is_cafe("203.0.113.1"), networks.is_cafe("192.0.2.1")) == (False, True, True)
    networks.learn("b", ())
    networks.learn("c", ())
    assert not networks.is_cafe("203.0.113.1")
    networks.learn("a", ())
    assert not networks.is_cafe("192.0.2.1")


async def test_it_knows_every_cafe_from_the_start(networks: Networks, pg: Postgres, clock: Clock, ids: Ids) -> None:
    world = make_world(pg, clock, ids)
    await world.cafe(name="Nowhere")
    cafe = await world.cafe(cidrs=("203.0.113.0/24", "2001:db8::/48"))
    await networks.warm(world.cafes)
    assert networks.owns(cafe.id, "2001:db8::7")
    assert networks.is_cafe("203.0.113.7")


async def test_where_staff_logged_in_is_known_for_a_day_and_no_cafes_network(networks: Networks, mock_clock: MockClock) -> None:
    networks.logged_in("corner", "192.0.2.1")
    networks.logged_in("corner", None)
    assert not networks.owns("corner", "192.0.2.1")
    assert not networks.is_cafe("192.0.2.1")
    mock_clock.jump((STAFF_MS - 1) / 1000)
    assert networks.knows_staff("corner", "192.0.2.1")
    assert not networks.knows_staff("other", "192.0.2.1")
    mock_clock.jump(0.001)
    assert not networks.knows_staff("corner", "192.0.2.1")


CAFE = Cafe(id="corner", name="Corner", created_ms=0)
BY_WIFI = Cafe(id="corner", name="Corner", created_ms=0, wifi_ssid="Corner", latitude=48.2, longitude=16.37)


@pytest.mark.parametrize(
    ("cafe", "evidence", "proved"),
    [
        (BY_WIFI, Evidence(wifi_ssid="corner", address="192.0.2.1"), True),
        (BY_WIFI, Evidence(latitude=48.2, longitude=16.37, address="192.0.2.1"), False),
        (BY_WIFI, Evidence(wifi_ssid="corner"), False),
        (BY_WIFI, Evidence(wifi_ssid="elsewhere", latitude=48.2, longitude=16.37, address="192.0.2.1"), False),
        (CAFE, Evidence(wifi_ssid="corner", address="192.0.2.1"), False),
    ],
)
async def test_a_good_join_shows_whose_an_address_is_for_an_hour(
    networks: Networks, mock_clock: MockClock, cafe: Cafe, evidence: Evidence, proved: bool
) -> None:
    """On a mobile network, a phone's own word about where it is says nothing of the address it comes from."""
    networks.joined(cafe, evidence)
    for _ in range(2):
        assert networks.owns("corner", "192.0.2.1") is proved
        assert networks.is_cafe("192.0.2.1") is proved
        assert not networks.owns("other", "192.0.2.1")
        mock_clock.jump((PROVED_MS - 1) / 1000)
    mock_clock.jump(0.002)
    assert not networks.owns("corner", "192.0.2.1")
    assert not networks.is_cafe("192.0.2.1")
