"""What a café allows: set at once, tried on the last hour, given back; over the real Postgres."""

from __future__ import annotations

from typing import Any

import pytest

from brewd.cafe import commands as c
from brewd.cafe.limits import HOUR_MS, Terms, limits_of
from brewd.cafe.spam import SpamRules
from brewd.config import LIVELY, Bucket, Limits, PerDay, Profile
from brewd.config_spam import Spam
from brewd.errors import Rejected
from brewd.people.allowances import LimitChange, Sender
from brewd.people.cafes import Cafes
from brewd.people.records import Cafe
from brewd.runtime.clock import as_datetime
from tests.people.world import World

NO_ONE = "01890000-0000-7000-8000-000000000000"


async def say(world: World, cafe: Cafe, user: tuple[str, str], ago_ms: int, *, badge: str | None = None, deleted: bool = False) -> None:
    """A message as it stands in the table."""
    await world.pg.transaction(_say, cafe.id, user, as_datetime(world.clock.now_ms() - ago_ms), badge, world.ids.uuid7(), deleted)


async def _say(tx: Any, cafe_id: str, user: tuple[str, str], at: Any, badge: str | None, message_id: str, deleted: bool) -> None:
    await tx.script(f"""
        UPDATE cafe_line SET last_seq = last_seq + 1 WHERE cafe_id = '{cafe_id}';
        INSERT INTO message (cafe_id, seq, id, user_id, username, badge, content, created_at, deleted_at)
        SELECT cafe_id, last_seq, '{message_id}', '{user[0]}', '{user[1]}', {"NULL" if badge is None else f"'{badge}'"}, 'x', '{at.isoformat()}',
            {"now()" if deleted else "NULL"} FROM cafe_line WHERE cafe_id = '{cafe_id}'
    """)


async def refused(attempt: Any) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await attempt
    return caught.value


# Terms


async def test_a_cafe_without_a_word_of_its_own_has_the_default(world: World) -> None:
    cafe, lively = await world.cafe(), await world.cafe(name="Lively", limits_profile="lively")
    assert await world.cafes.terms(cafe.id) == Terms(limits_of(Profile()), SpamRules())
    assert (await world.cafes.terms(lively.id)).limits == limits_of(LIVELY)
    assert await world.allowances.show(lively.id) == LIVELY
    assert (await refused(world.cafes.terms(NO_ONE))).code == "not_found"


async def test_one_word_list_serves_all_cafes_until_the_config_is_another(world: World) -> None:
    config = Limits(spam=Spam(words=["gold"]))
    cafes = Cafes(pg=world.pg, clock=world.clock, ids=world.ids, limits=lambda: config)
    one, two = await world.cafe(), await world.cafe(name="Other")
    assert (await cafes.terms(one.id)).spam is (await cafes.terms(two.id)).spam
    config = Limits(enabled=False, spam=Spam(enabled=False))
    assert await cafes.terms(one.id) == Terms(None, None)


async def test_a_profile_that_left_the_config_keeps_no_cafe_from_opening(world: World) -> None:
    cafe = await world.cafe(limits_profile="lively", limits_overrides={"poke": {"per_day": 1}})
    without = Cafes(pg=world.pg, clock=world.clock, ids=world.ids, limits=lambda: Limits(profiles={"standard": Profile()}))
    assert without.profile(await without.get(cafe.id)) == Profile(poke=PerDay(per_day=1))
    await world.pg.transaction(_spoil, cafe.id)
    without.forget()
    assert without.profile(await without.get(cafe.id)) == Profile()


async def _spoil(tx: Any, cafe_id: str) -> None:
    await tx.script(f"""UPDATE cafe SET limits_overrides = '{{"poke": {{"per_week": 1}}}}' WHERE id = '{cafe_id}'""")


# Setting


async def test_a_change_is_told_to_the_room_and_says_what_is_different(world: World) -> None:
    cafe = await world.cafe()
    changes = await world.allowances.set(cafe.id, {"message": {"per_hour": 40, "burst": 30}, "agent": {"gap_s": 5}})
    assert changes == (LimitChange("message.per_hour", 30, 40), LimitChange("agent.gap_s", 120, 5))
    ((to, order),) = world.rooms.orders
    assert to == cafe.id
    assert isinstance(order, c.SetTerms)
    assert order.terms == await world.cafes.terms(cafe.id)
    world.cafes.forget()
    assert (await world.allowances.show(cafe.id)).message == Bucket(per_hour=40, burst=30, gap_s=30)


async def test_values_are_added_and_taken_away_one_by_one(world: World) -> None:
    cafe = await world.cafe()
    await world.allowances.set(cafe.id, {"message": {"per_hour": 40, "gap_s": 1}})
    assert await world.allowances.set(cafe.id, {"message": {"per_hour": None}}) == (LimitChange("message.per_hour", 40, 30),)
    assert (await world.cafes.get(cafe.id)).limits_overrides == {"message": {"gap_s": 1}}
    await world.allowances.set(cafe.id, {"message": {"gap_s": None}})
    assert (await world.cafes.get(cafe.id)).limits_overrides == {}
    assert await world.allowances.set(cafe.id, {}) == ()


