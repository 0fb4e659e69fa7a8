"""One WebSocket, whatever is spoken on it: one task that reads, sees who is there, and ends what does not behave.

Owns the socket's receiving side and its outbox, nothing else. A dialect's own socket (`connection.py`, `agent.py`) derives from it
and is told of the person once they are known, and of every frame after that. The task waits for bytes, and for what a frame asks
it to wait for; whoever wants the socket to end closes or aborts its outbox, and the reader sees the end.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from msgspec import Struct
from wsproto.events import CloseConnection, Ping, Pong

from brewd.cafe import commands as c
from brewd.cafe.events import Draining
from brewd.edge.ws import plain
from brewd.edge.ws.conduct import Conduct
from brewd.edge.ws.hello import Hello
from brewd.edge.ws.inbound import POLICY, InBound, ends_with_goodbye
from brewd.edge.ws.outbox import FAREWELL_S, Outbox
from brewd.edge.ws.sockets import Sockets
from brewd.errors import ProtocolError, Rejected
from brewd.people.moderation import BANNED
from brewd.people.sessions import CLOSE_EXPIRED, Sessions
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, rfc3339

READ_BYTES = 65536
AUTH_S = 5.0
"""How long a socket may take to say who it is."""

_GOODBYES = frozenset({1000, 1005})
"""Close codes of a client that means it: `close()` of a browser says 1005, no code at all. A page that is left or reloaded says 1001, and may be back at once."""

TRY_LATER = 1013
_CLOSE_CODES: Final = {"token_expired": CLOSE_EXPIRED, "banned": BANNED, "rate_limited": TRY_LATER}
"""Refused tokens that have a close code of their own."""

UNLIMITED: Final = 1 << 30
"""`frames_per_s` of sockets that may send as fast as they can."""

_ONE_FRAME: Final = 1 - 1e-6
"""What a frame needs of the level, which leaks by `frames_per_s`: not the last billionth that adding up fractions may have lost."""


class Parts(Struct, frozen=True, kw_only=True):
    """What every socket works with."""

    clock: Clock
    sessions: Sessions
    sockets: Sockets
    dialect: plain.Plain
    nursery: trio.Nursery
    frames_per_s: int
    frame_max_bytes: int
    outbox_max_bytes: int
    buffer: memoryview
    """What every socket reads into; it holds nothing across an await."""


class Opened(Struct, frozen=True, kw_only=True):
    """An upgraded connection. `stream` carries the bytes when they are encrypted; otherwise the socket itself does.

    `accept`: what is to be answered to the handshake. `first`: bytes that came with it. `address`: what the socket counts for, if for
    anything; who hands it in has seen that there is room.
    """

    sock: socket.socket
    stream: trio.abc.Stream | None
    identity: Identity | None
    address: bytes | None
    accept: bytes
    first: bytes


class Peer:
    """See the module. What derives from it sets its own attributes up before it calls `__init__`, which may call `_met`."""

    __slots__ = (
        "_auth_limit",
        "_conduct",
        "_deaf",
        "_first",
        "_inbound",
        "_level",
        "_number",
        "_parts",
        "_sock",
        "_stream",
        "address",
        "draining",
        "heard_s",
        "identity",
        "outbox",
        "until_ms",
    )

    def __init__(self, parts: Parts, opened: Opened) -> None:
        self._parts = parts
        self._sock = opened.sock
        self._first = opened.first
        self._stream = opened.stream
        self._inbound = InBound(parts.frame_max_bytes)
        self.outbox = Outbox(
            sock=opened.sock, stream=opened.stream, inbound=self._inbound, dialect=parts.dialect, limit_bytes=parts.outbox_max_bytes, nursery=parts.nursery
        )
        self.outbox.push(opened.accept)
        self.identity: Identity | None = None
        self.address = opened.address
        self.heard_s = trio.current_time()
        self.until_ms: float = math.inf
        self.draining = False
        self._conduct: Conduct | None = None
        self._level: float = 0
        self._auth_limit: trio.CancelScope | None = None
        self._deaf = False
        self._number = parts.sockets.add(self)
        if opened.identity is not None:
            self._admit(opened.identity)

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
            self._gone()

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
            frame = self._decode(text)
        except plain.BadFrame as bad:
            self._refuse(bad.ref, bad)
            return None
        try:
            if self.identity is not None:
                return self._handle(frame)
            self._introduce(frame)
        except Rejected as rejected:
            if self.identity is None:
                self._refuse(frame.ref, rejected)
            else:
                self.outbox.push(self._parts.dialect.error(frame.ref, rejected.data()))
        return None

    def _decode(self, text: str) -> Any:
        """The frame in the terms of the dialect; it has a `ref`. Raises `BadFrame`."""
        raise NotImplementedError

    def _met(self, identity: Identity) -> None:
        """Somebody is there, and hears `connected` next. What is pushed to them from now on comes after it."""
        raise NotImplementedError

    def _handle(self, frame: Any) -> Awaitable[None] | None:
        """Do what the frame of somebody known says; something to wait for where that takes time. Raises `Rejected`."""
        raise NotImplementedError

    def _gone(self) -> None:
        """The socket has ended, whoever ended it."""

    def leave(self) -> None:
        """The person behind the socket is not coming back. Closing it is up to the caller."""

    def drain(self, notice: Draining) -> None:
        """The server restarts soon: say so, and take on nothing more that would have to be finished."""
        self.draining = True
        self.outbox.push(self._parts.dialect.event(notice))

    def _introduce(self, frame: Any) -> None:
        """The first frame of a socket whose handshake carried no token."""
        if not isinstance(frame, plain.AuthFrame):
            raise plain.BadFrame("event", "the first frame must be auth")
        hello = self._admit(self._parts.sessions.identify(frame.data.token))
        if frame.ref is not None:
            self.outbox.push(self._parts.dialect.reply(frame.ref, hello))

    def _refuse(self, ref: c.Ref, rejected: Rejected) -> None:
        """Answer a frame that was not understood, and close a socket that keeps sending such, or never said who it is."""
        self.outbox.push(self._parts.dialect.error(ref, rejected.data()))
        if self.identity is None:
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

    def _admit(self, identity: Identity) -> Hello:
        """Someone is there: say hello. Raises `Rejected` when they have too many sockets open."""
        self._parts.sockets.check_user(identity.user_id)
        if self._auth_limit is not None:
            self._auth_limit.deadline = math.inf
        self.identity = identity
        self.until_ms = identity.expires_ms
        self._met(identity)
        self._parts.sockets.identified(self._number, identity)
        hello = Hello(identity.user_id, identity.cafe_id, identity.session_id, rfc3339(self._parts.clock.now_ms()))
        self.outbox.push(self._parts.dialect.event(hello))
        return hello

    def _refresh(self, frame: plain.RefreshFrame | plain.AuthFrame) -> None:
        """A fresh access token of the same session prolongs the socket."""
        identity = self._parts.sessions.identify(frame.data.token)
        if self.identity is None or (identity.user_id, identity.session_id) != (self.identity.user_id, self.identity.session_id):
            raise Rejected("forbidden", "This token belongs to another session.")
        self.identity = identity
        self.until_ms = identity.expires_ms
        if frame.ref is not None:
            self.outbox.push(self._parts.dialect.reply(frame.ref, plain.RefreshAnswer(rfc3339(identity.expires_ms))))
