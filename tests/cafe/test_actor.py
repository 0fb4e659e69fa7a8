"""One café at work: what its actor tells, when, and what of it survives a crash."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe.actor import TURN_COMMANDS_MAX
from brewd.cafe.history import HELD_MAX
from brewd.cafe.room import Room
from brewd.errors import Rejected
from brewd.store.journal import GAP_S
from tests.cafe.rooms import ANN, BOB, CAFE, CID, MOD
from tests.cafe.world import OTHER, Guest, World

# The life of a message


async def test_nothing_is_told_before_it_is_stored(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    gate = world.wire.before["line_commit"] = trio.Event()
    ann.say("moin")
    assert (await ann.hear(), await bob.hear()) == (["users:update bob join"], [])
    gate.set()
    assert await ann.hear() == ["message:new 1", "reply r", "topics:update"]
    assert await bob.hear() == ["message:new 1", "topics:update"]
    assert world.stored() == [(1, "moin")]


async def test_a_turn_is_one_push_to_each_socket_and_one_commit(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.socket.news()
    for n in range(5):
        ann.say(f"n{n}", ref=f"r{n}")
    await world.calm()
    assert world.wire.asked["line_commit"] == 1
    assert [len(guest.socket.pushes) for guest in (ann, bob)] == [1, 1]
    assert ann.socket.brief() == [
        f"{what} {n + (what == 'message:new')}" if what == "message:new" else f"{what} r{n}" for n in range(5) for what in ("message:new", "reply")
    ]


async def test_what_comes_during_a_commit_goes_with_the_next(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    gate = world.wire.before["line_commit"] = trio.Event()
    for n in range(4):
        ann.say(f"n{n}", ref=f"r{n}")
        await world.calm()
    assert world.wire.asked["line_commit"] == 1
    gate.set()
    await world.calm()
    assert world.wire.asked["line_commit"] == 2
    assert world.stored() == [(1, "n0"), (2, "n1"), (3, "n2"), (4, "n3")]
    assert world.quota.used == 0


async def test_a_long_mailbox_is_read_in_shares_so_that_other_cafes_get_their_turn(world: World, autojump_clock: MockClock) -> None:
    guests = [await world.enter(ANN), await world.enter(BOB, OTHER)]
    world.steps.clear()
    for guest in guests:
        for _ in range(2 * TURN_COMMANDS_MAX):
            guest.ref.tell(c.Typing(guest.to, on=True))
    await world.calm(0.01)
    first_shares = Counter(cafe_id for cafe_id, _ in world.steps[: 2 * TURN_COMMANDS_MAX])
    assert first_shares == {CAFE: TURN_COMMANDS_MAX, OTHER: TURN_COMMANDS_MAX}


async def test_a_deadline_of_the_room_is_kept_without_anybody_saying_anything(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.ref.tell(c.Typing(ann.to, on=True))
    assert await bob.hear() == ["typing:indicator ann on"]
    await world.calm(2.8)
    assert await bob.hear() == []
    assert await bob.hear() == ["typing:indicator ann off"]
    ann.go()
    await world.calm(29.8)
    assert await bob.hear() == []
    assert await bob.hear() == ["users:update ann leave"]


async def test_a_sender_is_told_when_postgres_is_silent_for_long_and_the_message_may_still_come(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    gate = world.wire.before["line_commit"] = trio.Event()
    ann.say("hi", name="k")
    await world.calm(4.8)
    assert await ann.hear() == []
    await world.calm()
    assert await ann.hear() == ["error r storage_unavailable"]
    ann.say("hi", ref="again", name="k")
    gate.set()
    assert await ann.hear() == ["message:new 1", "reply again"]


async def test_a_message_stored_long_ago_is_answered_as_it_was_then(world: World, autojump_clock: MockClock) -> None:
    first = await world.enter(ANN)
    first.say("hi", name="k")
    await world.calm()
    for n in range(HELD_MAX + 1):
        first.say(f"n{n}", ref="")
    await world.calm()
    world.breaks_once(c.SetStatus)
    first.ref.tell(c.SetStatus(first.to, "away"))  # the next actor knows the latest messages only
    await world.calm()
    first.socket.news()
    first.say("hi", ref="again", name="k")
    await world.calm()
    answer = first.socket.answer("again")["data"]
    assert (answer["message"]["seq"], answer["duplicate"]) == (1, True)
    assert len(world.stored()) == HELD_MAX + 2


# Crashing


async def test_the_command_at_fault_is_answered_with_an_incident_and_not_tried_again(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.socket.news()
    world.breaks_once(c.Send)
    ann.ref.tell(c.SetStatus(ann.to, "away", "before"))
    ann.say("hi")
    ann.ref.tell(c.SetStatus(ann.to, "busy", "after"))
    await world.calm()
    assert ann.socket.brief() == ["users:update ann status", "reply before", "error r internal", "users:update ann status", "reply after"]
    assert bob.socket.brief() == ["users:update ann status", "users:update ann status"]
    ann.say("hello")
    await world.calm()
    assert (world.stored(), world.status().crashes) == ([(1, "hello")], 1)


async def test_the_incident_that_is_told_is_the_one_in_the_log(world: World, autojump_clock: MockClock, logged: list[Any]) -> None:
    ann = await world.enter(ANN)
    world.breaks_once(c.Send)
    ann.say("hi")
    await world.calm()
    told = ann.socket.answer("r")["data"]
    assert [line["incident"] for line in logged if line["event"] == "command_crashed"] == [told["incident"]]
    assert "hi" not in repr([line for line in logged if "exc_info" not in line])
    world.breaks_once(c.PresenceQuery)
    with pytest.raises(Rejected) as refused:
        await ann.ref.ask(c.PresenceQuery())
    assert (refused.value.code, len(refused.value.data()["incident"])) == ("internal", 36)


async def test_a_crash_is_over_in_a_moment_and_the_sockets_stay(world: World, autojump_clock: MockClock) -> None:
    ann, mo = await world.enter(ANN), await world.enter(MOD)
    world.breaks_once(c.Tick)
    began_s = trio.current_time()
    ann.ref.mailbox.push(c.Tick())
    answer = await ann.ref.ask(c.PresenceQuery())
    assert trio.current_time() - began_s < 0.25
    assert [view.username for view in answer.users] == ["ann"]
    ann.say("hi")
    assert (await ann.hear(), await mo.hear()) == (["message:new 1", "reply r"], ["message:new 1"])
    assert world.status().sockets == 2


async def test_those_who_wait_for_a_message_are_told_to_send_it_again(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.socket.news()
    gate = world.wire.before["line_commit"] = trio.Event()
    ann.say("out", name="k1", ref="r1")
    await world.calm()
    bob.say("waits", name="k2", ref="r2")
    await world.calm()
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    assert (await ann.hear(), await bob.hear()) == (["error r1 cafe_unavailable"], ["error r2 cafe_unavailable"])
    assert world.quota.used == 0
    gate.set()
    ann.say("out", name="k1", ref="again")
    await world.calm()
    assert ann.socket.answer("again")["data"]["duplicate"] is False
    assert world.stored() == [(1, "out")]


async def test_what_was_stored_and_not_yet_told_is_told_by_the_next_actor(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.socket.news()
    gate = world.wire.after["line_commit"] = trio.Event()
    ann.say("hi", name="k")
    await world.calm()
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    assert (await ann.hear(), await bob.hear()) == (["error r cafe_unavailable", "message:new 1"], ["message:new 1"])
    gate.set()
    ann.say("hi", name="k", ref="again")
    await world.calm()
    assert ann.socket.answer("again")["data"]["duplicate"] is True
    assert bob.socket.brief() == []


async def test_more_missed_than_is_held_ends_the_sockets_since_a_gap_is_never_told(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brewd.cafe.actor.TURN_COMMANDS_MAX", 2 * HELD_MAX)  # so that it is all said in one turn, and in one commit
    ann, cid = await world.enter(ANN), Guest(world, world.directory.ref(CAFE), CID)
    ann.say("told", ref="")
    await trio.sleep(GAP_S / 2)
    gate = world.wire.after["line_commit"] = trio.Event()
    for n in range(HELD_MAX + 1):
        ann.say(f"n{n}", ref="")
    await world.calm()
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    await world.calm()
    gate.set()
    assert ann.socket.closed == (1012, "the room was restored")
    assert ann.socket.heard() == [1]
    assert cid.socket.closed is None


async def test_a_batch_that_cannot_be_made_crashes_its_cafe_and_answers_its_senders(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)

    def spoils(room: Room) -> None:
        for draft in room.pending.waiting:
            draft.accepted_ms = None  # type: ignore[assignment]
            world.spoils = lambda room: None

    world.spoils = spoils
    ann.say("hi")
    assert await ann.hear() == ["error r cafe_unavailable"]
    assert (world.status().crashes, world.quota.used) == (1, 0)
    ann.say("hi", ref="again")
    assert await ann.hear() == ["message:new 1", "reply again"]


async def test_a_message_postgres_cannot_hold_crashes_its_own_cafe_alone(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB, OTHER)
    ann.say("nul \0 nul")
    bob.say("hi")
    assert (await ann.hear(), await bob.hear()) == (["error r cafe_unavailable"], ["message:new 1", "reply r"])
    assert (world.status(CAFE).crashes, world.status(OTHER).crashes) == (1, 0)
    assert world.stored(CAFE) == []


async def test_nobody_seems_to_type_for_ever_and_everybody_keeps_their_status(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.ref.tell(c.SetStatus(ann.to, "away"))
    ann.ref.tell(c.Typing(ann.to, on=True))
    assert await bob.hear() == ["users:update ann status", "typing:indicator ann on"]
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    assert await bob.hear() == ["typing:indicator ann off"]
    answer = await ann.ref.ask(c.PresenceQuery())
    assert [(view.username, view.status) for view in answer.users] == [("ann", "away"), ("bob", "online")]


async def test_one_who_was_lost_around_a_crash_has_the_grace_time_and_then_is_gone(world: World, autojump_clock: MockClock) -> None:
    ann, bob, cid = await world.enter(ANN), await world.enter(BOB), await world.enter(CID)
    cid.go()
    await world.calm()
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    bob.go()
    await world.calm()
    ann.socket.news()
    assert {view.username for view in (await ann.ref.ask(c.PresenceQuery())).users} == {"ann", "bob", "cid"}
    await world.calm(29)
    assert await ann.hear() == []
    await world.calm(1)
    assert sorted(await ann.hear()) == ["users:update bob leave", "users:update cid leave"]


async def test_one_whose_line_was_taken_over_starts_again_from_what_is_stored(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.socket.news()
    await world.messages.open_line(CAFE)
    ann.say("hi", name="k")
    assert (await ann.hear(), await bob.hear()) == (["error r cafe_unavailable"], [])
    ann.say("hi", name="k", ref="again")
    assert await ann.hear() == ["message:new 1", "reply again"]
    assert world.status().crashes == 0


async def test_a_line_set_back_by_a_restore_ends_the_sockets(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    ann.say("one")
    await world.calm()
    world.tables.lines[CAFE].last_seq = 0
    world.tables.rows[CAFE].clear()
    world.breaks_once(c.Tick)
    ann.ref.mailbox.push(c.Tick())
    await world.calm()
    assert ann.socket.closed == (1012, "the room was restored")


async def test_a_commit_without_an_answer_is_settled_and_told_once(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    world.wire.after["line_commit"] = trio.Event()
    ann.say("hi")
    await world.calm(4.9)
    del world.wire.after["line_commit"]
    await world.calm(6)
    assert ann.socket.heard() == [1]
    ann.say("ho", ref="next")
    await world.calm()
    assert world.stored() == [(1, "hi"), (2, "ho")]
    assert world.status().crashes == 0
