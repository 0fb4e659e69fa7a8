"""A socket without a network: what the fan-out pushes is heard by a client at once, later, or never.

Frames must be bytes for the fan-out to join; here each is a number, and the dialect keeps what it stands for, so a client sees
the very objects the room decided on, in the order in which their bytes came.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from brewd.cafe.commands import Ref
from brewd.cafe.events import Event, Lagged
from brewd.cafe.fanout import Dialect
from tests.sim.laws import BOUNDED, CONTAINED, Laws

SLOW_AT = 3
FRAMES_MAX = 60
TOO_SLOW = 4008
RESTART = 1012

Frame = tuple[Any, ...]
"""("event", event), ("reply", ref, data), ("error", ref, data) or ("close", code)."""


class Codec:
    """A dialect whose frames are four bytes long. Each is read once for every socket it went to."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []

    def event(self, event: Event) -> bytes:
        return self._put(("event", event))

    def reply(self, ref: Ref, data: Any) -> bytes:
        return self._put(("reply", ref, data))

    def error(self, ref: Ref, data: dict[str, Any]) -> bytes:
        return self._put(("error", ref, data))

    def read(self, frames: bytes) -> list[Frame]:
        return [self._frames[number] for (number,) in struct.iter_unpack(">I", frames)]

    def _put(self, frame: Frame) -> bytes:
        self._frames.append(frame)
        return struct.pack(">I", len(self._frames) - 1)


class Socket:
    """An outbox and what is behind it. `stalled`: the network takes nothing, and the backlog grows until it is too long."""

    def __init__(self, *, dialect: Codec, laws: Laws, hear: Callable[[Frame], None], may_close: Callable[[], bool]) -> None:
        self.dialect: Dialect = dialect
        self._codec = dialect
        self._laws = laws
        self._hear = hear
        self._may_close = may_close
        self._backlog: list[Frame] = []
        self._withheld: tuple[int, int] | None = None
        self.slow = False
        self.stalled = False
        self.was_stalled = False
        self.cut = False
        self.closed = False

    def push(self, frames: bytes) -> None:
        if self.cut or self.closed:
            return
        self._backlog += self._codec.read(frames)
        self.drain()
        if len(self._backlog) > FRAMES_MAX:
            self.close(TOO_SLOW, "too slow")

    def withhold(self, seq: int) -> None:
        if not self.slow:
            self._laws.breach(BOUNDED, "events were withheld from a socket that is not slow")
        self._withheld = (seq if self._withheld is None else self._withheld[0], seq)

    def close(self, code: int, reason: str) -> None:
        if self.closed or self.cut:
            return
        if code == RESTART and not self._may_close():
            self._laws.breach(CONTAINED, f"a socket is closed without a reason: {reason}")
        if code == TOO_SLOW:
            self._backlog.clear()
            self.stalled = False
        self._backlog.append(("close", code))
        self.closed = True
        self.drain()

    def stall(self) -> None:
        self.stalled = self.was_stalled = True

    def flow(self) -> None:
        self.stalled = False
        self.drain()

    def drain(self) -> None:
        """Let the network take what it wants."""
        while self._backlog and not self.stalled and not self.cut:
            frame = self._backlog.pop(0)
            self._hear(frame)
            if not self._backlog and self._withheld is not None and not self.closed:
                first, last = self._withheld
                self._withheld = None
                self._hear(("event", Lagged(first, last)))
        self.slow = len(self._backlog) >= SLOW_AT
