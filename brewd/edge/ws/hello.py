"""What the server says first on an authenticated socket."""

from __future__ import annotations

from typing import ClassVar

from brewd.cafe.events import Event

HEARTBEAT_S = 25.0
"""A socket silent for this long is pinged; one silent for twice as long is dead."""


class Hello(Event, frozen=True, rename="camel"):
    """`connected`: who the server takes this client for, and what it may expect."""

    name: ClassVar[str] = "connected"
    user_id: str
    cafe_id: str
    session_id: str
    server_time: str
    heartbeat_ms: int = int(HEARTBEAT_S * 1000)
    protocol: str = "brewd.v1"
