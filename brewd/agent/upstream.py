"""One call of the Messages API: the only file that knows the SDK.

The SDK takes more than half a second to load and a good part of a millisecond for each event of an answer, so this runs in the worker,
never in the daemon. It runs on trio as it is, through httpx. Its own retries are off: whether another try makes sense is decided here,
where it is known how long the asker waits already, and never after the first word.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import anthropic
import httpx2
import trio

from brewd.agent.calls import Meter, Opening, Trouble, UpstreamError
from brewd.agent.prompt import Prompt

API_URL: Final = "https://api.anthropic.com"
CONNECT_S: Final = 5.0
RETRY_PAUSE_S: Final = 0.5
READ_OUT_S: Final = 0.5
RETRY_AFTER_MAX_S: Final = 2.0
"""Whoever is asked to wait for longer is told so, and does not try again."""

PAUSE_MAX_S: Final = 3600.0
COUNT_MAX: Final = 10_000_000
CHARS_PER_TOKEN_MAX: Final = 64
DETAIL_MAX_CHARS: Final = 300
"""What whoever answers at `base_url` may say of a pause, of tokens, in an answer, in an error. What is beyond is not the API's."""


class Claude:
    """A client with its connections. Made by `open_claude`."""

    def __init__(self, client: anthropic.AsyncAnthropic, *, timeout_s: float, retries: int) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._retries = retries

    def use_key(self, api_key: str) -> None:
        """Another key from the next call on."""
        self._client.api_key = api_key

    async def answer(self, prompt: Prompt, *, model: str, max_tokens: int, on_text: Callable[[str], None], meter: Meter) -> str:
        """Make one answer; `on_text` gets its words as they come, `meter` what they cost, whatever becomes of it. Returns the stop reason.

        Raises `UpstreamError` when there is no (whole) answer. Cancelling it closes its connection.
        """
        with trio.move_on_after(self._timeout_s):
            for tries_left in range(self._retries, -1, -1):
                try:
                    return await self._try(prompt, model=model, max_tokens=max_tokens, on_text=on_text, meter=meter)
                except UpstreamError as error:
                    pause_s = RETRY_PAUSE_S if error.retry_after_s is None else error.retry_after_s
                    if not tries_left or not error.may_pass or meter.began or pause_s > RETRY_AFTER_MAX_S:
                        raise
                    await trio.sleep(pause_s)
        raise UpstreamError("timeout", f"no answer within {self._timeout_s:g} s")

    async def _try(self, prompt: Prompt, *, model: str, max_tokens: int, on_text: Callable[[str], None], meter: Meter) -> str:
        stop_reason: str | None = None
        chars_left = max_tokens * CHARS_PER_TOKEN_MAX
        key = self._client.api_key or ""
        if not key:
            raise UpstreamError("key_missing", "there is no API key")
        if not (key.isascii() and key.isprintable()):  # the HTTP library would quote it in its error
            raise UpstreamError("key_refused", "the API key has signs in it that no key has")
        try:
            async with self._client.messages.stream(
                model=model,
                max_tokens=max_tokens,
                system=[{"type": "text", "text": prompt.stable, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": [{"type": "text", "text": text} for text in prompt.live]}],
                output_config={"effort": "low"},
            ) as stream:
                async for event in stream:
                    if event.type == "message_start":
                        usage = event.message.usage
                        meter.start(
                            _count(usage.input_tokens), _count(usage.cache_read_input_tokens or 0), _count(usage.cache_creation_input_tokens or 0),
                            _count(usage.output_tokens),
                        )  # fmt: skip
                    elif not meter.began and event.type in ("content_block_delta", "message_delta"):
                        raise ValueError("nothing has begun")
                    elif event.type == "content_block_delta":
                        # By type: what the model thinks is not part of the answer.
                        if event.delta.type == "text_delta":
                            chars_left -= len(event.delta.text)
                            if chars_left >= 0:
                                meter.said(event.delta.text)
                                on_text(event.delta.text)
                        elif event.delta.type == "thinking_delta":
                            chars_left -= len(event.delta.thinking)
                            meter.thought(len(event.delta.thinking.encode()))
                        if chars_left < 0:
                            raise ValueError("more than was asked for")
                    elif event.type == "message_delta":
                        total = event.usage
                        meter.total(
                            _count_or_none(total.input_tokens), _count_or_none(total.cache_read_input_tokens),
                            _count_or_none(total.cache_creation_input_tokens), _count(total.output_tokens),
                        )  # fmt: skip
                        stop_reason = None if event.delta.stop_reason is None else _plainly(event.delta.stop_reason)
        except anthropic.APIStatusError as error:
            await _read_out(error)
            raise _from_status(error, began=meter.began) from error
        except anthropic.APITimeoutError as error:
            raise UpstreamError("timeout", "the API did not answer in time", may_pass=True) from error
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            raise UpstreamError(
                "cut" if meter.began else "unreachable", _plainly(f"the connection to the API failed: {error.__cause__ or error}"), may_pass=True
            ) from error
        except Exception as error:  # something else than the API answers there: what the SDK makes of that can be anything
            raise UpstreamError("server_error", f"what came is not the API's: {type(error).__name__}") from error
        if stop_reason is None:
            raise UpstreamError("cut", "the answer stopped before its end", may_pass=True)
        return stop_reason


def _from_status(error: anthropic.APIStatusError, *, began: bool) -> UpstreamError:
    """By what the API calls it: an `error` event in the stream comes with the status of the stream, which is 200."""
    kind, status = error.type, error.status_code
    retry_after_s = _retry_after_s(error.response.headers.get("retry-after"))
    said = _plainly(f"the API answered {status} {kind or ''}".rstrip())
    if kind in ("authentication_error", "permission_error") or status in (401, 403):
        return UpstreamError("key_refused", said)
    if kind == "billing_error" or status == 402:
        return UpstreamError("key_refused", said)
    if kind == "rate_limit_error" or status == 429:
        return UpstreamError("rate_limited", said, retry_after_s=retry_after_s, may_pass=True)
    if kind == "overloaded_error" or status == 529:
        return UpstreamError("overloaded", said, retry_after_s=retry_after_s, may_pass=True)
    if kind in ("api_error", "timeout_error") or status >= 500 or status < 400 or began:
        return UpstreamError("server_error", said, retry_after_s=retry_after_s, may_pass=True)
    trouble: Trouble = "nowhere" if kind == "not_found_error" or status == 404 else "bad_request"
    return UpstreamError(trouble, _plainly(f"{said}: {error.api_message or ''}".rstrip(": ")))


def _plainly(text: str) -> str:
    """Words of somebody else for a log: one line, of signs that every log can have, and not too many."""
    return text.encode("unicode_escape").decode()[:DETAIL_MAX_CHARS]


def _count(tokens: object) -> int:
    """What the SDK hands on without a look. Raises `ValueError` for what is no number of tokens."""
    if isinstance(tokens, int) and 0 <= tokens <= COUNT_MAX:
        return tokens
    raise ValueError("no number of tokens")


def _count_or_none(tokens: object) -> int | None:
    return None if tokens is None else _count(tokens)


async def _read_out(error: anthropic.APIStatusError) -> None:
    """End the readers that the SDK leaves open, within each other, when the stream itself reports an error.

    It has closed the response already, so reading on ends at once; left to the garbage collector they would be an endless source of warnings.
    """
    frame = error.__traceback__
    while frame is not None:
        reader = frame.tb_frame.f_locals.get("iterator")
        if isinstance(reader, AsyncGenerator):
            with suppress(Exception), trio.move_on_after(READ_OUT_S):
                async for _ in reader:
                    pass
        frame = frame.tb_next


def _retry_after_s(header: str | None) -> float | None:
    try:
        return None if header is None else min(max(0.0, float(header)), PAUSE_MAX_S)
    except ValueError:
        return None  # a date: as good as none


@asynccontextmanager
async def open_claude(opening: Opening) -> AsyncIterator[Claude]:
    """A client for the block. Connects when it is first used; loading certificates takes some ms of CPU."""
    limits = httpx2.Limits(max_connections=opening.connections_max, max_keepalive_connections=opening.connections_max)
    timeout = httpx2.Timeout(opening.timeout_s, connect=CONNECT_S)
    client = anthropic.AsyncAnthropic(
        api_key=opening.api_key, base_url=opening.base_url or API_URL, max_retries=0, timeout=timeout,
        http_client=anthropic.DefaultAsyncHttpxClient(timeout=timeout, limits=limits, follow_redirects=False), open_telemetry=False,
    )  # fmt: skip
    try:
        yield Claude(client, timeout_s=opening.timeout_s, retries=opening.retries)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await client.close()


def deprecated(model: str) -> str | None:
    """When the SDK says that this model ends; None for one it has nothing against."""
    from anthropic.resources.messages.messages import DEPRECATED_MODELS

    return DEPRECATED_MODELS.get(model)