async def test_another_profile_lies_below_the_cafes_own_values(world: World) -> None:
    cafe = await world.cafe()
    await world.allowances.set(cafe.id, {"poke": {"per_day": 1}})
    changes = await world.allowances.set(cafe.id, {}, profile="lively")
    assert {change.name for change in changes} == {
        *(f"{kind}.{name}" for kind in ("message", "badge_message") for name in ("per_hour", "burst", "gap_s")),
        *(f"{kind}.{name}" for kind in ("agent", "badge_agent") for name in ("per_session", "gap_s")),
    }
    assert (await world.allowances.show(cafe.id)).poke == PerDay(per_day=1)
    await world.allowances.set(cafe.id, {}, profile=None)
    assert (await world.cafes.get(cafe.id)).limits_profile is None


@pytest.mark.parametrize(
    "changes", [{"mesage": {"per_hour": None}}, {"message": {"per_our": 1}}, {"message": {"per_hour": 0}}, {"message": {"gap_s": -1}}, {"poke": 5}]
)
async def test_what_makes_no_sense_changes_nothing(world: World, changes: Any) -> None:
    cafe = await world.cafe()
    assert (await refused(world.allowances.set(cafe.id, changes))).code == "invalid_request"
    assert (await refused(world.allowances.attempt(cafe.id, changes))).code == "invalid_request"
    assert (await refused(world.allowances.set(cafe.id, {}, profile="wild"))).code == "invalid_request"
    assert (await refused(world.allowances.set(NO_ONE, {}))).code == "not_found"
    assert (await world.cafes.get(cafe.id), world.rooms.orders) == (cafe, [])


# Trying


async def test_the_last_hour_under_other_limits(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    ann, bob, cid = ((world.ids.uuid7(), name) for name in ("ann", "bob", "cid"))
    for ago_s in (2000, 1990, 1980, 1000, 995):
        await say(world, cafe, ann, ago_s * 1000, deleted=ago_s == 1980)
    for ago_s in (3601, 500, 400):
        await say(world, cafe, bob, ago_s * 1000)
    await say(world, cafe, cid, 100_000, badge="regular")
    await say(world, cafe, cid, 99_000, badge="regular")
    await say(world, other, cid, 98_000)
    trial = await world.allowances.attempt(cafe.id, {"message": {"gap_s": 12}, "badge_message": {"gap_s": 1}})
    assert (trial.sends, trial.refused, trial.complete) == (9, 2, True)
    # At 1990 s too soon, at 1980 s again in time, for what was refused has cost nothing; and at 995 s too soon.
    assert trial.senders == (Sender(ann[0], "ann", 5, 2),)
    assert world.clock.now_ms() - trial.since_ms == pytest.approx(HOUR_MS, abs=1000)
    assert (await world.allowances.attempt(cafe.id, {"message": {"gap_s": 0}, "badge_message": {"gap_s": 0}})).refused == 0
    one_an_hour = await world.allowances.attempt(cafe.id, {"message": {"per_hour": 1, "burst": 1}, "badge_message": {"gap_s": 1}})
    # Bob's first one took the only token, though it is not among those that are counted.
    assert [(sender.username, sender.refused) for sender in one_an_hour.senders] == [("ann", 4), ("bob", 2)]
    assert await world.allowances.show(cafe.id) == Profile()


async def test_a_trial_says_when_it_did_not_see_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.people.allowances.TRIED_MAX", 3)
    cafe, ann = await world.cafe(), (world.ids.uuid7(), "ann")
    for ago_s in (90, 60, 30):
        await say(world, cafe, ann, ago_s * 1000)
    assert (await world.allowances.attempt(cafe.id, {})).complete is False
    for ago_s in (20, 10, 5):
        await say(world, cafe, ann, ago_s * 1000)
    trial = await world.allowances.attempt(cafe.id, {})
    assert (trial.sends, trial.complete) == (3, False)


async def test_of_a_quiet_hour_there_is_nothing_to_tell(world: World) -> None:
    trial = await world.allowances.attempt((await world.cafe()).id, {})
    assert (trial.sends, trial.refused, trial.senders, trial.complete) == (0, 0, (), True)


# Giving back


async def test_a_reset_is_stored_and_told(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    mo, ann = await world.moderator(cafe), (await world.join(cafe)).user
    await world.allowances.reset(mo, ann.id, "poke")
    await world.allowances.reset(mo, ann.id)
    assert world.rooms.orders == [(cafe.id, c.ResetLimits(ann.id, "poke")), (cafe.id, c.ResetLimits(ann.id, None))]
    rows = await world.pg.fetch("standing_used", cafe.id, as_datetime(0))
    assert [(row["user_id"], row["action"], row["reset"]) for row in rows] == [(ann.id, "poke", True), (ann.id, None, True)]
    for attempt in (world.allowances.reset(mo, NO_ONE), world.allowances.reset(await world.moderator(other), ann.id)):
        assert (await refused(attempt)).code == "not_found"
    refusal = await refused(world.allowances.reset(mo, ann.id, "shout"))
    assert (refusal.code, refusal.extras["errors"][0]["path"]) == ("invalid_request", "action")
