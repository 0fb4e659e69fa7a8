"""A café in Redis: under the names that are part of the contract, each with an end, and as the room is now."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from brewd.cafe import commands as c
from brewd.cafe.mirrored import MESSAGES_MAX, CafeMirror
from brewd.cafe.room import Room
from brewd.cafe.topics import HALF_LIFE_MS
from brewd.errors import StoreError
from brewd.runtime.clock import Clock
from brewd.runtime.quota import Quota
from brewd.store.mirror import MARKER, Mirror
from brewd.store.redis import Redis
from tests.cafe.rooms import ANN, BOB, CAFE, JOINS, commit, message, messages, play, room, send

USERS, MESSAGES, TOPICS = f"cafe:{CAFE}:users", f"cafe:{CAFE}:messages", f"cafe:{CAFE}:topics"


class Shown:
    """A café mirror on a real Redis."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.redis = redis
        self.mirror = Mirror(redis=redis, name="this one")
        self.cafes = CafeMirror(mirror=self.mirror, redis=redis, clock=clock)

    async def ask(self, *command: Any) -> Any:
        (answer,) = await self.redis.pipeline([command])
        return answer

    async def shows(self, cafe: Room) -> None:
        self.cafes.touched(cafe)
        assert await self.mirror.flush()

    async def seqs(self) -> list[int]:
        return [msgspec.json.decode(text)["seq"] for text in await self.ask("LRANGE", MESSAGES, 0, -1)]

    async def presence(self, who: c.Who) -> dict[str, str]:
        flat = await self.ask("HGETALL", f"user:{who.user_id}:presence")
        return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.fixture
async def shown(redis: Redis, clock: Clock) -> Shown:
    return Shown(redis, clock)


def talked_in() -> Room:
    """Ann and Bob are there, and Ann has spoken."""
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, "espresso"))
    commit(cafe)
    return cafe


async def test_it_shows_who_is_there_what_was_said_and_about_what(shown: Shown) -> None:
    await shown.shows(talked_in())
    assert set(await shown.ask("SMEMBERS", USERS)) == {ANN.user_id, BOB.user_id}
    (said,) = await shown.ask("LRANGE", MESSAGES, 0, -1)
    assert msgspec.json.decode(said)["content"] == "espresso"
    assert await shown.ask("ZRANGE", TOPICS, 0, -1, "WITHSCORES") == ["espresso", "1"]
    assert (await shown.presence(BOB)).items() >= {"cafeId": CAFE, "username": "bob", "status": "online"}.items()


async def test_every_name_is_known_and_has_an_end(shown: Shown) -> None:
    await shown.shows(talked_in())
    names = sorted(await shown.ask("KEYS", "*"))
    presence = [f"user:{who.user_id}:presence" for who in (ANN, BOB)]
    assert names == sorted([USERS, MESSAGES, TOPICS, f"{TOPICS}:at", *presence, MARKER])
    left_s = await shown.redis.pipeline([("TTL", name) for name in names])
    assert all(0 < seconds <= 86_400 for seconds in left_s)


async def test_it_follows_what_happens(shown: Shown) -> None:
    cafe = talked_in()
    await shown.shows(cafe)
    play(cafe, c.SetStatus(1, "away"), c.Leave(2), send(1, ANN, "more"))
    commit(cafe)
    await shown.shows(cafe)
    assert await shown.ask("SMEMBERS", USERS) in ([ANN.user_id], {ANN.user_id})
    assert (await shown.presence(ANN))["status"] == "away"
    assert await shown.presence(BOB) == {}
    assert await shown.seqs() == [2, 1]


async def test_the_last_hundred_messages_newest_first(shown: Shown) -> None:
    cafe = room(messages(1, 150), quota=Quota(1000))
    await shown.shows(cafe)
    assert await shown.seqs() == list(range(150, 50, -1))
    play(cafe, *JOINS, *(send(1, ANN, f"n{n}") for n in range(3)))
    commit(cafe)
    await shown.shows(cafe)
    assert await shown.seqs() == list(range(153, 53, -1))
    play(cafe, *(send(1, ANN, f"n{n}") for n in range(MESSAGES_MAX + 1)))
    commit(cafe)
    await shown.shows(cafe)
    assert await shown.seqs() == list(range(254, 154, -1))


async def test_what_was_deleted_is_not_there_any_more(shown: Shown) -> None:
    cafe = room([message(1, ANN, "a secret"), message(2, BOB)])
    await shown.shows(cafe)
    play(cafe, c.Delete(ANN, "m1"))
    commit(cafe, {"m1": message(1, ANN, deleted=True)})
    await shown.shows(cafe)
    assert await shown.seqs() == [2, 1]
    assert "a secret" not in str(await shown.ask("LRANGE", MESSAGES, 0, -1))


