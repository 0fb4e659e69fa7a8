"""How often one guest may make the room tell everybody something that is no message: that they came, type, or are busy now.

Each such sign costs nothing to send and goes to every member, so a few who alternate two of them as fast as their sockets take it
would keep the room from everything else. Nobody who means well comes near the bound, so it is not for the operator to set.
"""

from __future__ import annotations

from typing import Final

from brewd.runtime import bucket
from brewd.runtime.bucket import Packed, Rate, unpacked

RATE: Final = Rate(tokens=1, period_ms=1000, burst=30)

_SWEEP_FIRST: Final = 1024


class Signs:
    """The buckets, by user; a full one is not kept. Not kept over a restart either."""

    __slots__ = ("_held", "_sweep_at")

    def __init__(self) -> None:
        self._held: dict[str, Packed] = {}
        self._sweep_at = _SWEEP_FIRST

    def __len__(self) -> int:
        return len(self._held)

    def forget(self, user_id: str) -> None:
        self._held.pop(user_id, None)

    def take(self, user_id: str, now_ms: int) -> int:
        """0: here is one. Otherwise none was taken, and there is one in so many ms."""
        after = bucket.drawn(self._held.get(user_id), RATE, now_ms)
        if after is None:
            return bucket.wait_ms(unpacked(self._held.get(user_id)), RATE, now_ms) or 0
        self._held[user_id] = after
        if len(self._held) >= self._sweep_at:
            self._held = {who: held for who, held in self._held.items() if bucket.full_in_ms(unpacked(held), RATE, now_ms) != 0}
            self._sweep_at = max(_SWEEP_FIRST, 2 * len(self._held))
        return 0
