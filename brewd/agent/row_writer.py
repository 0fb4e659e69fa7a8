"""What is to be written down of questions, and writing it.

Owns what waits to be written: beginnings, which somebody waits for, and a bounded queue of ends, which nobody does. Either are written
together and in small pieces, since the rooms' own commits feel each write and a long one more. No commit of it waits for the disk (see the
SQL). Who writes is whoever makes the calls, if it can (`written_by`), or else this process. On a crash of `run` what waits stays, and
whoever waits for a write that was under way hears that it was stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final, NoReturn

import trio
from msgspec.structs import replace

from brewd.agent.calls import GiveWay
from brewd.agent.rows import PUT_S, Entry, Put, RowsRefused, encoded
from brewd.errors import StoreError
from brewd.runtime.log import get_logger

log = get_logger("agent")

PENDING_MAX: Final = 10_000
ROWS_MAX: Final = 25
"""In one write: one or two milliseconds of Postgres, half of which has nothing to do with how many there are, and some more of pauses (see the SQL)."""

GATHER_S: Final = 1.0
"""What ends within this time is written together."""

BEGIN_GAP_S: Final = 0.2
"""From one write of beginnings to the next, so that more gathers. A question that comes alone does not wait."""

BEGIN_S: Final = 2 * PUT_S + 1.0
"""No beginning takes longer: it may have to wait for a write that fails, and then for its own."""

RETRY_S: Final = 0.5

SETTLE_S: Final = BEGIN_S
"""No write is under way for longer: the worker is given up before."""


class _Write:
    """One that is under way until `ended` is set."""

    __slots__ = ("cafe_ids", "ended")

    def __init__(self, entries: Collection[Entry]) -> None:
        self.cafe_ids = {entry.cafe_id for entry in entries}
        self.ended = trio.Event()


class _Beginning:
    """`error` is there when `ended` is set."""

    __slots__ = ("ended", "entry", "error")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.ended = trio.Event()
        self.error: Exception | None = None


class RowWriter:
    """See the module. One for the process. `put` writes where nobody else does."""

    def __init__(self, *, put: Put, give_way: GiveWay) -> None:
        self._put = put
        self._give_way = give_way
        self._beginnings: dict[_Beginning, None] = {}
        self._begun = trio.Event()
        self._pending: deque[Entry] = deque()
        self._under_way: set[_Write] = set()
        self._written = 0
        self._at_once = ROWS_MAX
        self._woken = trio.Event()
        self._hurry = trio.Event()

    @property
    def pending(self) -> int:
        """Ends that are not written yet."""
        return len(self._pending)

    @contextmanager
    def written_by(self, put: Put | None) -> Iterator[None]:
        """For the block, rows are written by `put`, if there is one."""
        own = self._put
        self._put = put or own
        try:
            yield
        finally:
            self._put = own

    async def begin(self, entry: Entry) -> None:
        """Return when it is written. Raises `StoreError` and `RowsRefused`: then, and when it is cancelled, it may be there or not."""
        beginning = _Beginning(entry)
        self._beginnings[beginning] = None
        self._begun.set()
        try:
            with trio.move_on_after(BEGIN_S):
                await beginning.ended.wait()
        finally:
            self._beginnings.pop(beginning, None)
        if beginning.error is not None:
            raise beginning.error
        if not beginning.ended.is_set():
            raise StoreError(f"the beginning of a call was not written within {BEGIN_S:g} s")

    def end(self, entry: Entry) -> None:
        """Written behind. Never blocks."""
        if len(self._pending) >= PENDING_MAX:
            log.error("query_not_kept", cafe=entry.cafe_id, outcome=entry.outcome, cost_microcents=entry.cost_microcents)
            return
        self._pending.append(entry)
        self._woken.set()

    def forget(self, user_ids: Collection[str]) -> None:
        """Who asked and what, of these customers, is not written down any more. Never blocks."""
        self._pending = deque(_anonymous(entry) if entry.user_id in user_ids else entry for entry in self._pending)

    async def settled(self, cafe_id: str) -> None:
        """Return when every write of this café's questions that is under way now has ended: it may have looked for its customers before one of
        them was none any more. One that was given up has ended, whatever Postgres makes of it. Raises `StoreError` after `SETTLE_S`."""
        with trio.move_on_after(SETTLE_S):
            for write in [write for write in self._under_way if cafe_id in write.cafe_ids]:
                await write.ended.wait()
            return
        raise StoreError("what was asked is still on its way to Postgres")

    async def flush(self, timeout_s: float) -> None:
        """Return when what is queued now is written, or after that time."""
        until = self._written + len(self._pending)
        with trio.move_on_after(timeout_s):
            while self._written < until:
                self._hurry.set()
                await trio.sleep(0.005)

    async def run(self) -> NoReturn:
        """Write until cancelled; what is queued then stays. Tries again for as long as Postgres is away."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_beginnings, nursery)
            await self._write_ends()

    async def _write_beginnings(self, nursery: trio.Nursery) -> NoReturn:
        """A write that waits, for a café that is locked at the moment, holds up none of the next."""
        while True:
            self._begun = trio.Event()
            if not self._beginnings:
                await self._begun.wait()
            await self._give_way()
            batch = list(islice(self._beginnings, ROWS_MAX))
            for beginning in batch:
                del self._beginnings[beginning]
            if batch:
                nursery.start_soon(self._write_begun, batch)
            if len(self._beginnings) < ROWS_MAX:
                await trio.sleep(BEGIN_GAP_S)

    async def _write_begun(self, batch: list[_Beginning]) -> None:
        """Tell everybody what became of it. Where rows are refused, whoever has others gets another try."""
        error: Exception | None = StoreError("the writing was stopped")
        try:
            await self._write([beginning.entry for beginning in batch])
            error = None
        except RowsRefused as refused:
            if len(batch) > 1:
                for beginning in batch:
                    await self._write_begun([beginning])
                return
            error = refused
        except StoreError as unavailable:
            error = unavailable
        finally:
            for beginning in batch:
                if not beginning.ended.is_set():
                    beginning.error = error and type(error)(*error.args)
                    beginning.ended.set()

    async def _write_ends(self) -> NoReturn:
        while True:
            while self._pending:
                await self._give_way()
                await self._write_pending(list(islice(self._pending, self._at_once)))
                if self._at_once == ROWS_MAX and len(self._pending) < ROWS_MAX:
                    await self._gather()
            self._at_once = ROWS_MAX  # a batch may have been refused, and then none of its rows
            await self._woken.wait()
            self._woken = trio.Event()

    async def _gather(self) -> None:
        self._hurry = trio.Event()
        with trio.move_on_after(GATHER_S):
            await self._hurry.wait()

    async def _write_pending(self, batch: list[Entry]) -> None:
        """One batch, or a pause. What cannot be written, alone, is dropped with a line in the log."""
        put = self._put
        try:
            await self._write(batch)
        except StoreError as error:
            if put is not self._put:  # somebody else writes by now
                return
            log.warning("waiting_for_postgres", pending=len(self._pending), error=str(error))
            await trio.sleep(RETRY_S)
            return
        except RowsRefused as error:
            if len(batch) > 1:
                self._at_once = 1
                return
            log.error("query_not_kept", cafe=batch[0].cafe_id, error=str(error))
            self._at_once = ROWS_MAX
        for _ in batch:
            self._pending.popleft()
        self._written += len(batch)

    async def _write(self, entries: Collection[Entry]) -> None:
        """As `rows.Put`."""
        write = _Write(entries)
        self._under_way.add(write)
        try:
            await self._put(encoded(entries))
        finally:
            self._under_way.discard(write)
            write.ended.set()


def _anonymous(entry: Entry) -> Entry:
    return replace(entry, user_id=None, session_id=None, query=None)
