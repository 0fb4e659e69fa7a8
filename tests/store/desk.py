"""Cafés as the journal sees them: they hand over what they are told to, and keep what they are told."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable

import trio

from brewd.runtime.clock import rfc3339
from brewd.store.journal import Committed, Duplicates, Journal, Outcome, TakenBack
from brewd.store.records import Batch, Entry, Message, Redaction

START_MS = 1_795_341_600_000
ANN, BOB = (str(uuid.UUID(int=n)) for n in (0xA, 0xB))
_numbers = itertools.count(0x1000)


def cafe_number(n: int) -> str:
    return str(uuid.UUID(int=0xC0 + n))


class Desk:
    """A `Source`. `waiting`: (content, clientMsgId) to be said by Ann; `deleting`: redactions, which go first. As strict as a café: one batch out at a time."""

    def __init__(self, journal: Journal, cafe_id: str, *, generation: int = 1, last_seq: int = 0) -> None:
        self.journal = journal
        self.cafe_id = cafe_id
        self.generation = generation
        self.last_seq = last_seq
        self.waiting: list[tuple[str, str | None]] = []
        self.deleting: list[Redaction] = []
        self.out: Batch | None = None
        self.outcomes: list[Outcome] = []
        self.departed_s: list[float] = []
        self.again = True
        """Whether to ask for departure again when something is left, as a café does."""

    def say(self, *contents: str, key: str | None = None) -> Desk:
        self.waiting += [(content, key) for content in contents]
        self.journal.ready(self.cafe_id, self)
        return self

    def delete(self, *redactions: Redaction) -> Desk:
        self.deleting += redactions
        self.journal.ready(self.cafe_id, self)
        return self

    def depart(self, rows_max: int) -> Batch | None:
        assert self.out is None, "two batches of one café at once"
        if self.deleting:
            taken, self.deleting = self.deleting[:rows_max], self.deleting[rows_max:]
            self.out = Batch(self.cafe_id, self.generation, self.last_seq + 1, (), tuple(taken))
        elif self.waiting:
            said, self.waiting = self.waiting[:rows_max], self.waiting[rows_max:]
            self.out = Batch(self.cafe_id, self.generation, self.last_seq + 1, tuple(self._entry(n, *one) for n, one in enumerate(said, self.last_seq + 1)))
        if self.out is not None:
            self.departed_s.append(trio.current_time())
        return self.out

    def settled(self, outcome: Outcome) -> None:
        batch, self.out = self.out, None
        assert batch is not None, "told without having asked"
        self.outcomes.append(outcome)
        if isinstance(outcome, Committed):
            self.generation, self.last_seq = outcome.generation, batch.last_seq
        elif isinstance(outcome, TakenBack | Duplicates):
            known = outcome.known if isinstance(outcome, Duplicates) else {}
            left = [(e.message.content, e.client_msg_id) for e in batch.entries if (ANN, e.client_msg_id) not in known]
            self.waiting, self.deleting = left + self.waiting, [*batch.redactions, *self.deleting]
            self.generation = outcome.generation if isinstance(outcome, TakenBack) else self.generation
        if self.again and (self.waiting or self.deleting) and isinstance(outcome, Committed | TakenBack | Duplicates):
            self.journal.ready(self.cafe_id, self)

    def _entry(self, seq: int, content: str, key: str | None) -> Entry:
        message = Message(str(uuid.UUID(int=next(_numbers))), self.cafe_id, seq, ANN, "ann", None, content, rfc3339(START_MS))
        return Entry(message, key, START_MS)


async def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for something that takes milliseconds."""
    with trio.fail_after(within_s):
        while not true():
            await trio.sleep(0.001)
