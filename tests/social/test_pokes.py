"""Pokes: what each side is told, and what becomes of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.cafe.events import PokeMatched, PokeReceived
from brewd.errors import Rejected
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.social.pokes import JITTER_MS, KEPT_MS, NEUTRAL, SentPoke, expire_pokes
from brewd.social.poking import TTL_MS, hour
from brewd.store.postgres import Postgres
from tests.social.world import World

DAY_S = 86_400
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def pair(world: World, cafe: Cafe, mock_clock: MockClock) -> tuple[Identity, Identity]:
    ann, bob = await world.guests(cafe, 2, "tea")
    return ann, bob


async def sent(world: World, who: Identity) -> list[SentPoke]:
    return list(await world.pokes.sent(who))


async def refused(call: Awaitable[Any]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await call
    return caught.value


async def test_a_poke_is_told_late_and_without_a_name(
    world: World, cafe: Cafe, pair: tuple[Identity, Identity], mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    ann, bob = pair
    nursery.start_soon(world.delivery.run)
    outcome = await world.pokes.send(ann, bob.user_id, "Tea")
    assert (outcome.matched, outcome.expires_ms) == (False, world.clock.now_ms() + TTL_MS)
    assert outcome.deliver_ms is not None
    due_ms = outcome.deliver_ms - world.clock.now_ms()
    assert 0 <= due_ms <= JITTER_MS
    mock_clock.jump((due_ms - 1) / 1000)
    await trio.testing.wait_all_tasks_blocked()
    assert world.told == []
    assert list(await world.pokes.pending(bob)) == []
    assert (await refused(world.pokes.respond(bob, outcome.id, "accept"))).code == "not_found"
    mock_clock.jump(0.002)
    await trio.testing.wait_all_tasks_blocked()
    assert world.told == [(bob.user_id, PokeReceived(outcome.id, NEUTRAL))]
    (poke,) = await world.pokes.pending(bob)
    at_ms = hour(outcome.deliver_ms)
    assert (poke.id, poke.interest, poke.created_ms, poke.expires_ms) == (outcome.id, NEUTRAL, at_ms, at_ms + TTL_MS)
    assert list(await world.pokes.pending(ann)) == []
    nursery.cancel_scope.cancel()


async def test_a_second_poke_is_the_first_one_and_costs_nothing(world: World, pair: tuple[Identity, Identity]) -> None:
    ann, bob = pair
    first = await world.pokes.send(ann, bob.user_id, "tea")
    again = await world.pokes.send(ann, bob.user_id, "tea")
    assert (again.id, again.expires_ms) == (first.id, first.expires_ms)
    assert world.rooms.taken == [ann.user_id]
    assert len(world.delivery) == 1


async def test_poking_back_matches_both(world: World, pair: tuple[Identity, Identity]) -> None:
    ann, bob = pair
    await world.interests.add(bob.user_id, "jazz")
    first = await world.pokes.send(ann, bob.user_id, "tea")
    back = await world.pokes.send(bob, ann.user_id, "jazz")
    assert back.matched
    assert back.channel_id is not None
    assert world.rooms.taken == [ann.user_id, bob.user_id]
    assert len(world.delivery) == 0, "what was on its way is no news any more"
    for who, other, poke_id in ((ann, bob, first.id), (bob, ann, back.id)):
        (event,) = world.heard(who)
        assert isinstance(event, PokeMatched)
        assert (event.matched_user.id, event.matched_user.username, event.channel_id) == (other.user_id, other.username, back.channel_id)
        assert event.shared_interest == "tea"
        assert [(one.id, one.status, one.channel_id) for one in await sent(world, who)] == [(poke_id, "matched", back.channel_id)]
        assert list(await world.pokes.pending(who)) == []
        again = await world.pokes.send(who, other.user_id, "tea")
        assert (again.id, again.matched, again.channel_id) == (poke_id, True, back.channel_id)
    assert len(world.told) == 2
    assert len(world.rooms.taken) == 2


async def test_accepting_matches_both(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    answer = await world.pokes.respond(bob, poke.id, "accept")
    assert answer.status == "matched"
    assert {user_id for user_id, event in world.told if isinstance(event, PokeMatched)} == {ann.user_id, bob.user_id}
    assert (await world.pokes.respond(bob, poke.id, "accept")).channel_id == answer.channel_id
    assert len(world.told) == 2
    assert (await refused(world.pokes.respond(bob, poke.id, "decline"))).code == "conflict"
    (mine,) = await sent(world, ann)
    assert (mine.status, mine.channel_id) == ("matched", answer.channel_id)
    more = await world.pokes.send(bob, ann.user_id, "tea")
    assert (more.matched, more.channel_id) == (True, answer.channel_id)
    assert world.rooms.taken == [ann.user_id]


async def test_a_decline_is_never_told(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    before = await sent(world, ann)
    assert (await world.pokes.respond(bob, poke.id, "decline")).status == "declined"
    assert (await world.pokes.respond(bob, poke.id, "decline")).status == "declined"
    assert (await refused(world.pokes.respond(bob, poke.id, "accept"))).code == "conflict"
    assert await sent(world, ann) == before
    assert list(await world.pokes.pending(bob)) == []
    assert (await world.pokes.send(ann, bob.user_id, "tea")).id == poke.id
    mock_clock.jump(DAY_S - 3)
    assert [one.status for one in await sent(world, ann)] == ["expired"]


async def test_whoever_declined_is_poked_in_vain(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock, pg: Postgres) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    await world.pokes.respond(bob, poke.id, "decline")
    await _make_live_longer(pg, world)
    mock_clock.jump(DAY_S)
    assert await expire_pokes(pg, world.clock.now_ms()) == 0
    again = await world.pokes.send(ann, bob.user_id, "tea")
    assert again.id != poke.id
    assert again.expires_ms == world.clock.now_ms() + TTL_MS
    assert again.deliver_ms is None
    mock_clock.jump(3)
    assert list(await world.pokes.pending(bob)) == []
    assert [one.status for one in await sent(world, ann)] == ["pending", "expired"]
    assert (await world.pokes.send(bob, ann.user_id, "tea")).matched, "until they change their mind"


async def _make_live_longer(pg: Postgres, world: World) -> None:
    async def work(tx: Any) -> None:
        await tx.script("UPDATE customer SET expires_at = expires_at + interval '30 days'")

    await pg.transaction(work)


async def test_time_ends_a_poke_with_the_job_and_without_it(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock, pg: Postgres) -> None:
    ann, bob = pair
    await _make_live_longer(pg, world)
    first = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(DAY_S)
    assert list(await world.pokes.pending(bob)) == []
    assert (await refused(world.pokes.respond(bob, first.id, "accept"))).code == "not_found"
    back = await world.pokes.send(bob, ann.user_id, "tea")
    assert not back.matched
    second = await world.pokes.send(ann, bob.user_id, "tea")
    assert second.id != first.id
    assert second.matched
    third = await world.guest(await world.people.cafe(), "tea")
    for _ in range(3):
        await world.pokes.send(third, world.ids.uuid4(), "tea")
    mock_clock.jump(DAY_S)
    assert await expire_pokes(pg, world.clock.now_ms(), batch=2) == 3
    assert await expire_pokes(pg, world.clock.now_ms(), batch=2) == 0
    mock_clock.jump(KEPT_MS / 1000)
    assert await expire_pokes(pg, world.clock.now_ms(), batch=2) == 6
    assert await sent(world, ann) == []


async def test_what_is_shown_ends_with_a_full_hour(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock) -> None:
    ann, bob = pair
    mock_clock.jump(1800)
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(DAY_S - 1801)
    assert [one.id for one in await world.pokes.pending(bob)] == [poke.id]
    mock_clock.jump(1)
    assert list(await world.pokes.pending(bob)) == []
    assert [one.status for one in await sent(world, ann)] == ["pending"]


# Those who cannot be reached

Situation = Callable[[World, Cafe, Identity, Identity], Awaitable[str | None]]


async def _disabled(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> None:
    await world.interests.enable_pokes(bob.user_id, False)


async def _over(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> None:
    await world.people.users.expire(bob.user_id)


async def _muted(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> None:
    world.rooms.muted.add(bob.user_id)


async def _banned(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> None:
    world.people.sessions.ban(bob.user_id, 2**60)


async def _elsewhere(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> str:
    return (await world.guest(await world.people.cafe(), "tea")).user_id


async def _nobody(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> str:
    return NOBODY


async def _as_ever(world: World, cafe: Cafe, ann: Identity, bob: Identity) -> None:
    pass


@pytest.mark.parametrize("situation", [_as_ever, _disabled, _over, _muted, _banned, _elsewhere, _nobody])
async def test_a_sender_cannot_tell_who_is_reached(
    world: World, cafe: Cafe, pair: tuple[Identity, Identity], mock_clock: MockClock, situation: Situation, pg: Postgres
) -> None:
    ann, bob = pair
    to = await situation(world, cafe, ann, bob) or bob.user_id
    found = [one.user_id for one in (await world.matching.discover(ann, limit=9)).found]
    assert (to in found) == (situation is _as_ever)
    outcome = await world.pokes.send(ann, to, "tea")
    assert (outcome.to_user_id, outcome.matched, outcome.channel_id, outcome.interest) == (to, False, None, "tea")
    assert outcome.expires_ms == world.clock.now_ms() + TTL_MS
    assert world.rooms.taken == [ann.user_id]
    mock_clock.jump(3)
    (mine,) = await sent(world, ann)
    assert (mine.id, mine.to_user_id, mine.interest, mine.status, mine.channel_id) == (outcome.id, to, "tea", "pending", None)
    again = await world.pokes.send(ann, to, "tea")
    assert (again.id, again.expires_ms) == (outcome.id, outcome.expires_ms)
    assert world.rooms.taken == [ann.user_id]
    assert len(await world.pokes.pending(bob)) == len(world.delivery) == (situation is _as_ever)
    assert to not in [one.user_id for one in (await world.matching.discover(ann, limit=9)).found]
    mock_clock.jump(DAY_S)
    await expire_pokes(pg, world.clock.now_ms())
    assert [one.status for one in await sent(world, ann)] == ["expired"]


async def test_two_who_could_not_be_reached_match_when_both_have_poked(world: World, pair: tuple[Identity, Identity]) -> None:
    ann, bob = pair
    await world.interests.enable_pokes(bob.user_id, False)
    await world.pokes.send(ann, bob.user_id, "tea")
    assert (await world.pokes.send(bob, ann.user_id, "tea")).matched


async def test_two_of_two_cafes_never_match(world: World, cafe: Cafe, pair: tuple[Identity, Identity]) -> None:
    ann, _ = pair
    eve = await world.guest(await world.people.cafe(), "tea")
    assert not (await world.pokes.send(ann, eve.user_id, "tea")).matched
    assert not (await world.pokes.send(eve, ann.user_id, "tea")).matched
    assert not (await world.pokes.send(ann, eve.user_id, "tea")).matched


async def test_what_a_sender_got_wrong_is_said_and_costs_nothing(world: World, pair: tuple[Identity, Identity]) -> None:
    ann, bob = pair
    for to, interest, path in ((ann.user_id, "tea", "toUserId"), (bob.user_id, "jazz", "sharedInterest"), (bob.user_id, " ", "sharedInterest")):
        error = await refused(world.pokes.send(ann, to, interest))
        assert (error.code, error.extras["errors"][0]["path"]) == ("invalid_request", path)
    assert world.rooms.taken == []
    await world.people.users.expire(ann.user_id)
    assert (await refused(world.pokes.send(ann, bob.user_id, "tea"))).code == "user_expired"


async def test_a_recipient_need_not_share_the_interest(world: World, cafe: Cafe, mock_clock: MockClock) -> None:
    ann, bob = await world.guest(cafe, "tea"), await world.guest(cafe, "jazz")
    assert (await world.pokes.send(ann, bob.user_id, "tea")).deliver_ms is not None


async def test_only_the_recipient_can_answer(world: World, cafe: Cafe, pair: tuple[Identity, Identity], mock_clock: MockClock) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    eve = await world.guest(await world.people.cafe(), "tea")
    errors = [await refused(world.pokes.respond(who, poke.id, "accept")) for who in (ann, await world.guest(cafe, "tea"), eve)]
    errors.append(await refused(world.pokes.respond(bob, world.ids.uuid4(), "accept")))
    assert {(error.code, error.detail) for error in errors} == {("not_found", errors[0].detail)}
    assert [one.id for one in await world.pokes.pending(bob)] == [poke.id]


# Senders who are not there any more


async def test_a_poke_stays_where_it_is_when_its_sender_is_muted_and_who_is_muted_accepts_none(
    world: World, pair: tuple[Identity, Identity], mock_clock: MockClock
) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    before = list(await world.pokes.pending(bob))
    world.rooms.muted.add(ann.user_id)
    assert list(await world.pokes.pending(bob)) == before
    world.rooms.muted.add(bob.user_id)
    assert (await refused(world.pokes.respond(bob, poke.id, "accept"))).code == "muted"
    world.rooms.muted.clear()
    assert list(await world.pokes.pending(bob)) == before


async def test_a_poke_stays_where_it_is_when_its_sender_is_banned_and_matches_no_more(
    world: World, pair: tuple[Identity, Identity], mock_clock: MockClock
) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    world.people.sessions.ban(ann.user_id, 2**60)
    assert len(await world.pokes.pending(bob)) == 1
    assert (await refused(world.pokes.respond(bob, poke.id, "accept"))).code == "not_found"
    assert not (await world.pokes.send(bob, ann.user_id, "tea")).matched


@pytest.mark.parametrize("erased", [True, False])
async def test_a_poke_does_not_vanish_with_its_sender(world: World, pair: tuple[Identity, Identity], mock_clock: MockClock, pg: Postgres, erased: bool) -> None:
    ann, bob = pair
    poke = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)
    before = await world.pokes.pending(bob)
    await (_erase(pg, ann) if erased else world.people.users.expire(ann.user_id))
    assert await world.pokes.pending(bob) == before
    assert await _texts(pg) == ([""] if erased else ["tea"]), "an interest that may be theirs alone is personal"
    assert (await refused(world.pokes.respond(bob, poke.id, "accept"))).code == "not_found"
    assert list(await world.pokes.pending(bob)) == []
    mock_clock.jump(DAY_S)
    await expire_pokes(pg, world.clock.now_ms())
    assert await _rows(pg) == (0 if erased else 1)


async def test_pokes_go_with_their_recipient(world: World, pair: tuple[Identity, Identity], pg: Postgres) -> None:
    ann, bob = pair
    await world.pokes.send(ann, bob.user_id, "tea")
    await _erase(pg, bob)
    assert await _rows(pg) == 0


async def _erase(pg: Postgres, who: Identity) -> None:
    async def work(tx: Any) -> None:
        await tx.script(f"DELETE FROM customer WHERE id = '{who.user_id}'")

    await pg.transaction(work)


async def _rows(pg: Postgres) -> int:
    return len(await _texts(pg))


async def _texts(pg: Postgres) -> list[str]:
    async def work(tx: Any) -> list[str]:
        return [row[0] for row in await tx._connection.fetch("SELECT shared_interest FROM poke")]

    return await pg.transaction(work)


# The interest


async def test_an_interest_is_named_while_three_could_have_sent_it(world: World, cafe: Cafe, mock_clock: MockClock) -> None:
    ann, cid, dan = await world.guests(cafe, 3, "tea")
    bob = await world.guest(cafe, "jazz")
    mock_clock.jump(1)
    outcome = await world.pokes.send(ann, bob.user_id, "tea")
    mock_clock.jump(3)

    async def named() -> bool:
        (poke,) = await world.pokes.pending(bob)
        assert poke.interest in ("tea", NEUTRAL)
        return poke.interest == "tea"

    assert outcome.crowd
    assert await named()
    world.rooms.muted.add(cid.user_id)
    assert not await named()
    world.rooms.muted.clear()
    await world.interests.enable_pokes(ann.user_id, False)
    assert not await named(), "the same whoever of them it was"
    await world.interests.enable_pokes(ann.user_id, True)
    assert await named()
    await world.people.users.expire(dan.user_id)
    assert not await named()
    await world.guest(cafe, "tea")
    assert not await named(), "a newcomer could not have sent it"


async def test_an_interest_that_was_rare_stays_unnamed(world: World, cafe: Cafe, mock_clock: MockClock) -> None:
    ann, _ = await world.guests(cafe, 2, "tea")
    bob = await world.guest(cafe, "tea")
    outcome = await world.pokes.send(ann, bob.user_id, "tea")
    assert not outcome.crowd
    await world.guests(cafe, 3, "tea")
    mock_clock.jump(3)
    assert [one.interest for one in await world.pokes.pending(bob)] == [NEUTRAL]
