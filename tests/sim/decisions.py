"""What was decided about people and what they have used, as Postgres keeps it: the tables behind `moderation.sql`, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import trio

from brewd.cafe.limits import Terms

_ACTS = ("id", "cafe_id", "action", "user_id", "username", "staff_id", "staff_name", "rule", "reason", "until_at", "message_id", "created_at")
_USES = ("id", "cafe_id", "user_id", "action", "session_id", "reset", "at")


class Decisions:
    """`acts` and `uses` are the rows, in the order in which they were written. An id is written once."""

    def __init__(self) -> None:
        self.acts: list[dict[str, Any]] = []
        self.uses: list[dict[str, Any]] = []

    def moderation_add(self, *columns: Sequence[Any]) -> list[Any]:
        return _add(self.acts, _ACTS, columns)

    def limit_use_add(self, *columns: Sequence[Any]) -> list[Any]:
        return _add(self.uses, _USES, columns)

    def standing_acts(self, cafe_id: str, since: datetime, blocked_since: datetime, now: datetime) -> list[Any]:
        kinds = {"mute": since, "unmute": since, "block": blocked_since}
        rows = [row | {"alike": []} for row in self.acts if row["cafe_id"] == cafe_id and row["action"] in kinds and row["created_at"] > kinds[row["action"]]]
        return sorted(rows, key=lambda row: row["created_at"])

    def standing_used(self, cafe_id: str, since: datetime) -> list[Any]:
        return sorted((row for row in self.uses if row["cafe_id"] == cafe_id and row["at"] > since), key=lambda row: row["at"])


class Termed:
    """Cafés that all have the same terms: `now`, which were `drawn` at first."""

    def __init__(self, terms: Terms) -> None:
        self.drawn = self.now = terms

    async def terms(self, cafe_id: str) -> Terms:
        await trio.lowlevel.checkpoint()
        return self.now


def _add(rows: list[dict[str, Any]], names: tuple[str, ...], columns: tuple[Sequence[Any], ...]) -> list[Any]:
    known = {row["id"] for row in rows}
    rows += [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True) if values[0] not in known]
    return []
