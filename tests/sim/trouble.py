"""What is wrong in a world at the moment, and how large its parts are.

A promise of brewd depends on it: where nothing is wrong, everything is quick; a café in which nothing is wrong keeps its deadlines
whatever the store does; and elsewhere there is still a bound.
"""

from __future__ import annotations

import msgspec
import trio


class Injected(Exception):
    """A bug that was put there."""


class Setup(msgspec.Struct, frozen=True):
    """The bounds of one world, drawn from its seed."""

    mailbox_max: int
    quota: int
    batch_max: int
    held: int
    keys: int
    commit_timeout_s: float
    read_timeout_s: float
    reply_timeout_ms: int
    grace_ms: int
    idle_s: float


class Trouble:
    """Until when nobody need be quick: everywhere, or in one café. `bugs`: where the next step in a café breaks, or until when all do."""

    def __init__(self) -> None:
        self._all_s = 0.0
        self._cafe_s: dict[str, float] = {}
        self.bugs: dict[str, str] = {}
        self.storms: dict[str, float] = {}
        self.struck_s: dict[str, float] = {}

    def everywhere(self, until_s: float) -> None:
        self._all_s = max(self._all_s, until_s)

    def within(self, cafe_id: str, until_s: float) -> None:
        self._cafe_s[cafe_id] = max(self._cafe_s.get(cafe_id, 0.0), until_s)

    def within_until_s(self, cafe_id: str) -> float:
        return self._cafe_s.get(cafe_id, -1.0)

    def until_s(self, cafe_id: str) -> float:
        return max(self._all_s, self.within_until_s(cafe_id))

    def strike(self, cafe_id: str, where: str) -> None:
        """Raises `Injected` when it is time to."""
        now_s = trio.current_time()
        if now_s < self.storms.get(cafe_id, 0.0):
            strikes = where == "before"
        else:
            strikes = self.bugs.get(cafe_id) == where
            if strikes:
                del self.bugs[cafe_id]
        if strikes:
            self.struck_s[cafe_id] = now_s
            self.within(cafe_id, now_s + 1.0)
            raise Injected(where)
