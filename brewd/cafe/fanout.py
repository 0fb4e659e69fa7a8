"""Fan-out: from one turn's effects to bytes on many sockets.

Everything a turn says is collected first. Then each event is encoded once for each dialect, the frames are joined into one
buffer, and every socket gets that one buffer in one push. Sockets to which the turn says something of their own (a reply, an
entry, an exit, an event not meant for them) get their pieces in the very order in which the effects were decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from brewd.cafe.commands import Ref, Who
from brewd.cafe.effects import Attach, Broadcast, Detach, Effect, Record, Refuse, Reply, Tell, TellUser, Used, Wake
from brewd.cafe.events import Event, MessageNew, UsersUpdate, UserView
from brewd.errors import Rejected
from brewd.runtime.mailbox import Slot

SAID_MAX_BYTES = 1 << 18
"""Replies to one socket in one turn. It bounds what was said before a reply, so that a large answer fits."""

TOO_SLOW = 4008


class Dialect(Protocol):
    """How one kind of client spells things. One instance serves all its sockets."""

    def event(self, event: Event) -> bytes: ...
    def reply(self, ref: Ref, data: Any) -> bytes: ...
    def error(self, ref: Ref, data: dict[str, Any]) -> bytes: ...


class Outbox(Protocol):
    """The way to one socket. Neither call blocks or raises; a socket that is gone swallows everything."""

    dialect: Dialect
    slow: bool
    """The socket has a backlog large enough that droppable events should be withheld."""

    def push(self, frames: bytes) -> None:
        """Send now what the kernel takes; the rest follows in order."""

    def withhold(self, seq: int) -> None:
        """Droppable events were not pushed while the room stood at `seq`."""

    def close(self, code: int, reason: str) -> None:
        """Say goodbye after everything pushed before, then end."""


Part = bytes | tuple[int, int]


class _Own:
    """What one socket gets in this turn: bytes of its own, and spans of the common events. `since`: it hears from that event on."""

    __slots__ = ("parts", "said_bytes", "since")

    def __init__(self, since: int | None) -> None:
        self.since = since
        self.parts: list[Part] = []
        self.said_bytes = 0

    def cut(self, at: int, since: int | None) -> None:
        """Hear the common events up to `at`, and again from `since` on (None: not any more)."""
        if self.since is not None and self.since < at:
            self.parts.append((self.since, at))
        self.since = since


class FanOut:
    """The sockets of one café. It outlives the café's actor: a restart finds every socket where it was.

    `attached`: every socket whose person is connected to this café; `hearing`: those in the room, by dialect. `told_seq`: the
    last message that was broadcast; `told_deleted`: the deleted ones the last actor held, all of them told;
    `told_users`: who is present, as it was told.
    """

    def __init__(self) -> None:
        self.attached: dict[int, Outbox] = {}
        self.people: dict[int, Who] = {}
        self.asks: dict[int, Slot[Any]] = {}
        self.told_seq: int | None = None
        self.told_deleted: frozenset[str] = frozenset()
        self.told_users: dict[str, UserView] = {}
        self._by_user: dict[str, set[int]] = {}
        self._hearing: dict[Dialect, dict[int, Outbox]] = {}
        self._events: list[Event] = []
        self._own: dict[int, _Own] = {}

    def add(self, to: int, outbox: Outbox, who: Who) -> None:
        """A socket of this person is connected. It hears nothing of the room until it joins."""
        self.attached[to] = outbox
        self.people[to] = who
        self._by_user.setdefault(who.user_id, set()).add(to)

    def reaches(self, user_id: str) -> bool:
        """Whether this user has a socket here."""
        return user_id in self._by_user

    def hears(self, to: int) -> bool:
        outbox = self.attached.get(to)
        return outbox is not None and to in self._hearing.get(outbox.dialect, ())

    def heard_by(self) -> list[int]:
        """Every socket in the room."""
        return [to for members in self._hearing.values() for to in members]

    def forget(self, to: int) -> None:
        """The socket is gone."""
        outbox, who = self.attached.pop(to, None), self.people.pop(to, None)
        if who is not None:
            theirs = self._by_user[who.user_id]
            theirs.discard(to)
            if not theirs:
                del self._by_user[who.user_id]
        if outbox is not None:
            self._hearing.get(outbox.dialect, {}).pop(to, None)

    def perform(self, effects: Sequence[Effect]) -> list[Record | Used | Wake]:
        """Take the effects of one step into this turn. Returns those that say nothing to anybody."""
        others: list[Record | Used | Wake] = []
        for effect in effects:
            if isinstance(effect, Broadcast):
                self._broadcast(effect)
            elif isinstance(effect, Reply):
                self.reply(effect.to, effect.ref, effect.data)
            elif isinstance(effect, Refuse):
                self.refuse(effect.to, effect.ref, Rejected(effect.code, effect.detail, **effect.extras))
            elif isinstance(effect, Attach):
                self._attach(effect.to)
            elif isinstance(effect, Detach):
                self._detach(effect.to)
            elif isinstance(effect, Tell):
                self._tell(effect.to, effect.event)
            elif isinstance(effect, TellUser):
                for to in sorted(self._by_user.get(effect.user_id, ())):
                    self._tell(to, effect.event)
            else:
                others.append(effect)
        return others

    def reply(self, to: int, ref: Ref, data: Any) -> None:
        """Answer a request: an ask at once, a socket with this turn. Nobody hears of a request without a `ref`."""
        if to < 0:
            slot = self.asks.pop(to, None)
            if slot is not None:
                slot.set(data)
        elif ref is not None and (outbox := self.attached.get(to)) is not None and not self._asks_too_much(to, outbox):
            self._say(to, outbox.dialect.reply(ref, data))

    def refuse(self, to: int, ref: Ref, rejected: Rejected) -> None:
        if to < 0:
            slot = self.asks.pop(to, None)
            if slot is not None:
                slot.fail(rejected)
        elif (outbox := self.attached.get(to)) is not None:
            self._say(to, outbox.dialect.error(ref, rejected.data()))

    def flush(self, seq: int) -> None:
        """Put everything this turn said on the sockets. `seq`: where the room stands."""
        events, own = self._events, self._own
        if not events and not own:
            return
        self._events, self._own = [], {}
        if own:
            for one in own.values():
                one.cut(len(events), None)
        encoded: dict[Dialect, list[bytes]] = {}
        for dialect, members in self._hearing.items():
            if events and members:
                frames = encoded[dialect] = [dialect.event(event) for event in events]
                _push_common(events, frames, members, own, seq)
        for to, one in own.items():
            outbox = self.attached.get(to)
            if outbox is None or not one.parts:
                continue
            if outbox.dialect not in encoded:
                encoded[outbox.dialect] = [outbox.dialect.event(event) for event in events]
            _push_own(events, encoded[outbox.dialect], one.parts, outbox, seq)

    def _broadcast(self, broadcast: Broadcast) -> None:
        at = len(self._events)
        event = broadcast.event
        if type(event) is MessageNew:
            self.told_seq = event.message.seq
        elif type(event) is UsersUpdate:
            if event.action == "leave":
                self.told_users.pop(event.user.id, None)
            else:
                self.told_users[event.user.id] = event.user
        for to in broadcast.skip:
            self._own_of(to).cut(at, at + 1 if self.hears(to) else None)
        self._events.append(event)

    def _tell(self, to: int, event: Event) -> None:
        outbox = self.attached.get(to)
        if outbox is None:
            return
        if event.droppable and outbox.slow:
            return
        self._say(to, outbox.dialect.event(event))

    def _attach(self, to: int) -> None:
        outbox = self.attached.get(to)
        if outbox is None:
            return
        own = self._own_of(to)
        if own.since is None:
            own.since = len(self._events)
        self._hearing.setdefault(outbox.dialect, {})[to] = outbox

    def _detach(self, to: int) -> None:
        self._own_of(to).cut(len(self._events), None)
        outbox = self.attached.get(to)
        if outbox is not None:
            self._hearing.get(outbox.dialect, {}).pop(to, None)

    def _asks_too_much(self, to: int, outbox: Outbox) -> bool:
        """A hundred joins in one packet could be answered with a hundred megabytes: whoever asks for that is sent away instead."""
        own = self._own.get(to)
        if own is None or own.said_bytes < SAID_MAX_BYTES:
            return False
        outbox.close(TOO_SLOW, "too much asked at once: reconnect and join with since")
        return True

    def _say(self, to: int, frame: bytes) -> None:
        own = self._own_of(to)
        at = len(self._events)
        own.cut(at, None if own.since is None else at)
        own.parts.append(frame)
        own.said_bytes += len(frame)

    def _own_of(self, to: int) -> _Own:
        own = self._own.get(to)
        if own is None:
            own = self._own[to] = _Own(0 if self.hears(to) else None)
        return own


def _push_common(events: list[Event], frames: list[bytes], members: dict[int, Outbox], own: dict[int, _Own], seq: int) -> None:
    """The hot loop: one buffer, every member without something of its own."""
    whole = b"".join(frames)
    durable = b"".join([f for f, event in zip(frames, events, strict=True) if not event.droppable])
    droppable = len(durable) < len(whole)
    for to, outbox in members.items():
        if to in own:
            continue
        if droppable and outbox.slow:
            outbox.withhold(seq)
            if durable:
                outbox.push(durable)
        else:
            outbox.push(whole)


def _push_own(events: list[Event], frames: list[bytes], parts: list[Part], outbox: Outbox, seq: int) -> None:
    pieces: list[bytes] = []
    for part in parts:
        if isinstance(part, bytes):
            pieces.append(part)
            continue
        for at in range(*part):
            if outbox.slow and events[at].droppable:
                outbox.withhold(seq)
            else:
                pieces.append(frames[at])
    if pieces:
        outbox.push(b"".join(pieces))
