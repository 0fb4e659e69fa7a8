"""Tips, days and badges over the real Postgres: who gets what, once, for how long, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from brewd.cafe.effects import Seen
from brewd.cafe.events import BadgeAwarded
from brewd.errors import Rejected, StoreError
from brewd.people.badge_rules import DAY_MS, HELD_DAYS
from brewd.people.badges import AMOUNT_MAX_CENTS, Recorded
from brewd.people.holders import Bearer, Holders
from brewd.people.join import JoinAnswer
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.people.visits import Visits
from brewd.runtime.clock import Clock, as_datetime, rfc3339
from tests.people.world import World, make_world

NO_ONE = "01890000-0000-7000-8000-000000000000"
DAY_S = 86_400
WEEK_S = 7 * DAY_S


async def tip(world: World, cafe: Cafe, user_id: str, amount_cents: int = 150, currency: str = "EUR", staff_id: str = NO_ONE) -> Recorded:
    return await world.badges.record_tip(cafe.id, staff_id, user_id, amount_cents, currency)


async def regular(world: World, cafe: Cafe, user_id: str) -> Recorded:
    """Five tips; the last one."""
    return [await tip(world, cafe, user_id) for _ in range(5)][-1]


async def refused(attempt: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await attempt
    return caught.value


def who(world: World, joined: JoinAnswer) -> Identity:
    """As a token says that is from before whatever they have earned."""
    user = joined.user
    token, _ = world.tokens.issue_access(
        user_id=user.id, cafe_id=user.cafe_id, role="user", session_id=NO_ONE, username=user.username, badge=user.badge, user_expires_ms=user.expires_ms
    )
    return world.sessions.identify(token)


def badge_now(world: World, joined: JoinAnswer) -> str | None:
    return who(world, joined).badge


async def types(world: World, joined: JoinAnswer) -> list[str]:
    return [badge.type for badge in (await world.badges.status(who(world, joined))).badges]


async def counted(world: World, table: str) -> int:
    async def count(tx: Any) -> int:
        return int((await tx._connection.fetchrow(f"SELECT count(*) FROM {table}"))[0])

    return await world.pg.transaction(count)


def awarded(world: World) -> list[tuple[str, str]]:
    return [(user_id, event.badge.type) for user_id, event in world.rooms.told if isinstance(event, BadgeAwarded)]


# Tips


async def test_the_fifth_tip_of_a_week_makes_a_regular(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    for number in range(1, 5):
        done = await tip(world, cafe, ann.user.id)
        assert (done.eligibility.tips_in_window, done.eligibility.tips_needed, done.eligibility.eligible, done.badge) == (number, 5 - number, False, None)
    assert (badge_now(world, ann), world.rooms.badges, world.rooms.told) == (None, [], [])
    done = await tip(world, cafe, ann.user.id)
    ends_ms = done.tip.at_ms + HELD_DAYS * DAY_MS
    assert (done.eligibility.eligible, done.eligibility.tips_needed) == (True, 0)
    assert done.badge is not None
    assert (done.badge.type, done.badge.awarded_at, done.badge.expires_at) == ("regular", rfc3339(done.tip.at_ms), rfc3339(ends_ms))
    assert world.rooms.badges == [(ann.user.id, "regular")]
    assert world.rooms.told == [(ann.user.id, BadgeAwarded(done.badge))]
    assert world.sessions.identify(ann.access_token).badge == "regular"  # by the token from before
    assert (await world.users.show(ann.user.id)).badge_status == "regular"


async def test_tips_at_one_instant_make_one_badge(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    done: list[Recorded] = []

    async def one() -> None:
        done.append(await tip(world, cafe, ann.user.id))

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(one)
    assert sorted(recorded.eligibility.tips_in_window for recorded in done) == list(range(1, 13))
    assert sum(recorded.badge is not None for recorded in done) == 8
    assert awarded(world) == [(ann.user.id, "regular")]
    assert (await counted(world, "badge"), await counted(world, "tip")) == (1, 12)


async def test_users_of_one_patron_tipped_at_one_instant_make_one_badge(world: World) -> None:
    cafe = await world.cafe()
    first = await world.join(cafe, "r-1")
    second = await world.join(cafe, "r-2", patron_key=first.patron_key)
    async with trio.open_nursery() as nursery:
        for user in (first.user, second.user) * 3:
            nursery.start_soon(tip, world, cafe, user.id)
    assert sorted(awarded(world)) == sorted([(first.user.id, "regular"), (second.user.id, "regular")])
    assert (badge_now(world, first), badge_now(world, second), await counted(world, "badge")) == ("regular", "regular", 1)


async def test_a_user_without_a_patron_gets_one_with_the_first_tip(world: World) -> None:
    cafe = await world.cafe()
    (ben,) = await world.users.add_many(cafe.id, 1)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(tip, world, cafe, ben.id)
    assert world.sessions.identify(ben.access_token).badge == "regular"
    assert (await counted(world, "patron"), awarded(world)) == (1, [(ben.id, "regular")])


async def test_a_tip_a_week_ago_counts_no_more(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await tip(world, cafe, ann.user.id)
    mock_clock.jump(WEEK_S - DAY_S / 2)  # ann's time is over: the patron's tips are not
    ann = await world.join(cafe, "r-2", patron_key=ann.patron_key)
    mock_clock.jump(DAY_S / 2 - 0.001)
    assert (await tip(world, cafe, ann.user.id)).eligibility.tips_in_window == 2
    mock_clock.jump(0.001)
    assert (await tip(world, cafe, ann.user.id)).eligibility.tips_in_window == 2


async def test_a_tip_while_it_holds_prolongs_it_and_is_not_told_again(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    first = (await regular(world, cafe, ann.user.id)).badge
    mock_clock.jump(3600)
    second = (await tip(world, cafe, ann.user.id)).badge
    assert first is not None
    assert second is not None
    assert second.awarded_at == first.awarded_at
    assert second.expires_at == rfc3339(world.clock.now_ms() + HELD_DAYS * DAY_MS) > first.expires_at
    assert awarded(world) == [(ann.user.id, "regular")]


@pytest.mark.parametrize("amount_cents", [0, -1, AMOUNT_MAX_CENTS + 1, 2**63])
async def test_an_amount_that_makes_no_sense_is_refused(world: World, amount_cents: int) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    assert (await refused(tip(world, cafe, ann.user.id, amount_cents))).extras["errors"][0]["path"] == "amountCents"
    assert await counted(world, "tip") == 0


async def test_a_currency_is_one_of_those_there_are(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    assert (await tip(world, cafe, ann.user.id, AMOUNT_MAX_CENTS, "usd")).tip.currency == "USD"
    for wrong in ("EURO", "", "ZZZ", "€€€", "eu"):
        assert (await refused(tip(world, cafe, ann.user.id, 1, wrong))).extras["errors"][0]["path"] == "currency"


async def test_only_who_is_here_can_be_tipped(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    ann, bob, cid = [await world.join(cafe, f"r-{number}") for number in range(3)]
    await world.users.expire(bob.user.id)
    refusals = [await refused(tip(world, where, user_id)) for where, user_id in ((other, ann.user.id), (cafe, bob.user.id), (cafe, NO_ONE))]
    mock_clock.jump(DAY_S)
    refusals.append(await refused(tip(world, cafe, cid.user.id)))
    assert {(one.code, one.detail) for one in refusals} == {("not_found", "There is no such user here, or their time is over.")}
    assert await counted(world, "tip") == 0


async def test_who_recorded_it_is_kept(world: World) -> None:
    cafe = await world.cafe()
    ann, eva = await world.join(cafe), await world.staff.add(cafe.id, "Eva", "barista", "pw")
    await tip(world, cafe, ann.user.id, staff_id=eva.id)

    async def read(tx: Any) -> Any:
        return await tx._connection.fetchrow("SELECT staff_id::text, user_id::text, amount_cents, currency FROM tip")

    assert tuple(await world.pg.transaction(read)) == (eva.id, ann.user.id, 150, "EUR")


# The patron has it


async def test_a_badge_outlives_the_user_and_the_daemon(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    mock_clock.jump(2 * DAY_S)
    again = make_world(world.pg, world.clock, world.ids)
    await again.badges.warm()
    back = await again.join(cafe, "r-2", patron_key=ann.patron_key)
    assert back.user.id != ann.user.id
    assert (back.user.badge_status, badge_now(again, back), again.tokens.verify_access(back.access_token).badge) == ("regular", "regular", "regular")
    stranger = await again.join(cafe, "r-3")
    assert (stranger.user.badge_status, badge_now(again, stranger)) == ("none", None)


async def test_a_badge_is_known_after_a_restart_to_tokens_from_before(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    again = make_world(world.pg, world.clock, world.ids)
    held = Holders(world.clock)
    assert held.badge(ann.user.id, None) is None
    await again.badges.warm()
    assert again.sessions.holders.badge(ann.user.id, None) == "regular"
    assert again.rooms.badges == [(ann.user.id, "regular")]


async def test_an_ended_badge_is_taken_from_the_room_the_row_and_the_tokens(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    mock_clock.jump((HELD_DAYS - 1) * DAY_S + 3600)
    back = await world.join(cafe, "r-2", patron_key=ann.patron_key)
    world.rooms.badges.clear()
    seen: list[Bearer] = []
    world.badges.on_change.append(seen.append)
    mock_clock.jump(DAY_S - 3700)
    renewed = await world.sessions.refresh(back.refresh_token)
    await world.badges.tick()
    assert (world.rooms.badges, seen) == ([], [])
    assert world.sessions.identify(renewed.access_token).badge == "regular"
    mock_clock.jump(100)
    assert world.tokens.verify_access(renewed.access_token).badge == "regular"  # so it still says
    assert world.sessions.identify(renewed.access_token).badge is None
    await world.badges.tick()
    assert set(world.rooms.badges) == {(back.user.id, None)}
    assert [(one.user_id, one.badge) for one in seen] == [(back.user.id, None)]
    assert (await world.users.show(back.user.id)).badge_status == "none"
    again = make_world(world.pg, world.clock, world.ids)
    again.keys._use((world.keys.current,))
    await again.badges.warm()
    assert again.sessions.identify(renewed.access_token).badge is None
    done = await regular(world, cafe, back.user.id)
    assert done.badge is not None
    assert done.badge.awarded_at == rfc3339(done.tip.at_ms)
    assert awarded(world)[-1] == (back.user.id, "regular")
    assert world.sessions.identify(renewed.access_token).badge == "regular"


async def test_what_was_stored_without_an_answer_is_found_out(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    for _ in range(4):
        await tip(world, cafe, ann.user.id)
    world.badges._pg = Lossy(world.pg)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        await tip(world, cafe, ann.user.id)
    assert badge_now(world, ann) is None
    world.badges._pg = world.pg
    await world.badges.tick()
    assert (badge_now(world, ann), world.rooms.badges) == ("regular", [(ann.user.id, "regular")])


class Lossy:
    """A Postgres whose answers to transactions are lost on the way back."""

    def __init__(self, pg: Any) -> None:
        self.pg = pg

    async def transaction(self, *args: Any, **options: Any) -> Any:
        await self.pg.transaction(*args, **options)
        raise StoreError("lost on the way back")


async def test_a_caller_who_hangs_up_takes_nothing_back(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    for _ in range(4):
        await tip(world, cafe, ann.user.id)
    with trio.CancelScope() as scope:
        scope.cancel()
        await tip(world, cafe, ann.user.id)
    assert (badge_now(world, ann), awarded(world)) == ("regular", [(ann.user.id, "regular")])


# Days


async def test_who_joins_early_is_an_early_bird(world: World, mock_clock: trio.testing.MockClock) -> None:
    """It is ten in the morning in London, and half past three in the afternoon in Kolkata."""
    for name, zone, badges in (("a", "America/New_York", ["early_bird"]), ("b", "UTC", []), ("c", "Pacific/Auckland", ["night_owl"])):
        cafe = await world.cafe(name=name, timezone=zone)
        joined = await world.join(cafe)
        world.visits.opened(joined.user, "", "")
        await world.badges.tick()
        assert await types(world, joined) == badges
        assert awarded(world) == [(joined.user.id, kind) for kind in badges]
        assert badge_now(world, joined) is None  # it is an honour: limits are those of anybody
        world.rooms.told.clear()


async def test_a_message_late_at_night_makes_a_night_owl(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe(timezone="Europe/Vienna")
    ann = await world.join(cafe)
    mock_clock.jump(11 * 3600 - 1)
    world.visits.seen(Seen(ann.user.id, world.clock.now_ms()))
    await world.badges.tick()
    assert await types(world, ann) == []
    mock_clock.jump(1)
    world.visits.seen(Seen(ann.user.id, world.clock.now_ms()))
    await world.badges.tick()
    assert await types(world, ann) == ["night_owl"]


async def test_who_comes_on_five_days_is_a_frequent_visitor(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe, key, joined = await world.cafe(), None, None
    for number in range(5):
        assert joined is None or await types(world, joined) == []
        joined = await world.join(cafe, f"r-{number}", patron_key=key)
        key = joined.patron_key
        world.visits.opened(joined.user, "", "")
        await world.badges.tick()
        mock_clock.jump(DAY_S - 60)
    assert joined is not None
    assert await types(world, joined) == ["frequent_visitor"]
    assert await counted(world, "visit") == 5


async def meet(world: World, cafe: Cafe, one: str, other: str) -> None:
    """A channel for two, as a match opens it."""

    user_a, user_b = sorted((one, other))
    values = (world.ids.uuid7(), cafe.id, user_a, user_b, "tea", as_datetime(world.clock.now_ms()).isoformat())

    async def add(tx: Any) -> None:
        await tx.script(f"INSERT INTO dm_channel (id, cafe_id, user_a, user_b, shared_interest, created_at) VALUES {values}")

    await world.pg.transaction(add)
    world.badges.matched(one, other)


async def test_three_matches_make_a_social_butterfly(world: World) -> None:
    cafe = await world.cafe()
    ann, *others = [await world.join(cafe, f"r-{number}") for number in range(4)]
    for number, other in enumerate(others, 1):
        await meet(world, cafe, ann.user.id, other.user.id)
        await world.badges.tick()
        assert await types(world, ann) == (["social_butterfly"] if number == 3 else [])
        assert await types(world, other) == []
    assert awarded(world) == [(ann.user.id, "social_butterfly")]


async def test_days_that_postgres_did_not_take_are_kept_until_it_does(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe(timezone="America/New_York")
    ann = await world.join(cafe)
    world.visits.opened(ann.user, "", "")

    class Down:
        async def fetch(self, *args: Any, **options: Any) -> Any:
            raise StoreError("down")

    world.visits._pg = Down()
    with pytest.raises(StoreError):
        await world.badges.tick()
    assert len(world.visits) == 1
    world.visits._pg = world.pg
    await world.badges.tick()
    assert (len(world.visits), await types(world, ann)) == (0, ["early_bird"])


async def test_no_more_are_kept_than_there_is_room_for(world: World) -> None:
    visits = Visits(pg=world.pg, pending_max=2)
    for number in range(5):
        visits.seen(Seen(f"u{number}", number))
        visits.seen(Seen(f"u{number}", number + 1))
    assert [one.user_id for one in visits.take(10)] == ["u0", "u1"]
    assert len(visits) == 0


# The night's jobs


async def test_the_nights_job_finds_what_was_missed_and_then_nothing(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe(timezone="America/New_York")
    people = [await world.join(cafe, f"r-{number}") for number in range(3)]
    world.visits.take(100)  # a crash
    for _ in range(4):
        await tip(world, cafe, people[0].user.id)
    mock_clock.jump(3600)
    assert await world.badges.calculate() == {"joined": 3, "patrons": 3, "awarded": 3, "prolonged": 0}
    assert sorted(awarded(world)) == sorted((one.user.id, "early_bird") for one in people)
    assert await world.badges.calculate() == {"joined": 3, "patrons": 3, "awarded": 0, "prolonged": 0}
    assert len(awarded(world)) == 3


async def test_the_nights_job_goes_through_all_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.people.badges.BATCH", 2)
    monkeypatch.setattr("brewd.people.badges.PURGE_BATCH", 2)
    cafe = await world.cafe(timezone="America/New_York")
    for number in range(5):
        await world.join(cafe, f"r-{number}")
    counts = await world.badges.calculate()
    assert (counts["joined"], counts["patrons"], counts["awarded"]) == (5, 5, 5)


async def test_what_is_over_goes(world: World, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.people.badges.PURGE_BATCH", 2)
    cafe = await world.cafe(timezone="America/New_York")
    people = [await world.join(cafe, f"r-{number}") for number in range(3)]
    for one in people:
        await regular(world, cafe, one.user.id)
    await world.badges.calculate()
    assert await world.badges.expire() == {"users": 0, "badges": 0, "tips": 0, "visits": 0}
    mock_clock.jump(HELD_DAYS * DAY_S)
    assert await world.badges.expire() == {"users": 3, "badges": 3, "tips": 0, "visits": 0}
    mock_clock.jump(DAY_S)
    assert await world.badges.expire() == {"users": 0, "badges": 3, "tips": 0, "visits": 0}
    mock_clock.jump(6 * DAY_S)
    assert await world.badges.expire() == {"users": 0, "badges": 0, "tips": 15, "visits": 3}
    assert await world.badges.calculate() == {"joined": 0, "patrons": 0, "awarded": 0, "prolonged": 0}


async def test_a_badge_that_is_prolonged_while_the_job_runs_stays(world: World, mock_clock: trio.testing.MockClock) -> None:
    """The job finds it over, waits for the tip that holds the row, and looks again."""
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    mock_clock.jump((HELD_DAYS - 0.5) * DAY_S)
    back = await world.join(cafe, "r-2", patron_key=ann.patron_key)
    mock_clock.jump(0.5 * DAY_S)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(tip, world, cafe, back.user.id)
        for _ in range(5):
            nursery.start_soon(world.badges.expire)
    await world.badges.tick()
    assert badge_now(world, back) == "regular"
    assert (await world.users.show(back.user.id)).badge_status == "regular"
    assert world.rooms.badges[-1] == (back.user.id, "regular")


async def test_with_the_patron_everything_of_theirs_goes(world: World) -> None:
    cafe = await world.cafe(timezone="America/New_York")
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    await world.badges.calculate()

    async def erase(tx: Any) -> None:
        await tx.script("DELETE FROM patron")

    await world.pg.transaction(erase)
    assert [await counted(world, table) for table in ("tip", "visit", "badge")] == [0, 0, 0]


async def test_who_stays_when_their_patron_is_erased_has_no_badge(world: World) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await regular(world, cafe, ann.user.id)
    seen: list[Bearer] = []
    world.badges.on_change.append(seen.append)

    async def erase(tx: Any) -> None:
        ids = [(await tx._connection.fetchrow("SELECT id FROM patron"))[0]]
        for name in ("erase_patron_tip", "erase_patron_visit", "erase_patron_badge"):
            await tx.execute(name, ids, 500)
        await tx.script("UPDATE customer SET patron_id = NULL, badge_status = 'none'")
        await tx.script("DELETE FROM patron")

    await world.pg.transaction(erase)
    world.badges.recheck()
    await world.badges.tick()
    assert (badge_now(world, ann), world.rooms.badges[-1], [one.badge for one in seen]) == (None, (ann.user.id, None), [None])
    again = make_world(world.pg, world.clock, world.ids)
    await again.badges.warm()
    assert again.sessions.holders.badge(ann.user.id, "regular") is None
    assert (await regular(world, cafe, ann.user.id)).eligibility.tips_in_window == 5
    assert badge_now(world, ann) == "regular"


# Who holds one, in memory


async def test_holders_forget_those_who_are_gone(clock: Clock, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.people.holders.SWEEP_FIRST", 4)
    holders, now_ms = Holders(clock), clock.now_ms()
    ann = Bearer("ann", "c", "ann", "regular", now_ms + 2000, now_ms + 5000)
    holders.hold(ann)
    holders.hold(replace(ann, until_ms=now_ms + 1000))  # overtaken by the other
    mock_clock.jump(1.5)
    assert (holders.badge("ann", None), holders.over()) == ("regular", [])
    mock_clock.jump(0.5)
    assert (holders.badge("ann", "regular"), holders.badge("bob", "regular"), holders.over()) == (None, "regular", [ann])
    assert holders.over() == []
    mock_clock.jump(3)
    for number in range(8):
        holders.hold(Bearer(f"u{number}", "c", "u", "regular", clock.now_ms() + 10_000, clock.now_ms() + 10_000))
    assert (len(holders), holders.badge("ann", "regular")) == (8, "regular")


async def test_holders_sweep_away_no_end_that_was_not_told(clock: Clock, mock_clock: trio.testing.MockClock) -> None:
    holders, now_ms = Holders(clock), clock.now_ms()
    ann, bob = (Bearer(name, "c", name, "regular", now_ms + 1000, now_ms + 5000) for name in ("ann", "bob"))
    holders.hold(ann)
    holders.hold(bob)
    mock_clock.jump(2)
    holders.forget("c", {"bob"})  # which sweeps
    assert (len(holders), holders.over(), holders.over()) == (1, [ann], [])


async def test_who_is_erased_is_held_no_more(clock: Clock) -> None:
    holders, now_ms = Holders(clock), clock.now_ms()
    holders.hold(Bearer("ann", "c", "ann", "regular", now_ms + 10_000, now_ms + 10_000))
    holders.forget("c", {"somebody"})
    assert len(holders) == 1
    holders.forget("c", {"ann", "somebody"})
    assert (len(holders), holders._ends) == (0, [])
