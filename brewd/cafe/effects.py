"""What a step decided. The actor performs effects in order; nothing in a room performs anything itself."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from brewd.cafe.commands import Ref
from brewd.cafe.events import Event


class Attach(Struct, frozen=True):
    """From here on this socket hears the room's events."""

    to: int


class Detach(Struct, frozen=True):
    """From here on it does not."""

    to: int


class Reply(Struct, frozen=True, gc=False):
    to: int
    ref: Ref
    data: Any


class Refuse(Struct, frozen=True):
    to: int
    ref: Ref
    code: str
    detail: str
    extras: dict[str, Any] = {}


class Broadcast(Struct, frozen=True, gc=False):
    """To every attached socket but those in `skip`."""

    event: Event
    skip: frozenset[int] = frozenset()


class Wake(Struct, frozen=True, gc=False):
    """Something waits to be committed."""


Effect = Attach | Detach | Reply | Refuse | Broadcast | Wake
