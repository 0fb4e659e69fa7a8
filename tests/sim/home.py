"""What a client asks, what it may expect of the daemon it is connected to, and what that daemon's edge does for it."""

from __future__ import annotations

import math
from typing import Any, Protocol

from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe.ref import CafeRef, State
from brewd.store.records import Message
from tests.sim.laws import Laws
from tests.sim.sockets import Codec

RESUME_MAX = 1000


class Request:
    """Something asked under a `ref` that has not been answered. `about`: the text, the message or the `since` it was about."""

    __slots__ = ("about", "asked_s", "client_msg_id", "due_s", "kind", "running_due_s")

    def __init__(self, kind: str, about: Any, client_msg_id: str | None, asked_s: float) -> None:
        self.kind = kind
        self.about = about
        self.client_msg_id = client_msg_id
        self.asked_s = asked_s
        self.due_s = math.inf  # whatever goes wrong
        self.running_due_s = math.inf  # unless something goes wrong in the café itself

    def prolong(self, by_s: float) -> None:
        self.due_s += by_s
        self.running_due_s += by_s


class Mute(Struct, frozen=True):
    """A moderator's word, as the daemon `home` was told it."""

    home: Any
    from_s: float
    until_s: float


class Home(Protocol):
    """The daemon a client is connected to."""

    laws: Laws
    codecs: list[Codec]
    reply_timeout_s: float

    def ref(self, cafe_id: str) -> CafeRef: ...
    async def after(self, cafe_id: str, seq: int, limit: int) -> list[Message]: ...
    def promise(self, cafe_id: str, asked: Request) -> None: ...
    def limit_s(self, cafe_id: str, asked: Request) -> float: ...
    def is_muted(self, user_id: str, asked: Request) -> bool: ...
    def may_refuse(self, cafe_id: str, asked: Request, code: str) -> bool: ...
    def is_current(self, cafe_id: str) -> bool: ...
    def may_close(self, cafe_id: str) -> bool: ...
    def disconnected(self, client: Any) -> None: ...


async def missed(ref: CafeRef, home: Home, since: int) -> tuple[object, ...]:
    """What a join needs that its room may no longer hold: as the edge does it (`edge/ws/connection.py`)."""
    if ref.state is not State.RUNNING:
        await ref.ask(c.TopicsQuery(limit=0))
    if since < ref.oldest_held - 1 and ref.seq - since <= RESUME_MAX:
        return tuple(await home.after(ref.cafe_id, since, RESUME_MAX))
    return ()
