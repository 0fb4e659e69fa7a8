"""The laws of `design.md`, as far as one process with its clients can break them, checked against the tables as things happen.

Nothing here raises where it notices something: that would crash an actor, which is what brewd is built to survive. The first
breach is kept, and whoever drives the world stops at it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from brewd.cafe.limits import Limits
from brewd.runtime.clock import as_ms
from brewd.store.journal import Committed, Duplicates, Fenced, Outcome, Poisoned, Source
from brewd.store.records import Batch, Message
from tests.sim.store import Row, Tables

DURABLE, ONE_WRITER, ONE_ORDER, ONCE, BOUNDED, CONTAINED, ALLOWED, SILENT = range(1, 9)
NAMES = {
    DURABLE: "durable before visible",
    ONE_WRITER: "one writer per café",
    ONE_ORDER: "one order",
    ONCE: "exactly once to the eye",
    BOUNDED: "everything is bounded",
    CONTAINED: "a bug stays in its café",
    ALLOWED: "nobody says more than the limits allow",
    SILENT: "who is muted is not heard",
}
TRACE_SHOWN = 60


class LawBroken(AssertionError):
    """A law was broken. The text says which, how, and what led to it."""


class Laws:
    """Watches the tables, the way to them, the journal, and what clients see. `fenced` is told of each café that was."""

    def __init__(self, *, now_s: Callable[[], float], fenced: Callable[[str], None]) -> None:
        self.tables = Tables(self)
        self.broken: str | None = None
        self.trace: list[tuple[Any, ...]] = []
        self._now_s = now_s
        self._fenced = fenced
        self.limits: Limits | None = None
        self._opened_s: dict[str, float] = {}
        self._said_ms: dict[str, list[int]] = {}
        self._mutes: dict[str, tuple[float, int, int]] = {}  # by user: when it was stored, from when, until when
        self._generations: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def note(self, *what: Any) -> None:
        """Something happened: for the trace."""
        self.trace.append((round(self._now_s(), 6), *what))

    def breach(self, law: int, how: str) -> None:
        """Keep the first breach."""
        if self.broken is None:
            self.broken = f"law {law} ({NAMES[law]}): {how}"
            self.note("BROKEN", self.broken)

    def check(self) -> None:
        """Raises `LawBroken` when something was noticed."""
        if self.broken is not None:
            raise LawBroken("\n".join([self.broken, *(" ".join(str(part) for part in line) for line in self.trace[-TRACE_SHOWN:])]))

    # The tables.

    def new_generation(self, cafe_id: str, generation: int) -> None:
        self.note("generation", cafe_id, generation)
        if generation <= self._generations.get(cafe_id, 0):
            self.breach(ONE_WRITER, f"generation {generation} of {cafe_id} was handed out before")
        self._generations[cafe_id] = generation

    def written(self, cafe_id: str, generation: int, row: Row) -> None:
        self.note("stored", cafe_id, row.seq, row.content, generation)
        if generation != self._generations.get(cafe_id):
            self.breach(ONE_WRITER, f"{cafe_id} {row.seq} was written by generation {generation} while {self._generations.get(cafe_id)} is current")
        if row.seq != len(self.tables.rows[cafe_id]):
            self.breach(ONE_ORDER, f"{cafe_id} has {row.seq} as its {len(self.tables.rows[cafe_id])}th message")
        earlier = self._texts.setdefault(row.content, row.id)
        if earlier != row.id:
            self.breach(ONCE, f"{row.content!r} was said once and stored twice")
        self._said[row.id] = row.content
        self._allowed(row)

    def opened(self, cafe_id: str) -> None:
        """Somebody takes the line over, and reads everything that is stored by now."""
        self._opened_s[cafe_id] = self._now_s()

    def muted(self, user_id: str, from_ms: int, until_ms: int) -> None:
        """That is stored. An unmute is a mute that is over."""
        self._mutes[user_id] = (self._now_s(), from_ms, until_ms)

    def _allowed(self, row: Row) -> None:
        """Whoever opened the café after it was stored knows who is muted; and everybody knows what was said."""
        at_ms = as_ms(row.created_at)
        stored_s, from_ms, until_ms = self._mutes.get(row.user_id, (math.inf, 0, 0))
        if stored_s < self._opened_s[row.cafe_id] and from_ms < at_ms < until_ms:
            self.breach(SILENT, f"{row.content!r} was said by {row.user_id}, who is muted")
        if self.limits is None:
            return
        rate = self.limits.of(row.badge).message
        said_ms = self._said_ms.setdefault(row.user_id, [])
        said_ms.append(at_ms)
        for count, from_ms in enumerate(reversed(said_ms), 1):
            if count > rate.burst + (at_ms - from_ms) * rate.tokens // rate.period_ms or (count == 2 and at_ms - from_ms < rate.gap_ms):
                self.breach(ALLOWED, f"{row.user_id} said {count} things within {at_ms - from_ms} ms")

    def redacted(self, cafe_id: str, generation: int, row: Row) -> None:
        self.note("deleted", cafe_id, row.seq, generation)
        if generation != self._generations.get(cafe_id):
            self.breach(ONE_WRITER, f"{cafe_id} {row.seq} was deleted by generation {generation} while {self._generations.get(cafe_id)} is current")

    def sent(self, name: str, *args: Any) -> None:
        """A query leaves for the store. Whoever holds a line knows where it stands."""
        if name == "line_open":
            self.note(name, *args)
        elif name == "line_fence":
            self.note(name, *zip(args[0], args[1], strict=True))
        elif name == "line_commit":
            self.note("commit", *zip(*args[:4], strict=True))
            for cafe_id, generation, first, _ in zip(*args[:4], strict=True):
                if self.tables.owns(cafe_id, generation) and not self.tables.follows(cafe_id, first):
                    self.breach(ONE_ORDER, f"the writer of {cafe_id} numbers its batch from {first}; the line stands at {self.tables.lines[cafe_id].last_seq}")

    # The journal.

    def departed(self, cafe_id: str, earlier: Batch | None) -> None:
        if earlier is not None:
            self.breach(ONE_WRITER, f"{cafe_id} has two batches out at once")

    def settled(self, batch: Batch, outcome: Outcome) -> None:
        """The journal says what became of a batch."""
        self.note("settled", batch.cafe_id, batch.first_seq, batch.rows, type(outcome).__name__)
        if isinstance(outcome, Committed):
            for entry in batch.entries:
                self.is_stored(batch.cafe_id, entry.message, "confirmed")
        elif isinstance(outcome, Fenced):
            self._fenced(batch.cafe_id)
            if self.tables.owns(batch.cafe_id, batch.generation):
                self.breach(ONE_WRITER, f"the writer of {batch.cafe_id} was turned away although nobody else holds the line")
        elif isinstance(outcome, Duplicates):
            for key, message in outcome.known.items():
                self.is_stored(batch.cafe_id, message, "known")
                if self.tables.by_key[key].id != message.id:
                    self.breach(ONCE, f"{key} is {self.tables.by_key[key].id}, not {message.id}")
        if not isinstance(outcome, Committed | Fenced | Poisoned) and any(entry.message.id in self.tables.by_id for entry in batch.entries):
            self.breach(DURABLE, f"a batch of {batch.cafe_id} was called not stored, and it is")

    # What clients see.

    def has(self, cafe_id: str, seq: int, message_id: str) -> bool:
        rows = self.tables.rows[cafe_id]
        return 0 < seq <= len(rows) and rows[seq - 1].id == message_id

    def is_stored(self, cafe_id: str, message: Message, how: str) -> None:
        """What anyone sees is in the tables, under this number, as it was said or deleted."""
        if not self.has(cafe_id, message.seq, message.id):
            self.breach(DURABLE, f"{cafe_id} {message.seq} {message.content!r} is {how}, and not stored")
            return
        row = self.tables.by_id[message.id]
        if message.deleted:
            if row.deleted_at is None or message.content:
                self.breach(DURABLE, f"{cafe_id} {message.seq} is {how} as deleted, and not deleted")
        elif (message.content, message.user_id) != (self._said[row.id], row.user_id):
            self.breach(ONE_ORDER, f"{cafe_id} {message.seq} is {how} as {message.content!r}, and stored as {self._said[row.id]!r}")

    def is_deleted(self, cafe_id: str, message_id: str, how: str) -> None:
        row = self.tables.by_id.get(message_id)
        if row is None or row.cafe_id != cafe_id or row.deleted_at is None:
            self.breach(DURABLE, f"the deletion of {message_id} in {cafe_id} is {how}, and not stored")

    def deleted_upto(self, cafe_id: str, seqs: Iterable[int]) -> set[int]:
        """Which of these are deleted."""
        rows = self.tables.rows[cafe_id]
        return {seq for seq in seqs if rows[seq - 1].deleted_at is not None}


class Watched:
    """Stands between the journal and a café's actor and listens."""

    def __init__(self, cafe_id: str, source: Source, laws: Laws) -> None:
        self._cafe_id = cafe_id
        self._source = source
        self._laws = laws
        self._batch: Batch | None = None

    def depart(self, rows_max: int) -> Batch | None:
        batch = self._source.depart(rows_max)
        if batch is not None:
            self._laws.departed(self._cafe_id, self._batch)
            self._batch = batch
        return batch

    def settled(self, outcome: Outcome) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            self._laws.settled(batch, outcome)
        self._source.settled(outcome)
