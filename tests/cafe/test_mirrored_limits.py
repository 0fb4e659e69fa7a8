"""What people have used, in a real Redis: under the names of the contract, with an end, and no more of it than has changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from brewd.cafe import commands as c
from brewd.cafe.limits import DAY_MS, Terms, limits_of
from brewd.cafe.mirrored import CafeMirror
from brewd.cafe.mirrored_limits import AT_ONCE, GAP_MS
from brewd.cafe.room import Room
from brewd.cafe.spam import SpamRules
from brewd.cafe.standing import Standing
from brewd.config import Profile
from brewd.runtime.clock import Clock, rfc3339
from brewd.runtime.quota import Quota
from brewd.store.mirror import MARKER, Mirror
from brewd.store.redis import Redis
from tests.cafe.rooms import ANN, BOB, CAFE, JOINS, NOW_MS, commit, play, room, send

MESSAGE, LAST = f"ratelimit:message:{ANN.user_id}", f"ratelimit:message:{ANN.user_id}:last"
MUTE = f"spam:mute:{ANN.user_id}"


class Shown:
    """A café mirror on a real Redis, and its trips counted."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.redis = redis
        self.trips: list[int] = []
        self.mirror = Mirror(redis=self, name="this one")
        self.cafes = CafeMirror(mirror=self.mirror, redis=self, clock=clock)

    async def pipeline(self, commands: Any, *, timeout_s: float = 1.0) -> list[Any]:
        self.trips.append(len(commands))
        return await self.redis.pipeline(commands, timeout_s=timeout_s)

    async def ask(self, *command: Any) -> Any:
        (answer,) = await self.redis.pipeline([command])
        return answer

    async def shows(self, cafe: Room) -> None:
        self.cafes.touched(cafe)
        assert await self.mirror.flush()

    async def keys(self) -> set[str]:
        return {key for key in await self.ask("KEYS", "*") if key.startswith(("ratelimit:", "spam:"))}


@pytest.fixture
async def shown(redis: Redis, clock: Clock) -> Shown:
    return Shown(redis, clock)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brewd.cafe.mirrored_limits.GAP_MS", 0)


def busy() -> Room:
    """Ann has spoken, poked and asked, and is muted; Bob has done nothing."""
    cafe = room(standing=Standing(Terms(limits_of(Profile()), SpamRules())))
    play(cafe, *JOINS, send(1, ANN, "espresso"), c.Take("poke", ANN, "stay", -1), c.Take("agent", ANN, "stay", -1))
    commit(cafe)
    play(cafe, c.Mute(ANN.user_id, NOW_MS + 60_000, "too loud"))
    return cafe


async def test_every_name_is_of_the_contract_and_has_an_end(shown: Shown) -> None:
    await shown.shows(busy())
    user = ANN.user_id
    assert await shown.keys() == {
        MESSAGE, LAST, f"ratelimit:poke:{user}:count", f"ratelimit:agent:{user}:stay", f"ratelimit:agent:{CAFE}:global", f"spam:duplicate:{user}", MUTE,
    }  # fmt: skip
    left_ms = {key: await shown.ask("PTTL", key) for key in await shown.keys()}
    longest_ms = {MESSAGE: 120_000, LAST: 120_000, f"ratelimit:agent:{CAFE}:global": 120_000, f"spam:duplicate:{user}": 300_000, MUTE: 60_000}
    assert {key for key, ms in left_ms.items() if not 0 < ms <= longest_ms.get(key, DAY_MS)} == set()


async def test_it_says_what_is_left_and_since_when(shown: Shown) -> None:
    await shown.shows(busy())
    assert (await shown.ask("GET", MESSAGE), await shown.ask("GET", LAST)) == ("29", str(NOW_MS))
    assert await shown.ask("GET", f"ratelimit:poke:{ANN.user_id}:count") == "1"
    assert msgspec.json.decode(await shown.ask("GET", MUTE)) == {"until": rfc3339(NOW_MS + 60_000), "reason": "too loud"}
    assert await shown.ask("SISMEMBER", f"cafe:{CAFE}:users", ANN.user_id) == 0, "a muted guest is not seen here either"
    assert await shown.ask("SISMEMBER", f"cafe:{CAFE}:users", BOB.user_id) == 1


async def test_what_was_given_back_is_gone(shown: Shown, often: None) -> None:
    cafe = busy()
    await shown.shows(cafe)
    play(cafe, c.ResetLimits(ANN.user_id), c.Unmute(ANN.user_id))
    await shown.shows(cafe)
    assert await shown.keys() == {f"spam:duplicate:{ANN.user_id}", f"ratelimit:agent:{CAFE}:global"}
    assert await shown.ask("SISMEMBER", f"cafe:{CAFE}:users", ANN.user_id) == 1


async def test_it_is_written_seldom_and_in_the_end(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    cafe = busy()
    await shown.shows(cafe)
    play(cafe, send(2, BOB, "a flat white"))
    await shown.shows(cafe)
    for _ in range(3):
        assert await shown.mirror.flush()
    assert await shown.ask("EXISTS", f"ratelimit:message:{BOB.user_id}") == 0
    monkeypatch.setattr("brewd.cafe.mirrored_limits.GAP_MS", 0)
    assert await shown.mirror.flush()  # although nothing happened since
    assert await shown.ask("EXISTS", f"ratelimit:message:{BOB.user_id}") == 1
    trips = len(shown.trips)
    assert await shown.mirror.flush()
    assert len(shown.trips) == trips + 1, "the marker, and nothing else"
    assert GAP_MS >= 1000


async def test_a_crowd_goes_in_small_trips(shown: Shown) -> None:
    cafe = room(quota=Quota(1000), standing=Standing(Terms(limits_of(Profile()))))
    for n in range(3 * AT_ONCE):
        play(cafe, c.Join(n, who := c.Who(f"user{n}", f"user{n}")), send(n, who))
    commit(cafe)
    await shown.shows(cafe)
    shown.trips.clear()
    for _ in range(3):
        assert await shown.mirror.flush()
    assert max(shown.trips) <= 3 * AT_ONCE
    assert len(await shown.keys()) == 2 * 3 * AT_ONCE


async def test_a_redis_that_was_emptied_shows_everything_again(shown: Shown) -> None:
    cafe = busy()
    await shown.shows(cafe)
    before = await shown.keys()
    await shown.ask("FLUSHALL")
    assert await shown.mirror.flush()
    assert await shown.ask("GET", MARKER) == "this one"
    assert await shown.keys() == before - {f"spam:duplicate:{ANN.user_id}"}  # until they speak again


async def test_a_restarted_room_shows_what_it_knows(shown: Shown, often: None) -> None:
    await shown.shows(busy())
    again = room(standing=Standing(Terms(limits_of(Profile()))))
    play(again, c.Rejoin(1, ANN), send(1, ANN))
    await shown.shows(again)
    assert await shown.ask("GET", MESSAGE) == "29"


async def test_without_limits_nothing_is_shown_of_them(shown: Shown) -> None:
    cafe = room(standing=Standing())
    play(cafe, *JOINS, send(1, ANN))
    commit(cafe)
    await shown.shows(cafe)
    assert await shown.keys() == set()
    assert not await shown.ask("EXISTS", "nothing")
