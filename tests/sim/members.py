"""A client: one app on one phone. It remembers what it saw, in order, and says at once when that cannot be.

It does what the contract asks of clients: after a lost connection it joins with `since` and `epoch`, and sends again, under the
same clientMsgId, whatever was not answered. Its side of the edge (`join` from history) follows `edge/ws/connection.py`.
"""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any

import trio

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.pending import WAITERS_MAX
from brewd.cafe.ref import CafeRef, State
from brewd.errors import Rejected, StoreError
from brewd.store.records import Message
from tests.sim.here import Here
from tests.sim.home import Home, Request, missed
from tests.sim.laws import BOUNDED, CONTAINED, DURABLE, ONCE, ONE_ORDER, SILENT, Laws
from tests.sim.sockets import Frame, Socket


class Client:
    """See the module. `last`: the last message it has; None before its first join."""

    def __init__(self, *, name: str, who: c.Who, cafe_id: str, laws: Laws, random: Random) -> None:
        self.name = name
        self.who = who
        self.cafe_id = cafe_id
        self.laws = laws
        self._random = random
        self.home: Home | None = None
        self.socket: Socket | None = None
        self.ref: CafeRef | None = None
        self.to = 0
        self.inside = False  # between the answer to a join and the answer to a leave
        self.leaving = False
        self.away = False  # left on purpose
        self.reading: Socket | None = None  # where the edge fetches history for a join: frames behind it wait
        self.last: int | None = None
        self.epoch: str | None = None
        self.seen: dict[int, str] = {}
        self.deleted: set[str] = set()
        self.asked: dict[int, Request] = {}
        self.unsent: dict[str, str] = {}  # clientMsgId → text, until it is answered
        self.resends: dict[str, int] = {}
        self.acked: dict[str, tuple[str, int]] = {}
        self.firsts: set[str] = set()
        self.said = 0
        self.typed = False
        self.here = Here()
        self._next_ref = 1

    def connect(self, home: Home) -> None:
        self.home = home
        self.ref = home.ref(self.cafe_id)
        self.socket = socket = Socket(
            dialect=self._random.choice(home.codecs),
            laws=self.laws,
            hear=lambda frame: self._hear(socket, frame),
            may_close=lambda: home.may_close(self.cafe_id),
        )
        self.to = self.ref.attach(socket, self.who)
        self.laws.note(self.name, "connects", self.to)

    @property
    def ready(self) -> bool:
        """Whether it can ask for anything now."""
        return self.socket is not None and not self.socket.cut and not self.socket.closed and self.reading is not self.socket

    def joining(self) -> bool:
        return any(asked.kind == "join" for asked in self.asked.values())

    async def join(self, *, anew: bool = False) -> None:
        """Enter, from where it stands, or `anew`."""
        ref, home, socket = self.ref, self.home, self.socket
        assert ref and home and socket  # noqa: PT018  # all three come with the connection
        since, epoch = (None, None) if anew else (self.last, self.epoch)
        mark = self._ask("join", since)
        earlier: tuple[object, ...] = ()
        try:
            if since is not None and (ref.state is not State.RUNNING or since < ref.oldest_held - 1):
                self.reading = socket
                earlier = await missed(ref, home, since)
            if socket is self.socket:
                ref.tell(c.Join(self.to, self.who, mark, since, epoch, earlier))
        except (Rejected, StoreError) as error:
            if socket is self.socket:
                self._refused(mark, {"code": "storage_unavailable"} if isinstance(error, StoreError) else error.data())
        finally:
            if self.reading is socket:
                self.reading = None

    def leave(self) -> None:
        self.leaving = self.away = True
        self._tell(c.Leave(self.to, self._ask("leave", None)))

    def say(self, text: str, *, keyed: bool) -> None:
        self.said += 1
        client_msg_id = f"{self.name}-{self.said}" if keyed else None
        if client_msg_id is not None:
            self.unsent[client_msg_id] = text
        self._send(text, client_msg_id)

    def resend(self, client_msg_id: str) -> None:
        self.resends[client_msg_id] = self.resends.get(client_msg_id, 0) + 1
        for asked in self.asked.values():
            if asked.client_msg_id == client_msg_id and self.home is not None:  # all of them wait for the same draft now
                asked.prolong(self.home.reply_timeout_s)
        self._send(self.unsent[client_msg_id], client_msg_id)

    def _send(self, text: str, client_msg_id: str | None) -> None:
        self._tell(c.Send(self.to, self.who, text, client_msg_id, self._ask("send", text, client_msg_id)))

    def delete(self, message_id: str) -> None:
        self._tell(c.Delete(self.who, message_id, self.to, self._ask("delete", message_id)))

    def set_status(self, status: str) -> None:
        self._tell(c.SetStatus(self.to, status, self._ask("status", status)))

    def typing(self, *, on: bool) -> None:
        assert self.ref is not None
        self.typed = True
        with contextlib.suppress(Rejected):
            self.ref.tell(c.Typing(self.to, on))

    def cut(self) -> None:
        """The connection breaks: the client knows at once, the server when it is told to `detach`."""
        if self.socket is not None:
            self.socket.cut = True
        self._disconnected()

    # What the client hears.

    def _hear(self, socket: Socket, frame: Frame) -> None:
        if socket is not self.socket:
            return
        kind = frame[0]
        if kind == "event":
            self._event(frame[1])
        elif kind == "reply":
            self._replied(frame[1], frame[2])
        elif kind == "error" and frame[1] is not None:
            self._refused(frame[1], frame[2])
        elif kind == "error":
            if not self.typed:  # nothing else goes without a mark
                self.laws.breach(BOUNDED, f"{self.name} was refused something it did not mark: {frame[2]}")
        else:
            self.laws.note(self.name, "is closed", frame[1])
            self._disconnected()

    def _event(self, event: e.Event) -> None:
        laws = self.laws
        if isinstance(event, e.Lagged):
            return self.here.withheld()
        if not self.inside:
            laws.breach(CONTAINED, f"{self.name} hears {event.name} outside the room")
        if isinstance(event, e.MessageNew):
            message = event.message
            laws.note(self.name, "sees", message.seq, message.content)
            laws.is_stored(self.cafe_id, message, f"seen by {self.name}")
            if self.last is None or message.seq != self.last + 1:
                laws.breach(ONE_ORDER, f"{self.name} sees {message.seq} after {self.last}")
            self._take(message)
        elif isinstance(event, e.MessageDeleted):
            laws.is_deleted(self.cafe_id, event.message_id, f"seen by {self.name}")
            self.deleted.add(event.message_id)
        elif isinstance(event, e.UsersUpdate):
            self._adds_up(self.here.changed(event))
        elif isinstance(event, e.TypingIndicator) and event.is_typing and event.user_id == self.who.user_id:
            laws.breach(CONTAINED, f"{self.name} is told of its own typing")

    def _adds_up(self, problem: str) -> None:
        if problem:
            self.laws.breach(CONTAINED, f"{self.name} is told of {problem}")

    def _take(self, message: Message) -> None:
        self.last = message.seq
        if self.seen.setdefault(message.seq, message.id) != message.id:
            self.laws.breach(ONE_ORDER, f"{self.name} sees another message as {message.seq} than before")
        if message.deleted:
            self.deleted.add(message.id)

    def _replied(self, mark: Any, data: Any) -> None:
        asked = self.asked.pop(mark, None)
        if asked is None:
            self.laws.breach(BOUNDED, f"{self.name} is answered {mark} although nothing is open under it")
            return
        self._in_time(asked, "")
        self.laws.note(self.name, "is answered", asked.kind, asked.about)
        if isinstance(data, e.JoinAnswer):
            self._joined(asked, data)
        elif asked.kind == "leave":
            self.inside = self.leaving = False
        elif isinstance(data, e.SendAnswer):
            self._acknowledged(asked, data)
        elif asked.kind == "delete":
            self.laws.is_deleted(self.cafe_id, asked.about, f"confirmed to {self.name}")

    def _joined(self, asked: Request, answer: e.JoinAnswer) -> None:
        laws, since = self.laws, asked.about
        seqs = [m.seq for m in answer.messages]
        first = since + 1 if answer.recovered else answer.seq + 1 - len(seqs)
        if seqs != list(range(first, answer.seq + 1)):
            laws.breach(ONE_ORDER, f"{self.name} joins at {answer.seq} since {since} (recovered {answer.recovered}) and gets {seqs}")
        if self.inside and self.last != answer.seq:
            laws.breach(ONE_ORDER, f"{self.name} has {self.last} and joins again at {answer.seq}")
        behind = answer.epoch == self.epoch and self.last is not None and answer.seq < self.last
        if behind and self.home is not None and self.home.is_current(self.cafe_id):
            laws.breach(DURABLE, f"{self.name} has {self.last}, and the room is back at {answer.seq}")
        if answer.recovered and since is None:
            laws.breach(ONE_ORDER, f"{self.name} joined anew and is called recovered")
        for message in answer.messages:
            laws.is_stored(self.cafe_id, message, f"shown to {self.name}")
            self._take(message)
        for message_id in answer.deleted:
            laws.is_deleted(self.cafe_id, message_id, f"shown to {self.name}")
            self.deleted.add(message_id)
        self._adds_up(self.here.shown(answer))
        self.last, self.epoch, self.inside = answer.seq, answer.epoch, True

    def _acknowledged(self, asked: Request, answer: e.SendAnswer) -> None:
        laws, sent = self.laws, answer.message
        if not laws.has(self.cafe_id, sent.seq, sent.id):
            laws.breach(DURABLE, f"{asked.about!r} is acknowledged to {self.name} as {sent.seq}, and not stored")
        if not answer.duplicate and self.home is not None and self.home.is_muted(self.who.user_id, asked):
            laws.breach(SILENT, f"{asked.about!r} was taken from {self.name}, who is muted")
        key = asked.client_msg_id
        if key is None:
            return
        if self.acked.setdefault(key, (sent.id, sent.seq)) != (sent.id, sent.seq):
            laws.breach(ONCE, f"{key} was acknowledged as {self.acked[key]} and now as {sent.id, sent.seq}")
        if not answer.duplicate:
            if key in self.firsts:
                laws.breach(ONCE, f"{key} was acknowledged as new twice")
            self.firsts.add(key)
        self.unsent.pop(key, None)

    def _refused(self, mark: Any, data: dict[str, Any]) -> None:
        asked = self.asked.pop(mark, None)
        if asked is None:
            self.laws.breach(BOUNDED, f"{self.name} is refused {mark} although nothing is open under it: {data}")
            return
        code = data["code"]
        self._in_time(asked, code)
        self.laws.note(self.name, "is refused", asked.kind, asked.about, code)
        assert self.home is not None
        if asked.kind == "leave":
            self.leaving = self.away = False
        if not (self._brought_on(asked, code) or self.home.may_refuse(self.cafe_id, asked, code)):
            self.laws.breach(CONTAINED, f"{self.name} is refused {asked.kind} {asked.about!r} with {code}")

    def _brought_on(self, asked: Request, code: str) -> bool:
        """Whether the refusal is the client's own doing."""
        if code == "not_in_cafe":
            return not self.inside
        if code == "invalid_request":
            return asked.kind == "send" and not 0 < len(asked.about.strip()) <= 1000
        if code == "storage_unavailable" and self.resends.get(asked.client_msg_id or "", 0) >= WAITERS_MAX - 1:
            return True
        if code == "forbidden" and asked.kind == "send":
            return self.who.staff
        row = self.laws.tables.by_id.get(asked.about) if asked.kind == "delete" else None
        return row is not None and row.user_id != self.who.user_id and not self.who.moderator and code in ("forbidden", "not_found")

    def audit(self) -> None:
        """Nothing waits longer for its answer than it may."""
        for asked in self.asked.values():
            self._in_time(asked, "and still waits")

    def _ask(self, kind: str, about: Any, client_msg_id: str | None = None) -> int:
        mark, self._next_ref = self._next_ref, self._next_ref + 1
        assert self.home is not None
        self.asked[mark] = Request(kind, about, client_msg_id, trio.current_time())
        self.home.promise(self.cafe_id, self.asked[mark])
        self.laws.note(self.name, "asks", kind, about)
        return mark

    def _in_time(self, asked: Request, code: str) -> None:
        assert self.home is not None
        if self.socket is not None and self.socket.was_stalled:
            return
        if trio.current_time() > self.home.limit_s(self.cafe_id, asked):
            self.laws.breach(BOUNDED, f"{self.name} waited {trio.current_time() - asked.asked_s:.3f} s for its {asked.kind} {code}")

    def _tell(self, command: Any) -> None:
        assert self.ref is not None
        try:
            self.ref.tell(command)
        except Rejected as rejected:
            self._refused(command.ref, rejected.data())

    def _disconnected(self) -> None:
        self.inside = self.leaving = False
        self.asked.clear()
        if self.home is not None:
            self.home.disconnected(self)
