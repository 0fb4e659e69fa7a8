"""Orders and decisions around an actor: they reach a room that is open, hold in one that opens, and are written down."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe.directory import Bounds
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.looks import index_of
from brewd.cafe.spam import SpamRules
from brewd.config import Profile
from brewd.runtime.clock import as_datetime
from tests.cafe.rooms import ANN, BOB, CAFE, CID, NOW_MS
from tests.cafe.world import Guest, World, open_world

TERMS = Terms(limits_of(Profile()), SpamRules(words=index_of(["gold"])))


def stored(world: World, action: str, who: c.Who, at_ms: int = NOW_MS + 1) -> None:
    """What a moderator said, as it stands in the table."""
    until = as_datetime(NOW_MS + 10_000_000) if action == "mute" else None
    row = (f"{action} {len(world.tables.decisions.acts)}", CAFE, action, who.user_id, who.username, None, "mo", None, "", until, None, as_datetime(at_ms))
    world.tables.run("moderation_add", *([value] for value in row))


async def crash(world: World, guest: Guest) -> None:
    world.breaks_once(c.SetStatus)
    guest.ref.tell(c.SetStatus(guest.to, "away", "x"))
    await world.calm()


async def test_whatever_is_told_after_an_order_finds_it_done(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    ann.say("before", ref="r1")
    world.directory.order(CAFE, c.Mute(ANN.user_id, NOW_MS + 10_000_000, "too loud"))
    ann.say("after", ref="r2")
    world.directory.order(CAFE, c.Unmute(ANN.user_id))
    ann.say("and again", ref="r3")
    assert [line for line in await ann.hear() if line.startswith(("reply", "error", "moderation"))] == [
        "moderation:muted", "error r2 muted", "moderation:unmuted", "reply r1", "reply r3",
    ]  # fmt: skip
    assert await bob.hear() == ["users:update ann leave", "users:update ann join", "message:new 1", "message:new 2"]


async def test_an_order_is_heard_through_a_mailbox_that_is_full(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(mailbox_max=3, idle_s=60.0)) as world:
        ann = await world.enter(ANN)
        for n in range(3):
            ann.say(f"n{n}", ref=f"r{n}")
        world.directory.order(CAFE, c.Mute(ANN.user_id, NOW_MS + 10_000_000, ""))
        assert (await ann.hear())[:2] == ["users:update ann leave", "moderation:muted"]


async def test_a_cafe_that_is_not_open_is_not_opened_by_an_order(world: World, autojump_clock: MockClock) -> None:
    world.directory.order(CAFE, c.Mute(ANN.user_id, NOW_MS + 10_000_000, ""))
    await world.calm()
    assert (world.directory.list(), world.steps) == ([], [])
    stored(world, "mute", ANN)
    ann = await world.enter(ANN)
    ann.say()
    assert await ann.hear() == ["error r muted"]


async def test_an_order_to_a_cafe_that_is_just_opening_is_not_lost(world: World, autojump_clock: MockClock) -> None:
    """It may have read the tables before it was stored."""
    gate = world.wire.after["standing_used"] = trio.Event()
    ann = Guest(world, world.directory.ref(CAFE), ANN)
    ann.ref.tell(c.Join(ann.to, ANN, "join"))
    await world.calm()
    world.directory.order(CAFE, c.Mute(ANN.user_id, NOW_MS + 10_000_000, ""))
    gate.set()
    ann.say()
    assert await ann.hear() == ["reply join", "users:update ann leave", "moderation:muted", "error r muted"]


async def test_nobody_orders_a_cafe_that_is_out_of_order(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    world.breaks = lambda command: True
    ann.say()
    await world.calm(10)
    assert world.status().state == "quarantined"
    world.directory.order(CAFE, c.Unmute(ANN.user_id))
    assert world.status().mailbox == 0


async def test_mutes_that_came_and_went_while_the_actor_restarted_show(world: World, autojump_clock: MockClock) -> None:
    """The sockets outlive the actor, and so does what was told to them."""
    ann, bob, cid = await world.enter(ANN), await world.enter(BOB), await world.enter(CID)
    bob.go()  # and is in his grace time
    await world.calm()
    for guest in (ann, cid):
        guest.socket.news()
    stored(world, "mute", ANN)
    stored(world, "mute", BOB)
    await crash(world, cid)
    counts = [
        (frame["data"]["user"]["username"], frame["data"]["action"], frame["data"]["userCount"]) for frame in cid.socket.news() if "userCount" in frame["data"]
    ]
    assert counts == [("ann", "leave", 2), ("bob", "leave", 1)]
    assert ann.socket.brief() == ["users:update ann leave", "users:update bob leave"]
    stored(world, "unmute", ANN)
    await crash(world, cid)
    assert await ann.hear() == ["users:update ann join"]
    ann.say("here again")
    assert [line for line in await ann.hear() if line.startswith("reply")] == ["reply r"]


async def test_what_a_room_decides_is_written_down_and_outlives_it(autojump_clock: MockClock) -> None:
    async with open_world(terms=TERMS) as world:
        ann = await world.enter(ANN)
        for n in range(4):
            ann.say(f"gold {n}", ref=f"r{n}")
        assert [line for line in await ann.hear() if line.startswith("error")] == [f"error r{n} {'muted' if n == 3 else 'spam_blocked'}" for n in range(4)]
        assert [act["action"] for act in world.tables.decisions.acts] == ["block", "block", "block", "mute"]
        await ann.ref.ask(c.MuteQuery(ANN.user_id))
        bob = await world.enter(BOB)
        await bob.ref.ask(c.Take("poke", BOB, "stay"))
        await world.ledger.settled()
        assert [use["action"] for use in world.tables.decisions.uses] == ["poke"]
        await crash(world, ann)
        ann.say(ref="later")
        assert (await ann.hear())[-1] == "error later muted"
        assert (await bob.ref.ask(c.LimitsQuery(BOB, "stay"))).limits["poke"].remaining == 9


async def test_a_room_that_crashes_right_after_a_decision_knows_it_still(autojump_clock: MockClock) -> None:
    """Although Postgres takes its time with writing it."""
    async with open_world(terms=TERMS) as world:
        ann = await world.enter(ANN)
        gate = world.wire.before["moderation_add"] = trio.Event()
        for n in range(3):
            ann.say(f"gold {n}", ref="")
        world.breaks_once(c.SetStatus)
        ann.ref.tell(c.SetStatus(ann.to, "away", "x"))
        await world.calm()
        ann.socket.news()
        ann.say(ref="later")
        gate.set()
        assert (await ann.hear())[-1] == "error later muted"


async def test_other_terms_are_felt_with_the_next_message(autojump_clock: MockClock) -> None:
    async with open_world(terms=TERMS) as world:
        ann = await world.enter(ANN)
        ann.say("one", ref="r1")
        ann.say("two", ref="r2")
        world.directory.order(CAFE, c.SetTerms(Terms()))
        ann.say("three", ref="r3")
        answers = [line for line in await ann.hear() if line.startswith(("reply", "error"))]
        assert answers == ["error r2 rate_limited", "reply r1", "reply r3"]


async def test_without_its_standing_a_cafe_does_not_open_and_says_so(world: World, autojump_clock: MockClock, logged: list[Any]) -> None:
    await world.enter(BOB)  # another café is open by now
    world.wire.down = True
    ann = Guest(world, world.directory.ref("00000000-0000-4000-8000-000000000002"), ANN)
    ann.ref.tell(c.Join(ann.to, ANN, "join"))
    assert await ann.hear() == ["error join storage_unavailable"]
    world.wire.down = False
    await world.calm(1)
    ann.ref.tell(c.Join(ann.to, ANN, "again"))
    assert await ann.hear() == ["reply again"]
