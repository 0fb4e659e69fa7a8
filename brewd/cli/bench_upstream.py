"""A server on loopback that speaks the Messages API over SSE, event for event, and does as it is told: for `brewd bench agent`, and for tests.

    async with open_upstream() as upstream:                    # upstream.url is what agent.base_url takes
        upstream.script = Script(texts=("Hel", "lo"))          # or a function of the request
        …
        upstream.requests[-1].body["messages"]

`held=True` sends one text for each `upstream.let()`, so that a test decides how far an answer is without any clock.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec import Struct

ANSWER = ("The flat ", "white is ", "what people ", "love here.")
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Script(Struct, frozen=True, kw_only=True):
    """How a request is answered.

    `before_s`: pause before the first byte; `gap_s`: pause before each text, give or take a share of it, `uneven`. `held`: each text waits for `Upstream.let`.
    `status` other than 200 is an error answer with `headers`. `cut_after`: the connection breaks after so many texts;
    `error_after`: an `error` event of that type comes after all texts, and nothing else.
    """

    texts: tuple[str, ...] = ANSWER
    thinking: str | None = "They ask what is popular."
    before_s: float = 0
    gap_s: float = 0
    uneven: float = 0
    held: bool = False
    pings: bool = True
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    cut_after: int | None = None
    ends_early: bool = False
    error_after: str | None = None
    stop_reason: str = "end_turn"
    input_tokens: int = 400
    output_tokens: int = 60
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Request(Struct, frozen=True):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    at_s: float


class Upstream:
    """`streaming`: answers under way; `connections`: sockets open; `gone`: answers whose reader left before the end.

    `texts_sent`: for each text, when it was sent (trio time) and what it was.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: Script | Callable[[Request], Script] = Script()
        self.requests: list[Request] = []
        self.texts_sent: list[tuple[float, str]] = []
        self.streaming = 0
        self.streaming_max = 0
        self.connections = 0
        self.gone = 0
        self._permits = trio.Semaphore(0)
        self._random = random.Random(0)  # noqa: S311  (nothing secret: the same pauses in each run)

    def let(self, texts: int = 1) -> None:
        """Let so many texts of held answers go out."""
        for _ in range(texts):
            self._permits.release()

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                buffer = bytearray()
                while await self._one(stream, buffer):
                    pass
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.connections -= 1

    async def _one(self, stream: trio.SocketStream, buffer: bytearray) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await _until_head(stream, buffer)
        if head is None:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        size = int(headers.get("content-length", 0))
        while len(buffer) < size:
            received = await stream.receive_some(65536)
            if not received:
                return False
            buffer += received
        raw = bytes(buffer[:size])
        del buffer[:size]
        request = Request(first.split(" ")[1], headers, json.loads(raw or b"{}"), raw, trio.current_time())
        self.requests.append(request)
        script = self.script if isinstance(self.script, Script) else self.script(request)
        if script.status != 200:
            await trio.sleep(script.before_s)
            await stream.send_all(_error_answer(script))
            return True
        finished = False
        self.streaming += 1
        self.streaming_max = max(self.streaming_max, self.streaming)
        try:
            finished = await self._watched(stream, buffer, request, script)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.streaming -= 1
            if not finished and script.cut_after is None:
                self.gone += 1
        return finished

    async def _watched(self, stream: trio.SocketStream, buffer: bytearray, request: Request, script: Script) -> bool:
        """Stream until the end, or until the reader leaves."""
        goes_on = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while received := await stream.receive_some(65536):
                    buffer.extend(received)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            goes_on = await self._stream(stream, request, script)
            nursery.cancel_scope.cancel()
        return goes_on

    async def _stream(self, stream: trio.SocketStream, request: Request, script: Script) -> bool:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nrequest-id: req_test\r\ntransfer-encoding: chunked\r\n\r\n"
        await trio.sleep(script.before_s)
        await stream.send_all(head.encode())
        send = _Events(stream).send
        usage = {
            "input_tokens": script.input_tokens,
            "cache_creation_input_tokens": script.cache_write_tokens,
            "cache_read_input_tokens": script.cache_read_tokens,
            "output_tokens": 1,
        }
        message: dict[str, Any] = {
            "id": "msg_test", "type": "message", "role": "assistant", "model": request.body.get("model"), "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip
        await send("message_start", {"message": message})
        index = 0
        if script.thinking is not None:
            await send("content_block_start", {"index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}})
            await send("content_block_delta", {"index": 0, "delta": {"type": "thinking_delta", "thinking": script.thinking}})
            await send("content_block_delta", {"index": 0, "delta": {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}})
            await send("content_block_stop", {"index": 0})
            index = 1
        if script.pings:
            await send("ping", {})
        if script.texts:
            await send("content_block_start", {"index": index, "content_block": {"type": "text", "text": ""}})
        for number, text in enumerate(script.texts):
            if script.held:
                await self._permits.acquire()
            if script.gap_s:
                await trio.sleep(script.gap_s * (1 + script.uneven * self._random.uniform(-1, 1)))
            if number == script.cut_after:
                return False
            self.texts_sent.append((trio.current_time(), text))
            await send("content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": text}})
            if script.pings and number % 4 == 3:
                await send("ping", {})
        if script.cut_after is not None:
            return False
        if script.error_after is not None:
            await send("error", {"error": {"type": script.error_after, "message": "Something broke."}})
            await stream.send_all(b"0\r\n\r\n")
            return True
        if not script.ends_early:
            if script.texts:
                await send("content_block_stop", {"index": index})
            delta = {"stop_reason": script.stop_reason, "stop_sequence": None}
            await send("message_delta", {"delta": delta, "usage": {"output_tokens": script.output_tokens}})
            await send("message_stop", {})
        await stream.send_all(b"0\r\n\r\n")
        return True


class _Events:
    """Each event in a chunk of its own, as the API sends them."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def send(self, name: str, data: dict[str, Any]) -> None:
        event = f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
        await self._stream.send_all(b"%x\r\n%b\r\n" % (len(event), event))


def _error_answer(script: Script) -> bytes:
    kind = ERRORS.get(script.status, "api_error")
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"{kind} it is."}, "request_id": "req_test"}).encode()
    lines = [f"HTTP/1.1 {script.status} Error", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in script.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def _until_head(stream: trio.SocketStream, buffer: bytearray) -> bytes | None:
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        received = await stream.receive_some(65536)
        if not received:
            return None
        buffer += received
    head = bytes(buffer[:end])
    del buffer[: end + 4]
    return head


async def serve(port: int) -> None:
    """Serve on that port of loopback until it is cancelled: a stand-in for whoever tries the agent without a key."""
    await trio.serve_tcp(Upstream().serve, port, host="127.0.0.1")


@asynccontextmanager
async def open_upstream(script: Script | None = None) -> AsyncIterator[Upstream]:
    """Serves for the block, on a free port of loopback."""
    upstream = Upstream()
    if script is not None:
        upstream.script = script
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        upstream.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, upstream.serve, listeners)
        yield upstream
        nursery.cancel_scope.cancel()
