"""A WebSocket client that may break every rule: frames are built byte by byte, and nothing is checked before it is sent.

What comes back is parsed strictly: a server's frame that is masked, fragmented, not minimal, or not JSON fails the test.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = base64.b64encode(b"0123456789abcdef").decode()
WAIT_S = 10.0
"""How long a test waits for what it expects, before it fails."""

_MASK = b"\x37\xfa\x21\x3d"


def frame(payload: bytes | str, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int | None = None) -> bytes:
    """One frame. `size`: what its header claims, when that is not the truth."""
    raw = payload.encode() if isinstance(payload, str) else payload
    length = len(raw) if size is None else size
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + raw
    stream = (_MASK * (len(raw) // 4 + 1))[: len(raw)]
    return head + _MASK + (int.from_bytes(raw, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(raw), "big")


def said(event: str, data: Any = None, ref: Any = None) -> bytes:
    """The frame of one client event."""
    return frame(json.dumps({"event": event, "data": data, **({} if ref is None else {"ref": ref})}))


class Closed(Exception):
    """The server ended the socket. `code` is 1006 when it did so without a close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Refused(Exception):
    """The handshake was answered with something other than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response
        self.status = response.status

    @property
    def problem(self) -> Any:
        assert self.response.headers["content-type"] == "application/problem+json", self.response
        return json.loads(self.response.body)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """A connection that reads by the byte count."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.data = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        """Whether anything came before the end."""
        try:
            with trio.fail_after(WAIT_S):
                data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            data = b""
        self.data += data
        return bool(data)

    async def until(self, end: bytes) -> bytes:
        while end not in self.data:
            if not await self.more():
                raise EOFError(self.data)
        found, _, self.data = self.data.partition(end)
        return found + end

    async def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            if not await self.more():
                raise EOFError(self.data)
        found, self.data = self.data[:size], self.data[size:]
        return found

    async def response(self) -> Response:
        """The next HTTP response. One without a length has no body."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        version, status, _ = head[0].split(" ", 2)
        assert version == "HTTP/1.1"
        return Response(int(status), headers, await self.exactly(int(headers.get("content-length", "0"))))

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


