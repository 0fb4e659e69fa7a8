"""Cafés come and go: started by the first word, asleep when empty, out of order when they crash too often, and never in each other's way."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.directory import Bounds
from brewd.cafe.ref import ASKS_MAX
from brewd.errors import Rejected
from brewd.runtime.supervisor import Restart
from tests.cafe.rooms import ANN, BOB, CAFE, message
from tests.cafe.world import NOWHERE, OTHER, Guest, World, open_world


async def code(world: World, question: c.Question | None = None, cafe_id: str = CAFE, timeout_s: float = 5.0) -> str:
    """How a question is answered: `ok`, or the code of the refusal."""
    try:
        await world.directory.ref(cafe_id).ask(question or c.PresenceQuery(), timeout_s)
    except Rejected as rejected:
        return rejected.code
    return "ok"


async def crash(guest: Guest, times: int) -> None:
    """Let the café of this guest crash, one time after the other."""
    guest.world.breaks = lambda command: isinstance(command, c.SetStatus)
    for _ in range(times):
        guest.ref.tell(c.SetStatus(guest.to, "away"))
        await guest.world.calm()
    guest.world.breaks = lambda command: False


# Starting


async def test_the_first_word_starts_a_cafe(world: World, autojump_clock: MockClock) -> None:
    ref = world.directory.ref(CAFE)
    assert (ref.status().state, world.wire.asked.total()) == ("stopped", 0)
    assert world.directory.ref(CAFE) is ref
    assert await code(world) == "ok"
    assert (world.status().state, world.tables.lines[CAFE].generation) == ("running", 1)


async def test_a_cafe_starts_from_what_is_stored_and_what_the_mirror_remembers(world: World, autojump_clock: MockClock) -> None:
    world.mirrored.warm = [("espresso", 2.5)]
    ann = await world.enter(ANN)
    ann.say("hi", name="k")
    await world.calm()
    await world.directory.stop(CAFE)
    again = Guest(world, world.directory.ref(CAFE), ANN)
    again.ref.tell(c.Join(again.to, ANN, "join"))
    await world.calm()
    joined = again.socket.answer("join")["data"]
    assert ([m["content"] for m in joined["messages"]], joined["topics"]) == (["hi"], [{"topic": "espresso", "score": 2.5}])
    again.say("hi", name="k", ref="again")
    await world.calm()
    assert again.socket.answer("again")["data"]["duplicate"] is True


async def test_a_cafe_that_does_not_exist_is_not_found_and_not_kept(world: World, autojump_clock: MockClock) -> None:
    assert await code(world, cafe_id=NOWHERE) == "not_found"
    guest = Guest(world, world.directory.ref(NOWHERE), ANN)
    guest.ref.tell(c.Join(guest.to, ANN, "join"))
    assert await guest.hear() == ["error join not_found"]
    guest.go()
    assert [status.cafe_id for status in world.directory.list()] == []


async def test_while_postgres_is_away_callers_are_told_and_then_it_starts(world: World, autojump_clock: MockClock) -> None:
    world.wire.down = True
    guest = Guest(world, world.directory.ref(CAFE), ANN)
    guest.ref.tell(c.Join(guest.to, ANN, "join"))
    guest.ref.tell(c.Remove("somebody"))
    assert await guest.hear() == ["error join storage_unavailable"]
    assert await code(world) == "storage_unavailable"
    assert world.status().state == "starting"
    await world.calm(60)
    assert 100 < world.wire.asked["line_open"] < 150
    world.wire.down = False
    await world.calm(0.5)
    assert await code(world) == "ok"
    assert world.status().crashes == 0


async def test_a_commit_waits_for_no_one_but_its_own_start_is_one_of_a_few_at_once(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(starts_at_once=1)) as world:
        gate = world.wire.before["line_open"] = trio.Event()
        for cafe_id in (CAFE, OTHER):
            world.directory.ref(cafe_id).tell(c.Tick())
        await world.calm()
        assert world.wire.asked["line_open"] == 1
        gate.set()
        await world.calm()
        assert world.wire.asked["line_open"] == 2
        assert [status.state for status in world.directory.list()] == ["running", "running"]


# Asking and telling


async def test_a_question_has_a_deadline_for_everything(world: World, autojump_clock: MockClock) -> None:
    world.wire.before["line_open"] = trio.Event()
    began_s = trio.current_time()
    assert await code(world, timeout_s=1.5) == "cafe_unavailable"
    assert trio.current_time() - began_s == pytest.approx(1.5)
    assert world.directory.ref(CAFE).fanout.asks == {}


async def test_a_question_that_is_given_up_is_forgotten_and_its_answer_goes_nowhere(world: World, autojump_clock: MockClock) -> None:
    gate = world.wire.before["line_open"] = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.directory.ref(CAFE).ask, c.PresenceQuery())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert world.directory.ref(CAFE).fanout.asks == {}
    gate.set()
    assert await code(world) == "ok"


async def test_so_many_questions_may_wait_and_no_more(world: World, autojump_clock: MockClock) -> None:
    async with open_world(Bounds(mailbox_max=2 * ASKS_MAX)) as roomy:
        roomy.wire.before["line_open"] = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(ASKS_MAX):
                nursery.start_soon(roomy.directory.ref(CAFE).ask, c.PresenceQuery())
            await wait_all_tasks_blocked()
            assert await code(roomy) == "mailbox_full"
            nursery.cancel_scope.cancel()


async def test_a_full_mailbox_says_so_at_once(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(mailbox_max=3)) as world:
        world.wire.before["line_open"] = trio.Event()
        ref = world.directory.ref(CAFE)
        for _ in range(3):
            ref.tell(c.Tick())
        with pytest.raises(Rejected) as refused:
            ref.tell(c.Tick())
        assert (refused.value.code, refused.value.data()["retryAfterMs"]) == ("mailbox_full", 250)
        assert await code(world) == "mailbox_full"
        assert ref.status().mailbox == 3


async def test_a_deletion_is_asked_for_like_any_question(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    ann.say("hi")
    await world.calm()
    stored = world.tables.rows[CAFE][0]
    answer = await ann.ref.ask(c.Delete(ANN, stored.id))
    assert (answer.message.id, answer.message.deleted, answer.message.content) == (stored.id, True, "")
    assert await code(world, c.Delete(ANN, message(1).id)) == "not_found"
    assert (await ann.hear())[-1] == "message:deleted"
    assert world.mirrored.unsaids == {CAFE: 1}


async def test_a_deletion_that_an_actor_did_not_live_to_tell_is_told_by_the_next(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    ann.say("hi")
    await world.calm()
    stored = world.tables.rows[CAFE][0]
    stored.content, stored.deleted_at = "", stored.created_at
    await crash(ann, 1)
    assert "message:deleted" in await ann.hear()
    assert world.mirrored.unsaids == {CAFE: 1}
    await crash(ann, 1)
    assert world.mirrored.unsaids == {CAFE: 1}
    ann.ref.tell(c.Leave(ann.to))
    ann.go()
    await world.calm(62)
    await world.enter(BOB)
    assert world.mirrored.unsaids == {CAFE: 2}  # to an actor that is the first for all it knows: a process before may have been killed


# Sleeping


async def test_an_empty_cafe_goes_to_sleep_and_is_woken_by_the_next_word(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    ann.ref.tell(c.Leave(ann.to))
    ann.go()
    await world.calm(59)
    assert world.status().state == "running"
    await world.calm(2)
    assert world.directory.list() == []
    assert world.mirrored.over == [CAFE]
    again = await world.enter(BOB)
    assert (world.status().members, world.tables.lines[CAFE].generation) == (1, 2)
    assert again.ref is not ann.ref


async def test_somebody_in_it_keeps_a_cafe_awake(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    await world.calm(600)
    assert world.status().state == "running"
    ann.go()
    await world.calm(29 + 59)
    assert world.status().state == "running"
    await world.calm(3)
    assert world.directory.list() == []


async def test_a_socket_that_is_not_in_the_room_keeps_the_ref_but_not_the_actor(world: World, autojump_clock: MockClock) -> None:
    guest = Guest(world, world.directory.ref(CAFE), ANN)
    assert await code(world) == "ok"
    await world.calm(61)
    assert (world.status().state, world.status().sockets) == ("stopped", 1)
    await guest.join()
    assert world.status().members == 1


async def test_what_is_for_one_user_wakes_a_cafe_in_which_they_have_a_socket_and_no_other(world: World, autojump_clock: MockClock) -> None:
    typing = e.TypingIndicator(CAFE, "user-bob", "bob", is_typing=True)
    world.directory.notify(CAFE, ANN.user_id, typing)
    assert world.directory.list() == []
    guest = Guest(world, world.directory.ref(CAFE), ANN)
    world.directory.notify(CAFE, BOB.user_id, typing)
    await world.calm()
    assert world.status().state == "stopped"
    world.directory.notify(CAFE, ANN.user_id, typing)
    assert await guest.hear() == ["typing:indicator bob on"]
    assert world.status().state == "running"


async def test_of_what_is_for_one_user_only_the_droppable_is_dropped_by_a_cafe_that_is_too_busy(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(mailbox_max=1, idle_s=60.0)) as world:
        guest = await world.enter(ANN)
        for on in (True, False):
            world.directory.notify(CAFE, ANN.user_id, e.TypingIndicator(CAFE, "user-bob", "bob", is_typing=on))
            world.directory.notify(CAFE, ANN.user_id, e.Unmuted())
        assert await guest.hear() == ["typing:indicator bob on", "moderation:unmuted", "moderation:unmuted"]


async def test_a_word_at_the_very_moment_it_falls_asleep_is_heard(world: World, autojump_clock: MockClock) -> None:
    for _ in range(20):
        assert await code(world) == "ok"
        await trio.sleep(60)
    assert 1 < world.tables.lines[CAFE].generation <= 20


async def test_one_who_will_not_come_back_leaves_without_grace(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    bob.ref.leave(bob.to)
    bob.go()
    assert await ann.hear() == ["users:update bob join", "users:update bob leave"]
    await crash(ann, 4)
    ann.ref.leave(ann.to)
    assert world.status().mailbox == 0


# Crashing too often


async def test_more_than_three_crashes_in_five_seconds_put_a_cafe_out_of_order_and_no_other(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB, OTHER)
    await crash(ann, 3)
    assert (world.status().state, await code(world)) == ("running", "ok")
    await crash(ann, 1)
    assert (world.status().state, world.status().crashes, world.status().sockets) == ("quarantined", 4, 1)
    assert await code(world) == "cafe_unavailable"
    with pytest.raises(Rejected) as refused:
        ann.say("hi")
    assert (refused.value.code, refused.value.data()["retryAfterMs"]) == ("cafe_unavailable", 5000)
    assert ann.socket.closed is None
    bob.say("hi")
    assert await bob.hear() == ["message:new 1", "reply r"]
    assert (world.status(OTHER).state, world.status(OTHER).crashes) == ("running", 0)


async def test_crashes_further_apart_are_forgiven(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    for _ in range(10):
        await crash(ann, 1)
        await world.calm(1.6)
    assert (world.status().state, world.status().crashes) == ("running", 10)


async def test_those_who_wait_for_a_cafe_that_goes_out_of_order_are_told(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(restart=Restart(intensity=0))) as world:
        ann = await world.enter(ANN)
        world.breaks_once(c.SetStatus)
        ann.ref.tell(c.SetStatus(ann.to, "away", "r1"))
        ann.say("hi", ref="r2")
        ann.ref.tell(c.Remove("somebody"))
        assert await code(world) == "cafe_unavailable"
        assert await ann.hear() == ["error r1 internal", "error r2 cafe_unavailable"]
        assert world.status().mailbox == 0


async def test_a_revived_cafe_has_its_sockets_and_a_clean_record(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    await crash(ann, 4)
    bob.go()
    ann.socket.news()
    assert (await world.directory.revive(CAFE)).state == "starting"
    assert await code(world) == "ok"
    assert (await world.directory.revive(CAFE)).state == "running"
    await crash(ann, 3)
    assert world.status().state == "running"
    ann.socket.news()
    ann.say("hi")
    assert await ann.hear() == ["message:new 1", "reply r"]
    await world.calm(30)
    assert await ann.hear() == ["users:update bob leave"]


async def test_nobody_revives_or_stops_a_cafe_that_is_not_in_use(world: World, autojump_clock: MockClock) -> None:
    for act in (world.directory.revive, world.directory.stop):
        with pytest.raises(Rejected) as refused:
            await act(NOWHERE)
        assert refused.value.code == "not_found"


# Being stopped


async def test_a_stopped_cafe_says_goodbye_and_starts_with_the_next_word(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    status = await world.directory.stop(CAFE)
    assert (status.state, ann.socket.closed) == ("stopped", (1012, "this café was stopped"))
    assert world.cafes.tree()["children"] == []
    ann.go()
    assert world.directory.list() == []
    assert await code(world) == "ok"


async def test_a_cafe_can_be_stopped_before_its_sockets_have_gone(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    await world.directory.stop(CAFE)
    bob = await world.enter(BOB)
    assert world.status().members == 2
    ann.go()
    await world.calm(31)
    assert (world.status().members, await bob.hear()) == (1, ["users:update ann leave"])


async def test_a_cafe_that_waits_for_its_restart_can_be_stopped(autojump_clock: MockClock) -> None:
    async with open_world(Bounds(restart=Restart(intensity=9, period_s=1000.0, backoff_s=100.0))) as world:
        await crash(await world.enter(ANN), 2)
        assert world.status().state == "starting"
        began_s = trio.current_time()
        assert (await world.directory.stop(CAFE)).state == "stopped"
        assert trio.current_time() - began_s < 1
        assert await code(world) == "ok"


async def test_a_cafe_that_is_out_of_order_can_be_stopped_and_then_starts_anew(world: World, autojump_clock: MockClock) -> None:
    await crash(await world.enter(ANN), 4)
    assert (await world.directory.stop(CAFE)).state == "stopped"
    assert await code(world) == "ok"


async def test_a_cafe_that_is_asleep_is_forgotten_when_it_is_stopped(world: World, autojump_clock: MockClock) -> None:
    world.directory.ref(CAFE)
    assert (await world.directory.stop(CAFE)).state == "stopped"
    assert world.directory.list() == []


async def test_what_was_told_to_a_cafe_as_it_was_stopped_is_done_by_the_next_actor(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    gate = world.wire.before["line_open"] = trio.Event()
    ann.ref.tell(c.Leave(ann.to, "r"))
    await world.directory.stop(CAFE)
    gate.set()
    assert await ann.hear() == ["reply r"]
    assert world.status().members == 0


async def test_one_whose_socket_goes_as_the_cafe_is_stopped_is_no_ghost_in_it_afterwards(world: World, autojump_clock: MockClock) -> None:
    world.wire.before["line_open"] = trio.Event()
    ann = Guest(world, world.directory.ref(CAFE), ANN)
    ann.ref.tell(c.Join(ann.to, ANN))
    await wait_all_tasks_blocked()
    world.cafes.discard(CAFE)
    await wait_all_tasks_blocked()
    assert ann.ref.status().state == "stopped"
    ann.go()
    world.wire.before.clear()
    await world.directory.stop(CAFE)
    await world.calm()
    assert world.status().members == 1
    await world.calm(31)
    assert world.status().members == 0


async def test_an_old_ref_does_not_take_the_new_one_with_it(world: World, autojump_clock: MockClock) -> None:
    old = world.directory.ref(CAFE)
    await world.directory.stop(CAFE)
    new = world.directory.ref(CAFE)
    assert new is not old
    Guest(world, old, ANN).go()
    assert world.directory.ref(CAFE) is new


async def test_a_commit_under_way_when_its_cafe_is_stopped_is_told_in_vain(world: World, autojump_clock: MockClock) -> None:
    ann = await world.enter(ANN)
    gate = world.wire.after["line_commit"] = trio.Event()
    ann.say("hi", name="k")
    await world.calm()
    await world.directory.stop(CAFE)
    gate.set()
    assert await ann.hear() == ["error r cafe_unavailable"]
    assert world.stored() == [(1, "hi")]
    assert world.quota.used == 0
