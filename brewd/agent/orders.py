"""What the daemon and the worker say to each other: one JSON object a line, orders one way and news the other. Pure.

The first order is an `Opening`, the first news `Ready`. After that each call has a number, given by the daemon: an `Ask` begins it, and
`Done`, `Failed`, `Crashed` or, after a `Cancel`, `Stopped` ends it. Both ends are of one version, so nothing here is for anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from brewd.agent.calls import Opening, Trouble, Written
from brewd.agent.prompt import Task

LINE_MAX_BYTES: Final = 1 << 22
"""Far more than a prompt, a piece of an answer or what is written at once can be: more is no line."""

TEXT_MAX_CHARS: Final = 65_536
"""What comes at once, from whatever calls itself the API, goes on in pieces of this size: escaped, each is well below a line."""


class Open(Struct, frozen=True, tag=True):
    opening: Opening


class Ask(Struct, frozen=True, tag=True):
    call: int
    task: Task
    model: str
    max_tokens: int


class Cancel(Struct, frozen=True, tag=True):
    call: int


class UseKey(Struct, frozen=True, tag=True):
    api_key: str


class Put(Struct, frozen=True, tag=True):
    """Rows to write, as `rows.Put` takes them. They have a number of their own."""

    number: int
    rows: msgspec.Raw


class Ready(Struct, frozen=True, tag=True):
    """The SDK is loaded."""


class Began(Struct, frozen=True, tag=True):
    """The API took the question. Tokens, as in `Meter.start`."""

    call: int
    input: int
    cache_read: int
    cache_write: int
    output: int


class Said(Struct, frozen=True, tag=True):
    """A chunk."""

    call: int
    text: str


class Thought(Struct, frozen=True, tag=True):
    """So much was thought; what, is nobody's business."""

    call: int
    size_bytes: int


class Total(Struct, frozen=True, tag=True):
    """Tokens of the whole answer, as in `Meter.total`."""

    call: int
    input: int | None
    cache_read: int | None
    cache_write: int | None
    output: int


class Done(Struct, frozen=True, tag=True):
    call: int
    written: Written


class Failed(Struct, frozen=True, tag=True):
    """An `UpstreamError`."""

    call: int
    trouble: Trouble
    detail: str
    retry_after_s: float | None
    may_pass: bool


class Crashed(Struct, frozen=True, tag=True):
    """A bug."""

    call: int
    traceback: str


class Stopped(Struct, frozen=True, tag=True):
    """The call was cancelled; nobody waits for this."""

    call: int


class WasPut(Struct, frozen=True, tag=True):
    """The rows are written; or why not, and then `store` tells whether the store is the cause of that, or they are."""

    number: int
    error: str = ""
    store: bool = False


Order = Open | Ask | Cancel | UseKey | Put
News = Ready | Began | Said | Thought | Total | Done | Failed | Crashed | Stopped | WasPut

_encoder: Final = msgspec.json.Encoder()
orders: Final = msgspec.json.Decoder(Order)
news: Final = msgspec.json.Decoder(News)


def line(said: Order | News) -> bytes:
    return _encoder.encode(said) + b"\n"


class Lines:
    """Puts what is read together to lines."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes. Raises `ValueError` for one that never ends."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_MAX_BYTES:
            raise ValueError(f"a line of more than {LINE_MAX_BYTES} bytes")
        yield from whole
