"""Messages in Postgres: what the journal writes through and what rooms and history read.

`commit` and `settle` run on the journal's own connection, one at a time; reading goes through the pool. Every call is bounded
by a deadline and raises `StoreError` when Postgres does not answer within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from brewd.runtime.clock import as_datetime, as_ms, rfc3339
from brewd.store.records import Batch, Commit, Key, Line, Message, Recent, Settled


class Queries(Protocol):
    """Named queries, on a pool or on one connection."""

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]: ...


class Messages:
    """`lane`: the connection only the journal uses. `timeout_s` bounds a commit, `read_timeout_s` everything else."""

    def __init__(self, *, lane: Queries, pool: Queries, timeout_s: float, read_timeout_s: float = 2.0) -> None:
        self._lane = lane
        self._pool = pool
        self._timeout_s = timeout_s
        self._read_timeout_s = read_timeout_s

    async def commit(self, batches: Sequence[Batch]) -> Commit:
        owned: set[str] = set()
        redacted: dict[str, Message] = {}
        if any(batch.redactions for batch in batches):
            rows = await self._lane.fetch("line_redact", *_redaction_columns(batches), timeout_s=self._timeout_s)
            owned.update(row["owner"] for row in rows)
            redacted = {row["id"]: _message(row, row["owner"]) for row in rows if row["id"]}
        if any(batch.entries for batch in batches):
            rows = await self._lane.fetch("line_commit", *_entry_columns(batches), timeout_s=self._timeout_s)
            owned.update(row["cafe_id"] for row in rows)
        return Commit(frozenset(owned), redacted)

    async def settle(self, batches: Sequence[Batch]) -> list[Settled]:
        cafes, generations = [b.cafe_id for b in batches], [b.generation for b in batches]
        fenced = await self._lane.fetch("line_fence", cafes, generations, timeout_s=self._read_timeout_s)
        generation = {row["cafe_id"]: row["generation"] for row in fenced}
        # Only now, after the fence, is "not there" final: a commit still under way held the line's lock until it ended.
        firsts = [b.entries[0].message.id for b in batches if b.entries]
        present = {row["id"] for row in await self._lane.fetch("message_present", firsts, timeout_s=self._read_timeout_s)}
        return [Settled(b.cafe_id, generation.get(b.cafe_id), bool(b.entries) and b.entries[0].message.id in present) for b in batches]

    async def known(self, keys: Sequence[Key]) -> dict[Key, Message]:
        rows = await self._lane.fetch("message_by_client_id", [k[0] for k in keys], [k[1] for k in keys], timeout_s=self._read_timeout_s)
        return {(row["user_id"], row["client_msg_id"]): _message(row, row["cafe_id"]) for row in rows}

    async def open_line(self, cafe_id: str) -> Line | None:
        """Take the café's line over: from here on every older writer is refused. None when there is no such café."""
        for row in await self._pool.fetch("line_open", cafe_id, timeout_s=self._read_timeout_s):
            return Line(row["cafe_id"], row["epoch"], row["generation"], row["last_seq"])
        return None

    async def recent(self, cafe_id: str, limit: int) -> Recent:
        """The newest `limit` messages, oldest first."""
        rows = await self._pool.fetch("message_before", cafe_id, 2**62, limit, timeout_s=self._read_timeout_s)
        messages = [_message(row, cafe_id) for row in reversed(rows)]
        keys = {(row["user_id"], row["client_msg_id"]): m for row, m in zip(reversed(rows), messages, strict=True) if row["client_msg_id"]}
        return Recent(messages, keys)

    async def after(self, cafe_id: str, seq: int, limit: int) -> list[Message]:
        """At most `limit` messages that follow `seq`, oldest first."""
        return [_message(row, cafe_id) for row in await self._pool.fetch("message_after", cafe_id, seq, limit, timeout_s=self._read_timeout_s)]

    async def before(self, cafe_id: str, seq: int, limit: int) -> list[Message]:
        """The `limit` messages that precede `seq`, oldest first."""
        rows = await self._pool.fetch("message_before", cafe_id, seq, limit, timeout_s=self._read_timeout_s)
        return [_message(row, cafe_id) for row in reversed(rows)]


def _message(row: Mapping[str, Any], cafe_id: str) -> Message:
    deleted = row["deleted_at"] is not None
    content = "" if deleted else row["content"]
    return Message(row["id"], cafe_id, row["seq"], row["user_id"], row["username"], row["badge"], content, rfc3339(as_ms(row["created_at"])), deleted)


def _entry_columns(batches: Sequence[Batch]) -> list[list[Any]]:
    """The arguments of `line_commit`: four columns a café, nine columns a message."""
    writers = [b for b in batches if b.entries]
    entries = [e for b in writers for e in b.entries]
    messages = [e.message for e in entries]
    return [
        [b.cafe_id for b in writers],
        [b.generation for b in writers],
        [b.first_seq for b in writers],
        [b.last_seq for b in writers],
        [m.cafe_id for m in messages],
        [m.seq for m in messages],
        [m.id for m in messages],
        [m.user_id for m in messages],
        [m.username for m in messages],
        [m.badge for m in messages],
        [m.content for m in messages],
        [e.client_msg_id for e in entries],
        [as_datetime(e.created_ms) for e in entries],
    ]


def _redaction_columns(batches: Sequence[Batch]) -> list[list[Any]]:
    """The arguments of `line_redact`: two columns a café, four a redaction."""
    redactors = [b for b in batches if b.redactions]
    redactions = [(b.cafe_id, r) for b in redactors for r in b.redactions]
    return [
        [b.cafe_id for b in redactors],
        [b.generation for b in redactors],
        [cafe_id for cafe_id, _ in redactions],
        [r.message_id for _, r in redactions],
        [r.user_id for _, r in redactions],
        [as_datetime(r.at_ms) for _, r in redactions],
    ]
