"""A badge in a room: in force with the next message, shown to the others, and nothing of what was used is given back."""

from __future__ import annotations

from msgspec.structs import replace
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe import events
from brewd.cafe.company import QUARTER_MS
from brewd.cafe.effects import Refuse, Seen
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.moderation import Muting
from brewd.cafe.standing import Standing
from brewd.config import Profile
from tests.cafe.rooms import ANN, BOB, CAFE, JOINS, MOD, NOW_MS, answer, commit, only, play, room, send, told, updates
from tests.cafe.world import World

REGULAR = replace(ANN, badge="regular")
STANDARD = Standing(Terms(limits_of(Profile())))
STAY = "11111111-0000-4000-8000-000000000000"


def test_a_badge_is_shown_to_the_others_once() -> None:
    cafe = room()
    play(cafe, *JOINS)
    effects = play(cafe, c.SetBadge(ANN.user_id, "regular"))
    assert updates(effects) == [("status", "ann", 2)]
    assert told(effects, events.UsersUpdate)[0].user.badge == "regular"
    assert play(cafe, c.SetBadge(ANN.user_id, "regular")) == []
    assert play(cafe, c.SetBadge("somebody-else", "regular")) == []
    (update,) = told(play(cafe, c.SetBadge(ANN.user_id, None)), events.UsersUpdate)
    assert update.user == replace(update.user, badge=None, status="online")


def test_of_who_is_muted_the_others_see_no_badge() -> None:
    cafe = room()
    play(cafe, *JOINS)
    cafe.mutes.add(ANN.user_id, Muting(NOW_MS + 1000, ""))
    cafe.presence.hide(cafe.presence.members[ANN.user_id], True)
    assert play(cafe, c.SetBadge(ANN.user_id, "regular")) == []
    assert cafe.presence.members[ANN.user_id].view.badge == "regular"


def test_the_tier_changes_and_what_was_used_stays_used() -> None:
    cafe = room(standing=STANDARD)
    play(cafe, *JOINS)
    assert only(play(cafe, send(1, ANN)), Refuse) == []
    assert [one.extras["retryAfterMs"] for one in only(play(cafe, send(1, ANN, "two"), at_ms=NOW_MS + 15_000), Refuse)] == [15_000]
    assert cafe.buckets is not None
    cafe.buckets.changed.clear()
    play(cafe, c.SetBadge(ANN.user_id, "regular"), at_ms=NOW_MS + 15_000)
    assert cafe.buckets.changed == {ANN.user_id}  # what Redis shows is another number
    view = answer(play(cafe, c.LimitsQuery(REGULAR, STAY, -1), at_ms=NOW_MS + 15_000), -1).limits["message"]
    assert (view.limit, view.remaining, view.retry_after_ms, view.cooldown_ms) == (60, 59, 0, 15_000)
    assert only(play(cafe, send(1, REGULAR, "two"), at_ms=NOW_MS + 15_000), Refuse) == []
    play(cafe, c.SetBadge(ANN.user_id, None), at_ms=NOW_MS + 16_000)
    view = answer(play(cafe, c.LimitsQuery(ANN, STAY, -1), at_ms=NOW_MS + 30_000), -1).limits["message"]
    assert (view.limit, view.remaining, view.retry_after_ms) == (30, 28, 15_000)


def test_guests_are_said_to_be_here_once_in_a_quarter_of_an_hour() -> None:
    cafe = room()
    quarter = -(-NOW_MS // QUARTER_MS) * QUARTER_MS
    assert only(play(cafe, c.Join(1, ANN), at_ms=quarter), Seen) == [Seen(ANN.user_id, quarter)]
    assert only(play(cafe, c.Join(2, ANN), c.Join(3, MOD), at_ms=quarter + 1), Seen) == []
    for after_ms, seen in ((QUARTER_MS - 1, False), (QUARTER_MS, True), (QUARTER_MS + 1, False), (5 * QUARTER_MS, True)):
        play(cafe, send(1, ANN, f"at {after_ms}"), at_ms=quarter + after_ms)
        assert only(commit(cafe, at_ms=quarter + after_ms), Seen) == ([Seen(ANN.user_id, quarter + after_ms)] if seen else [])


async def test_every_socket_speaks_with_the_badge_from_then_on(world: World, autojump_clock: MockClock) -> None:
    ann, other, bob = await world.enter(ANN), await world.enter(ANN), await world.enter(BOB)
    world.directory.set_badge(CAFE, ANN.user_id, "regular")
    people = ann.ref.fanout.people
    assert (people[ann.to], people[other.to], people[bob.to]) == (REGULAR, REGULAR, BOB)
    await world.calm()
    assert [one["data"]["user"]["badge"] for one in bob.socket.news()] == ["regular"]
    world.directory.set_badge("00000000-0000-4000-8000-00000000dead", ANN.user_id, "regular")  # where nobody is


async def test_a_badge_outlives_the_rooms_actor(world: World, autojump_clock: MockClock) -> None:
    ann, bob = await world.enter(ANN), await world.enter(BOB)
    world.breaks_once(c.Typing)
    bob.ref.tell(c.Typing(bob.to, True))
    world.directory.set_badge(CAFE, ANN.user_id, "regular")
    await world.calm()
    assert world.status().crashes == 1
    answered = await world.directory.ref(CAFE).ask(c.PresenceQuery())
    assert {view.username: view.badge for view in answered.users} == {"ann": "regular", "bob": "regular"}
    assert ann.ref.fanout.told_users[ANN.user_id].badge == "regular"
