"""A reference to a café: what everyone outside holds instead of the actor.

It stays the same while actors come and go behind it: the mailbox and the sockets belong to it, so nothing is lost between two
lives of a café. Whoever has one may `tell`, `ask`, `attach` and `detach`, and never sees a room.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec
import trio

from brewd.cafe.commands import Command, Drop, Leave, Notify, Question, Who
from brewd.cafe.events import Event
from brewd.cafe.fanout import FanOut, Outbox
from brewd.errors import Rejected
from brewd.runtime.mailbox import Mailbox, Slot

ASKS_MAX = 1024
"""Questions from outside that may wait for one café at a time."""


class State(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    QUARANTINED = "quarantined"


class CafeStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A café as `status` shows it."""

    cafe_id: str
    state: str
    members: int
    sockets: int
    seq: int
    mailbox: int
    crashes: int


class CafeRef:
    """Made by the directory. `start` brings the actor up when it is not; `forget` is called when nobody needs the ref any more."""

    def __init__(self, *, cafe_id: str, mailbox_max: int, start: Callable[[CafeRef], None], forget: Callable[[CafeRef], None]) -> None:
        self.cafe_id = cafe_id
        self.mailbox: Mailbox[Command] = Mailbox(mailbox_max)
        self.fanout = FanOut()
        self.state = State.STOPPED
        self.crashes = 0
        self.members = 0
        self.seq = 0
        self.oldest_held = 0
        self._start = start
        self._forget = forget
        self._next_to = 1
        self._next_ask = -1

    def attach(self, outbox: Outbox, who: Who) -> int:
        """Give a socket its address. It hears nothing until it joins."""
        to = self._next_to
        self._next_to += 1
        self.fanout.add(to, outbox, who)
        return to

    def detach(self, to: int) -> None:
        """The socket is gone. Whatever it told before is still done; then its user's grace time starts."""
        self.fanout.forget(to)
        if self.state in (State.STARTING, State.RUNNING) or len(self.mailbox):  # a join may still be in there
            self.mailbox.push(Drop(to))  # one a socket at most, so this is bounded by the sockets
        elif self.state is State.STOPPED and not self.fanout.attached:
            self._forget(self)

    def leave(self, to: int) -> None:
        """The socket's person will not come back: gone from the room without a grace time. At most once a socket."""
        if self.state in (State.STARTING, State.RUNNING):
            self.mailbox.push(Leave(to))

    def tell(self, command: Command) -> None:
        """Queue a command; never blocks. `Rejected`: `mailbox_full` or `cafe_unavailable`."""
        if self.state is State.QUARANTINED:
            raise Rejected("cafe_unavailable", "This café is out of order at the moment.", retryAfterMs=5000)
        if not self.mailbox.tell(command):
            raise Rejected("mailbox_full", "The café is too busy at the moment.", retryAfterMs=250)
        if self.state is State.STOPPED:
            self._start(self)

    def notify(self, user_id: str, event: Event) -> None:
        """Tell one user, on every socket they have here; nothing when they have none. Never blocks and never refuses.

        For what can be read again elsewhere, and is stored first by a caller who is limited, which bounds it. What is droppable
        is dropped when the café has too much to do.
        """
        if not self.fanout.reaches(user_id) or self.state is State.QUARANTINED:
            return
        command = Notify(user_id, event)
        if not event.droppable:
            self.mailbox.push(command)
        elif not self.mailbox.tell(command):
            return
        if self.state is State.STOPPED:
            self._start(self)

    async def ask(self, question: Question, timeout_s: float = 5.0) -> Any:
        """Ask, and wait for the answer at most `timeout_s`, everything included. Raises `Rejected`. Cancelling it forgets the question."""
        asks = self.fanout.asks
        if len(asks) >= ASKS_MAX:
            raise Rejected("mailbox_full", "The café is too busy at the moment.", retryAfterMs=250)
        to = self._next_ask
        self._next_ask -= 1
        slot: Slot[Any] = Slot()
        asks[to] = slot
        try:
            self.tell(msgspec.structs.replace(question, to=to))
            return await slot.get(timeout_s)
        except trio.TooSlowError:
            raise Rejected("cafe_unavailable", "The café did not answer in time.", retryAfterMs=1000) from None
        finally:
            asks.pop(to, None)

    def status(self) -> CafeStatus:
        fanout = self.fanout
        return CafeStatus(self.cafe_id, self.state.value, self.members, len(fanout.attached), self.seq, len(self.mailbox), self.crashes)
