"""Is the body in the café? Pure checks of what a phone says about where it is, and of which address a request really has.

SSID and coordinates are the phone's own word; only the network address is evidence. A café chooses what is enough.
"""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Proof = Literal["wifi", "location", "network"]
JoinPolicy = Literal["any", "all", "none"]

_EARTH_RADIUS_M: Final = 6_371_008.8
_HOPS_MAX: Final = 64

# What routers put behind a name: bands and repeaters. Only behind a separator, so that "Cafe5G" stays a name of its own.
_BAND: Final = re.compile(r"\s*[\s_.\-]\s*(?:(?:2|2\.4|24|5|6)\s?g(?:hz)?|ext|extender|repeater|rpt|mesh)$")


class Policy(Struct, frozen=True):
    """What a café can check, and whether `any` proof is enough, `all` are needed, or `none`."""

    wifi_ssid: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_meters: float = 100
    cidrs: tuple[str, ...] = ()
    rule: JoinPolicy = "any"

    def proofs(self) -> tuple[Proof, ...]:
        """What a join needs, as far as it may be told to anyone."""
        if self.rule == "none":
            return ()
        has_location = self.latitude is not None and self.longitude is not None
        found: list[tuple[Proof, bool]] = [("wifi", bool(self.wifi_ssid)), ("location", has_location), ("network", bool(self.cidrs))]
        return tuple(proof for proof, configured in found if configured)


class Evidence(Struct, frozen=True):
    """What came with a join."""

    wifi_ssid: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    address: str | None = None


class Decision(Struct, frozen=True):
    """`missing` names the proofs that did not hold; with the rule `any` one that held is enough."""

    accepted: bool
    missing: tuple[Proof, ...] = ()


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """A café that has nothing configured accepts everyone."""
    proofs = policy.proofs()
    missing = tuple(proof for proof in proofs if not _holds(proof, policy, evidence))
    if policy.rule == "any":
        return Decision(not proofs or len(missing) < len(proofs), missing)
    return Decision(not missing, missing)


def _holds(proof: Proof, policy: Policy, evidence: Evidence) -> bool:
    if proof == "wifi":
        return evidence.wifi_ssid is not None and policy.wifi_ssid is not None and ssid_matches(policy.wifi_ssid, evidence.wifi_ssid)
    if proof == "network":
        return evidence.address is not None and in_cidrs(evidence.address, policy.cidrs)
    if policy.latitude is None or policy.longitude is None or evidence.latitude is None or evidence.longitude is None:
        return False
    return haversine_m(policy.latitude, policy.longitude, evidence.latitude, evidence.longitude) <= policy.radius_meters


def ssid_matches(configured: str, given: str) -> bool:
    """The same network to a person: case, spaces, the quotes Android adds, and band suffixes (`-5G`, `_2.4GHz`, `-EXT`) do not count."""
    wanted = _network_name(configured)
    return wanted != "" and wanted == _network_name(given)


def _network_name(ssid: str) -> str:
    name = unicodedata.normalize("NFKC", ssid).casefold().strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].strip()
    while (shorter := _BAND.sub("", name)) != name and shorter:
        name = shorter
    return "".join((name.rstrip(" ._-") or name).split())


def haversine_m(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Metres over the ground between two points in degrees."""
    phi, other_phi = math.radians(latitude), math.radians(other_latitude)
    half_lat = math.sin((other_phi - phi) / 2)
    half_lon = math.sin(math.radians(other_longitude - longitude) / 2)
    square = half_lat * half_lat + math.cos(phi) * math.cos(other_phi) * half_lon * half_lon
    return 2 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(square)))


def parse_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """Addresses or networks, host bits allowed. Raises `ValueError` naming the one that is neither."""
    return tuple(ipaddress.ip_network(cidr.strip(), strict=False) for cidr in cidrs)


def in_cidrs(address: str, cidrs: Iterable[str]) -> bool:
    """False for an address that is none."""
    parsed = parse_address(address)
    return parsed is not None and in_networks(parsed, parse_networks(cidrs))


def in_networks(address: Ip, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def parse_address(text: str) -> Ip | None:
    """An IP address as proxies and sockets write it: with a port, in brackets, with a zone, or IPv4 in IPv6's clothes. None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def client_address(peer: str | None, x_forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """Who really asks: walking from the peer leftward through `X-Forwarded-For`, the first address that is not a trusted proxy's.

    Whatever stands further left was written by someone untrusted and means nothing. `peer` is None for a connection over a
    unix socket, whose other end can only be a proxy on this machine. An entry that is no address ends the walk: the proxy
    that wrote it is then the best that is known. `x_forwarded_for` has one item for each header line.
    """
    current: Ip | None = None
    if peer is not None:
        current = parse_address(peer)
        if current is None or not in_networks(current, trusted):
            return None if current is None else str(current)
    hops = [hop for line in x_forwarded_for for hop in line.split(",")]
    for hop in hops[: -_HOPS_MAX - 1 : -1]:
        address = parse_address(hop)
        if address is None:
            break
        current = address
        if not in_networks(address, trusted):
            break
    return None if current is None else str(current)
