"""Which addresses are a café's own network, and by what an address is counted.

All guests of a café share one address, so what is counted by address is counted more widely there. Two things make an address a
café's own: it is in one of the café's networks (`cidrs`), or a good join came from it within the last hour that showed the Wi-Fi.
This buys a wide allowance and no trust: what somebody can get by guessing is bounded per café and per name all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from brewd.people.cafes import Cafes
from brewd.people.network import Evidence, Ip, decide, in_networks, parse_address, parse_networks
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock
from brewd.runtime.tally import Tally

PROVED_MS: Final = 3_600_000
STAFF_MS: Final = 86_400_000
_SEEN_MAX: Final = 16_384
_ANY: Final = ""
_STAFF: Final = "staff "


@lru_cache(maxsize=4096)
def key_of(address: str) -> bytes:
    """What an address is counted under: all of IPv4, the /64 of IPv6, which is what one customer of a provider has. Anything else under itself."""
    parsed = parse_address(address)
    if parsed is None:
        return address.encode(errors="replace")[:64]
    return parsed.packed[:8]


class Networks:
    """Knows the networks of every café: `warm` reads them once, `learn` hears of changes. Owns what joins and logins have shown, in memory only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cidrs: dict[str, tuple[str, ...]] = {}
        # By IP version and length of prefix, so that a look-up costs one step for each length in use, however many cafés there are.
        self._owners: dict[tuple[int, int], dict[int, int]] = {}
        self._seen: Tally[tuple[bytes, str], int] = Tally(room=_SEEN_MAX, grip=lambda until_ms, now_ms: float(max(0, until_ms - now_ms)))

    async def warm(self, cafes: Cafes) -> None:
        """Learn the networks of all cafés. Raises `StoreError`."""
        for cafe in await cafes.list():
            self.learn(cafe.id, cafe.cidrs)

    def learn(self, cafe_id: str, cidrs: tuple[str, ...]) -> None:
        """These are the café's networks from now on."""
        before = self._cidrs.get(cafe_id, ())
        if before == cidrs:
            return
        self._count(before, -1)
        self._count(cidrs, 1)
        if cidrs:
            self._cidrs[cafe_id] = cidrs
        else:
            del self._cidrs[cafe_id]

    def joined(self, cafe: Cafe, evidence: Evidence) -> None:
        """A good join at `cafe` came with this evidence."""
        policy, address = cafe.policy(), evidence.address
        if address is not None and "wifi" in policy.proofs() and "wifi" not in decide(policy, evidence).missing:
            self._remember(address, (cafe.id, _ANY), PROVED_MS)

    def logged_in(self, cafe_id: str, address: str | None) -> None:
        """Staff of the café logged in from there. That makes it known, not the café's own."""
        if address is not None:
            self._remember(address, (_STAFF + cafe_id,), STAFF_MS)

    def knows_staff(self, cafe_id: str, address: str) -> bool:
        """Whether the café's staff logged in from there within the last day."""
        return self._remembers(address, _STAFF + cafe_id)

    def owns(self, cafe_id: str, address: str) -> bool:
        """Whether the address is one of this café's own."""
        if self._remembers(address, cafe_id):
            return True
        cidrs = self._cidrs.get(cafe_id)
        parsed = parse_address(address) if cidrs else None
        return parsed is not None and in_networks(parsed, parse_networks(cidrs or ()))

    def is_cafe(self, address: str) -> bool:
        """Whether it is some café's own."""
        if self._remembers(address, _ANY):
            return True
        parsed = parse_address(address) if self._owners else None
        return parsed is not None and any(_prefix(parsed, length) in found for (version, length), found in self._owners.items() if version == parsed.version)

    def _remember(self, address: str, whose: Iterable[str], for_ms: int) -> None:
        now_ms = self._clock.now_ms()
        for one in whose:
            self._seen.put((key_of(address), one), now_ms + for_ms, now_ms)

    def _remembers(self, address: str, whose: str) -> bool:
        until_ms = self._seen.get((key_of(address), whose))
        return until_ms is not None and until_ms > self._clock.now_ms()

    def _count(self, cidrs: Iterable[str], by: int) -> None:
        for network in parse_networks(cidrs):
            index = self._owners.setdefault((network.version, network.prefixlen), {})
            prefix = _prefix(network.network_address, network.prefixlen)
            index[prefix] = index.get(prefix, 0) + by
            if not index[prefix]:
                del index[prefix]
            if not index:
                del self._owners[network.version, network.prefixlen]


def _prefix(address: Ip, length: int) -> int:
    return int(address) >> (address.max_prefixlen - length)
