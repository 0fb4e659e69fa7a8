"""What the simulation found, each as its shortest story. Real directory, actors and journal; the store is in memory and obeys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe.directory import Bounds, Directory
from brewd.cafe.effects import Effect, Quiet
from brewd.cafe.room import Room, Rules, step
from brewd.cafe.standing import Standing
from brewd.errors import StoreError
from brewd.runtime.alarm import Alarms
from brewd.runtime.clock import Clock, rfc3339
from brewd.runtime.ids import Ids
from brewd.runtime.quota import Quota
from brewd.runtime.supervisor import open_supervisor
from brewd.store.journal import Journal
from brewd.store.messages import Messages
from brewd.store.records import Batch, Entry, Message, Recent
from tests.cafe.rooms import ANN, BOB, CAFE, EPOCH
from tests.cafe.sockets import Socket
from tests.sim.store import Direct, Tables

IDLE_S = 5.0


class Slow(Direct):
    """A connection that, once, does a query at once and answers `after_s` later, or not at all; or that always `hangs`."""

    query = ""
    after_s = 0.0
    answers = True
    hangs = False

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        if self.hangs:
            await trio.sleep(timeout_s)
            raise StoreError("no answer in time")
        rows = await super().fetch(name, *args, timeout_s=timeout_s)
        if name == self.query:
            self.query = ""
            await trio.sleep(self.after_s)
            if not self.answers:
                raise StoreError("lost on the way back")
        return rows


class Cold:
    """Nothing is remembered of a café, nothing is limited in it, and nobody observes it."""

    async def standing(self, cafe_id: str, recent: Recent) -> Standing:
        await trio.lowlevel.checkpoint()
        return Standing()

    def note(self, cafe_id: str, kept: Quiet) -> None:
        pass

    def touched(self, room: Room) -> None:
        pass

    def unsaid(self, cafe_id: str) -> None:
        pass

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]:
        await trio.lowlevel.checkpoint()
        return []

    def closed(self, cafe_id: str) -> None:
        pass


class House:
    """One café. Its step fails at the next command of one type, before or after its work; `fails_next` takes over from `fails_before`."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tables.add_cafe(CAFE, EPOCH)
        self.wire = Slow(self.tables)
        self.quota = Quota(100)
        self.fails_before: type | None = None
        self.fails_next: type | None = None
        self.fails_after: type | None = None
        self.directory: Directory

    def step(self, room: Room, command: c.Command, now_ms: int) -> list[Effect]:
        if type(command) is self.fails_before:
            self.fails_before, self.fails_next = self.fails_next, None
            raise RuntimeError("a bug, before")
        effects = step(room, command, now_ms)
        if type(command) is self.fails_after:
            self.fails_after = None
            raise RuntimeError("a bug, after")
        return effects

    async def enter(self, who: c.Who) -> tuple[Socket, int]:
        ref, socket = self.directory.ref(CAFE), Socket()
        to = ref.attach(socket, who)
        await self.tell(c.Join(to, who, "join"))
        socket.news()
        return socket, to

    async def tell(self, *commands: c.Command) -> None:
        for command in commands:
            self.directory.ref(CAFE).tell(command)
        await trio.sleep(0.1)


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    house, clock, alarms, cold = House(), Clock(), Alarms(), Cold()
    messages = Messages(lane=house.wire, pool=house.wire, timeout_s=5.0)
    journal = Journal(store=messages, batch_max=1000)
    async with open_supervisor("root") as root:
        root.spawn("alarms", alarms.run)
        root.spawn("journal", journal.run)
        house.directory = Directory(
            supervisor=root.group("cafes"), store=messages, journal=journal, standings=cold, keeper=cold, warmth=cold, clock=clock, ids=Ids(clock), alarms=alarms, quota=house.quota,
            rules=Rules(), bounds=Bounds(idle_s=IDLE_S), step=house.step,
        )  # fmt: skip
        yield house


