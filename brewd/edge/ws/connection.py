"""One WebSocket: one task that reads, checks who is there, and tells the café.

Owns the socket's receiving side and its outbox, nothing else. It holds no state of any room: what it is told to say comes
through the outbox from the café's fan-out. The task waits for one thing only, bytes; whoever wants the socket to end closes or
aborts its outbox, and the reader sees the end.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio
from msgspec import Struct
from wsproto.events import CloseConnection, Ping, Pong

from brewd.cafe import commands as c
from brewd.cafe.directory import Directory
from brewd.cafe.ref import CafeRef, State
from brewd.edge.ws import plain
from brewd.edge.ws.conduct import Conduct
from brewd.edge.ws.hello import Hello
from brewd.edge.ws.inbound import POLICY, InBound, ends_with_goodbye
from brewd.edge.ws.outbox import FAREWELL_S, Outbox
from brewd.edge.ws.sockets import BANNED, TOKEN_EXPIRED, Sockets
from brewd.errors import ProtocolError, Rejected, StoreError
from brewd.people.sessions import Sessions
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, rfc3339
from brewd.store.messages import Messages

READ_BYTES = 65536
AUTH_S = 5.0
"""How long a socket may take to say who it is."""

_GOODBYES = frozenset({1000, 1005})
"""Close codes of a client that means it: `close()` of a browser says 1005, no code at all. A page that is left or reloaded says 1001, and may be back at once."""

TRY_LATER = 1013
_CLOSE_CODES: Final = {"token_expired": TOKEN_EXPIRED, "banned": BANNED, "rate_limited": TRY_LATER}
"""Refused tokens that have a close code of their own."""

UNLIMITED: Final = 1 << 30
"""`frames_per_s` of sockets that may send as fast as they can."""

_ONE_FRAME: Final = 1 - 1e-6
"""What a frame needs of the level, which leaks by `frames_per_s`: not the last billionth that adding up fractions may have lost."""

RESUME_MAX = 1000
"""Messages a resume may fetch from Postgres; a client further behind reads history over HTTP."""


class Calls(Protocol):
    """What can be asked for by name, in frames that say no more about it (see `brewd.edge.http.calls`)."""

    def __contains__(self, event: object) -> bool: ...

    async def perform(self, event: str, data: bytes, identity: Identity) -> Any:
        """What the reply says. Raises `Rejected`, and nothing else; answers within its own deadline."""


class Parts(Struct, frozen=True):
    """What every connection works with."""

    clock: Clock
    sessions: Sessions
    directory: Directory
    messages: Messages
    sockets: Sockets
    dialect: plain.Plain
    calls: Calls
    nursery: trio.Nursery
    frames_per_s: int
    frame_max_bytes: int
    outbox_max_bytes: int
    buffer: memoryview
    """What every socket reads into; it holds nothing across an await."""


class WebSocket:
    """`stream` carries the bytes when they are encrypted; otherwise the socket itself does. `first`: bytes that came with the handshake.

    `accept`: what is to be answered to the handshake. `address`: what the socket counts for, if for anything; who hands it in has seen that there is room.
    """

    __slots__ = (
        "_auth_limit",
        "_conduct",
        "_deaf",
        "_first",
        "_inbound",
        "_level",
        "_number",
        "_parts",
        "_ref",
        "_sock",
        "_stream",
        "_to",
        "_who",
        "address",
        "draining",
        "heard_s",
        "identity",
        "outbox",
        "until_ms",
    )

    def __init__(
        self,
        *,
        parts: Parts,
        sock: socket.socket,
        stream: trio.abc.Stream | None,
        identity: Identity | None,
        address: bytes | None,
        accept: bytes,
        first: bytes,
    ) -> None:
        self._parts = parts
        self._sock = sock
        self._first = first
        self._stream = stream
        self._inbound = InBound(parts.frame_max_bytes)
        self.outbox = Outbox(sock=sock, stream=stream, inbound=self._inbound, dialect=parts.dialect, limit_bytes=parts.outbox_max_bytes, nursery=parts.nursery)
        self.outbox.push(accept)
        self.identity: Identity | None = None
        self.address = address
        self.heard_s = trio.current_time()
        self.until_ms: float = math.inf
        self.draining = False
        self._ref: CafeRef | None = None
        self._to = 0
        self._who: c.Who | None = None
        self._conduct: Conduct | None = None
        self._level: float = 0
        self._auth_limit: trio.CancelScope | None = None
        self._deaf = False
        self._number = parts.sockets.add(self)
        if identity is not None:
            self._admit(identity)

    async def run(self) -> None:
        """Serve the socket until it ends. The caller closes the socket afterwards."""
        try:
            if self.identity is None:
                with trio.move_on_after(AUTH_S) as self._auth_limit:
                    if await self._read(lambda: self.identity is None):
                        return
                self._auth_limit = None
                if self.identity is None:
                    self.outbox.close(POLICY, f"no auth within {AUTH_S:g} s")
            await self._read(lambda: True)
        finally:
            self._parts.sockets.remove(self._number)
            if self._ref is not None:
                self._ref.detach(self._to)

    async def _read(self, go_on: Callable[[], bool]) -> bool:
        """Read while `go_on`; whether the socket has ended. After a breach of the protocol nothing is parsed but the answer to our goodbye."""
        sock, buffer = self._sock, self._parts.buffer
        data, self._first = self._first, b""
        while True:
            if data:
                try:
                    ended = ends_with_goodbye(data) if self._deaf else await self._received(data)
                except ProtocolError as error:
                    await self._break_off(error)
                    ended = False
                if ended:
                    await self.outbox.flushed(FAREWELL_S)
                    return True
                if not go_on():
                    return False
            if self._stream is not None:
                data = bytes(await self._stream.receive_some(READ_BYTES))
            else:
                data = b""
                await trio.lowlevel.wait_readable(sock)
                try:
                    size = sock.recv_into(buffer)
                except BlockingIOError:
                    continue
                data = bytes(buffer[:size])
            if not data:
                return True
            now_s = trio.current_time()
            if self._level:
                level = self._level - (now_s - self.heard_s) * self._parts.frames_per_s
                self._level = level if level > 0 else 0
            self.heard_s = now_s

    async def _break_off(self, error: ProtocolError) -> None:
        """Say why, and that nothing follows: where frames begin is not known any more, so the peer's goodbye may not be recognised."""
        self._deaf = True
        self.outbox.close(error.close_code, error.reason)
        await self.outbox.flushed(FAREWELL_S)
        if self._stream is None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    async def _received(self, data: bytes) -> bool:
        """Handle what came; whether the peer is done. After our own close frame, only the peer's is waited for."""
        for item in self._inbound.feed(data):
            if isinstance(item, CloseConnection):
                if item.code in _GOODBYES and not self.outbox.closed:  # an answer to our own goodbye means nothing
                    self.leave()
                self.outbox.close(item.code if item.code < 5000 and item.code not in (1005, 1006) else 1000, "")
                return True
            if self.outbox.closed:
                continue
            if self._level > self._parts.frames_per_s - _ONE_FRAME:
                self._hold_back(item)
                continue
            self._level += 1
            if isinstance(item, str):
                later = self._text(item)
                if later is not None:
                    await later
            elif isinstance(item, bytes):
                self._refuse(None, plain.BadFrame("$", "binary frames are not understood"))
            elif isinstance(item, Ping):
                self.outbox.control(Pong(item.payload))
        return False

    def _text(self, text: str) -> Awaitable[None] | None:
        try:
            frame = plain.decode(text, self._parts.calls)
        except plain.BadFrame as bad:
            self._refuse(bad.ref, bad)
            return None
        try:
            if self._ref is not None:
                return self._handle(frame)
            self._introduce(frame)
        except Rejected as rejected:
            if self._ref is None:
                self._refuse(frame.ref, rejected)
            else:
                self.outbox.push(self._parts.dialect.error(frame.ref, rejected.data()))
        return None

    def _introduce(self, frame: plain.Frame | plain.CallFrame) -> None:
        """The first frame of a socket whose handshake carried no token."""
        if not isinstance(frame, plain.AuthFrame):
            raise plain.BadFrame("event", "the first frame must be auth")
        hello = self._admit(self._parts.sessions.identify(frame.data.token))
        if frame.ref is not None:
            self.outbox.push(self._parts.dialect.reply(frame.ref, hello))

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

    def _refuse(self, ref: c.Ref, rejected: Rejected) -> None:
        """Answer a frame that was not understood, and close a socket that keeps sending such, or never said who it is."""
        self.outbox.push(self._parts.dialect.error(ref, rejected.data()))
        if self._ref is None:
            self.outbox.close(_CLOSE_CODES.get(rejected.code, POLICY), rejected.detail)
            return
        self._conduct = self._conduct or Conduct()
        if self._conduct.not_understood(trio.current_time()):
            self.outbox.close(POLICY, "too many frames that were not understood")

    def _hold_back(self, item: str | bytes | Ping | Pong) -> None:
        """A frame more than there may be in a second: answered if it asked for an answer, dropped if not. A socket that goes on like that is closed."""
        self._conduct = self._conduct or Conduct()
        if self._conduct.refused(trio.current_time()):
            self.outbox.close(POLICY, "too many frames")
            return
        ref = plain.ref_of(item) if isinstance(item, str) else None
        if ref is not None:
            per_s = self._parts.frames_per_s
            wait_ms = math.ceil((self._level + _ONE_FRAME - per_s) * 1000 / per_s)
            slower = Rejected("rate_limited", f"A socket may send {per_s} frames a second.", retryAfterMs=wait_ms, limit="frames")
            self.outbox.push(self._parts.dialect.error(ref, slower.data()))

    def leave(self) -> None:
        """This socket's person is not coming back: the room need not wait. Closing it is up to the caller."""
        if self._ref is not None:
            self._ref.leave(self._to)

    def _admit(self, identity: Identity) -> Hello:
        """Someone is there: take an address in their café, and say hello. Raises `Rejected` when they have too many sockets open."""
        self._parts.sockets.check_user(identity.user_id)
        if self._auth_limit is not None:
            self._auth_limit.deadline = math.inf
        self.identity = identity
        self.until_ms = identity.expires_ms
        staff = identity.is_staff
        self._who = c.Who(identity.user_id, identity.username, identity.badge, staff=staff, moderator=identity.role == "moderator")
        self._ref = self._parts.directory.ref(identity.cafe_id)
        self._to = self._ref.attach(self.outbox, self._who)
        self._parts.sockets.identified(self._number, identity)
        hello = Hello(identity.user_id, identity.cafe_id, identity.session_id, rfc3339(self._parts.clock.now_ms()))
        self.outbox.push(self._parts.dialect.event(hello))
        return hello

    def _in_cafe(self, cafe_id: str) -> tuple[CafeRef, c.Who]:
        ref, who = self._ref, self._who
        if ref is None or who is None or cafe_id != ref.cafe_id:
            raise Rejected("not_in_cafe", "Your token is for another café.")
        return ref, who

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
            answer = await self._parts.calls.perform(frame.event, bytes(frame.data), self.identity)
        except Rejected as rejected:
            self.outbox.push(dialect.error(frame.ref, rejected.data()))
        else:
            if frame.ref is not None:
                self.outbox.push(dialect.reply(frame.ref, answer))

    def _refresh(self, frame: plain.RefreshFrame | plain.AuthFrame) -> None:
        """A fresh access token of the same session prolongs the socket."""
        identity = self._parts.sessions.identify(frame.data.token)
        if self.identity is None or (identity.user_id, identity.session_id) != (self.identity.user_id, self.identity.session_id):
            raise Rejected("forbidden", "This token belongs to another session.")
        self.identity = identity
        self.until_ms = identity.expires_ms
        if frame.ref is not None:
            self.outbox.push(self._parts.dialect.reply(frame.ref, plain.RefreshAnswer(rfc3339(identity.expires_ms))))
