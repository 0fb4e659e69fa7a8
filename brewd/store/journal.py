"""The journal: one actor that commits messages for every café, so that many rooms share one commit.

Owns the order of departure. A café with something to write calls `ready`; when the connection is free the journal asks every
ready café for its batch (`depart`), commits all of them in one statement, and tells each what became of it (`settled`). While
one commit runs, the next gathers. A café is never in two commits at once, so its numbers are given when the batch leaves.

When a commit gets no answer nothing is guessed. The journal takes a new generation for every café of that commit, which waits
for, and then fences off, whatever the lost connection may still be doing; after that the ids are either there or never will be.

On a crash the supervisor restarts `run`, which first settles the commit that was under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol, TypeVar

import trio
from msgspec import Struct

from brewd.errors import StoreConflict, StoreError
from brewd.runtime.log import get_logger
from brewd.store.records import Batch, Commit, Key, Message, Settled

log = get_logger("journal")
T = TypeVar("T")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 0.5
GAP_S = 0.002
"""From the end of a commit to the next departure, so that more gathers: a commit costs the same for one message as for many, and nobody
notices two milliseconds. After a commit that had only one café's message to carry there is nothing to wait for."""

GIVE_WAY_S = 0.008
"""A journal that is never idle holds up others so long, and no longer."""

_LOOK_S = 0.001


class Committed(Struct, frozen=True):
    """The batch is in Postgres. `redacted`: the messages its redactions found, by id, as they are now. Write on with `generation`."""

    generation: int
    redacted: dict[str, Message] = {}


class TakenBack(Struct, frozen=True):
    """The batch is not in Postgres and never will be: its numbers are free again. Write on with `generation`."""

    generation: int


class Duplicates(Struct, frozen=True):
    """The batch was refused, its numbers are free: these clientMsgIds were stored before, with these messages."""

    known: dict[Key, Message]


class Fenced(Struct, frozen=True):
    """Somebody else writes for this café now, or its line is not where this writer thinks: start over from durable state."""


class Poisoned(Struct, frozen=True):
    """Postgres calls the batch itself wrong. That is a bug, and it stays in its café. Nothing was written."""

    error: Exception


Outcome = Committed | TakenBack | Duplicates | Fenced | Poisoned


class Source(Protocol):
    """A café as the journal sees it. Both calls are synchronous and must not raise."""

    def depart(self, rows_max: int) -> Batch | None:
        """Give numbers to what is waiting, at most `rows_max` of it, and hand it over. None: nothing after all."""

    def settled(self, outcome: Outcome) -> None:
        """What became of the batch that departed last."""


class Store(Protocol):
    """Where the journal writes. Every call raises `StoreError`, within its own deadline, when the outcome is unknown."""

    async def commit(self, batches: Sequence[Batch]) -> Commit:
        """Write all batches at once; `StoreConflict`, and nothing written, when a clientMsgId is there already."""

    async def settle(self, batches: Sequence[Batch]) -> list[Settled]:
        """Fence off any earlier attempt at `batches`, then say which of them are in."""

    async def known(self, keys: Sequence[Key]) -> dict[Key, Message]:
        """The messages that already carry one of these clientMsgIds."""


Departed = list[tuple[Source, Batch]]


