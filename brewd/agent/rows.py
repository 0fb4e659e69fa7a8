"""Rows of `agent_queries`, and putting them there.

Where there is a worker it does this: a write in the daemon takes the interpreter from the rooms' loop, an order hardly does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from msgspec import Struct

from brewd.errors import StoreError
from brewd.store.postgres import Postgres

PUT_S: Final = 2.0
"""A write takes no longer. The statement gives up on a lock before (see the SQL)."""

Put = Callable[[bytes], Awaitable[None]]
"""Takes the argument of `agent_query_put`. Raises `StoreError`, and then nothing is known about the outcome, and `RowsRefused`."""

STARTED: Final = "started"

_encode: Final = msgspec.json.Encoder().encode


class Entry(Struct, frozen=True, kw_only=True):
    """A row of `agent_queries`. `latency_ms`: until the first word."""

    id: str
    cafe_id: str
    user_id: str | None
    session_id: str | None
    staff: bool
    query: str | None
    persona: str
    model: str
    at_ms: int
    outcome: str = STARTED
    cached: bool = False
    latency_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_microcents: int = 0
    proactive: bool = False

    def outcome_of(self, outcome: str) -> str:
        """As it is written down: what nobody asked for is told apart."""
        return f"proactive:{outcome}" if self.proactive else outcome


class RowsRefused(Exception):
    """The rows are wrong, which is a bug. The text is the name of the driver's error and no more: what that one says may quote a question."""


def encoded(entries: Iterable[Entry]) -> bytes:
    """The argument of `agent_query_put`. One row an id: where a question is in there twice, its end. In their order, so that no two writes wait for each other."""
    last = {entry.id: entry for entry in entries}
    return _encode([last[id_] for id_ in sorted(last)])


async def put_rows(pg: Postgres, rows: bytes | msgspec.Raw) -> None:
    """As `Put`."""
    try:
        await pg.execute("agent_query_put", bytes(rows).decode(), timeout_s=PUT_S)
    except StoreError:
        raise
    except Exception as error:
        raise RowsRefused(type(error).__name__) from None
