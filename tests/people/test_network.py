"""Where somebody is: pure checks, over everything that phones and proxies write."""

from __future__ import annotations

import ipaddress
import math
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from brewd.people.network import Evidence, JoinPolicy, Policy, client_address, decide, haversine_m, in_cidrs, parse_address, parse_networks, ssid_matches

V4 = st.ip_addresses(v=4).map(str)
V6 = st.ip_addresses(v=6).map(str).filter(lambda address: ipaddress.IPv6Address(address).ipv4_mapped is None)
LATITUDE = st.floats(-90, 90)
LONGITUDE = st.floats(-180, 180)


@pytest.mark.parametrize(
    "given_name",
    [
        "Corner Guests",
        "corner guests",
        " CORNERGUESTS ",
        '"Corner Guests"',
        "Corner Guests-5G",
        "Corner_Guests".replace("_", " ") + "_5GHz",
        "Corner Guests 2.4G",
        "Corner Guests.EXT",
        "Corner Guests-EXT_5 GHz",
        "Ｃorner Guests",
    ],
)
def test_the_same_network_to_a_person(given_name: str) -> None:
    assert ssid_matches("Corner Guests", given_name)
    assert ssid_matches(given_name, "Corner Guests")


@pytest.mark.parametrize("given_name", ["", "Corner", "Corner Guests 2", "Corner Staff", "Corner Guests5G", "-5G", "Corner Guests-7G", '""'])
def test_another_network(given_name: str) -> None:
    assert not ssid_matches("Corner Guests", given_name)


@pytest.mark.parametrize("empty", ["", " ", '" "'])
def test_no_name_matches_no_name(empty: str) -> None:
    assert not ssid_matches(empty, empty)


@given(
    st.from_regex(r"[A-Za-z0-9äöüß][A-Za-z0-9äöüß ._-]{0,30}", fullmatch=True),
    st.lists(st.sampled_from(["-5G", "_2.4GHz", " 5 ghz", ".ext", "-MESH"]), max_size=3),
)
def test_a_name_matches_itself_in_any_case_and_band(name: str, suffixes: list[str]) -> None:
    for spelling in (name, name.upper(), name.lower(), f"  {name}  ", name.replace(" ", "  "), name + "".join(suffixes)):
        assert ssid_matches(name, spelling), spelling


@given(st.text(max_size=40), st.text(max_size=40))
def test_matching_takes_any_text_and_both_sides_alike(one: str, other: str) -> None:
    assert ssid_matches(one, other) == ssid_matches(other, one)


@given(LATITUDE, LONGITUDE, LATITUDE, LONGITUDE)
def test_distances_are_distances(a_lat: float, a_lon: float, b_lat: float, b_lon: float) -> None:
    there = haversine_m(a_lat, a_lon, b_lat, b_lon)
    assert 0 <= there <= math.pi * 6_371_008.8 + 1
    assert there == pytest.approx(haversine_m(b_lat, b_lon, a_lat, a_lon), abs=1e-6)
    assert haversine_m(a_lat, a_lon, a_lat, a_lon) == 0


def test_known_distances() -> None:
    assert haversine_m(48.2082, 16.3738, 52.52, 13.405) == pytest.approx(523_900, rel=0.005)  # Vienna to Berlin
    assert haversine_m(0, 179.9999, 0, -179.9999) == pytest.approx(22.2, abs=0.1)  # across the date line
    assert haversine_m(48.2, 16.37, 48.2 + 0.0009, 16.37) == pytest.approx(100, abs=0.2)


@given(V4 | V6, st.integers(0, 32))
def test_an_address_is_in_every_network_around_it(address: str, prefix: int) -> None:
    assert in_cidrs(address, [f"{address}/{prefix}"])
    assert in_cidrs(address, [address])
    assert not in_cidrs(address, [])


@given(V4)
def test_ipv4_in_ipv6s_clothes_is_ipv4(address: str) -> None:
    assert in_cidrs(f"::ffff:{address}", [address])
    assert not in_cidrs(address, ["::/0"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:8080 ", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("192.0.2.256", None),
        ("1.2.3", None),
        ("[", None),
        ("192.0.2.1/24", None),
        ("\u0661.2.3.4", None),
    ],
)
def test_addresses_as_proxies_write_them(text: str, expected: str | None) -> None:
    address = parse_address(text)
    assert (None if address is None else str(address)) == expected


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    address = parse_address(text)
    assert address is None or ipaddress.ip_address(str(address)) == address


