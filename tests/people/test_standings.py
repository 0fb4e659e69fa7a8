"""Where a café's people stand when it opens: read from Postgres, the same as before the restart, whatever became of Redis."""

from __future__ import annotations

import itertools

import pytest
import trio.testing
from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe.buckets import LimitView
from brewd.cafe.effects import Record, Refuse, Used
from brewd.cafe.ledger import Ledger
from brewd.cafe.limits import ACTIONS
from brewd.cafe.room import Room, Rules, confirmed, depart
from brewd.cafe.standing import Reset
from brewd.config import Bucket, Limits, Profile
from brewd.config_spam import Spam
from brewd.errors import StoreError
from brewd.people.cafes import Cafes
from brewd.people.records import Cafe
from brewd.people.standings import SENT_MAX, Standings
from brewd.runtime.quota import Quota
from brewd.store.messages import Messages
from tests.cafe.rooms import answer, only, play
from tests.people.world import World

STAY = "11111111-0000-4000-8000-000000000000"


class Life:
    """One café through several lives, each from Postgres alone, and what it decides written there."""

    def __init__(self, world: World, cafe: Cafe, guests: list[c.Who]) -> None:
        self.world = world
        self.cafe = cafe
        self.guests = guests
        self.limits = Limits(spam=Spam(words=["gold"]))
        cafes = Cafes(pg=world.pg, clock=world.clock, ids=world.ids, limits=lambda: self.limits)
        self.messages = Messages(lane=world.pg, pool=world.pg, timeout_s=5.0)
        self.ledger = Ledger(pg=world.pg, ids=world.ids)
        self.standings = Standings(pg=world.pg, cafes=cafes, decisions=self.ledger, clock=world.clock)
        self.room: Room

    @property
    def now_ms(self) -> int:
        return self.world.clock.now_ms()

    async def open(self, held: int = 256) -> None:
        line = await self.messages.open_line(self.cafe.id)
        assert line is not None
        recent = await self.messages.recent(self.cafe.id, held)
        standing = await self.standings.standing(self.cafe.id, recent)
        self.room = Room(
            line=line, recent=recent, rules=Rules(), quota=Quota(1000), new_id=self.world.ids.uuid7, now_ms=self.now_ms, standing=standing
        )  # fmt: skip
        play(self.room, *(c.Join(to, who) for to, who in enumerate(self.guests)), at_ms=self.now_ms)

    async def say(self, to: int, content: str) -> str | None:
        """Whether it was stored: None, or the code of the refusal."""
        return await self.do(c.Send(to, self.guests[to], content, None, "r"))

    async def do(self, command: c.Command) -> str | None:
        effects = play(self.room, command, at_ms=self.now_ms)
        for effect in effects:
            if isinstance(effect, Record | Used):
                self.ledger.note(self.cafe.id, effect)
        batch = depart(self.room, 1000)
        if batch is not None:
            commit = await self.messages.commit([batch])
            confirmed(self.room, self.room.generation, commit.redacted, self.now_ms)
        return next((refuse.code for refuse in only(effects, Refuse)), None)

    def views(self) -> list[LimitView]:
        at_ms = self.now_ms
        return [answer(play(self.room, c.LimitsQuery(who, STAY, -1), at_ms=at_ms), -1).limits[action] for who in self.guests for action in ACTIONS]


@pytest.fixture
async def life(world: World, mock_clock: trio.testing.MockClock, nursery: trio.Nursery) -> Life:
    cafe = await world.cafe()
    users = [(await world.join(cafe, f"r-{n}")).user for n in range(3)]
    guests = [c.Who(user.id, user.username, badge) for user, badge in zip(users, (None, "regular", None), strict=True)]
    life = Life(world, cafe, guests)
    nursery.start_soon(life.ledger.run)
    await life.open()
    return life


async def test_a_restart_neither_refills_nor_eats(life: Life, mock_clock: trio.testing.MockClock) -> None:
    numbers = itertools.count()
    for pause_s in (0, 600, 15, 15, 30, 1, 45):
        mock_clock.jump(pause_s)
        for to in (0, 1):
            await life.say(to, f"sentence number {next(numbers)}")
    await life.do(c.Take("poke", life.guests[0], STAY, -1))
    await life.do(c.Take("agent", life.guests[1], STAY, -1))
    await life.do(c.Delete(life.guests[0], life.room.history.tail(1)[0].id, 0))
    await life.do(c.Delete(c.Who("", "operator", staff=True, moderator=True), life.room.history.tail(3)[0].id, 0))
    before = life.views()
    assert [view.remaining for view in before[1:6]] == [4, 2, before[3].remaining, 10, 4]
    assert (before[0].remaining < 29, before[3].remaining < 59) == (True, True)
    await life.ledger.settled()
    for held in (256, 2):  # also when the room holds fewer than count
        await life.open(held)
        assert life.views() == before
    mock_clock.jump(3600)
    await life.open()
    assert life.views()[0].remaining == 30


