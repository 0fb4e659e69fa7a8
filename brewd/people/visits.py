"""When patrons were there: noted in memory as rooms and joins say so, written behind, a day of the café's calendar at a time.

Owns a bounded set of who was seen when and is not written yet. A patron's days outlive their users, whose rows go within a day;
of messages nothing is kept but that there was one.
"""

from __future__ import annotations

import zoneinfo
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Any, Final, Protocol

from brewd.cafe.company import QUARTER_MS
from brewd.cafe.effects import Seen
from brewd.people.badge_rules import visits_of
from brewd.people.records import User
from brewd.runtime.log import get_logger

log = get_logger("badges")

PENDING_MAX: Final = 20_000
"""Quarters of an hour that wait to be written. With more, the newest are not counted: the night's job finds who joined all the same."""


class Queries(Protocol):
    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]: ...


class Visits:
    """Noting never blocks; `write` raises `StoreError`."""

    def __init__(self, *, pg: Queries, pending_max: int = PENDING_MAX) -> None:
        self._pg = pg
        self._pending_max = pending_max
        self._pending: dict[tuple[str, int], int] = {}
        self._full = False  # and said so, once

    def __len__(self) -> int:
        return len(self._pending)

    def seen(self, seen: Seen) -> None:
        """Somebody came into a room, or said something there."""
        if len(self._pending) < self._pending_max:
            self._pending[seen.user_id, seen.at_ms // QUARTER_MS] = seen.at_ms
        elif not self._full:
            self._full = True
            log.warning("visits_not_counted", hint="Postgres does not take them; see health")

    def opened(self, user: User, _session_id: str, _refresh_jti: str) -> None:
        """A session began or went on: its user joined when they were made."""
        self.seen(Seen(user.id, user.created_ms))

    def take(self, most: int) -> list[Seen]:
        """The next to be written, no longer kept here."""
        self._full = False
        keys = [key for key, _ in zip(self._pending, range(most), strict=False)]
        return [Seen(user_id, self._pending.pop((user_id, quarter))) for user_id, quarter in keys]

    async def write(self, seen: Sequence[Seen], *, timeout_s: float = 5.0) -> list[str]:
        """Write these, and the matches of the same patrons; who they are. Writing twice is writing once."""
        times = defaultdict[str, list[int]](list)
        for one in seen:
            times[one.user_id].append(one.at_ms)
        places = await self._pg.fetch("visit_places", list(times), timeout_s=timeout_s)
        if not places:
            return []
        zones = {row["patron_id"]: zone_of(row["timezone"]) for row in places}
        seen_ms, matched_ms = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        for row in places:
            seen_ms[row["patron_id"]] += times[row["id"]]
        for row in await self._pg.fetch("visit_matches", list(zones), timeout_s=timeout_s):
            matched_ms[row["patron_id"]].append(row["at_ms"])
        rows = [
            (patron_id, visit.day, visit.early, visit.late, visit.matches)
            for patron_id, zone in zones.items()
            for visit in visits_of(seen_ms[patron_id], matched_ms[patron_id], zone)
        ]
        await self._pg.fetch("visit_add", *map(list, zip(*rows, strict=True)), timeout_s=timeout_s)
        return list(zones)


def zone_of(name: str) -> tzinfo:
    """The time zone of a café; UTC where this machine does not know it any more."""
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        log.warning("timezone_unknown", timezone=name, instead="UTC")
        return UTC
