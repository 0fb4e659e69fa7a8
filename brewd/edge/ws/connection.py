"""The socket of `/ws`: what its frames mean to the café.

It holds no state of any room: what it is told to say comes through the outbox from the café's fan-out.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from brewd.cafe import commands as c
from brewd.cafe.directory import Directory
from brewd.cafe.ref import CafeRef, State
from brewd.edge.ws import agent_frames, peer, plain
from brewd.errors import Rejected, StoreError
from brewd.people.tokens import Identity
from brewd.store.messages import Messages

RESUME_MAX = 1000
"""Messages a resume may fetch from Postgres; a client further behind reads history over HTTP."""


class Calls(Protocol):
    """What can be asked for by name, in frames that say no more about it (see `brewd.edge.http.calls`)."""

    def __contains__(self, event: object) -> bool: ...

    async def perform(self, event: str, data: bytes, identity: Identity, heard_s: float) -> Any:
        """What the reply says. Raises `Rejected`, and nothing else; answers within its own deadline."""


class Parts(peer.Parts, frozen=True, kw_only=True):
    """What every socket of `/ws` works with."""

    directory: Directory
    messages: Messages
    calls: Calls


class WebSocket(peer.Peer):
    """A `Peer` that speaks the plain dialect."""

    __slots__ = ("_ref", "_to")

    _parts: Parts

    def __init__(self, parts: Parts, opened: peer.Opened) -> None:
        self._ref: CafeRef | None = None
        self._to = 0
        super().__init__(parts, opened)

    def _gone(self) -> None:
        if self._ref is not None:
            self._ref.detach(self._to)

    def leave(self) -> None:
        """The room need not wait for this socket's person."""
        if self._ref is not None:
            self._ref.leave(self._to)

    def _met(self, identity: Identity) -> None:
        """Take an address in their café."""
        badge = self._parts.sessions.holders.badge(identity.user_id, identity.badge)  # since the token was looked at, that may be another
        who = c.Who(identity.user_id, identity.username, badge, staff=identity.is_staff, moderator=identity.role == "moderator")
        self._ref = self._parts.directory.ref(identity.cafe_id)
        self._to = self._ref.attach(self.outbox, who)

    def _decode(self, text: str) -> plain.Frame | plain.CallFrame:
        return plain.decode(text, self._parts.calls, agent_frames.EVENTS)

    def _handle(self, frame: plain.Frame | plain.CallFrame) -> Awaitable[None] | None:
        """Do what the frame says; something to wait for where that needs Postgres. Raises `Rejected`."""
        match frame:
            case plain.SendFrame():
                self._send(frame)
            case plain.TypingStartFrame() | plain.TypingStopFrame():
                self._typing(frame)
            case plain.JoinFrame():
                return self._join(frame)
            case plain.LeaveFrame():
                self._leave(frame)
            case plain.DeleteFrame():
                self._delete(frame)
            case plain.StatusFrame():
                self._status(frame)
            case plain.RefreshFrame() | plain.AuthFrame():
                self._refresh(frame)
            case plain.CallFrame():
                return self._call(frame)
        return None

    def _in_cafe(self, cafe_id: str) -> tuple[CafeRef, c.Who]:
        ref = self._ref
        if ref is None or cafe_id != ref.cafe_id:
            raise Rejected("not_in_cafe", "Your token is for another café.")
        return ref, ref.fanout.people[self._to]

    def _join(self, frame: plain.JoinFrame) -> Awaitable[None] | None:
        ref, who = self._in_cafe(frame.data.cafe_id)
        since = frame.data.since
        if since is not None and (ref.state is not State.RUNNING or since < ref.oldest_held - 1):
            return self._join_from_history(frame, ref, who, since)
        ref.tell(c.Join(self._to, who, frame.ref, since, frame.data.epoch))
        return None

    async def _join_from_history(self, frame: plain.JoinFrame, ref: CafeRef, who: c.Who, since: int) -> None:
        """The room may no longer hold all that was missed: read it first, so that the room can join it on without a gap."""
        earlier: list[object] = []
        try:
            if ref.state is not State.RUNNING:
                await ref.ask(c.TopicsQuery(limit=0))
            if since < ref.oldest_held - 1 and ref.seq - since <= RESUME_MAX:
                earlier += await self._parts.messages.after(ref.cafe_id, since, RESUME_MAX)
            ref.tell(c.Join(self._to, who, frame.ref, since, frame.data.epoch, tuple(earlier)))
        except StoreError:
            self.outbox.push(
                self._parts.dialect.error(frame.ref, {"code": "storage_unavailable", "detail": "History cannot be read at the moment.", "retryAfterMs": 1000})
            )
        except Rejected as rejected:
            self.outbox.push(self._parts.dialect.error(frame.ref, rejected.data()))

    def _leave(self, frame: plain.LeaveFrame) -> None:
        ref, _ = self._in_cafe(frame.data.cafe_id)
        ref.tell(c.Leave(self._to, frame.ref))

    def _send(self, frame: plain.SendFrame) -> None:
        data = frame.data
        ref, who = self._in_cafe(data.cafe_id)
        if self.draining:
            raise Rejected("cafe_unavailable", "The server is restarting. Send it again after reconnecting.", retryAfterMs=1000)
        if "\0" in data.content or (data.client_msg_id is not None and "\0" in data.client_msg_id):
            raise plain.BadFrame("data.content" if "\0" in data.content else "data.clientMsgId", "NUL characters cannot be stored")
        ref.tell(c.Send(self._to, who, data.content, data.client_msg_id, frame.ref))

    def _delete(self, frame: plain.DeleteFrame) -> None:
        ref, who = self._in_cafe(self._ref.cafe_id if self._ref else "")
        ref.tell(c.Delete(who, frame.data.message_id, self._to, frame.ref))

    def _typing(self, frame: plain.TypingStartFrame | plain.TypingStopFrame) -> None:
        ref, _ = self._in_cafe(frame.data.cafe_id)
        ref.tell(c.Typing(self._to, isinstance(frame, plain.TypingStartFrame)))
        if frame.ref is not None:
            self.outbox.push(self._parts.dialect.reply(frame.ref, {}))

    def _status(self, frame: plain.StatusFrame) -> None:
        ref, _ = self._in_cafe(self._ref.cafe_id if self._ref else "")
        ref.tell(c.SetStatus(self._to, frame.data.status, frame.ref))

    async def _call(self, frame: plain.CallFrame) -> None:
        """One at a time, in the order in which they came: a client that asks faster than it is answered waits."""
        assert self.identity is not None
        dialect = self._parts.dialect
        try:
            answer = await self._parts.calls.perform(frame.event, bytes(frame.data), self._parts.sessions.check(self.identity), self.heard_s)
        except Rejected as rejected:
            self.outbox.push(dialect.error(frame.ref, rejected.data()))
        else:
            if frame.ref is not None:
                self.outbox.push(dialect.reply(frame.ref, answer))
