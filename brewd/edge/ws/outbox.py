"""The way out to one socket: bytes go straight to the kernel, and only what it will not take waits here.

Owns the backlog of its socket. `push` never blocks: on a healthy socket it is one `send`. A backlog is drained by a task that
exists only while there is one. The bound is on the backlog before a push, so that a single large answer always fits. On the way
there droppable events are withheld (the client learns it from `lagged`); a socket still behind at the bound is closed with 4008.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections import deque

import trio
from wsproto.events import CloseConnection, Ping, Pong
from wsproto.utilities import LocalProtocolError

from brewd.cafe.events import Lagged
from brewd.cafe.fanout import TOO_SLOW, Dialect
from brewd.edge.ws.inbound import InBound

_AT_ONCE = struct.pack("ii", 1, 0)

FAREWELL_S = 3.0
"""How long a socket may take, after it was told goodbye, to drain and to answer the close frame."""


class Outbox:
    """`stream`: what to send through when bytes must be encrypted on the way; then every push waits for the draining task."""

    __slots__ = (
        "_backlog", "_backlog_bytes", "_draining", "_flushed", "_inbound", "_limit_bytes", "_nursery", "_send", "_sock", "_stream", "_withheld_from", "_withheld_to",
        "closed", "cut_at_s", "dialect", "slow",
    )  # fmt: skip

    def __init__(
        self, *, sock: socket.socket, stream: trio.abc.SendStream | None, inbound: InBound, dialect: Dialect, limit_bytes: int, nursery: trio.Nursery
    ) -> None:
        self.dialect = dialect
        self.slow = False
        self.closed = False
        self.cut_at_s = math.inf
        """When whoever watches over the sockets should `abort` this one."""
        self._sock = sock
        self._send = sock.send
        self._stream = stream
        self._inbound = inbound
        self._limit_bytes = limit_bytes
        self._nursery = nursery
        self._backlog: deque[bytes | memoryview] | None = None  # most sockets never have one
        self._backlog_bytes = 0
        self._draining = stream is not None
        self._flushed: trio.Event | None = None
        self._withheld_from = -1
        self._withheld_to = -1

    def push(self, frames: bytes) -> None:
        if self._draining or self.closed:
            self._queue(frames)
            return
        try:
            sent = self._send(frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent != len(frames):
            self._queue(memoryview(frames)[sent:])

    def withhold(self, seq: int) -> None:
        if self._withheld_from < 0:
            self._withheld_from = seq
        self._withheld_to = seq

    def control(self, event: Ping | Pong) -> None:
        """Send a ping, or the pong to one; nothing once the peer or we have said goodbye."""
        if not self.closed:
            with contextlib.suppress(LocalProtocolError):
                self.push(self._inbound.ws.send(event))

    def close(self, code: int, reason: str) -> None:
        """Say goodbye after what was pushed before, and nothing after it."""
        if self.closed:
            return
        with contextlib.suppress(LocalProtocolError):  # the peer was faster
            frame = self._inbound.ws.send(CloseConnection(code=code, reason=reason[:100]))
            if self._backlog is None:
                self.push(frame)
            else:
                self._backlog.append(frame)  # past the bound, since nothing follows it
        self.closed = True
        self.cut_at_s = trio.current_time() + FAREWELL_S

    async def flushed(self, timeout_s: float) -> None:
        """Wait until everything pushed has been sent, or cannot be, at most `timeout_s`."""
        if self._backlog is not None:
            self._flushed = trio.Event()
            with trio.move_on_after(timeout_s):
                await self._flushed.wait()

    def abort(self) -> None:
        """Cut the connection. Its reader sees the end at once.

        With a reset: the kernel would otherwise keep for minutes what it holds for a peer that does not read.
        """
        self.closed = True
        self._backlog = None
        self._backlog_bytes = 0
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self._sock.shutdown(socket.SHUT_RDWR)

    def _queue(self, frames: bytes | memoryview) -> None:
        if self.closed:
            return
        if self._backlog is None:
            self._backlog = deque()
            self._draining = True
            self._nursery.start_soon(self._drain)
        elif self._backlog_bytes >= self._limit_bytes:
            self._overflow()
            return
        self._backlog.append(frames)
        self._backlog_bytes += len(frames)
        self.slow = self._backlog_bytes * 4 >= self._limit_bytes

    def _overflow(self) -> None:
        """Keep only what has partly left already, and the close frame. Everything else can be fetched by `join:cafe since`."""
        backlog = self._backlog
        if backlog:
            while len(backlog) > 1:
                backlog.pop()
            self._backlog_bytes = len(backlog[0])
        self.close(TOO_SLOW, "too slow: reconnect and join with since")

    async def _drain(self) -> None:
        """Send the backlog as the peer takes it, then go. Ends with the connection."""
        try:
            while self._backlog:
                chunk = self._backlog[0]
                sent = await self._send_some(chunk)
                if not self._backlog or self._backlog[0] is not chunk:
                    continue  # aborted meanwhile
                self._backlog_bytes -= sent
                if sent == len(chunk):
                    self._backlog.popleft()
                else:
                    self._backlog[0] = memoryview(chunk)[sent:]
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.abort()
        self._backlog = None
        self._backlog_bytes = 0
        self._draining = self._stream is not None
        self.slow = False
        if self._flushed is not None:
            self._flushed.set()
        if self._withheld_from >= 0 and not self.closed:
            lagged = Lagged(self._withheld_from, self._withheld_to)
            self._withheld_from = -1
            self.push(self.dialect.event(lagged))

    async def _send_some(self, chunk: bytes | memoryview) -> int:
        if self._stream is not None:
            await self._stream.send_all(chunk)
            return len(chunk)
        await trio.lowlevel.wait_writable(self._sock)
        try:
            return self._send(chunk)
        except BlockingIOError:
            return 0
