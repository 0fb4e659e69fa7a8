"""What an asker hears: chunks in order, then one end."""

from __future__ import annotations

from msgspec import Struct


class Usage(Struct, frozen=True, rename="camel"):
    """Tokens by the API's count. All 0 for an answer from the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Chunk(Struct, frozen=True):
    """A part of the answer. Indexes run from 0 without a gap, the same for every asker of the question."""

    index: int
    text: str


class Complete(Struct, frozen=True, rename="camel"):
    """The end of an answer. `sources`: what it was made from, like `menu`. `truncated`: it reached its greatest length and ends there."""

    full_response: str
    cached: bool
    sources: tuple[str, ...]
    usage: Usage
    truncated: bool = False


class Failed(Struct, frozen=True, rename="camel"):
    """There is no more. `code` is one of `brewd.errors.STATUS`. `partial`: the chunks so far stay, but the answer is not whole."""

    code: str
    detail: str
    retry_after_ms: int | None = None
    partial: bool = False


Piece = Chunk | Complete | Failed
End = Complete | Failed
