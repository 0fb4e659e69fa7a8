"""One brewd without its edges: the real directory, actors, journal, alarms and supervisor on a store that misbehaves.

A daemon can be killed at any moment; its sockets die with it, and whatever it had sent to the store may still arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import trio

from brewd.cafe import commands as c
from brewd.cafe import room as room_module
from brewd.cafe.directory import Bounds, Directory
from brewd.cafe.effects import Effect
from brewd.cafe.history import HELD_MAX
from brewd.cafe.ledger import Ledger
from brewd.cafe.ref import CafeRef, State
from brewd.cafe.room import Room, Rules
from brewd.people.standings import Standings
from brewd.runtime.alarm import Alarms
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.quota import Quota
from brewd.runtime.supervisor import open_supervisor
from brewd.store.journal import Journal, Source
from brewd.store.messages import Messages
from brewd.store.records import Message
from tests.sim.decisions import Termed
from tests.sim.faults import Weather, Wire
from tests.sim.home import Mute, Request
from tests.sim.laws import BOUNDED, CONTAINED, Laws, Watched
from tests.sim.members import Client
from tests.sim.sockets import Codec
from tests.sim.trouble import Injected, Setup, Trouble

START_MS = 1_795_341_600_000
CALM_S = 0.5
"""How long anything may take while nothing is wrong."""

RESTARTED_S = 0.25
TICKS_MAX = 4


class World(Protocol):
    """What a daemon has around it."""

    laws: Laws
    setup: Setup
    trouble: Trouble
    weather: Weather
    termed: Termed
    mutes: dict[str, Mute]
    moderated: bool

    def gone(self, client: Client, to: int, ref: CafeRef, *, politely: bool) -> None: ...


class Daemon:
    """See the module. `up` once it serves."""

    def __init__(self, *, number: int, world: World, random: Random) -> None:
        self.number = number
        self.laws = world.laws
        self.codecs = [Codec(), Codec()]
        self.up = False
        self.draining = False
        self.stopping: set[str] = set()
        self.clients: set[Client] = set()
        self.rooms: dict[str, Room] = {}
        self.quota = Quota(world.setup.quota)
        self.reply_timeout_s = world.setup.reply_timeout_ms / 1000
        self._world = world
        self._random = random
        self._scope = trio.CancelScope()
        self._crashed_s: dict[str, float] = {}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is killed."""
        world, setup, trouble = self._world, self._world.setup, self._world.trouble
        clock = Clock(START_MS + int(trio.current_time() * 1000))
        wire = Wire(weather=world.weather, random=self._random, tables=self.laws.tables, trouble=trouble.everywhere, sent=self.laws.sent)
        self.messages = Messages(lane=wire, pool=wire, timeout_s=setup.commit_timeout_s, read_timeout_s=setup.read_timeout_s)
        self.journal = Listening(laws=self.laws, store=self.messages, batch_max=setup.batch_max)
        alarms, ids = Alarms(), Ids(clock, self._random.randbytes)
        ledger = Ledger(pg=wire, ids=ids)
        standings = Standings(pg=wire, cafes=world.termed, decisions=ledger, clock=clock)
        with self._scope:
            async with open_supervisor(f"brewd{self.number}") as root:
                root.spawn("alarms", alarms.run, essential=True, crashed=self._infrastructure_crashed)
                root.spawn("journal", self.journal.run, essential=True, crashed=self._infrastructure_crashed)
                root.spawn("ledger", ledger.run, essential=True, crashed=self._infrastructure_crashed)
                self.directory = Reporting(
                    report=self._cafe_crashed, supervisor=root.group("cafes"), store=self.messages, journal=self.journal, standings=standings, keeper=ledger,
                    warmth=self, clock=clock, ids=ids, alarms=alarms, quota=self.quota,
                    rules=Rules(presence_grace_ms=setup.grace_ms, reply_timeout_ms=setup.reply_timeout_ms),
                    bounds=Bounds(mailbox_max=setup.mailbox_max, idle_s=setup.idle_s), step=self._step,
                )  # fmt: skip
                self.up = True
                trouble.everywhere(trio.current_time() + CALM_S)
                task_status.started()
                await trio.sleep_forever()
        self.up = False

    def kill(self) -> None:
        """`kill -9`."""
        self.laws.note("daemon", self.number, "is killed")
        self.up = False
        for client in sorted(self.clients, key=lambda client: client.name):
            client.cut()
        self._scope.cancel()

    async def drain(self) -> None:
        """SIGTERM: what was accepted is stored, then everybody is told to come back."""
        self.draining = True
        with trio.move_on_after(3):
            while self.quota.used:
                await trio.sleep(0.01)
        for client in sorted(self.clients, key=lambda client: client.name):
            if client.socket is not None:
                client.socket.close(1012, "restarting")
        self.kill()

    def audit(self) -> None:
        """The bounds, whenever nothing is in the middle of anything."""
        laws = self.laws
        if not 0 <= self.quota.used <= self.quota.limit:
            laws.breach(BOUNDED, f"the quota stands at {self.quota.used} of {self.quota.limit}")
        if not self.up:
            return
        for status in self.directory.list():
            mailbox = self.directory.ref(status.cafe_id).mailbox
            items = list(mailbox._items)
            ticks = sum(isinstance(item, c.Tick) for item in items)
            drops = sum(isinstance(item, c.Drop) for item in items)
            orders = sum(isinstance(item, c.Mute | c.Unmute | c.SetTerms) for item in items)  # each was stored first, which bounds them
            if len(items) - ticks - drops - orders > mailbox.limit or ticks > TICKS_MAX:
                laws.breach(BOUNDED, f"{len(items)} commands in the mailbox of {status.cafe_id}, {ticks} of them ticks, {drops} drops, {orders} orders")

    # What clients ask of their daemon (`members.Home`).

    def ref(self, cafe_id: str) -> CafeRef:
        return self.directory.ref(cafe_id)

    async def after(self, cafe_id: str, seq: int, limit: int) -> list[Message]:
        return await self.messages.after(cafe_id, seq, limit)

    def promise(self, cafe_id: str, asked: Request) -> None:
        """When the answer is due: at the deadline of a draft, and, where everything is wrong, after a few loads that fail late."""
        extra_s = 6.0 if asked.kind == "join" else 0.0  # its edge asks and reads first
        asked.due_s = asked.asked_s + self.reply_timeout_s + 4 * self._world.setup.read_timeout_s + 2.0 + extra_s
        if self.directory.ref(cafe_id).state is State.RUNNING:
            asked.running_due_s = asked.asked_s + self.reply_timeout_s + CALM_S + extra_s

    def limit_s(self, cafe_id: str, asked: Request) -> float:
        """When it is due, as things went since it was asked."""
        trouble = self._world.trouble
        if trouble.until_s(cafe_id) < asked.asked_s:
            return asked.asked_s + CALM_S
        return min(asked.due_s, asked.running_due_s) if trouble.within_until_s(cafe_id) < asked.asked_s else asked.due_s

    def may_refuse(self, cafe_id: str, asked: Request, code: str) -> bool:
        """Whether there was a reason to."""
        if code == "mailbox_full":
            return len(self.directory.ref(cafe_id).mailbox) >= self._world.setup.mailbox_max
        if code in ("rate_limited", "spam_blocked", "muted"):
            terms = self._world.termed.drawn
            limited, judged = terms.limits is not None, terms.spam is not None
            return asked.kind == "send" and {"rate_limited": limited, "spam_blocked": judged, "muted": judged or self._world.moderated}[code]
        if code == "internal":
            return self._world.trouble.struck_s.get(cafe_id, -1.0) >= asked.asked_s
        quarantined = self.directory.ref(cafe_id).state is State.QUARANTINED  # and not by itself: every crash is looked at
        troubled = self._world.trouble.until_s(cafe_id) >= asked.asked_s or self.draining or quarantined
        if code == "storage_unavailable":
            return troubled or self._world.setup.quota < 100
        return code == "cafe_unavailable" and troubled

    def is_muted(self, user_id: str, asked: Request) -> bool:
        """Whether this daemon knew, when it was asked, that the user was muted and is still: by a moderator's word it was told."""
        mute = self._world.mutes.get(user_id)
        return mute is not None and mute.home is self and mute.from_s < asked.asked_s and trio.current_time() < mute.until_s

    def is_current(self, cafe_id: str) -> bool:
        """Whether the café is still this daemon's. One that was replaced and has not noticed yet shows what it has."""
        room = self.rooms.get(cafe_id)
        return room is not None and self.laws.tables.owns(cafe_id, room.generation)

    def may_close(self, cafe_id: str) -> bool:
        """Whether there is a reason to end a socket that is fast enough: a crash is none."""
        return self.draining or cafe_id in self.stopping or self._world.setup.held < HELD_MAX

    async def stop_cafe(self, cafe_id: str) -> None:
        self.stopping.add(cafe_id)
        try:
            await self.directory.stop(cafe_id)
        finally:
            self.stopping.discard(cafe_id)

    def disconnected(self, client: Client) -> None:
        self.clients.discard(client)
        if client.socket is not None and client.ref is not None:
            self._world.gone(client, client.to, client.ref, politely=client.socket.closed)
            client.socket = None

    # What the directory asks of its surroundings (`directory.Warmth`, `actor.Step`).

    def unsaid(self, cafe_id: str) -> None:
        pass

    def touched(self, room: Room) -> None:
        self.rooms[room.cafe_id] = room
        crashed_s = self._crashed_s.pop(room.cafe_id, None)
        world, now_s = self._world, trio.current_time()
        if crashed_s is not None and now_s - crashed_s > RESTARTED_S and world.trouble.until_s("") < crashed_s:
            self.laws.breach(CONTAINED, f"{room.cafe_id} came back {now_s - crashed_s:.3f} s after its crash")
        world.trouble.strike(room.cafe_id, "observer")

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]:
        await trio.lowlevel.checkpoint()
        return [("coffee", 1.0)]

    def closed(self, cafe_id: str) -> None:
        self.rooms.pop(cafe_id, None)

    def _step(self, room: Room, command: c.Command, now_ms: int) -> list[Effect]:
        trouble = self._world.trouble
        trouble.strike(room.cafe_id, "before")
        effects = room_module.step(room, command, now_ms)
        if type(command) is not c.Tick:
            trouble.strike(room.cafe_id, "after")
        return effects

    def _cafe_crashed(self, ref: CafeRef, error: Exception) -> None:
        self.laws.note(ref.cafe_id, "crashes", repr(error))
        now_s = trio.current_time()
        if ref.state is State.QUARANTINED:
            self._crashed_s.pop(ref.cafe_id, None)
        else:
            self._crashed_s[ref.cafe_id] = now_s
        self._world.trouble.within(ref.cafe_id, now_s + 1.0)
        if not isinstance(error, Injected) and "0x00" not in str(error):
            self.laws.breach(CONTAINED, f"{ref.cafe_id} crashed by itself: {error!r}")

    def _infrastructure_crashed(self, error: Exception) -> None:
        self.laws.note("infrastructure crashes", repr(error))
        self._world.trouble.everywhere(trio.current_time() + 1.0)
        if "driver" not in str(error):
            self.laws.breach(CONTAINED, f"a part of the daemon crashed by itself: {error!r}")


class Listening(Journal):
    """A journal all of whose sources are listened to."""

    def __init__(self, *, laws: Laws, **parts: Any) -> None:
        super().__init__(**parts)
        self._laws = laws
        self._watched: dict[str, tuple[Source, Watched]] = {}

    def ready(self, cafe_id: str, source: Source) -> None:
        held = self._watched.get(cafe_id)
        if held is None or held[0] is not source:
            held = self._watched[cafe_id] = (source, Watched(cafe_id, source, self._laws))
        super().ready(cafe_id, held[1])


class Reporting(Directory):
    """A directory that says when a café crashed."""

    def __init__(self, *, report: Callable[[CafeRef, Exception], None], **parts: Any) -> None:
        super().__init__(**parts)
        self._report = report

    def _crashed(self, ref: CafeRef, error: Exception) -> None:
        super()._crashed(ref, error)
        self._report(ref, error)