async def test_a_redis_that_was_emptied_shows_everything_again(shown: Shown) -> None:
    cafe = talked_in()
    await shown.shows(cafe)
    before = sorted(await shown.ask("KEYS", "*"))
    await shown.ask("FLUSHALL")
    assert await shown.mirror.flush()
    assert sorted(await shown.ask("KEYS", "*")) == before
    assert await shown.seqs() == [1]


async def test_a_cafe_that_slept_is_shown_anew_and_nothing_twice(shown: Shown) -> None:
    cafe = talked_in()
    await shown.shows(cafe)
    shown.cafes.closed(CAFE)
    shown.cafes.closed("never shown")
    again = room([message(1)])
    play(again, c.Join(1, BOB))
    await shown.shows(again)
    assert await shown.seqs() == [1]
    assert set(await shown.ask("SMEMBERS", USERS)) == {BOB.user_id}


async def test_a_restarted_room_is_shown_anew_with_what_was_deleted_meanwhile(shown: Shown) -> None:
    cafe = talked_in()
    await shown.shows(cafe)
    again = room([message(1, ANN, deleted=True)])
    play(again, c.Rejoin(1, ANN))
    await shown.shows(again)
    assert await shown.seqs() == [1]
    assert "espresso" not in str(await shown.ask("LRANGE", MESSAGES, 0, -1))
    assert set(await shown.ask("SMEMBERS", USERS)) == {ANN.user_id}
    assert await shown.presence(BOB) == {}


async def test_topics_that_have_faded_are_gone_when_they_are_next_written(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    cafe = talked_in()
    await shown.shows(cafe)
    cafe.topics.restore([], 0)
    await shown.shows(cafe)
    assert await shown.ask("EXISTS", TOPICS) == 1  # not so soon after the last time
    monkeypatch.setattr("brewd.cafe.mirrored.TOPICS_GAP_MS", 0)
    await shown.shows(cafe)
    assert await shown.ask("EXISTS", TOPICS) == 0


async def test_a_cafe_starts_with_the_topics_redis_remembers_as_they_have_faded(shown: Shown, clock: Clock) -> None:
    assert await shown.cafes.topics(CAFE) == []
    cafe = talked_in()
    play(cafe, send(1, ANN, "espresso crema"))
    commit(cafe)
    await shown.shows(cafe)
    assert dict(await shown.cafes.topics(CAFE)) == pytest.approx({"espresso": 2.0, "crema": 1.0}, rel=0.01)
    await shown.ask("SET", f"{TOPICS}:at", clock.now_ms() - HALF_LIFE_MS)
    assert dict(await shown.cafes.topics(CAFE)) == pytest.approx({"espresso": 1.0, "crema": 0.5}, rel=0.01)
    await shown.ask("DEL", f"{TOPICS}:at")
    assert dict(await shown.cafes.topics(CAFE)) == pytest.approx({"espresso": 2.0, "crema": 1.0}, rel=0.01)
    await shown.ask("SET", f"{TOPICS}:at", clock.now_ms() + HALF_LIFE_MS)
    assert dict(await shown.cafes.topics(CAFE)) == pytest.approx({"espresso": 2.0, "crema": 1.0}, rel=0.01)


@pytest.mark.parametrize("junk", [("SET", TOPICS, "not a set"), ("SET", f"{TOPICS}:at", "yesterday")], ids=["type", "time"])
async def test_what_somebody_else_wrote_there_keeps_no_cafe_from_opening(shown: Shown, junk: tuple[str, str, str]) -> None:
    await shown.ask(*junk)
    assert await shown.cafes.topics(CAFE) == []


class Gone:
    """A Redis that is not there."""

    def __init__(self) -> None:
        self.asked = 0

    async def pipeline(self, commands: Any, *, timeout_s: float = 1.0) -> list[Any]:
        self.asked += 1
        raise StoreError("gone")


async def test_without_redis_a_cafe_starts_without_topics_and_once_that_is_known_without_asking(clock: Clock) -> None:
    redis = Gone()
    mirror = Mirror(redis=redis, name="this one")
    cafes = CafeMirror(mirror=mirror, redis=redis, clock=clock)
    assert await cafes.topics(CAFE) == []
    assert redis.asked == 1
    cafes.touched(talked_in())
    assert not await mirror.flush()
    asked = redis.asked
    assert await cafes.topics(CAFE) == []
    assert redis.asked == asked