def upgrade(path: str = "/ws", **headers: str | None) -> bytes:
    """The head of a handshake. `headers` add to or, with None, take from the right ones; `_` in a name stands for `-`."""
    lines: dict[str, str | None] = {"Host": "cafe.test", "Upgrade": "websocket", "Connection": "Upgrade"}
    lines |= {"Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}
    known = {name.lower(): name for name in lines}
    for name, value in headers.items():
        dashed = name.replace("_", "-")
        lines[known.get(dashed.lower(), dashed)] = value
    return f"GET {path} HTTP/1.1\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode("latin-1") for k, v in lines.items() if v is not None) + b"\r\n"


class Wire:
    """An open WebSocket. What is received waits in `inbox` until a test asks for it, in order."""

    def __init__(self, raw: Raw, response: Response) -> None:
        self.raw = raw
        self.response = response
        self.inbox: deque[dict[str, Any]] = deque()
        self.pongs: list[bytes] = []
        self.pings = 0
        self.answers_pings = True
        self._refs = 0

    @classmethod
    async def open(cls, stream: trio.abc.Stream, head: bytes, then: bytes = b"") -> Wire:
        """Send a handshake, with `then` right behind it. Raises `Refused`."""
        raw = Raw(stream)
        await raw.send(head + then)
        response = await raw.response()
        if response.status != 101:
            raise Refused(response)
        assert response.headers["sec-websocket-accept"] == "BACScCJPNqyz+UBoqMH89VmURoA=", response
        assert (response.headers["upgrade"].lower(), response.headers["connection"].lower()) == ("websocket", "upgrade")
        return cls(raw, response)

    async def send(self, data: bytes) -> None:
        await self.raw.send(data)

    async def say(self, event: str, data: Any = None, ref: Any = None) -> None:
        await self.send(said(event, data, ref))

    async def ask(self, event: str, data: Any = None) -> Any:
        """Say it, and return the data of the reply. An error fails."""
        answer = await self.answer(await self._referred(event, data))
        assert answer["event"] == "reply", answer
        assert set(answer) == {"event", "ref", "data"}, answer
        return answer["data"]

    async def refused(self, event: str, data: Any = None) -> Any:
        """Say it, and return the data of the error. A reply fails."""
        answer = await self.answer(await self._referred(event, data))
        assert answer["event"] == "error", answer
        assert set(answer) == {"event", "ref", "data"}, answer
        assert {"code", "detail"} <= answer["data"].keys(), answer
        return answer["data"]

    async def answer(self, ref: Any) -> dict[str, Any]:
        """The frame that carries `ref`."""
        return await self._first(lambda one: one.get("ref") == ref)

    async def heard(self, event: str) -> Any:
        """The data of the next event of that name; others stay in the inbox."""
        return (await self._first(lambda one: one["event"] == event))["data"]

    async def next(self) -> dict[str, Any]:
        """Whatever comes next."""
        return await self._first(lambda _: True)

    async def settle(self) -> list[dict[str, Any]]:
        """Everything the server said before it answers a ping; the inbox is empty afterwards."""
        mark = f"settle-{len(self.pongs)}".encode()
        await self.send(frame(mark, PING))
        while not self.pongs or self.pongs[-1] != mark:
            await self._receive()
        found = list(self.inbox)
        self.inbox.clear()
        return found

    async def settle_quietly(self) -> list[dict[str, Any]]:
        """What has arrived, when a ping cannot be sent because a frame is under way."""
        with trio.move_on_after(0.05):
            while True:
                await self._receive()
        found = list(self.inbox)
        self.inbox.clear()
        return found

    async def closed(self) -> tuple[int, str]:
        """The server's close frame, answered, and then the end of the connection."""
        try:
            while True:
                await self._receive()
        except Closed as closed:
            if closed.code != 1006:
                try:
                    await self.send(frame(closed.code.to_bytes(2, "big"), CLOSE))
                    while await self.raw.more():
                        pass
                except trio.BrokenResourceError:
                    pass
            return closed.code, closed.reason

    async def bye(self, code: int = 1000) -> tuple[int, str]:
        """A proper goodbye, and how it was answered."""
        await self.send(frame(code.to_bytes(2, "big") + b"bye", CLOSE))
        try:
            while True:
                await self._receive()
        except Closed as closed:
            while await self.raw.more():
                raise AssertionError(f"bytes after the close frame: {self.raw.data!r}") from None
            return closed.code, closed.reason

    async def aclose(self) -> None:
        """Gone without a goodbye."""
        await self.raw.aclose()

    async def _referred(self, event: str, data: Any) -> str:
        self._refs += 1
        ref = f"r{self._refs}"
        await self.say(event, data, ref)
        return ref

    async def _first(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            for at, one in enumerate(self.inbox):
                if fits(one):
                    del self.inbox[at]
                    return one
            await self._receive()

    async def _receive(self) -> None:
        """One frame from the server."""
        try:
            first, size = await self.raw.exactly(2)
            if size == 126:
                size = int.from_bytes(await self.raw.exactly(2), "big")
                assert size >= 126, "a length in more bytes than it needs"
            elif size == 127:
                size = int.from_bytes(await self.raw.exactly(8), "big")
                assert size >= 1 << 16, "a length in more bytes than it needs"
            assert size < 1 << 24, "a masked frame from a server, or a giant"
            payload = await self.raw.exactly(size)
        except EOFError as end:
            raise Closed(1006, "inside a frame" if end.args[0] else "") from None
        if first == 0x80 | TEXT:
            one = json.loads(payload)
            assert isinstance(one, dict), one
            assert one.keys() >= {"event", "data"}, one
            self.inbox.append(one)
        elif first == 0x80 | PONG:
            self.pongs.append(payload)
        elif first == 0x80 | PING:
            self.pings += 1
            if self.answers_pings:
                await self.send(frame(payload, PONG))
        elif first == 0x80 | CLOSE:
            raise Closed(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        else:
            raise AssertionError(f"a frame that starts with {first:#x}")


RFC3339_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
