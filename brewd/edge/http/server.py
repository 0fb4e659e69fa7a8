"""hypercorn, one connection at a time: it speaks HTTP/1.1 for the quart app on a stream whose first bytes were already read."""

from __future__ import annotations

import contextlib
import socket
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from brewd.edge.http.http1 import Http1
from brewd.edge.listener import LINGER_S

KEEP_ALIVE_S = 75.0
REQUEST_S = 60.0
"""How long a client may take from the last answer (or the start) until its next request has fully arrived."""


class SniffedStream(trio.abc.HalfCloseableStream):
    """A stream whose first bytes were read before. Ends a peer that trickles: receiving has `REQUEST_S` since the last send.

    Between an answer and the next request it is idle, which is when `end_when_idle` ends it, now or then.
    """

    def __init__(self, inner: trio.SocketStream | trio.SSLStream[trio.SocketStream], first: bytes) -> None:
        self._inner = inner
        self._first = first
        self._until_s = trio.current_time() + REQUEST_S
        self._idle = False
        self._ending = False
        self._over = False
        self._receiving = trio.CancelScope()
        self.transport = inner.transport_stream if isinstance(inner, trio.SSLStream) else inner

    @property
    def socket(self) -> Any:
        return self.transport.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            await trio.lowlevel.checkpoint()
            return first
        if self._ending and self._idle:
            return b""
        with trio.CancelScope(deadline=self._until_s) as self._receiving:
            while True:
                data = bytes(await self._inner.receive_some(max_bytes))
                if not (data and self._over):
                    self._idle = False
                    return data
        return b""

    def end_when_idle(self) -> None:
        self._ending = True
        if self._idle:
            self._receiving.cancel()

    def finish(self) -> None:
        """Nothing more will be sent, and what still comes is not read. To close on a client that is sending would reset the answer away."""
        self._over = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self._until_s = self._receiving.deadline = trio.current_time() + LINGER_S

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with trio.move_on_after(REQUEST_S) as limit:
            await self._inner.send_all(data)
        if limit.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read its answer")
        self._until_s = trio.current_time() + REQUEST_S
        self._idle = True  # while an answer is on its way nobody receives

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if isinstance(self._inner, trio.SocketStream):
            await self._inner.send_eof()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Connection(TCPServer):
    """hypercorn's side of one connection."""

    def __init__(self, app: ASGIWrapper, config: Config, context: WorkerContext, sniffed: SniffedStream) -> None:
        # It asks for trio's own kind of stream; it sends, receives, closes, and looks at `socket` or `transport_stream`.
        super().__init__(app, config, context, {}, cast("trio.SSLStream[trio.SocketStream]", sniffed))
        self._sniffed = sniffed

    async def _read_data(self) -> None:
        made = self.protocol
        made.protocol = Http1(made.app, made.config, made.context, made.task_group, made.state, made.ssl, made.client, made.server, made.send)
        await super()._read_data()

    async def protocol_send(self, event: Event) -> None:
        """`Closed`: the last answer is out. hypercorn would wait before it closes, in a task that quart has cancelled by then, and so never would."""
        if isinstance(event, Closed):
            self._sniffed.finish()
            await self.protocol.handle(event)
        else:
            await super().protocol_send(event)


class HttpServer:
    """Serves `app` (ASGI). The app sees plain HTTP, encrypted or not: what it says of its own address comes from the config."""

    def __init__(self, app: Any) -> None:
        self._config = Config()
        self._config.keep_alive_timeout = KEEP_ALIVE_S
        self._config.include_server_header = False
        self._config.accesslog = None
        self._config.errorlog = None
        self._config.read_timeout = None
        self._wrapped = ASGIWrapper(app)
        self._context = WorkerContext(None)
        self._streams: set[SniffedStream] = set()

    @property
    def connections(self) -> int:
        return len(self._streams)

    async def serve(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], first: bytes) -> None:
        """Serve one connection until it ends. Closes the stream."""
        sniffed = SniffedStream(stream, first)
        self._streams.add(sniffed)
        try:
            await _Connection(self._wrapped, self._config, self._context, sniffed)
        finally:
            self._streams.discard(sniffed)

    async def drain(self) -> None:
        """Idle connections are closed, busy ones after the answer they are at."""
        await self._context.terminated.set()
        for stream in self._streams:  # hypercorn would see to that, but it loses its own timer when an app ends as quickly as ours do
            stream.end_when_idle()
