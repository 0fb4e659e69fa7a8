"""Who has a badge that counts, in memory: tokens say who had one when they were made, and may be an hour old.

Owns one entry for each user who has such a badge, or had one within this stay, until their stay is over. A badge that ends ends
here by itself, to the millisecond; `over` says which ended, for whoever has to be told.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

from brewd.runtime.clock import Clock, as_ms

SWEEP_FIRST = 1024


class Bearer(Struct, frozen=True):
    """A user as far as their badge goes. `until_ms`: when it ends. `expires_ms`: when the user does."""

    user_id: str
    cafe_id: str
    username: str
    badge: str | None
    until_ms: int
    expires_ms: int


class Holders:
    """Nothing here blocks or awaits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, Bearer] = {}
        self._ends: list[tuple[int, str]] = []
        self._sweep_at = SWEEP_FIRST

    def __len__(self) -> int:
        return len(self._held)

    def badge(self, user_id: str, claimed: str | None) -> str | None:
        """What this user has now. `claimed`: what their token says, which counts where nothing else is known."""
        bearer = self._held.get(user_id)
        if bearer is None:
            return claimed
        return bearer.badge if bearer.until_ms > self._clock.now_ms() else None

    def hold(self, bearer: Bearer) -> None:
        """They have this badge from now on, until it ends. What ends earlier than what is known is older, unless it says that it was taken away."""
        known = self._held.get(bearer.user_id)
        if known is not None and (bearer.until_ms, bearer.badge is None) <= (known.until_ms, known.badge is None):
            return
        self._held[bearer.user_id] = bearer
        heapq.heappush(self._ends, (bearer.until_ms, bearer.user_id))
        if len(self._ends) >= self._sweep_at:
            self._sweep()

    def over(self) -> list[Bearer]:
        """Whose badge has ended since this was last asked, of those who are here."""
        now_ms, over = self._clock.now_ms(), list[Bearer]()
        while self._ends and self._ends[0][0] <= now_ms:
            until_ms, user_id = heapq.heappop(self._ends)
            bearer = self._held.get(user_id)
            if bearer is not None and bearer.until_ms == until_ms and bearer.expires_ms > now_ms:  # else it was prolonged, or they are gone
                over.append(bearer)
        return over

    def forget(self, _cafe_id: str, user_ids: Collection[str]) -> None:
        """These people are erased."""
        before = len(self._held)
        for user_id in user_ids:
            self._held.pop(user_id, None)
        if len(self._held) < before:
            self._sweep()

    def _sweep(self) -> None:
        """Forget those who are gone. Done again when twice as many are held, so it costs each a constant."""
        now_ms = self._clock.now_ms()
        self._held = {user_id: bearer for user_id, bearer in self._held.items() if bearer.expires_ms > now_ms}
        self._ends = [end for end in set(self._ends) if end[1] in self._held and self._held[end[1]].until_ms == end[0]]  # also what `over` has not told yet
        heapq.heapify(self._ends)
        self._sweep_at = max(SWEEP_FIRST, 2 * len(self._ends))


def bearer_from(row: Mapping[str, Any]) -> Bearer:
    """Of a row of `badge_bearers`, `badge_held` or `badge_over`."""
    status, until = row["badge_status"], row["badge_until"]
    badge = None if status == "none" else status
    return Bearer(row["id"], row["cafe_id"], row["username"], badge, 0 if until is None else as_ms(until), as_ms(row["expires_at"]))
