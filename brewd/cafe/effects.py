"""What a step decided. The actor performs effects in order; nothing in a room performs anything itself."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from brewd.cafe.commands import Ref
from brewd.cafe.events import Event
from brewd.cafe.limits import Action


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


class Tell(Struct, frozen=True):
    """To one socket alone."""

    to: int
    event: Event


class TellUser(Struct, frozen=True):
    """To every socket of one user that is attached to the café, and to no other."""

    user_id: str
    event: Event


class Record(Struct, frozen=True):
    """A decision to be kept: who, whom, why, until when. `by` is the staff member's id; None: brewd itself, by `rule`."""

    action: str
    user_id: str
    username: str
    at_ms: int
    rule: str | None = None
    reason: str = ""
    until_ms: int | None = None
    by: str | None = None
    by_name: str | None = None
    message_id: str | None = None


class Used(Struct, frozen=True):
    """A poke or a question was charged: rare enough to be kept one by one."""

    action: Action
    user_id: str
    session_id: str
    at_ms: int


class Wake(Struct, frozen=True, gc=False):
    """Something waits to be committed."""


Kept = Record | Used
"""What the ledger writes down."""

Effect = Attach | Detach | Reply | Refuse | Broadcast | Tell | TellUser | Record | Used | Wake
