"""What there is to say about calls of the API, without the SDK: with what they are made, how one failed, and what it used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from msgspec import Struct

from brewd.agent.pieces import Usage
from brewd.agent.prompt import Task
from brewd.agent.rows import Put
from brewd.store.postgres import Place

Trouble = Literal["unreachable", "timeout", "server_error", "overloaded", "rate_limited", "key_refused", "key_missing", "nowhere", "bad_request", "cut"]

GiveWay = Callable[[], Awaitable[None]]
"""Waits a little while messages are under way in the rooms. Called before each piece of work that they would feel."""

BYTES_PER_TOKEN = 3
"""Where the API did not say: a cautious guess for text, which has rather 4."""


class Opening(Struct, frozen=True, kw_only=True):
    """What a client is made with. `base_url` empty: Anthropic's. `timeout_s` is for a whole answer, `retries` for failures before its first word.
    `place`: where what calls cost is written down, if the client is to do it."""

    api_key: str
    base_url: str
    timeout_s: float
    retries: int
    connections_max: int
    place: Place | None = None


class UpstreamError(Exception):
    """There is no answer, or not all of it. `may_pass`: the next try may fare better. The detail is for the log."""

    def __init__(self, trouble: Trouble, detail: str, *, retry_after_s: float | None = None, may_pass: bool = False) -> None:
        super().__init__(f"{trouble}: {detail}")
        self.trouble: Trouble = trouble
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.may_pass = may_pass


class Meter:
    """Tokens of one call, as far as is known. Counts of the API replace guesses; what was cut off or cancelled is guessed from what came."""

    __slots__ = ("_bytes", "_counted", "began", "cache_read", "cache_write", "input", "output")

    def __init__(self) -> None:
        self.began = False
        self.input = self.cache_read = self.cache_write = self.output = 0
        self._bytes = 0
        self._counted = False

    def asked(self, input_tokens: int) -> None:
        """The question is on its way. A guess: it may cost that, should nothing more be heard of it."""
        self.input = input_tokens

    def refused(self) -> None:
        """It was not taken, unless the answer has begun."""
        if not self.began:
            self.input = 0

    def start(self, input_tokens: int, cache_read: int, cache_write: int, output_tokens: int) -> None:
        """The API took the question: from here on it costs."""
        self.began = True
        self.input, self.cache_read, self.cache_write, self.output = input_tokens, cache_read, cache_write, output_tokens

    def said(self, text: str) -> None:
        self._bytes += len(text.encode())

    def thought(self, size_bytes: int) -> None:
        """What the model thinks is paid for, and is no part of the answer."""
        self._bytes += size_bytes

    def total(self, input_tokens: int | None, cache_read: int | None, cache_write: int | None, output_tokens: int) -> None:
        """Counts of the whole answer; None: as at the start."""
        self.input = self.input if input_tokens is None else input_tokens
        self.cache_read = self.cache_read if cache_read is None else cache_read
        self.cache_write = self.cache_write if cache_write is None else cache_write
        self.output = output_tokens
        self._counted = True

    @property
    def usage(self) -> Usage:
        output = self.output if self._counted else max(self.output, -(-self._bytes // BYTES_PER_TOKEN))
        return Usage(self.input, output, self.cache_read, self.cache_write)


class Written(Struct, frozen=True):
    """An answer is whole. `stop_reason` as the API says it; `sources` as in `prompt.Prompt`."""

    stop_reason: str
    sources: tuple[str, ...]


class Answerer(Protocol):
    """Whoever answers: `remote.WorkerProcess`, and behind it `writer.Writer`. `put` is there if rows are better written by it than here."""

    @property
    def put(self) -> Put | None: ...
    def use_key(self, api_key: str) -> None: ...
    async def answer(self, task: Task, *, model: str, max_tokens: int, on_chunk: Callable[[str], None], meter: Meter) -> Written: ...