TRUSTED = parse_networks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.4", [], "198.51.100.4"),
        ("198.51.100.4", ["203.0.113.9"], "198.51.100.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.4, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.4, 203.0.113.9, 10.1.1.1, 192.0.2.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.4", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, unknown, 10.5.5.5"], "10.5.5.5"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:51234"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:dba::9]:51234"], "2001:dba::9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8::5", ["203.0.113.9"], "203.0.113.9"),
        (None, ["203.0.113.9"], "203.0.113.9"),
        (None, [], None),
        ("nonsense", ["203.0.113.9"], None),
    ],
)
def test_the_rightmost_untrusted_address_is_who_asks(peer: str | None, forwarded: list[str], expected: str | None) -> None:
    assert client_address(peer, forwarded, TRUSTED) == expected


@given(V4 | V6, st.lists(st.text(max_size=20) | V4 | V6, max_size=5))
def test_an_untrusted_peer_cannot_pretend(peer: str, lies: list[str]) -> None:
    assume(not in_cidrs(peer, ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]))
    assert client_address(peer, lies, TRUSTED) == str(ipaddress.ip_address(peer))


@given(V4 | V6, st.lists(st.text(max_size=20) | V4, max_size=5), st.lists(st.sampled_from(["10.0.0.2", "192.0.2.1"]), max_size=4))
def test_what_stands_left_of_an_untrusted_address_means_nothing(real: str, lies: list[str], proxies: list[str]) -> None:
    assume(not in_cidrs(real, ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]))
    assert client_address("10.0.0.1", [",".join([*lies, real, *proxies])], TRUSTED) == str(ipaddress.ip_address(real))


def test_an_endless_list_of_proxies_ends() -> None:
    assert client_address("10.0.0.1", ["203.0.113.9" + ", 10.0.0.2" * 10_000], TRUSTED) == "10.0.0.2"


FULL = Policy(wifi_ssid="Corner", latitude=48.2, longitude=16.37, radius_meters=100, cidrs=("203.0.113.0/24",))
WIFI: dict[str, Any] = {"wifi_ssid": "corner"}
PLACE: dict[str, Any] = {"latitude": 48.2, "longitude": 16.3701}
NETWORK: dict[str, Any] = {"address": "203.0.113.7"}


def evidence(*proofs: dict[str, Any]) -> Evidence:
    return Evidence(**{key: value for proof in proofs for key, value in proof.items()})


@pytest.mark.parametrize("proof", [WIFI, PLACE, NETWORK])
def test_one_proof_is_enough_where_any_is(proof: dict[str, Any]) -> None:
    assert decide(FULL, evidence(proof)).accepted
    strict = Policy(wifi_ssid="Corner", latitude=48.2, longitude=16.37, radius_meters=100, cidrs=("203.0.113.0/24",), rule="all")
    assert not decide(strict, evidence(proof)).accepted
    assert len(decide(strict, evidence(proof)).missing) == 2
    assert decide(strict, evidence(WIFI, PLACE, NETWORK)).accepted


def test_nothing_is_asked_where_nothing_is_configured() -> None:
    for rule in get_args(JoinPolicy):
        assert decide(Policy(rule=rule), Evidence()).accepted
    assert decide(Policy(wifi_ssid="Corner", rule="none"), Evidence()).accepted
    assert not decide(FULL, Evidence()).accepted
    assert decide(FULL, Evidence()).missing == ("wifi", "location", "network")


@given(st.builds(Evidence, st.none() | st.text(max_size=10), st.none() | LATITUDE, st.none() | LONGITUDE, st.none() | V4 | V6))
def test_all_is_never_easier_than_any(given_evidence: Evidence) -> None:
    strict = Policy(wifi_ssid="Corner", latitude=48.2, longitude=16.37, radius_meters=100, cidrs=("203.0.113.0/24",), rule="all")
    assert decide(FULL, given_evidence).accepted or not decide(strict, given_evidence).accepted
