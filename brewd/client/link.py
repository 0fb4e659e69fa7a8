"""One WebSocket connection: frames out in order, answers back to whoever asked, and a pulse.

Frames are written by one task that belongs to the connection, so cancelling a call never leaves half a frame on the wire.
"""

from __future__ import annotations

import contextlib
import itertools
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from brewd.client.events import Reply
from brewd.client.failures import Unreachable, rejected
from brewd.errors import Rejected

FRAME_MAX_BYTES: Final = 16_384
_WAITING_MAX: Final = 64


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class LinkLost(Exception):
    """The connection went away before the answer came."""


class _Answer:
    __slots__ = ("came", "reply")

    def __init__(self) -> None:
        self.came = trio.Event()
        self.reply: Reply | None = None


class Link:
    """Owns the calls of one connection that wait for their answers. `write` and `beat` run as tasks beside the reader."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self.ws: Final = ws
        self.reading: Final = trio.CancelScope()  # around the reader: cancelled to hang up in good order
        self.over: Final = trio.Event()
        self._refs = itertools.count(1)
        self._answers: dict[str, _Answer] = {}
        self._out, self._frames = trio.open_memory_channel[str](_WAITING_MAX)

    async def call(self, event: str, data: dict[str, Any]) -> msgspec.Raw:
        """Ask and wait for the one answer. Raises `Rejected`, or `LinkLost`; the caller brings the deadline."""
        ref, answer = str(next(self._refs)), _Answer()
        frame = encode(event, data, ref)
        self._answers[ref] = answer
        try:
            await self._out.send(frame)
            await answer.came.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost from None
        finally:
            self._answers.pop(ref, None)
        if answer.reply is None:
            raise LinkLost
        if answer.reply.refusal is not None:
            raise rejected(answer.reply.refusal)
        return answer.reply.data

    async def ask(self, event: str, data: dict[str, Any]) -> str:
        """Ask, for a reader that will recognise the answer itself by the ref returned."""
        ref = str(next(self._refs))
        try:
            await self._out.send(encode(event, data, ref))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost from None
        return ref

    def post(self, event: str, data: dict[str, Any]) -> None:
        """Send what needs no answer and may be dropped when the connection is behind."""
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._out.send_nowait(encode(event, data))

    def settle(self, reply: Reply) -> None:
        """Hand an answer to its caller; one nobody waits for any more is dropped."""
        if (answer := self._answers.get(reply.ref)) is not None:
            answer.reply = reply
            answer.came.set()

    async def hang_up(self, farewell: str) -> None:
        """Send a last frame, close in good order, and wait until that is done. The caller brings the deadline."""
        with contextlib.suppress(ConnectionClosed):
            await self.ws.send_message(farewell)
            self.reading.cancel()
            await self.over.wait()

    def lose(self) -> None:
        """The connection is over: every waiting call ends with `LinkLost`."""
        self.over.set()
        self._out.close()
        for answer in self._answers.values():
            answer.came.set()

    async def write(self) -> None:
        """Write frames until the connection ends."""
        try:
            async for frame in self._frames:
                await self.ws.send_message(frame)
        except ConnectionClosed:
            pass  # the reader sees the same, and knows why
        finally:
            self._frames.close()

    async def beat(self, *, every_s: float, answer_s: float) -> None:
        """Ping until one goes unanswered for `answer_s`: then the other side is gone, whatever TCP still believes. Returns then."""
        try:
            while True:
                await trio.sleep(every_s)
                with trio.move_on_after(answer_s) as patience:
                    await self.ws.ping()
                if patience.cancelled_caught:
                    return
        except ConnectionClosed:
            await trio.sleep_forever()  # the reader sees the same, and knows why


def encode(event: str, data: dict[str, Any], ref: str | None = None) -> str:
    """A client frame. `Rejected` when it is larger than any server takes: it would only cost the connection."""
    frame = msgspec.json.encode({"event": event, "data": data} | ({} if ref is None else {"ref": ref}))
    if len(frame) > FRAME_MAX_BYTES:
        raise Rejected("payload_too_large", f"a frame of {len(frame)} bytes; {FRAME_MAX_BYTES} are allowed")
    return frame.decode()


async def dial(url: str, *, timeout_s: float) -> Stream:
    """A TCP or TLS connection to the server at `url`. Raises `Unreachable`."""
    parts = urlsplit(url)
    try:
        with trio.fail_after(timeout_s):
            if parts.scheme == "http":
                return await trio.open_tcp_stream(str(parts.hostname), parts.port or 80)
            context = ssl.create_default_context()
            secure = await trio.open_ssl_over_tcp_stream(str(parts.hostname), parts.port or 443, ssl_context=context, https_compatible=True)
            await secure.do_handshake()
            return secure
    except trio.TooSlowError:
        raise Unreachable(f"no connection to {parts.netloc} within {timeout_s:g} s") from None
    except (OSError, trio.BrokenResourceError) as error:
        raise Unreachable(f"{parts.netloc}: {error.__cause__ or error}") from error
