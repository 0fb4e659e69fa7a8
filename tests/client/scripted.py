"""A server that does what a test tells it: real sockets on loopback, WebSocket and HTTP on one port, and no opinion of its own.

The test plays the server's part: `peer = await server.accept()`, `await peer.get("join:cafe")`, `await peer.event(...)`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

CAFE = "0199aaaa-0000-7000-8000-000000000001"
ME = "0199bbbb-0000-7000-8000-000000000001"
EPOCH = "0199cccc-0000-4000-8000-000000000001"
START = "2026-11-22T10:00:00.000Z"


def message(seq: int, content: str = "", **changes: Any) -> dict[str, Any]:
    """Message `seq` of the café, made `seq` seconds after the hour."""
    made = {
        "id": f"0199dddd-0000-7000-8000-{seq:012d}",
        "cafeId": CAFE,
        "seq": seq,
        "userId": "0199eeee-0000-7000-8000-000000000009",
        "username": "MochaFox",
        "badge": None,
        "content": content or f"message {seq}",
        "createdAt": f"2026-11-22T{10 + seq // 3600:02d}:{seq // 60 % 60:02d}:{seq % 60:02d}.000Z",
        "deleted": False,
    }
    return made | changes


def token(exp_s: int, name: str = "t") -> str:
    """An unsigned JWT that ends `exp_s` seconds after 2026-11-22T10:00:00Z and lasts an hour."""
    claims = msgspec.json.encode({"exp": 1_795_341_600 + exp_s, "iat": 1_795_341_600 + exp_s - 3600, "jti": name})
    return "e30." + base64.urlsafe_b64encode(claims).rstrip(b"=").decode() + ".sig"


class Peer:
    """One accepted WebSocket, seen from the server."""

    def __init__(self, ws: WebSocketConnection, stream: Replayed, headers: dict[str, str], done: trio.Event) -> None:
        self.ws = ws
        self.stream = stream
        self.headers = headers
        self._done = done

    async def get(self, event: str) -> dict[str, Any]:
        """The client's next frame, which must be this event."""
        frame: dict[str, Any] = msgspec.json.decode(await self.ws.get_message())
        assert frame["event"] == event, frame
        return frame

    async def event(self, event: str, data: dict[str, Any], ref: str | None = None) -> None:
        frame = {"event": event, "data": data} | ({} if ref is None else {"ref": ref})
        await self.ws.send_message(msgspec.json.encode(frame).decode())

    async def say(self, *seqs: int, **changes: Any) -> None:
        for seq in seqs:
            await self.event("message:new", {"message": message(seq, **changes)})

    async def greet(self, heartbeat_ms: int = 25_000) -> None:
        greeting = {"userId": ME, "cafeId": CAFE, "sessionId": "s", "serverTime": START, "heartbeatMs": heartbeat_ms, "protocol": "brewd.v1"}
        await self.event("connected", greeting)

    async def admit(self, *, seq: int, messages: list[dict[str, Any]] | None = None, recovered: bool = False, epoch: str = EPOCH) -> dict[str, Any]:
        """Answer the client's `join:cafe`; the result is what it asked."""
        frame = await self.get("join:cafe")
        answer = {
            "cafeId": CAFE,
            "epoch": epoch,
            "seq": seq,
            "userCount": 1,
            "users": [],
            "topics": [],
            "messages": messages or [],
            "recovered": recovered,
        }
        await self.event("reply", answer, frame["ref"])
        data: dict[str, Any] = frame["data"]
        return data

    async def confirm(self, seq: int, *, duplicate: bool = False) -> dict[str, Any]:
        """Answer the client's `message:send`; the result is what it sent."""
        frame = await self.get("message:send")
        made = message(seq)
        posted = {key: made[key] for key in ("id", "seq", "createdAt")}
        await self.event("reply", {"message": posted, "duplicate": duplicate, "warnings": []}, frame["ref"])
        data: dict[str, Any] = frame["data"]
        return data

    async def close(self, code: int, reason: str | None = None) -> None:
        await self.ws.aclose(code, reason)
        self._done.set()

    async def drop(self) -> None:
        """Cut the connection without a word."""
        await self.stream.aclose()
        self._done.set()

    async def gone(self) -> list[dict[str, Any]]:
        """Wait until the client has closed; the result is what it still said."""
        said = []
        try:
            while True:
                said.append(msgspec.json.decode(await self.ws.get_message()))
        except ConnectionClosed:
            self._done.set()
            return said


class Replayed(trio.abc.Stream):
    """A stream that begins with bytes already read from it."""

    def __init__(self, head: bytes, stream: trio.SocketStream) -> None:
        self._head = head
        self._stream = stream
        self.vanished = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._head:
            head, self._head = self._head, b""
            return head
        data = await self._stream.receive_some(max_bytes)
        if self.vanished:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class Scripted:
    """The server. `http[(method, path)]` answers requests as `fn(query, body, headers) -> (status, body)`; `refusals` turn handshakes away."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.http: dict[tuple[str, str], Callable[[str, Any, dict[str, str]], tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.refusals: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self._accepted, self._peers = trio.open_memory_channel[Peer](10)

    async def accept(self) -> Peer:
        return await self._peers.receive()

    async def admit(self, *, seq: int, messages: list[dict[str, Any]] | None = None) -> Peer:
        """A whole first entry."""
        peer = await self.accept()
        await peer.greet()
        await peer.admit(seq=seq, messages=messages)
        return peer

    async def handle(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = await stream.receive_some(65_536)
            if not more:
                return
            head += more
        lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        if headers.get("upgrade") != "websocket":
            await self._respond(stream, lines[0], headers, head.partition(b"\r\n\r\n")[2])
        elif self.refusals:
            await self._send(stream, *self.refusals.pop(0))
        else:
            await self._upgrade(Replayed(head, stream), headers)

    async def _upgrade(self, stream: Replayed, headers: dict[str, str]) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            peer = Peer(await request.accept(), stream, headers, done := trio.Event())
            await self._accepted.send(peer)
            await done.wait()
            nursery.cancel_scope.cancel()

    async def _respond(self, stream: trio.SocketStream, line: str, headers: dict[str, str], body: bytes) -> None:
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some(65_536)
        method, target, _ = line.split(" ")
        path, _, query = target.partition("?")
        parsed = msgspec.json.decode(body) if body else None
        self.asked.append((method, target, parsed))
        status, answer = self.http[method, path](query, parsed, headers)
        await self._send(stream, status, {}, answer)

    async def _send(self, stream: trio.SocketStream, status: int, headers: dict[str, str], answer: Any) -> None:
        body = answer if isinstance(answer, bytes) else b"" if answer is None else msgspec.json.encode(answer)
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n".encode() + body)
        await stream.aclose()


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """A server on a free port, gone with the block."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Scripted(listeners[0].socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, server.handle, listeners)
        yield server
        nursery.cancel_scope.cancel()
