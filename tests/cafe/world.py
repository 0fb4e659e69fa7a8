"""Cafés with everything but edges: the real directory, actors, journal and alarms, on tables in memory that do as they are told.

Use it with `autojump_clock`: then `calm` costs nothing, and time is what a test makes it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from brewd.cafe import commands as c
from brewd.cafe.directory import Bounds, Directory
from brewd.cafe.effects import Effect
from brewd.cafe.ledger import Ledger
from brewd.cafe.limits import Terms
from brewd.cafe.ref import CafeRef, CafeStatus
from brewd.cafe.room import Room, Rules, step
from brewd.errors import StoreError
from brewd.people.standings import Standings
from brewd.runtime.alarm import Alarms
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.quota import Quota
from brewd.runtime.supervisor import Supervisor, open_supervisor
from brewd.store.journal import Journal
from brewd.store.messages import Messages
from tests.cafe.rooms import CAFE, EPOCH, NOW_MS
from tests.cafe.sockets import Socket
from tests.sim.decisions import Termed
from tests.sim.store import Direct, Tables

OTHER = "00000000-0000-4000-8000-000000000002"
NOWHERE = "00000000-0000-4000-8000-00000000dead"


class Bug(Exception):
    """A bug that was put there."""


class Wire(Direct):
    """The way to the tables. `down`: every query fails. `before`, `after`: queries that wait there for their gate, before or after they are done."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.down = False
        self.before: dict[str, trio.Event] = {}
        self.after: dict[str, trio.Event] = {}
        self.asked: Counter[str] = Counter()

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        self.asked[name] += 1
        if self.down:
            await trio.lowlevel.checkpoint()
            raise StoreError("down")
        with trio.move_on_after(timeout_s):
            await self._pass(self.before.get(name))
            rows = await super().fetch(name, *args, timeout_s=timeout_s)
            await self._pass(self.after.get(name))
            return rows
        raise StoreError("no answer in time")

    async def _pass(self, gate: trio.Event | None) -> None:
        if gate is not None:
            await gate.wait()


class Mirrored:
    """What the directory tells and asks the mirror."""

    def __init__(self) -> None:
        self.warm: list[tuple[str, float]] = []
        self.touches: Counter[str] = Counter()
        self.unsaids: Counter[str] = Counter()
        self.over: list[str] = []

    def touched(self, room: Room) -> None:
        self.touches[room.cafe_id] += 1

    def unsaid(self, cafe_id: str) -> None:
        self.unsaids[cafe_id] += 1

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]:
        await trio.lowlevel.checkpoint()
        return self.warm

    def closed(self, cafe_id: str) -> None:
        self.over.append(cafe_id)


class Guest:
    """Somebody with a socket."""

    def __init__(self, world: World, ref: CafeRef, who: c.Who) -> None:
        self.world = world
        self.ref = ref
        self.who = who
        self.socket = Socket()
        self.to = ref.attach(self.socket, who)
        self._numbers = itertools.count(1)

    async def join(self) -> None:
        self.ref.tell(c.Join(self.to, self.who, "join"))
        await self.world.calm()
        self.socket.news()

    def say(self, content: str = "an espresso please", *, ref: str = "r", name: str | None = None) -> None:
        self.ref.tell(c.Send(self.to, self.who, content, name, ref))

    async def hear(self) -> list[str]:
        """What came since the last look, when everything has calmed down."""
        await self.world.calm()
        return self.socket.brief()

    def go(self) -> None:
        self.ref.detach(self.to)


class World:
    """`breaks(command)`: whether the step of that command fails. `spoils(room)` may damage a room after each of its steps."""

    def __init__(self, supervisor: Supervisor, *, bounds: Bounds, rules: Rules, pending_max: int, terms: Terms) -> None:
        self.tables = Tables()
        for cafe_id in (CAFE, OTHER):
            self.tables.add_cafe(cafe_id, EPOCH)
        self.wire = Wire(self.tables)
        self.mirrored = Mirrored()
        self.quota = Quota(pending_max)
        self.breaks: Callable[[c.Command], bool] = lambda command: False
        self.spoils: Callable[[Room], None] = lambda room: None
        self.steps: list[tuple[str, c.Command]] = []
        self.messages = Messages(lane=self.wire, pool=self.wire, timeout_s=10.0)
        self.journal = Journal(store=self.messages, batch_max=1000)
        clock, alarms = Clock(NOW_MS), Alarms()
        ids = Ids(clock, Random(7).randbytes)
        self.terms = Termed(terms)
        self.ledger = Ledger(pg=self.wire, ids=ids)
        supervisor.spawn("alarms", alarms.run, essential=True)
        supervisor.spawn("journal", self.journal.run, essential=True)
        supervisor.spawn("ledger", self.ledger.run, essential=True)
        self.cafes = supervisor.group("cafes")
        self.directory = Directory(
            supervisor=self.cafes, store=self.messages, journal=self.journal, warmth=self.mirrored, clock=clock, ids=ids,
            standings=Standings(pg=self.wire, cafes=self.terms, decisions=self.ledger, clock=clock), keeper=self.ledger, alarms=alarms, quota=self.quota, rules=rules, bounds=bounds, step=self.step,
        )  # fmt: skip

    def step(self, room: Room, command: c.Command, now_ms: int) -> list[Effect]:
        self.steps.append((room.cafe_id, command))
        if self.breaks(command):
            raise Bug(type(command).__name__)
        effects = step(room, command, now_ms)
        self.spoils(room)
        return effects

    def breaks_once(self, kind: type[c.Command]) -> None:
        """The next command of this kind fails."""

        def breaks(command: c.Command) -> bool:
            if not isinstance(command, kind):
                return False
            self.breaks = lambda command: False
            return True

        self.breaks = breaks

    async def calm(self, for_s: float = 0.1) -> None:
        await trio.sleep(for_s)

    async def enter(self, who: c.Who, cafe_id: str = CAFE) -> Guest:
        """Somebody new in the room; what they were told so far is read."""
        guest = Guest(self, self.directory.ref(cafe_id), who)
        await guest.join()
        return guest

    def status(self, cafe_id: str = CAFE) -> CafeStatus:
        (status,) = [status for status in self.directory.list() if status.cafe_id == cafe_id]
        return status

    def stored(self, cafe_id: str = CAFE) -> list[tuple[int, str]]:
        return [(row.seq, row.content) for row in self.tables.rows[cafe_id]]


@asynccontextmanager
async def open_world(bounds: Bounds | None = None, rules: Rules | None = None, pending_max: int = 1000, terms: Terms | None = None) -> AsyncIterator[World]:
    async with open_supervisor("brewd") as supervisor:
        yield World(supervisor, bounds=bounds or Bounds(idle_s=60.0), rules=rules or Rules(), pending_max=pending_max, terms=terms or Terms())
