"""Where the people of a café stand when it opens, read from Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from brewd.cafe.effects import Used
from brewd.cafe.limits import DAY_MS, Limits, Terms
from brewd.cafe.standing import Act, Reset, Sent, Standing
from brewd.runtime.clock import Clock, as_datetime, as_ms, from_rfc3339
from brewd.store.records import Message, Recent

TIMEOUT_S = 2.0
SENT_MAX = 20_000
"""Messages looked at for what they took, at most: a café where more were sent while they count starts a little more generous."""

ACTS_MAX_MS = 31 * DAY_MS
"""As long as a mute can be: what was decided earlier is over."""


class Queries(Protocol):
    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]: ...


class Termed(Protocol):
    """Who knows what a café's room judges by (`Cafes`)."""

    async def terms(self, cafe_id: str) -> Terms: ...


class Decisions(Protocol):
    """Where rooms have their decisions written down (the ledger)."""

    async def settled(self, cafe_id: str) -> None:
        """Return when all of them are. Raises `StoreError`, within its own deadline."""


class Standings:
    """What the directory asks when it opens a room."""

    def __init__(self, *, pg: Queries, cafes: Termed, decisions: Decisions, clock: Clock) -> None:
        self._pg = pg
        self._cafes = cafes
        self._decisions = decisions
        self._clock = clock

    async def standing(self, cafe_id: str, recent: Recent) -> Standing:
        """`recent`: the newest messages, which were read already. Raises `StoreError`, and `Rejected` (`not_found`)."""
        terms = await self._cafes.terms(cafe_id)
        await self._decisions.settled(cafe_id)
        now_ms, limits, spam = self._clock.now_ms(), terms.limits, terms.spam
        blocked = as_datetime(now_ms - (0 if spam is None else spam.blocks_ms))
        used_ms = max(0, now_ms - max(DAY_MS, 0 if limits is None else limits.memory_ms))
        acts = await self._pg.fetch("standing_acts", cafe_id, as_datetime(now_ms - ACTS_MAX_MS), blocked, as_datetime(now_ms), timeout_s=TIMEOUT_S)
        used = await self._pg.fetch("standing_used", cafe_id, as_datetime(used_ms), timeout_s=TIMEOUT_S)
        return Standing(
            terms=terms,
            sent=() if limits is None else await self._sent(cafe_id, recent.messages, now_ms, limits),
            used=tuple(Used(row["action"], row["user_id"], row["session_id"] or "", as_ms(row["at"])) for row in used if not row["reset"]),
            resets=tuple(Reset(row["user_id"], row["action"], as_ms(row["at"])) for row in used if row["reset"]),
            acts=tuple(_act(row, user_id) for row in acts for user_id in (row["user_id"], *row["alike"])),
        )

    async def _sent(self, cafe_id: str, recent: Sequence[Message], now_ms: int, limits: Limits) -> tuple[Sent, ...]:
        """The messages that still count. Mostly those that are at hand already."""
        since_ms = max(0, now_ms - limits.memory_ms)
        if recent and recent[0].seq > 1 and from_rfc3339(recent[0].created_at) > since_ms:
            rows = await self._pg.fetch("message_sent", cafe_id, SENT_MAX, as_datetime(since_ms), timeout_s=TIMEOUT_S)
            return tuple(Sent(row["user_id"], row["at_ms"], row["badged"]) for row in rows)
        by_author: dict[str, Sent] = {}
        for message in recent:
            at_ms = from_rfc3339(message.created_at)
            if at_ms > since_ms:
                sent = by_author.setdefault(message.user_id, Sent(message.user_id, [], []))
                sent.at_ms.append(at_ms)
                sent.badged.append(message.badge is not None)
        return tuple(by_author.values())


def _act(row: Mapping[str, Any], user_id: str) -> Act:
    until = row["until_at"]
    return Act(row["action"], user_id, as_ms(row["created_at"]), None if until is None else as_ms(until), row["reason"], row["rule"])
