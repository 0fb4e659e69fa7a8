"""A count shared by many that must not pass a limit: how a bound spans actors without a lock."""

from __future__ import annotations


class Quota:
    """At most `limit` units out at a time. Takers give back exactly what they took."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self) -> bool:
        """Take one unit; False, and nothing taken, at the limit."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def give(self, units: int = 1) -> None:
        self.used -= units