class Journal:
    """See the module. `batch_max`: rows in one commit. Bounded by what its sources keep waiting; it queues names only."""

    def __init__(self, *, store: Store, batch_max: int) -> None:
        self._store = store
        self._batch_max = batch_max
        self._ready: dict[str, Source] = {}
        self._out: Departed = []
        self._parked: trio.lowlevel.Task | None = None
        self.commits = 0
        self.rows = 0
        self.down_since_s: float | None = None

    def ready(self, cafe_id: str, source: Source) -> None:
        """`source` has something to write and no batch out. Never blocks; asking twice is asking once."""
        self._ready[cafe_id] = source
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    def withdraw(self, cafe_id: str) -> None:
        """The café's actor is gone. What has not departed never will; what has is settled, and its old source is told in vain."""
        self._ready.pop(cafe_id, None)

    async def give_way(self) -> None:
        """Return when no message is under way, or after `GIVE_WAY_S`: for work in the rooms' loop that can wait so long, so that no message waits for it.

        Whoever waits looks again and again, each in their own time: woken together they would all be in the way of what was committed.
        """
        until_s = trio.current_time() + GIVE_WAY_S
        while (self._ready or self._out) and trio.current_time() < until_s:
            await trio.sleep(_LOOK_S)

    async def run(self) -> NoReturn:
        if self._out:
            await self._settle(self._out)
            self._out = []
        next_s = trio.current_time()
        while True:
            while not self._ready:
                await self._park()
            if trio.current_time() < next_s:
                await trio.sleep_until(next_s)
            self._out = self._gather()
            if self._out:
                await self._write(self._out)
                next_s = trio.current_time() + (GAP_S if len(self._out) > 1 else 0.0)
                self._out = []

    async def _park(self) -> None:
        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _gather(self) -> Departed:
        """The batches of the cafés that have waited longest, up to `batch_max` rows."""
        out: Departed = []
        left = self._batch_max
        for cafe_id in list(self._ready):
            source = self._ready.pop(cafe_id)
            batch = source.depart(left)
            if batch is not None:
                out.append((source, batch))
                left -= batch.rows
                if left <= 0:
                    break
        return out

    async def _write(self, out: Departed) -> None:
        """Commit, and answer each source exactly once, whatever happens."""
        batches = [batch for _, batch in out]
        try:
            commit = await self._store.commit(batches)
        except StoreConflict as conflict:
            await self._refuse_duplicates(out, conflict)
        except StoreError as error:
            log.warning("commit_unanswered", cafes=len(out), error=str(error))
            await self._settle(out)
        except Exception as error:
            await self._isolate(out, error)
        else:
            self.commits += 1
            self.rows += sum(batch.rows for batch in batches)
            for source, batch in out:
                source.settled(Committed(batch.generation, commit.redacted) if batch.cafe_id in commit.cafe_ids else Fenced())

    async def _isolate(self, out: Departed, error: Exception) -> None:
        """A statement that Postgres finds wrong wrote nothing. Alone, each café shows whether it was the cause."""
        if len(out) > 1:
            for one in out:
                await self._write([one])
            return
        source, batch = out[0]
        log.error("batch_poisoned", cafe=batch.cafe_id, exc_info=error)
        source.settled(Poisoned(error))

    async def _refuse_duplicates(self, out: Departed, conflict: StoreConflict) -> None:
        keys = [(e.message.user_id, e.client_msg_id) for _, b in out for e in b.entries if e.client_msg_id is not None]
        known = await self._until_answered(lambda: self._store.known(keys))
        log.info("duplicate", constraint=conflict.constraint, known=len(known))
        if not known:  # not a resend, so sending it again would be refused again, for ever
            await self._isolate(out, conflict)
            return
        for source, batch in out:
            mine = {k: known[k] for e in batch.entries if e.client_msg_id and (k := (e.message.user_id, e.client_msg_id)) in known}
            source.settled(Duplicates(mine) if mine else TakenBack(batch.generation))

    async def _settle(self, out: Departed) -> None:
        batches = [batch for _, batch in out]
        settled = {s.cafe_id: s for s in await self._until_answered(lambda: self._store.settle(batches))}
        for source, batch in out:
            found = settled[batch.cafe_id]
            if found.generation is None:
                source.settled(Fenced())
            elif found.committed:
                source.settled(Committed(found.generation))
            else:
                source.settled(TakenBack(found.generation))
        log.info("commit_settled", cafes=len(out), committed=sum(s.committed for s in settled.values()))

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store until it answers. Its own deadlines bound each try; the pauses between grow to `RETRY_MAX_S`."""
        pause_s = RETRY_FIRST_S
        if self.down_since_s is None:
            self.down_since_s = trio.current_time()
        while True:
            try:
                answer = await ask()
            except StoreError:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            else:
                self.down_since_s = None
                return answer
