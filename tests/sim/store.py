"""Postgres as a café sees it, in memory: the tables, and every query of theirs as one atomic function on them.

The real `Messages` runs on it unchanged, since it knows nothing but query names. That the functions do what the SQL does is shown
by `tests/store/test_messages_contract.py`, which puts the same questions to both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import trio

from brewd.errors import StoreConflict
from brewd.runtime.clock import as_ms
from tests.sim.decisions import Decisions

Key = tuple[str, str]


class Row:
    """One row of `message`, readable by column like the driver's."""

    __slots__ = ("badge", "cafe_id", "client_msg_id", "content", "created_at", "deleted_at", "id", "seq", "user_id", "username")

    def __init__(
        self, *, cafe_id: str, seq: int, id: str, user_id: str, username: str, badge: str | None, content: str, client_msg_id: str | None, created_at: datetime
    ) -> None:
        self.cafe_id = cafe_id
        self.seq = seq
        self.id = id
        self.user_id = user_id
        self.username = username
        self.badge = badge
        self.content = content
        self.client_msg_id = client_msg_id
        self.created_at = created_at
        self.deleted_at: datetime | None = None

    def __getitem__(self, column: str) -> Any:
        return getattr(self, column)


class LineRow:
    """One row of `cafe_line`."""

    __slots__ = ("epoch", "generation", "last_seq")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.generation = 0
        self.last_seq = 0


class Watch(Protocol):
    """Whoever checks what happens to the tables. The default takes no notice."""

    def opened(self, cafe_id: str) -> None: ...
    def new_generation(self, cafe_id: str, generation: int) -> None: ...
    def written(self, cafe_id: str, generation: int, row: Row) -> None: ...
    def redacted(self, cafe_id: str, generation: int, row: Row) -> None: ...


class Unwatched:
    """Takes no notice."""

    def opened(self, cafe_id: str) -> None:
        pass

    def new_generation(self, cafe_id: str, generation: int) -> None:
        pass

    def written(self, cafe_id: str, generation: int, row: Row) -> None:
        pass

    def redacted(self, cafe_id: str, generation: int, row: Row) -> None:
        pass


