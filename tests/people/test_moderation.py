"""What a moderator orders: checked, stored before it takes effect, in the log; and bans, which hold wherever somebody tries to come in."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from brewd.cafe import commands as c
from brewd.cafe.effects import Record
from brewd.cafe.ledger import Ledger
from brewd.errors import Rejected
from brewd.people.join import JoinAnswer
from brewd.people.moderation import InForce, Moderator
from brewd.people.records import Cafe
from brewd.people.sessions import Sessions
from brewd.runtime.clock import rfc3339
from tests.people.world import USER_TTL_S, World

NO_ONE = "01890000-0000-7000-8000-000000000000"
DAY_S = 86_400


async def log(world: World, cafe: Cafe) -> list[tuple[str, str, str]]:
    return [(one.action, one.username, one.reason) for one in (await world.moderation.log(cafe.id)).actions]


async def refused(attempt: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await attempt
    return caught.value


# Orders


async def test_a_mute_is_stored_told_and_logged(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    until_ms = world.clock.now_ms() + 90_000
    action = await world.moderation.mute(mo, ann.id, reason=" too loud ", duration_s=90)
    assert abs((action.until_ms or 0) - until_ms) < 1000
    assert world.rooms.orders == [(cafe.id, c.Mute(ann.id, action.until_ms or 0, "too loud"))]
    assert (await world.moderation.log(cafe.id)).actions == (action,)
    assert (action.username, action.staff_id, action.staff_name, action.rule) == (ann.username, mo.staff_id, mo.name, None)


async def test_each_order_reaches_the_room_the_sockets_and_the_log(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    await world.moderation.mute(mo, ann.id)
    await world.moderation.unmute(mo, ann.id, reason="sorry")
    await world.moderation.kick(mo, ann.id)
    await world.moderation.ban(mo, ann.id, reason="enough")
    await world.moderation.unban(mo, ann.id)
    kinds = [type(command) for _, command in world.rooms.orders]
    assert kinds == [c.Mute, c.Unmute, c.Remove, c.Remove]
    assert world.rooms.away == [(ann.id, 4003, "kicked by a moderator"), (ann.id, 4004, "enough")]
    name = ann.username
    assert await log(world, cafe) == [("unban", name, ""), ("ban", name, "enough"), ("kick", name, ""), ("unmute", name, "sorry"), ("mute", name, "")]


async def test_without_a_duration_a_mute_is_for_the_day_and_a_ban_for_a_month(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    for order, length_s in ((world.moderation.mute, DAY_S), (world.moderation.ban, 31 * DAY_S)):
        action = await order(mo, ann.id)
        assert (action.until_ms or 0) - action.at_ms == pytest.approx(length_s * 1000, abs=50)


@pytest.mark.parametrize("duration_s", [0, -1, 0.999, 31 * DAY_S + 0.001, 1e300, float("inf"), float("nan")])
async def test_a_duration_that_makes_no_sense_is_refused(world: World, duration_s: float) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    for order in (world.moderation.mute, world.moderation.ban):
        refusal = await refused(order(mo, ann.id, duration_s=duration_s))
        assert (refusal.code, refusal.extras["errors"][0]["path"]) == ("invalid_request", "durationS")
    assert (await log(world, cafe), world.rooms.orders, world.rooms.away) == ([], [], [])


@pytest.mark.parametrize("duration_s", [1, 31 * DAY_S])
async def test_the_shortest_and_the_longest(world: World, duration_s: float) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    await world.moderation.mute(mo, ann.id, duration_s=duration_s)
    await world.moderation.ban(mo, ann.id, duration_s=duration_s)


@pytest.mark.parametrize("reason", ["x" * 201, "a\nb", "a\0b", "\ud800"])
async def test_a_reason_is_a_short_line(world: World, reason: str) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    for order in (world.moderation.mute, world.moderation.unmute, world.moderation.kick, world.moderation.ban, world.moderation.unban):
        refusal = await refused(order(mo, ann.id, reason=reason))
        assert (refusal.code, refusal.extras["errors"][0]["path"]) == ("invalid_request", "reason")
    await world.moderation.kick(mo, ann.id, reason="ü" * 200)


async def test_who_is_not_in_the_moderators_cafe_is_not_there_at_all(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    mo, stranger = await world.moderator(cafe), (await world.join(other)).user
    orders = (world.moderation.mute, world.moderation.unmute, world.moderation.kick, world.moderation.ban, world.moderation.unban)
    for order in orders:
        for user_id in (stranger.id, NO_ONE):
            assert (await refused(order(mo, user_id))).code == "not_found"
        refusal = await refused(order(mo, mo.staff_id or ""))
        assert (refusal.code, refusal.extras["errors"][0]["path"]) == ("invalid_request", "userId")
    assert (await log(world, cafe), await log(world, other), world.rooms.orders, world.rooms.away) == ([], [], [], [])


async def test_the_operator_needs_no_account(world: World) -> None:
    cafe = await world.cafe()
    ann = (await world.join(cafe)).user
    action = await world.moderation.mute(Moderator(cafe.id, "operator"), ann.id)
    assert (action.staff_id, action.staff_name) == (None, "operator")
    assert (await world.moderation.log(cafe.id)).actions == (action,)


async def test_a_moderator_is_who_the_token_says(world: World) -> None:
    cafe = await world.cafe()
    mo = await world.moderator(cafe)
    token, _ = await world.sessions.open_staff(await world.staff.show(mo.staff_id or ""))
    assert Moderator.of(world.sessions.identify(token)) == mo


# The log


async def test_the_log_is_read_page_by_page_and_by_user(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    mo, ann, bob = await world.moderator(cafe), (await world.join(cafe, "a")).user, (await world.join(cafe, "b")).user
    for n in range(5):
        await world.moderation.mute(mo, ann.id, reason=f"a{n}")
        await world.moderation.mute(mo, bob.id, reason=f"b{n}")
    first = await world.moderation.log(cafe.id, limit=3)
    assert ([one.reason for one in first.actions], first.has_more) == (["b4", "a4", "b3"], True)
    rest = await world.moderation.log(cafe.id, limit=100, before=first.actions[-1].id)
    assert ([one.reason for one in rest.actions], rest.has_more) == (["a3", "b2", "a2", "b1", "a1", "b0", "a0"], False)
    anns = await world.moderation.log(cafe.id, user_id=ann.id, limit=5)
    assert ([one.reason for one in anns.actions], anns.has_more) == ([f"a{n}" for n in (4, 3, 2, 1, 0)], False)
    assert (await world.moderation.log(other.id)).actions == ()
    assert (await world.moderation.log(other.id, before=first.actions[0].id)).actions == ()
    assert len((await world.moderation.log(cafe.id, limit=0)).actions) == 1


async def test_the_log_outlives_who_it_is_about(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe, patron_key=None)
    await world.moderation.ban(mo, ann.user.id, reason="enough")
    await world.pg.transaction(_forget, ann.user.id, mo.staff_id)
    (action,) = (await world.moderation.log(cafe.id)).actions
    assert (action.username, action.reason, action.staff_id, action.staff_name) == (ann.user.username, "enough", None, mo.name)
    await world.moderation.unban(mo, ann.user.id)
    assert (await world.join(cafe, "r-2", ann.patron_key)).patron_key == ann.patron_key, "the ban was the person's, and so is its end"


async def _forget(tx: Any, user_id: str, staff_id: str) -> None:
    await tx.script(f"UPDATE receipt SET user_id = NULL; DELETE FROM customer WHERE id = '{user_id}'; DELETE FROM staff WHERE id = '{staff_id}'")


# Mutes


async def test_a_mute_is_about_the_person_whoever_they_are_at_the_moment(world: World) -> None:
    cafe = await world.cafe()
    mo, first = await world.moderator(cafe), await world.join(cafe)
    second = await world.join(cafe, "r-2", first.patron_key)
    await world.join(cafe, "r-3")
    action = await world.moderation.mute(mo, second.user.id, reason="too loud")
    until_ms = action.until_ms or 0
    assert world.rooms.orders == [(cafe.id, c.Mute(user.id, until_ms, "too loud")) for user in (second.user, first.user)]
    assert [one.user_id for one in (await world.moderation.log(cafe.id)).actions] == [second.user.id], "the log says what was ordered"
    world.rooms.orders.clear()
    await world.moderation.unmute(mo, first.user.id)
    assert world.rooms.orders == [(cafe.id, c.Unmute(user.id)) for user in (first.user, second.user)]


async def test_who_joins_again_is_as_muted_as_they_were(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    action = await world.moderation.mute(mo, ann.user.id, reason="too loud", duration_s=60)
    world.rooms.orders.clear()
    again = await world.join(cafe, "r-2", ann.patron_key)
    assert world.rooms.orders == [(cafe.id, c.Mute(again.user.id, action.until_ms or 0, "too loud"))]
    await world.join(cafe, "r-3")
    await world.join(other, "r-1", ann.patron_key)
    assert len(world.rooms.orders) == 1, "who shows no key, or one of another café, is somebody new"
    await world.moderation.unmute(mo, ann.user.id)
    world.rooms.orders.clear()
    await world.join(cafe, "r-4", ann.patron_key)
    await world.moderation.mute(mo, ann.user.id, duration_s=1)
    mock_clock.jump(2)
    world.rooms.orders.clear()
    await world.join(cafe, "r-5", ann.patron_key)
    assert world.rooms.orders == []


async def test_a_mute_by_the_rules_follows_the_person_as_soon_as_it_is_written(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    other, bob = await world.join(cafe, "r-2", ann.patron_key), await world.join(cafe, "r-3")
    ledger = Ledger(pg=world.pg, ids=world.ids)
    ledger.on_mutes = world.alike.follow
    now_ms = world.clock.now_ms()
    mutes = [Record("mute", one.user.id, one.user.username, now_ms, rule="blocks", reason="spam", until_ms=now_ms + 60_000) for one in (ann, bob)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run)
        for mute in (*mutes, Record("block", bob.user.id, "b", now_ms)):
            ledger.note(cafe.id, mute)
        await ledger.settled()
        assert world.rooms.orders == [(cafe.id, c.Mute(other.user.id, now_ms + 60_000, "spam"))]
        await world.moderation.unmute(mo, other.user.id)
        world.rooms.orders.clear()
        await world.alike.follow(mutes)
        assert world.rooms.orders == [], "what was said later counts"
        nursery.cancel_scope.cancel()


async def test_whether_an_order_made_a_difference_is_told(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    again = await world.join(cafe, "r-2", ann.patron_key)
    orders = world.moderation
    assert [(await order(mo, ann.user.id)).changed for order in (orders.unmute, orders.unban, orders.kick)] == [False, False, True]
    for begin, end in ((orders.mute, orders.unmute), (orders.ban, orders.unban)):
        assert (await begin(mo, ann.user.id, duration_s=60)).changed
        assert [(await end(mo, again.user.id)).changed for _ in range(2)] == [True, False]
        await begin(mo, ann.user.id, duration_s=60)
        mock_clock.jump(61)
        assert not (await end(mo, ann.user.id)).changed


async def test_what_holds_for_somebody_can_be_asked(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    again = await world.join(cafe, "r-2", ann.patron_key)
    assert await world.moderation.state(ann.user.id) == (None, None)
    muted = await world.moderation.mute(mo, ann.user.id, reason="loud", duration_s=60)
    banned = await world.moderation.ban(mo, again.user.id, reason="enough")
    mute, ban = InForce(until_ms=muted.until_ms or 0, reason="loud"), InForce(until_ms=banned.until_ms or 0, reason="enough")
    assert await world.moderation.state(ann.user.id) == await world.moderation.state(again.user.id) == (mute, ban)
    await world.moderation.unmute(mo, again.user.id)
    assert await world.moderation.state(ann.user.id) == (None, ban)
    assert await world.moderation.state(NO_ONE) == (None, None)


# Bans


def is_banned(refusal: Rejected, until_ms: int | None) -> bool:
    return (refusal.code, refusal.status, refusal.extras["until"]) == ("banned", 403, rfc3339(until_ms or 0))


async def test_no_token_of_somebody_banned_counts_until_they_are_welcome_again(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    identity = world.sessions.identify(ann.access_token)
    action = await world.moderation.ban(mo, ann.user.id, duration_s=60)
    with pytest.raises(Rejected) as caught:
        world.sessions.identify(ann.access_token)
    assert is_banned(caught.value, action.until_ms)
    assert world.sessions.is_revoked(identity)
    assert is_banned(await refused(world.sessions.refresh(ann.refresh_token)), action.until_ms)
    await world.moderation.unban(mo, ann.user.id)
    assert world.sessions.identify(ann.access_token) == identity
    assert (await world.sessions.refresh(ann.refresh_token)).user == ann.user, "nothing was used up meanwhile"


async def test_a_ban_ends_by_itself(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    await world.moderation.ban(mo, ann.user.id, duration_s=60)
    mock_clock.jump(59.99)
    assert is_banned(await refused(world.join(cafe, "r-2", ann.patron_key)), world.clock.now_ms() + 10)
    with pytest.raises(Rejected):
        world.sessions.identify(ann.access_token)
    mock_clock.jump(0.02)
    assert world.sessions.identify(ann.access_token).user_id == ann.user.id
    assert (await world.join(cafe, "r-3", ann.patron_key)).patron_key == ann.patron_key


async def test_a_ban_holds_against_another_join_with_the_same_key(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    action = await world.moderation.ban(mo, ann.user.id)
    printed = await world.receipt(cafe, "r-2")
    assert is_banned(await refused(world.join_with(cafe, printed, patron_key=ann.patron_key)), action.until_ms)
    # The receipt was not used up; and the key of one café says nothing in another.
    assert (await world.join_with(cafe, printed)).user.username == printed.username
    assert (await world.join(other, "r-1", ann.patron_key)).patron_key != ann.patron_key
    await world.moderation.unban(mo, ann.user.id)
    assert (await world.join(cafe, "r-3", ann.patron_key)).patron_key == ann.patron_key


async def test_a_ban_is_about_the_person_whoever_they_are_at_the_moment(world: World) -> None:
    cafe = await world.cafe()
    mo, first = await world.moderator(cafe), await world.join(cafe)
    second = await world.join(cafe, "r-2", first.patron_key)
    somebody = await world.join(cafe, "r-3")
    await world.moderation.ban(mo, first.user.id)
    assert [user_id for user_id, _, _ in world.rooms.away] == [first.user.id, second.user.id]

    def counts(who: JoinAnswer, sessions: Sessions) -> bool:
        return not sessions.is_revoked(world.tokens.verify_access(who.access_token))

    assert [counts(who, world.sessions) for who in (first, second, somebody)] == [False, False, True]
    after_restart = Sessions(pg=world.pg, clock=world.clock, ids=world.ids, tokens=world.tokens, user_ttl_s=USER_TTL_S)
    await after_restart.warm()
    assert [counts(who, after_restart) for who in (first, second, somebody)] == [False, False, True]
    await world.moderation.unban(mo, second.user.id)
    await after_restart.warm()
    fresh = Sessions(pg=world.pg, clock=world.clock, ids=world.ids, tokens=world.tokens, user_ttl_s=USER_TTL_S)
    await fresh.warm()
    for sessions in (world.sessions, fresh):
        assert [counts(who, sessions) for who in (first, second, somebody)] == [True, True, True]


async def test_bans_that_are_over_are_not_remembered(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    mo = await world.moderator(cafe)
    for n in range(3):
        await world.moderation.ban(mo, (await world.join(cafe, f"r-{n}")).user.id, duration_s=60)
    mock_clock.jump(61)
    await world.moderation.ban(mo, (await world.join(cafe, "r-9")).user.id)
    assert len(world.sessions._banned) == 1


async def test_a_join_that_is_under_way_is_seen_by_the_ban_or_sees_it(world: World) -> None:
    cafe = await world.cafe()
    mo, ann = await world.moderator(cafe), await world.join(cafe)
    printed = [await world.receipt(cafe, f"again-{n}") for n in range(6)]
    let_in: list[JoinAnswer] = []
    codes: set[str] = set()

    async def join(n: int) -> None:
        try:
            let_in.append(await world.join_with(cafe, printed[n], patron_key=ann.patron_key))
        except Rejected as rejected:
            codes.add(rejected.code)

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(join, n)
        nursery.start_soon(world.moderation.ban, mo, ann.user.id)
        for n in range(3, 6):
            nursery.start_soon(join, n)
    assert codes <= {"banned"}
    for joined in let_in:
        assert world.sessions.is_revoked(world.tokens.verify_access(joined.access_token))
