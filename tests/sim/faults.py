"""The way to the store, and what can happen on it: slow, lost, refused, delivered late or twice, or nothing at all for a while.

A query that is lost on its way back has happened; one that is delivered late happens when nobody waits for it any more, unless
a fence came first. What is decided for a query depends on the seed and on the queries before it, on nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import trio

from brewd.errors import StoreConflict, StoreError
from tests.sim.store import Tables

WRITES = frozenset({"line_open", "line_commit", "line_redact", "line_fence", "moderation_add", "limit_use_add"})
COMMITS = frozenset({"line_commit", "line_redact"})


class Odds:
    """How often each fault strikes, from 0 to 1. Drawn once for a seed."""

    def __init__(self, random: Random) -> None:
        some = random.choice([0.0, 0.0, 0.02, 0.08, 0.25])
        self.lost_before = some * random.random()
        self.lost_after = some * random.random()
        self.late = some * random.random()
        self.refused = some * random.random()
        self.slow = some * random.random()
        self.twice = some * random.random()
        self.broken = some * random.random() * 0.2


class Weather:
    """The faults of one world. `at(time_s, do)` puts something on its agenda; `trouble(until_s)` notes that nobody need be quick until then."""

    def __init__(self, *, random: Random, tables: Tables, at: Callable[[float, Callable[[], None]], None], trouble: Callable[[float], None]) -> None:
        self._random = random
        self._tables = tables
        self._at = at
        self._trouble = trouble
        self.odds = Odds(random)
        self.outage_until_s = 0.0
        self.outage_hangs = False
        self.calm = False
        self.broken_left = 2  # more would end the journal for good, which is right but not what is looked at here

    def outage(self, length_s: float, *, hangs: bool) -> None:
        self.outage_until_s = trio.current_time() + length_s
        self.outage_hangs = hangs
        self._trouble(self.outage_until_s + 1.0)

    def fate(self, name: str) -> str:
        """What is to become of a query that starts now."""
        if trio.current_time() < self.outage_until_s:
            return "hangs" if self.outage_hangs else "refused"
        if self.calm:
            return "fine"
        odds, chance = self.odds, self._random.random()
        likely = [("lost_before", odds.lost_before), ("lost_after", odds.lost_after), ("refused", odds.refused), ("hangs", odds.slow)]
        if name in COMMITS:
            likely += [("late", odds.late), ("twice", odds.twice)]
        if name == "message_present" and self.broken_left:
            likely.append(("broken", odds.broken * 10))
        for fate, share in likely:
            if chance < share:
                return fate
            chance -= share
        return "fine"

    def delay_s(self) -> float:
        """One way to the store."""
        if self._random.random() < 0.05:
            return self._random.random() * 0.1
        return 0.0002 + self._random.random() * 0.002

    def deliver_late(self, name: str, args: tuple[Any, ...], after_s: float) -> None:
        """The query reaches the store `after_s` from now, and its answer nobody."""

        def arrive() -> None:
            with contextlib.suppress(StoreConflict, ValueError):
                self._tables.run(name, *args)

        self._at(trio.current_time() + after_s, arrive)


class Wire:
    """A daemon's connection. It looks like a pool to `Messages`. `sent` hears of every query before it leaves."""

    def __init__(self, *, weather: Weather, random: Random, tables: Tables, trouble: Callable[[float], None], sent: Callable[..., None]) -> None:
        self._weather = weather
        self._random = random
        self._tables = tables
        self._trouble = trouble
        self._sent = sent

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        weather, now_s = self._weather, trio.current_time()
        self._sent(name, *args)
        fate, there_s, back_s = weather.fate(name), weather.delay_s(), weather.delay_s()
        if fate != "fine" or there_s + back_s > 0.02:
            self._trouble(now_s + 1.0)
        if fate == "refused":
            await trio.sleep(0.0005)
            raise StoreError("refused")
        if fate in ("hangs", "late"):
            if name in WRITES and self._random.random() < 0.5:
                weather.deliver_late(name, args, self._random.random() * 2 * timeout_s)
            wait_s = timeout_s if fate == "hangs" else self._random.random() * timeout_s / 4
            self._trouble(now_s + wait_s + 1.0)
            await trio.sleep(wait_s)
            raise StoreError("no answer in time")
        await self._travel(name, args, there_s)
        if fate == "lost_before":
            raise StoreError("lost on the way there")
        if fate == "broken":
            weather.broken_left -= 1
            raise RuntimeError("a bug in the driver")
        rows = self._tables.run(name, *args)
        await trio.sleep(back_s)
        if fate == "twice":
            weather.deliver_late(name, args, self._random.random())
        if fate == "lost_after":
            raise StoreError("lost on the way back")
        return rows

    async def _travel(self, name: str, args: tuple[Any, ...], there_s: float) -> None:
        """Whoever gives up on the way cannot stop what may already have left."""
        arrives = False
        try:
            await trio.sleep(there_s)
            arrives = True
        finally:
            if not arrives and name in WRITES and self._random.random() < 0.5:
                self._weather.deliver_late(name, args, self._random.random() * 3)