class Tables:
    """What outlives every daemon. `run(name, *args)` executes a query; nothing of it is done when it raises."""

    def __init__(self, watch: Watch | None = None) -> None:
        self.watch: Watch = watch or Unwatched()
        self.lines: dict[str, LineRow] = {}
        self.rows: dict[str, list[Row]] = {}
        self.by_id: dict[str, Row] = {}
        self.by_key: dict[Key, Row] = {}
        self.decisions = Decisions()
        self._queries: dict[str, Callable[..., list[Any]]] = {
            "line_open": self.line_open,
            "line_commit": self.line_commit,
            "line_redact": self.line_redact,
            "line_fence": self.line_fence,
            "message_present": self.message_present,
            "message_by_client_id": self.message_by_client_id,
            "message_after": self.message_after,
            "message_before": self.message_before,
            "message_sent": self.message_sent,
            "moderation_add": self.decisions.moderation_add,
            "limit_use_add": self.decisions.limit_use_add,
            "standing_acts": self.decisions.standing_acts,
            "standing_used": self.decisions.standing_used,
        }

    def add_cafe(self, cafe_id: str, epoch: str) -> None:
        self.lines[cafe_id] = LineRow(epoch)
        self.rows[cafe_id] = []

    def run(self, name: str, *args: Any) -> list[Any]:
        return self._queries[name](*args)

    def owns(self, cafe_id: str, generation: int) -> bool:
        line = self.lines.get(cafe_id)
        return line is not None and line.generation == generation

    def follows(self, cafe_id: str, first_seq: int) -> bool:
        return self.lines[cafe_id].last_seq == first_seq - 1

    def line_open(self, cafe_id: str) -> list[Any]:
        line = self.lines.get(cafe_id)
        if line is None:
            return []
        line.generation += 1
        self.watch.opened(cafe_id)
        self.watch.new_generation(cafe_id, line.generation)
        return [{"cafe_id": cafe_id, "epoch": line.epoch, "generation": line.generation, "last_seq": line.last_seq}]

    def line_commit(self, cafes: Sequence[str], generations: Sequence[int], firsts: Sequence[int], lasts: Sequence[int], *columns: Sequence[Any]) -> list[Any]:
        owned = {
            cafe_id: (generation, last)
            for cafe_id, generation, first, last in zip(cafes, generations, firsts, lasts, strict=True)
            if self.owns(cafe_id, generation) and self.follows(cafe_id, first)
        }
        names = ("cafe_id", "seq", "id", "user_id", "username", "badge", "content", "client_msg_id", "created_at")
        rows = [Row(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True) if values[0] in owned]
        self._refuse_broken(rows)
        for cafe_id, (_, last) in owned.items():
            self.lines[cafe_id].last_seq = last
        for row in rows:
            self.rows[row.cafe_id].append(row)
            self.by_id[row.id] = row
            if row.client_msg_id is not None:
                self.by_key[row.user_id, row.client_msg_id] = row
            self.watch.written(row.cafe_id, owned[row.cafe_id][0], row)
        return [{"cafe_id": cafe_id} for cafe_id in owned]

    def line_redact(
        self, cafes: Sequence[str], generations: Sequence[int], of: Sequence[str], ids: Sequence[str], users: Sequence[str | None], ats: Sequence[datetime]
    ) -> list[Any]:
        owned = {cafe_id: generation for cafe_id, generation in zip(cafes, generations, strict=True) if self.owns(cafe_id, generation)}
        gone: dict[str, Row] = {}
        for cafe_id, message_id, user_id, at in zip(of, ids, users, ats, strict=True):
            row = self.by_id.get(message_id)
            if row is None or cafe_id not in owned or row.cafe_id != cafe_id or user_id not in (None, row.user_id):
                continue
            row.content, row.deleted_at = "", row.deleted_at or at
            gone[row.id] = row
            self.watch.redacted(cafe_id, owned[cafe_id], row)
        answer: list[Any] = [_Owned(row.cafe_id, copy.copy(row)) for row in gone.values()]
        return answer + [_Owned(cafe_id, None) for cafe_id in owned if all(row.cafe_id != cafe_id for row in gone.values())]

    def line_fence(self, cafes: Sequence[str], generations: Sequence[int]) -> list[Any]:
        fenced = []
        for cafe_id, generation in zip(cafes, generations, strict=True):
            if self.owns(cafe_id, generation):
                self.lines[cafe_id].generation += 1
                self.watch.new_generation(cafe_id, generation + 1)
                fenced.append({"cafe_id": cafe_id, "generation": generation + 1})
        return fenced

    def message_present(self, ids: Sequence[str]) -> list[Any]:
        return [{"id": id} for id in ids if id in self.by_id]

    def message_by_client_id(self, users: Sequence[str], client_ids: Sequence[str]) -> list[Any]:
        return [copy.copy(self.by_key[key]) for key in dict.fromkeys(zip(users, client_ids, strict=True)) if key in self.by_key]

    def message_after(self, cafe_id: str, seq: int, limit: int) -> list[Any]:
        return [copy.copy(row) for row in self.rows.get(cafe_id, [])[seq : seq + limit]]

    def message_before(self, cafe_id: str, seq: int, limit: int) -> list[Any]:
        rows = self.rows.get(cafe_id, [])[: max(0, seq - 1)]
        return [copy.copy(row) for row in rows[::-1][:limit]]

    def message_sent(self, cafe_id: str, newest: int, since: datetime) -> list[Any]:
        by_author: dict[str, dict[str, Any]] = {}
        for row in self.rows.get(cafe_id, [])[-newest:]:
            if row.created_at > since:
                sent = by_author.setdefault(row.user_id, {"user_id": row.user_id, "username": row.username, "at_ms": [], "badged": []})
                sent["at_ms"].append(as_ms(row.created_at))
                sent["badged"].append(row.badge is not None)
        return list(by_author.values())

    def _refuse_broken(self, rows: list[Row]) -> None:
        """What Postgres refuses: text it cannot hold, and whatever is there already."""
        ids: set[str] = set()
        keys: set[Key] = set()
        for row in rows:
            if "\0" in row.content:
                raise ValueError("invalid byte sequence for encoding UTF8: 0x00")
            if row.seq <= len(self.rows[row.cafe_id]):
                raise StoreConflict("message_pkey")
            if row.id in self.by_id or row.id in ids:
                raise StoreConflict("message_id_key")
            ids.add(row.id)
            if row.client_msg_id is not None:
                key = (row.user_id, row.client_msg_id)
                if key in self.by_key or key in keys:
                    raise StoreConflict("message_client_msg_id_key")
                keys.add(key)


class _Owned:
    """A row of `line_redact`: who owns the line, and what was deleted in it, if anything."""

    __slots__ = ("_owner", "_row")

    def __init__(self, owner: str, row: Row | None) -> None:
        self._owner = owner
        self._row = row

    def __getitem__(self, column: str) -> Any:
        if column == "owner":
            return self._owner
        return None if self._row is None else self._row[column]


class Direct:
    """A connection on which nothing ever goes wrong."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return self._tables.run(name, *args)
