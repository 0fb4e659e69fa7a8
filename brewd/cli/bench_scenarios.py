"""What `brewd bench fanout` measures: named loads, and curves of them that should stay level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct


class Scenario(Struct, frozen=True, kw_only=True):
    """`sockets` spread evenly over `rooms`. Closed loop: `outstanding` messages under way per room; or paced: `rate` messages a second in all."""

    name: str
    sockets: int
    rooms: int
    outstanding: int = 0
    rate: float = 0.0

    @property
    def text(self) -> str:
        load = f"closed loop, {self.outstanding} under way a room" if self.outstanding else f"{self.rate:g} messages a second"
        return f"{self.sockets:,} sockets in {self.rooms:,} rooms, {load}"


TABLE: Final = (
    Scenario(name="closed-1k", sockets=1000, rooms=10, outstanding=4),
    Scenario(name="closed-5k", sockets=5000, rooms=50, outstanding=4),
    Scenario(name="paced", sockets=1000, rooms=10, rate=300.0),
    Scenario(name="many-rooms", sockets=10_000, rooms=1000, rate=1000.0),
    Scenario(name="alone", sockets=200, rooms=200, outstanding=4),
)

_ROOM_STEPS: Final = (10, 30, 100, 300, 1000)
_SOCKET_STEPS: Final = (100, 300, 1000, 3000, 10_000)
_CURVE_DELIVERIES_PER_S: Final = 20_000


def curves() -> Iterator[Scenario]:
    """Two curves at the same deliveries a second: ten members a room and ever more rooms, then ten rooms and ever more members. CPU per
    delivery should stay level along the first, and fall along the second, where each message is worked on for more members."""
    for rooms in _ROOM_STEPS:
        yield Scenario(name=f"rooms-{rooms}", sockets=10 * rooms, rooms=rooms, rate=_CURVE_DELIVERIES_PER_S / 10)
    for sockets in _SOCKET_STEPS:
        yield Scenario(name=f"sockets-{sockets}", sockets=sockets, rooms=10, rate=_CURVE_DELIVERIES_PER_S / (sockets / 10))