async def test_what_was_given_back_stays_given_back(life: Life, mock_clock: trio.testing.MockClock) -> None:
    mo = await life.world.moderator(life.cafe)
    for to in (0, 1):
        await life.say(to, f"hello {to}")
        await life.do(c.Take("poke", life.guests[to], STAY, -1))
    mock_clock.jump(0.01)
    await life.world.allowances.reset(mo, life.guests[0].user_id, "message")
    await life.world.allowances.reset(mo, life.guests[1].user_id)
    for _, order in life.world.rooms.orders:
        play(life.room, order, at_ms=life.now_ms)
    mock_clock.jump(0.01)
    await life.say(1, "hello again")
    before = life.views()
    assert [view.remaining for view in before[:2] + before[3:5]] == [30, 4, 59, 10]
    await life.open()
    assert life.views() == before


async def test_mutes_and_blocks_are_back_and_end_in_time(life: Life, mock_clock: trio.testing.MockClock) -> None:
    mo = await life.world.moderator(life.cafe)
    await life.world.moderation.mute(mo, life.guests[0].user_id, duration_s=3600)
    await life.world.moderation.mute(mo, life.guests[1].user_id, duration_s=3600)
    await life.world.moderation.mute(mo, life.guests[1].user_id, duration_s=5)
    for _ in range(2):
        assert await life.say(2, "gold") == "spam_blocked"
    mock_clock.jump(10)
    await life.open()
    assert await life.say(0, "hello") == "muted"
    assert await life.say(1, "hello") is None
    assert await life.say(2, "gold") == "spam_blocked"
    await life.open()
    assert await life.say(2, "hello") == "muted"
    await life.world.moderation.unmute(mo, life.guests[2].user_id)
    await life.open()
    assert await life.say(2, "hello") is None
    assert await life.say(2, "gold") == "spam_blocked"
    mock_clock.jump(3600)
    await life.open()
    assert await life.say(0, "hello") is None
    assert [one.action for one in (await life.world.moderation.log(life.cafe.id, user_id=life.guests[2].user_id)).actions] == [
        "block", "unmute", "mute", "block", "block", "block",
    ]  # fmt: skip


async def test_a_mute_is_back_for_whoever_that_person_is(life: Life) -> None:
    world, mo = life.world, await life.world.moderator(life.cafe)
    ann = await world.join(life.cafe, "patron-1")
    again = await world.join(life.cafe, "patron-2", ann.patron_key)
    life.guests = [*life.guests, *(c.Who(one.user.id, one.user.username) for one in (ann, again))]
    await world.moderation.mute(mo, ann.user.id)
    await life.open()
    assert [await life.say(to, "hello") for to in (0, 3, 4)] == [None, "muted", "muted"]
    await world.moderation.unmute(mo, again.user.id)
    await life.open()
    assert [await life.say(to, "good evening") for to in (3, 4)] == [None, None]


async def test_a_raid_that_somebody_was_told_of_is_remembered(life: Life) -> None:
    text = "meet me at the old fountain by the river tonight"
    for to in (0, 1, 2):
        await life.say(to, text)
    await life.open()
    assert await life.say(2, text) == "spam_blocked"
    assert [await life.say(2, text) for _ in range(3)] == ["spam_blocked", "spam_blocked", "muted"], "told of before, so these are the second and the third"


async def test_a_room_opens_with_what_was_decided_a_moment_before(life: Life) -> None:
    """Although the ledger has not written it yet."""
    for _ in range(3):
        await life.say(0, "gold")
    await life.open()
    assert await life.say(0, "hello") == "muted"


async def test_a_room_does_not_open_without_it(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.cafe.ledger.SETTLE_S", 0.0)
    stuck = Ledger(pg=life.world.pg, ids=life.world.ids)
    stuck.note(life.cafe.id, Used("poke", life.guests[0].user_id, STAY, life.now_ms))
    life.standings._decisions = stuck
    with pytest.raises(StoreError):
        await life.open()


async def test_without_limits_no_message_is_looked_at(life: Life) -> None:
    life.limits = Limits(enabled=False, spam=Spam(enabled=False))
    await life.open()
    for _ in range(5):
        assert await life.say(0, "gold") is None
    standing = await life.standings.standing(life.cafe.id, await life.messages.recent(life.cafe.id, 256))
    assert (standing.sent, standing.terms.limits, standing.terms.spam) == ((), None, None)


async def test_limits_that_reach_back_to_the_beginning_of_time(life: Life) -> None:
    patient = Bucket(per_hour=1, burst=10**9, gap_s=0)
    life.limits = replace(life.limits, profiles={"standard": Profile(message=patient, badge_message=patient)})
    await life.open()
    assert await life.say(0, "hello") is None
    await life.world.allowances.reset(await life.world.moderator(life.cafe), life.guests[1].user_id)
    await life.open()
    assert life.views()[0].remaining == 10**9 - 1
    standing = await life.standings.standing(life.cafe.id, await life.messages.recent(life.cafe.id, 256))
    assert [type(one) for one in standing.resets] == [Reset]


def test_a_busy_hour_is_within_reach() -> None:
    """Three hundred guests who say all they may."""
    assert SENT_MAX > 300 * 30
