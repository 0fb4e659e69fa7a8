"""The limits of a guest over HTTP, against a real daemon: shown, asked about, given back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.cafe.commands import Take, Who
from brewd.cafe.limits import Action
from brewd.config import Bucket, Config, PerDay, Profile
from brewd.people.records import Cafe
from brewd.runtime.clock import rfc3339
from tests.edge.ws.house import House, Person, open_house

STATUS, CHECK, RESET = (f"/api/v1/ratelimit/{what}" for what in ("status", "check", "reset"))
NOBODY = "01890000-0000-7000-8000-000000000000"

FEW = Profile(message=Bucket(per_hour=60, burst=2, gap_s=10), poke=PerDay(per_day=3))


@pytest.fixture
async def house(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    """Two messages at once, one more a minute, 10 s between two."""
    async with open_house(replace(config, limits=replace(config.limits, profiles={"standard": FEW}))) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def limits(house: House, person: Person) -> Any:
    answer = await house.api("GET", STATUS, by=person)
    assert answer.status == 200, answer
    assert answer.json.keys() == {"limits"}
    return answer.json["limits"]


async def take(house: House, person: Person, action: Action = "poke") -> None:
    session_id = house.tokens.verify_access(person.token).session_id
    await house.parts.directory.ref(person.cafe_id).ask(Take(action, Who(person.id, person.name), session_id))


async def test_a_guest_sees_what_they_may_still_do(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.enter(ann)
    flow.rate = 0
    now_ms = house.parts.clock.now_ms()
    now = rfc3339(now_ms)
    assert await limits(house, ann) == {
        "message": {"limit": 2, "remaining": 2, "resetAt": now, "retryAfterMs": 0, "cooldownMs": 10_000},
        "poke": {"limit": 3, "remaining": 3, "resetAt": now, "retryAfterMs": 0, "cooldownMs": 0},
        "agent": {"limit": 2, "remaining": 2, "resetAt": now, "retryAfterMs": 0, "cooldownMs": 120_000},
    }
    await house.send(wire, ann.cafe_id, "one")
    answer = await house.api("GET", STATUS, by=ann)
    assert answer.headers["ratelimit-policy"] == '"message";q=2, "poke";q=3, "agent";q=2'
    assert answer.headers["ratelimit"] == '"message";r=1;t=10, "poke";r=3, "agent";r=2'
    after = {"limit": 2, "remaining": 1, "resetAt": rfc3339(now_ms + 60_000), "retryAfterMs": 10_000, "cooldownMs": 10_000}
    assert answer.json["limits"]["message"] == after
    flow.jump(10)
    assert (await limits(house, ann))["message"] == {**after, "retryAfterMs": 0}
    await house.send(wire, ann.cafe_id, "two")
    assert (await limits(house, ann))["message"] == {**after, "remaining": 0, "resetAt": rfc3339(now_ms + 120_000), "retryAfterMs": 50_000}
    refused = await wire.refused("message:send", {"cafeId": ann.cafe_id, "content": "three"})
    assert (refused["code"], refused["retryAfterMs"]) == ("rate_limited", 50_000)
    await take(house, ann, "agent")
    assert (await limits(house, ann))["agent"] == {"limit": 2, "remaining": 1, "resetAt": None, "retryAfterMs": 120_000, "cooldownMs": 120_000}
    flow.jump(120)
    await take(house, ann, "agent")
    answer = await house.api("POST", CHECK, {"action": "agent"}, by=ann)
    assert (answer.json["limits"]["agent"]["retryAfterMs"], answer.headers["ratelimit"]) == (None, '"agent";r=0')
    flow.rate = 0.2


async def test_a_check_takes_nothing(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.enter(ann)
    flow.rate = 0
    before = await limits(house, ann)
    for action in ("message", "poke", "agent"):
        for _ in range(5):
            answer = await house.api("POST", CHECK, {"action": action}, by=ann)
            assert (answer.status, answer.json) == (200, {"limits": {action: before[action]}})
        assert answer.headers["ratelimit"] == f'"{action}";r={before[action]["remaining"]}'
    assert await limits(house, ann) == before
    await house.send(wire, ann.cafe_id, "one")
    answer = await house.api("POST", CHECK, {"action": "message"}, by=ann)
    assert answer.json["limits"]["message"]["retryAfterMs"] == 10_000
    flow.rate = 0.2


async def test_a_moderator_gives_everything_back_or_one_thing(house: House, cafe: Cafe, ann: Person, flow: MockClock) -> None:
    moderator, wire = house.staff(cafe, "moderator"), await house.enter(ann)
    flow.rate = 0
    fresh = await limits(house, ann)
    await house.send(wire, ann.cafe_id, "one")
    await take(house, ann)
    used = await limits(house, ann)
    answer = await house.api("POST", RESET, {"userId": ann.id, "action": "poke"}, by=moderator)
    assert (answer.status, answer.body) == (204, b"")
    assert await limits(house, ann) == {**used, "poke": fresh["poke"]}
    await take(house, ann)
    assert (await house.api("POST", RESET, {"userId": ann.id.upper()}, by=moderator)).status == 204
    assert await limits(house, ann) == fresh
    await house.send(wire, ann.cafe_id, "two")
    flow.rate = 0.2


async def test_a_moderator_of_another_cafe_gives_nothing_back(house: House, ann: Person) -> None:
    stranger = house.staff(await house.cafe("Other"), "moderator")
    await take(house, ann)
    answer = await house.api("POST", RESET, {"userId": ann.id}, by=stranger)
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert (await limits(house, ann))["poke"]["remaining"] == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [("GET", STATUS, None, {"user"}), ("POST", CHECK, {"action": "poke"}, {"user"}), ("POST", RESET, {"userId": NOBODY}, {"moderator"})],
)
async def test_who_may(house: House, cafe: Cafe, ann: Person, method: str, path: str, body: Any, allowed: set[str]) -> None:
    nobody = await house.api(method, path, body)
    assert (nobody.status, nobody.json["code"]) == (401, "unauthorized")
    for role, person in {"user": ann, "barista": house.staff(cafe, "barista"), "moderator": house.staff(cafe, "moderator")}.items():
        answer = await house.api(method, path, body, by=person)
        assert (answer.status == 403) is (role not in allowed), answer
        assert answer.status != 403 or answer.json["code"] == "forbidden"


BAD: tuple[tuple[str, Any, str], ...] = (
    (CHECK, {"action": "wave"}, "action"),
    (CHECK, {"action": None}, "action"),
    (CHECK, {}, "action"),
    (CHECK, {"action": "poke", "count": 2}, "count"),
    (RESET, {}, "userId"),
    (RESET, {"userId": "ann"}, "userId"),
    (RESET, {"userId": NOBODY, "action": "wave"}, "action"),
    (RESET, {"userId": NOBODY, "reason": "x"}, "reason"),
)


async def test_bad_input_is_named(house: House, cafe: Cafe, ann: Person) -> None:
    for path, body, at in BAD:
        answer = await house.api("POST", path, body, by=ann if path == CHECK else house.staff(cafe, "moderator"))
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert [error["path"] for error in answer.json["errors"]] == [at], body


async def test_nobody_known_is_given_nothing_back(house: House, cafe: Cafe) -> None:
    for action in ({}, {"action": "poke"}):
        answer = await house.api("POST", RESET, {"userId": NOBODY, **action}, by=house.staff(cafe, "moderator"))
        assert (answer.status, answer.json["code"]) == (404, "not_found")