async def test_a_command_that_fails_after_it_left_a_draft_is_answered_once(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        socket, to = await house.enter(ANN)
        house.fails_after = c.Send
        await house.tell(c.Send(to, ANN, "hello", "key", "r1"))
        assert socket.brief() == ["error r1 internal"]
        assert house.quota.used == 0


async def test_a_deletion_that_was_stored_as_the_actor_crashed_is_told_by_the_next_one(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        socket, to = await house.enter(ANN)
        await house.tell(c.Send(to, ANN, "hello", None, "r1"))
        house.wire.query, house.wire.after_s = "line_redact", 1.0
        await house.tell(c.Delete(ANN, house.tables.rows[CAFE][0].id, to, "r2"))
        socket.news()
        house.fails_before = c.SetStatus
        await house.tell(c.SetStatus(to, "away", "r3"))
        assert socket.brief() == ["error r3 internal", "error r2 cafe_unavailable", "message:deleted"]


async def test_a_deletion_that_may_have_been_done_is_done_again_though_nobody_waits(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        socket, to = await house.enter(ANN)
        await house.tell(c.Send(to, ANN, "hello", None, "r1"))
        socket.news()
        house.wire.query, house.wire.after_s, house.wire.answers = "line_redact", 6.0, False
        await house.tell(c.Delete(ANN, house.tables.rows[CAFE][0].id, to, "r2"))
        await trio.sleep(7)
        assert socket.brief() == ["error r2 storage_unavailable", "message:deleted"]
        assert house.quota.used == 0


async def test_a_cafe_whose_last_socket_goes_when_it_is_asleep_is_forgotten(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        _, to = await house.enter(ANN)
        await house.tell(c.Leave(to, "r1"))
        await trio.sleep(2 * IDLE_S)
        ref = house.directory.ref(CAFE)
        assert [status.state for status in house.directory.list()] == ["stopped"]
        ref.detach(to)
        assert house.directory.list() == []


async def test_who_is_in_their_grace_time_survives_an_actor_that_fails_as_it_takes_over(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        ann, to_ann = await house.enter(ANN)
        _, to_bob = await house.enter(BOB)
        house.directory.ref(CAFE).detach(to_bob)
        await trio.sleep(0.1)
        ann.news()
        house.fails_before, house.fails_next = c.SetStatus, c.Rejoin
        await house.tell(c.SetStatus(to_ann, "away", "r1"))
        answer = await house.directory.ref(CAFE).ask(c.PresenceQuery())
        assert sorted(user.username for user in answer.users) == ["ann", "bob"]
        await trio.sleep(31)
        assert "users:update bob leave" in ann.brief()


async def test_who_failed_to_come_in_was_never_there(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        ann, _ = await house.enter(ANN)
        bob = Socket()
        to_bob = house.directory.ref(CAFE).attach(bob, BOB)
        house.fails_after = c.Join
        await house.tell(c.Join(to_bob, BOB, "r1"))
        assert bob.brief() == ["error r1 internal"]
        await house.tell(c.Join(to_bob, BOB, "r2"))
        assert ann.brief() == ["users:update bob join"]


async def test_with_a_store_that_hangs_nobody_waits_in_silence_for_their_turn_to_start(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        house.wire.hangs = True
        sockets = []
        for number in range(200):
            ref, socket = house.directory.ref(f"cafe-{number}"), Socket()
            ref.tell(c.Join(ref.attach(socket, ANN), ANN, "join"))
            sockets.append(socket)
        await trio.sleep(4)
        assert [socket.brief() for socket in sockets] == [["error join storage_unavailable"]] * 200


async def test_an_actor_that_was_replaced_while_it_read_shows_what_is_its_own(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        ann, to = await house.enter(ANN)
        for number in range(3):
            await house.tell(c.Send(to, ANN, f"says {number}", None, number))
        ann.news()
        house.wire.query, house.wire.after_s = "line_open", 1.0
        house.fails_before = c.SetStatus
        await house.tell(c.SetStatus(to, "away", "r1"))
        other = Messages(lane=Direct(house.tables), pool=Direct(house.tables), timeout_s=5.0)
        line = await other.open_line(CAFE)
        assert line is not None
        message = Message(Ids(Clock()).uuid7(), CAFE, 4, ANN.user_id, ANN.username, None, "elsewhere", rfc3339(0))
        await other.commit([Batch(CAFE, line.generation, 4, (Entry(message, None, 0),))])
        await trio.sleep(2)
        assert ann.brief() == ["error r1 internal"]
        bob = Socket()
        await house.tell(c.Join(house.directory.ref(CAFE).attach(bob, BOB), BOB, "r1", since=1))
        answer = bob.answer("r1")["data"]
        assert (answer["recovered"], [message["seq"] for message in answer["messages"]]) == (True, [2, 3])
        await house.tell(c.Send(to, ANN, "again", None, "r2"))
        await trio.sleep(1)
        assert ann.brief() == ["users:update bob join", "error r2 cafe_unavailable", "message:new 4"]
