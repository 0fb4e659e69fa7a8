"""Something else than the API answers at `base_url`: whatever it sends ends that one call, in words that a log can have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from brewd.agent.calls import Meter, Opening, UpstreamError
from brewd.agent.prompt import Prompt
from brewd.agent.upstream import CHARS_PER_TOKEN_MAX, COUNT_MAX, DETAIL_MAX_CHARS, PAUSE_MAX_S, open_claude
from tests.patience import PATIENCE

PROMPT = Prompt("You are a host.", ("What is good?",), ())
MAX_TOKENS = 9
USAGE = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def start(**usage: Any) -> bytes:
    message: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "usage": {**USAGE, **usage}}
    return event("message_start", message=message) + event("content_block_start", index=0, content_block={"type": "text", "text": ""})


def text(said: Any, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": said})


def end(reason: Any = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 5, **usage}) + event("message_stop")


def stream(*events: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + b"".join(events)


def refusal(status: int, message: Any, kind: Any = "invalid_request_error", *headers: str) -> bytes:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    lines = [f"HTTP/1.1 {status} No", "content-type: application/json", f"content-length: {len(body)}", "connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@asynccontextmanager
async def sending(answer: bytes) -> AsyncIterator[str]:
    """Where every request gets these bytes."""

    async def serve(connection: trio.SocketStream) -> None:
        async with connection:
            got = b""
            while b"\r\n\r\n" not in got or b"What is good?" not in got:
                got += await connection.receive_some(65536)
            await connection.send_all(answer)
            await connection.send_eof()
            while await connection.receive_some(65536):
                pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def failure(answer: bytes, *, api_key: str = "sk-test", meter: Meter | None = None, texts: list[str] | None = None) -> UpstreamError:
    """How a call ends that is answered so."""
    said = [] if texts is None else texts
    with trio.fail_after(5 * PATIENCE):
        async with sending(answer) as url, open_claude(Opening(api_key=api_key, base_url=url, timeout_s=30, retries=0, connections_max=1)) as claude:
            with pytest.raises(UpstreamError) as caught:
                await claude.answer(PROMPT, model="m", max_tokens=MAX_TOKENS, on_text=said.append, meter=meter or Meter())
    assert caught.value.detail.isascii()
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) <= DETAIL_MAX_CHARS
    return caught.value


@pytest.mark.parametrize("tokens", ["many", None, 1.5, -1, -(10**9), COUNT_MAX + 1, 10**30])
async def test_what_is_no_number_of_tokens_is_not_counted(tokens: Any) -> None:
    meter = Meter()
    assert (await failure(stream(start(input_tokens=tokens), text("hi"), end()), meter=meter)).trouble == "server_error"
    assert not meter.began
    assert (await failure(stream(start(), text("hi"), end(output_tokens=tokens)), meter=meter)).trouble == "server_error"
    assert 0 <= meter.usage.output_tokens <= COUNT_MAX


@pytest.mark.parametrize(
    "answer",
    [
        stream(text("hi"), end()),
        stream(start(), text("hi", index=9), end()),
        stream(start(), text(5), end()),
        stream(start(), text("\ud800"), end()),
        stream(start(), text("hi"), end(7)),
        stream(start(), event("content_block_delta", index=0), end()),
        stream(start(), b"event: content_block_delta\ndata: [1, 2]\n\n"),
        stream(start(), b"event: content_block_delta\ndata: " + b"[" * 100_000 + b"\n\n"),
        stream(start(), event("error", error={"type": "\ud800", "message": "\ud800"})),
        refusal(302, "elsewhere", "moved", "location: http://127.0.0.1:9/"),
    ],
)
async def test_what_the_api_never_says_is_a_fault_of_whoever_said_it(answer: bytes) -> None:
    assert (await failure(answer)).trouble == "server_error"


@pytest.mark.parametrize("message", ["\ud800", "y" * 1_500_000, "two\nlines", 5])
async def test_what_an_error_says_is_cut_to_what_a_log_can_have(message: Any) -> None:
    assert (await failure(refusal(400, message))).trouble == "bad_request"


async def test_a_pause_has_an_end() -> None:
    assert (await failure(refusal(429, "later", "rate_limit_error", "retry-after: 1e300"))).retry_after_s == PAUSE_MAX_S


async def test_an_answer_is_no_longer_than_its_tokens_can_be() -> None:
    texts: list[str] = []
    piece = "x" * (MAX_TOKENS * CHARS_PER_TOKEN_MAX // 2)
    assert (await failure(stream(start(), text(piece), text(piece), text("y"), end()), texts=texts)).trouble == "server_error"
    assert texts == [piece, piece]


@pytest.mark.parametrize("api_key", ["sk-one\nsk-two", "sk-\0", "sk-ключ"])
async def test_a_key_that_cannot_be_sent_is_not_told(api_key: str) -> None:
    error = await failure(stream(), api_key=api_key)
    assert error.trouble == "key_refused"
    assert "sk-" not in error.detail


async def test_without_a_key_nothing_is_sent() -> None:
    error = await failure(stream(), api_key="")
    assert (error.trouble, error.may_pass) == ("key_missing", False)
