"""The ledger: writes down what rooms decided about people, behind their backs.

Owns a bounded queue of decisions. Takes them from every room without making it wait and writes what gathered to Postgres in one
statement a kind; tries again for as long as Postgres is away. Each has an id, so that writing it twice is writing it once. A
decision holds in memory from the moment it was made, and a room that opens waits until its own are written (`settled`). What was
charged may wait a little for more of it, since the rooms' own commits feel each write; what was done to somebody does not.

A batch that Postgres does not understand is written one by one, and the decision at fault is dropped with a line in the log: it
would crash `run` for ever. On a crash everything else stays queued.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, NoReturn, Protocol

import trio
from msgspec import Struct

from brewd.cafe.effects import Kept, Quiet, Record, Seen, Used
from brewd.errors import StoreError
from brewd.runtime.clock import as_datetime
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger

log = get_logger("moderation")

PENDING_MAX = 20_000
"""Decisions waiting for Postgres. With more, the newest are only in the log: better than to stop deciding."""

BATCH_MAX = 500
GATHER_S = 0.5
"""From one write to the next, unless somebody was moderated or somebody waits for it (`hurry`). What is charged alone does not wait. So much
of it a crash, or a room that opens in another process, may miss."""

RETRY_S = 0.5
WRITE_S = 2.0
SETTLE_S = 2.0


class Queries(Protocol):
    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]: ...


class _Noted(Struct, frozen=True):
    id: str
    cafe_id: str
    kept: Kept


class Ledger:
    """See the module. One for the process. `seen`: who counts that guests were here; that is not kept here.

    `on_mutes` is told of mutes that are written, before they count as such; it may raise `StoreError`.
    """

    def __init__(self, *, pg: Queries, ids: Ids, pending_max: int = PENDING_MAX, seen: Callable[[Seen], None] = lambda _: None) -> None:
        self._pg = pg
        self._seen = seen
        self._ids = ids
        self._pending_max = pending_max
        self.on_mutes: Callable[[Sequence[Record]], Awaitable[None]] | None = None
        self._pending: deque[_Noted] = deque()
        self._at_once = BATCH_MAX
        self._woken = trio.Event()
        self._hurry = trio.Event()
        self._written = trio.Event()
        self._in_ms = ("", 0)

    def __len__(self) -> int:
        """How many wait to be written."""
        return len(self._pending)

    def note(self, cafe_id: str, kept: Quiet) -> None:
        """Queue what a room decided. Never blocks."""
        if isinstance(kept, Seen):
            self._seen(kept)
            return
        if isinstance(kept, Record):
            log.info(kept.action, cafe=cafe_id, user=kept.user_id, name=kept.username, rule=kept.rule, reason=kept.reason, by=kept.by_name)
            self.hurry()
        if len(self._pending) >= self._pending_max:
            log.error("not_kept", cafe=cafe_id, decision=repr(kept), hint="Postgres does not take what is decided; see health")
            return
        self._pending.append(_Noted(self._id(), cafe_id, kept))
        self._woken.set()

    def hurry(self) -> None:
        """Write what waits now. Never blocks."""
        self._hurry.set()

    def _id(self) -> str:
        """Greater than the one before: what was decided in one millisecond is read back in its order (a counter after RFC 9562, section 6.2)."""
        id = self._ids.uuid7()
        ms, count = self._in_ms
        self._in_ms = id[:13], count + 1 if id[:13] == ms else 0
        return f"{id[:15]}{self._in_ms[1] & 0xFFF:03x}{id[18:]}"

    async def settled(self, cafe_id: str | None = None) -> None:
        """Return when what was noted of this café (None: of all) is written. Raises `StoreError` after `SETTLE_S`."""
        with trio.move_on_after(SETTLE_S):
            while any(cafe_id in (None, noted.cafe_id) for noted in self._pending):
                self.hurry()
                await self._written.wait()
            return
        raise StoreError("what was decided before is not written yet")

    async def run(self) -> NoReturn:
        while True:
            while self._pending:
                self._hurry = trio.Event()
                written = await self._write(list(islice(self._pending, self._at_once)))
                if written and self._at_once == BATCH_MAX and len(self._pending) < BATCH_MAX:
                    with trio.move_on_after(GATHER_S):
                        await self._hurry.wait()
            self._at_once = BATCH_MAX
            await self._woken.wait()
            self._woken = trio.Event()

    async def _write(self, batch: list[_Noted]) -> bool:
        """True when the batch is written. Else a pause. Raises what the driver makes of a decision that cannot be written, which is then no longer queued."""
        try:
            for name, rows in _statements(batch):
                await self._pg.fetch(name, *map(list, zip(*rows, strict=True)), timeout_s=WRITE_S)
            mutes = [noted.kept for noted in batch if isinstance(noted.kept, Record) and noted.kept.action == "mute"]
            if mutes and self.on_mutes is not None:
                await self.on_mutes(mutes)
        except StoreError as error:
            log.warning("waiting_for_postgres", pending=len(self._pending), error=str(error))
            await trio.sleep(RETRY_S)
            return False
        except Exception as error:
            if len(batch) > 1:
                self._at_once = 1
                return False
            log.error("not_kept", cafe=batch[0].cafe_id, decision=repr(batch[0].kept), error=repr(error))
            self._done(1)
            raise
        self._done(len(batch))
        return True

    def _done(self, count: int) -> None:
        for _ in range(count):
            self._pending.popleft()
        self._written.set()
        self._written = trio.Event()


def _statements(batch: list[_Noted]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The queries that keep a batch, with a row for each decision."""
    records = [_record(noted, noted.kept) for noted in batch if isinstance(noted.kept, Record)]
    uses = [_use(noted, noted.kept) for noted in batch if isinstance(noted.kept, Used)]
    return [(name, rows) for name, rows in (("moderation_add", records), ("limit_use_add", uses)) if rows]


def _use(noted: _Noted, used: Used) -> tuple[Any, ...]:
    return noted.id, noted.cafe_id, used.user_id, used.action, used.session_id or None, False, as_datetime(used.at_ms)


def _record(noted: _Noted, record: Record) -> tuple[Any, ...]:
    until = None if record.until_ms is None else as_datetime(record.until_ms)
    return (
        noted.id, noted.cafe_id, record.action, record.user_id, record.username, record.by, record.by_name, record.rule, record.reason,
        until, record.message_id, as_datetime(record.at_ms),
    )  # fmt: skip
