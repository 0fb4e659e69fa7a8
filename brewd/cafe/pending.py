"""What a room has accepted and Postgres has not yet confirmed.

A draft has no number. It gets one when its batch departs, and loses it again when the batch is taken back. Whoever waits for a
draft is answered exactly once: with its message, or, when Postgres has been silent too long, that storage is unavailable. A
draft nobody waits for any more is not sent after that; one that had already departed may still turn out to be stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec import Struct

from brewd.cafe.commands import Ref, Who
from brewd.cafe.spam import Violation
from brewd.runtime.bucket import Packed
from brewd.runtime.clock import rfc3339
from brewd.store.records import Batch, Entry, Key, Message, Redaction

WAITERS_MAX = 8
"""Requests that may wait for one draft: its sender, and resends."""


class Waiter(Struct, frozen=True, gc=False):
    to: int
    ref: Ref
    duplicate: bool = False


class Draft:
    """One accepted message, or the deletion of one (`redaction`)."""

    __slots__ = ("accepted_ms", "before", "charged", "client_msg_id", "content", "deadline_ms", "id", "redaction", "unsure", "waiters", "warnings", "who")

    def __init__(self, *, id: str, who: Who, content: str, client_msg_id: str | None, redaction: bool, accepted_ms: int, deadline_ms: int) -> None:
        self.id = id
        self.who = who
        self.content = content
        self.client_msg_id = client_msg_id
        self.redaction = redaction
        self.accepted_ms = accepted_ms
        self.deadline_ms = deadline_ms
        self.waiters: list[Waiter] = []
        self.warnings: tuple[Violation, ...] = ()
        self.charged = False  # a token was taken for it, from a bucket that was `before`
        self.before: Packed | None = None
        self.unsure = False  # a redaction that may have been done: it has to be done again, and told, whoever waits

    @property
    def key(self) -> Key | None:
        return None if self.client_msg_id is None else (self.who.user_id, self.client_msg_id)

    def entry(self, cafe_id: str, seq: int) -> Entry:
        who = self.who
        message = Message(self.id, cafe_id, seq, who.user_id, who.username, who.badge, self.content, rfc3339(self.accepted_ms))
        return Entry(message, self.client_msg_id, self.accepted_ms)

    def removal(self) -> Redaction:
        return Redaction(self.id, None if self.who.moderator else self.who.user_id, self.accepted_ms)


class Pending:
    """Drafts in the order they were accepted: those of the batch that is out, then those that wait."""

    __slots__ = ("_by_key", "batch", "earliest_ms", "out", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Draft] = deque()
        self.out: list[Draft] = []
        self.batch: Batch | None = None
        self.earliest_ms: int | None = None
        self._by_key: dict[Key, Draft] = {}

    def __len__(self) -> int:
        return len(self.waiting) + len(self.out)

    def __iter__(self) -> Iterator[Draft]:
        return chain(self.out, self.waiting)

    def add(self, draft: Draft) -> None:
        self.waiting.append(draft)
        if draft.key is not None:
            self._by_key[draft.key] = draft
        if self.earliest_ms is None:
            self.earliest_ms = draft.deadline_ms

    def disown(self, draft: Draft, who: Who) -> None:
        """A draft that waits becomes `who`'s: its author is gone, sends it no more, and has no bucket that it could be charged to."""
        self._forget(draft)
        draft.who, draft.client_msg_id, draft.charged, draft.warnings = who, None, False, ()

    def resent(self, key: Key) -> Draft | None:
        """The draft that carries this clientMsgId."""
        return self._by_key.get(key)

    def depart(self, cafe_id: str, generation: int, first_seq: int, rows_max: int) -> Batch | None:
        """Number the longest-waiting drafts of one kind and put them into a batch; None when one is out or nothing waits."""
        if self.batch is not None or not self.waiting or rows_max <= 0:
            return None
        redaction = self.waiting[0].redaction
        while self.waiting and self.waiting[0].redaction is redaction and len(self.out) < rows_max:
            self.out.append(self.waiting.popleft())
        if redaction:
            self.batch = Batch(cafe_id, generation, first_seq, (), tuple(d.removal() for d in self.out))
        else:
            self.batch = Batch(cafe_id, generation, first_seq, tuple(d.entry(cafe_id, seq) for seq, d in enumerate(self.out, first_seq)))
        return self.batch

    def departed(self) -> list[tuple[Draft, Entry | None]]:
        """The drafts of the batch that is out, with their entries (None for a redaction)."""
        entries: Iterable[Entry | None] = self.batch.entries if self.batch is not None and self.batch.entries else [None] * len(self.out)
        return list(zip(self.out, entries, strict=True))

    def confirmed(self) -> None:
        """The batch that is out is stored, and its drafts have been told: they are no longer pending."""
        for draft in self._bring_in():
            self._forget(draft)

    def taken_back(self, known: dict[Key, Message]) -> tuple[list[tuple[Draft, Message]], list[Draft]]:
        """The batch is not stored: its drafts wait again, in front. Returns the drafts that are in `known`, and those nobody waits for any more."""
        duplicates: list[tuple[Draft, Message]] = []
        dropped: list[Draft] = []
        for draft in reversed(self._bring_in()):
            if draft.key is not None and draft.key in known:
                duplicates.append((draft, known[draft.key]))
                self._forget(draft)
            elif not draft.waiters and not draft.redaction:
                dropped.append(draft)
                self._forget(draft)
            else:
                draft.unsure = draft.redaction
                self.waiting.appendleft(draft)
        self._find_earliest()
        return duplicates, dropped

    def expire(self, now_ms: int) -> tuple[list[Waiter], list[Draft]]:
        """Those who have waited too long, and the drafts that were given up because they had not departed."""
        late: list[Waiter] = []
        for draft in self:
            if draft.deadline_ms <= now_ms:
                late += draft.waiters
                draft.waiters.clear()
        given_up = [d for d in self.waiting if not d.waiters and not d.unsure]
        for draft in given_up:
            self._forget(draft)
        if given_up:
            self.waiting = deque(d for d in self.waiting if d.waiters or d.unsure)
        self._find_earliest()
        return late, given_up

    def _find_earliest(self) -> None:
        self.earliest_ms = min((d.deadline_ms for d in self if d.waiters), default=None)

    def _bring_in(self) -> list[Draft]:
        drafts, self.out, self.batch = self.out, [], None
        if not self.waiting:
            self.earliest_ms = None
        return drafts

    def _forget(self, draft: Draft) -> None:
        if draft.key is not None and self._by_key.get(draft.key) is draft:
            del self._by_key[draft.key]
