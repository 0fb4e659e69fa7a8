"""Spam asked about over HTTP, and mutes seen and lifted, against a real daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from brewd.config import Config
from brewd.config_spam import Spam
from brewd.people.moderation import Moderator
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import RFC3339_MS

CHECK, MUTE = "/api/v1/spam/check", "/api/v1/spam/mute"
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def house(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    async with open_house(replace(config, limits=replace(config.limits, spam=Spam(words=["gold coins"])))) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
def moderator(house: House, cafe: Cafe) -> Person:
    return house.staff(cafe, "moderator")


async def check(house: House, person: Person, content: Any) -> Any:
    answer = await house.api("POST", CHECK, {"content": content}, by=person)
    assert answer.status == 200, answer
    return answer.json


async def mute(house: House, person: Person) -> None:
    await house.parts.moderation.mute(Moderator(person.cafe_id, "operator"), person.id, reason="too loud")


@pytest.mark.parametrize(
    ("content", "is_spam", "action", "broken"),
    [
        ("good evening", False, "allow", []),
        ("WHAT A LOUD PLACE", True, "warn", [("capitals", "soft")]),
        ("cheap Gold Coins", True, "block", [("words", "hard")]),
    ],
)
async def test_a_text_is_judged(house: House, ann: Person, content: str, is_spam: bool, action: str, broken: list[Any]) -> None:
    found = await check(house, ann, content)
    assert found.keys() == {"isSpam", "action", "violations"}
    assert (found["isSpam"], found["action"]) == (is_spam, action)
    assert [(one["type"], one["severity"]) for one in found["violations"]] == broken
    assert all(one.keys() == {"type", "severity", "detail"} and one["detail"] for one in found["violations"])


async def test_a_check_takes_nothing_and_is_not_remembered(house: House, ann: Person) -> None:
    wire = await house.enter(ann)
    before = (await house.api("GET", "/api/v1/ratelimit/status", by=ann)).json["limits"]["message"]["remaining"]
    for content in ("the very same words", "WHAT A LOUD PLACE", "cheap gold coins"):
        assert all([await check(house, ann, content) == await check(house, ann, content) for _ in range(3)])
    assert (await house.api("GET", "/api/v1/ratelimit/status", by=ann)).json["limits"]["message"]["remaining"] == before
    assert (await house.send(wire, ann.cafe_id, "the very same words"))["warnings"] == []
    assert (await check(house, ann, "The very same words"))["violations"][0]["type"] == "duplicate"
    assert [one["event"] for one in await wire.settle()].count("message:new") == 1


async def test_a_check_knows_what_the_next_block_leads_to(house: House, ann: Person) -> None:
    wire = await house.enter(ann)
    for number in range(2):
        await wire.refused("message:send", {"cafeId": ann.cafe_id, "content": f"gold coins {number}"})
    assert (await check(house, ann, "gold coins"))["action"] == "mute"
    assert (await house.api("GET", f"{MUTE}/{ann.id}", by=ann)).json == {"muted": False}
    await house.send(wire, ann.cafe_id, "sorry")


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"content": ""}, "content"),
    ({"content": " \t"}, "content"),
    ({"content": "\u200b\u2060"}, "content"),
    ({"content": "x" * 1001}, "content"),
    ({"content": "a\0b"}, "content"),
    ({"content": 7}, "content"),
    ({}, "content"),
    ({"content": "hello", "cafeId": NOBODY}, "cafeId"),
)


async def test_what_is_no_message_is_not_judged(house: House, ann: Person) -> None:
    for body, at in BAD:
        answer = await house.api("POST", CHECK, body, by=ann)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert [error["path"] for error in answer.json["errors"]] == [at], body


async def test_the_longest_message_is_judged(house: House, ann: Person) -> None:
    assert (await check(house, ann, "so " * 333 + "x"))["action"] == "allow"


async def test_who_may_have_a_text_judged(house: House, cafe: Cafe, moderator: Person) -> None:
    assert (await house.api("POST", CHECK, {"content": "hello"})).status == 401
    for person in (house.staff(cafe, "barista"), moderator):
        answer = await house.api("POST", CHECK, {"content": "hello"}, by=person)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")


async def test_a_mute_shows_to_the_muted_and_to_a_moderator_alone(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    await mute(house, ann)
    for person in (ann, moderator):
        answer = await house.api("GET", f"{MUTE}/{ann.id}", by=person)
        assert (answer.status, answer.json["muted"], answer.json["reason"]) == (200, True, "too loud")
        assert RFC3339_MS.fullmatch(answer.json["until"])
    assert (await house.api("GET", f"{MUTE}/{ann.id}")).status == 401
    for person in (await house.guest(cafe), house.staff(cafe, "barista")):
        answer = await house.api("GET", f"{MUTE}/{ann.id}", by=person)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert (await house.api("GET", f"{MUTE}/{(await house.guest(cafe)).id}", by=moderator)).json == {"muted": False}


async def test_of_a_stranger_a_moderator_learns_nothing(house: House, ann: Person, moderator: Person) -> None:
    other = house.staff(await house.cafe("Other"), "moderator")
    await mute(house, ann)
    for method in ("GET", "DELETE"):
        for person, user_id in ((other, ann.id), (moderator, NOBODY)):
            answer = await house.api(method, f"{MUTE}/{user_id}", by=person)
            assert (answer.status, answer.json["code"]) == (404, "not_found")
        assert (await house.api(method, f"{MUTE}/ann", by=moderator)).status == 404
    assert (await house.api("GET", f"{MUTE}/{ann.id}", by=ann)).json["muted"]


async def test_an_end_of_a_mute_is_felt_with_the_next_message(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    wire = await house.enter(ann)
    await mute(house, ann)
    assert (await wire.refused("message:send", {"cafeId": cafe.id, "content": "hello?"}))["code"] == "muted"
    for person in (ann, await house.guest(cafe), house.staff(cafe, "barista")):
        assert (await house.api("DELETE", f"{MUTE}/{ann.id}", by=person)).status == 403
    assert (await house.api("DELETE", f"{MUTE}/{ann.id}")).status == 401
    answer = await house.api("DELETE", f"{MUTE}/{ann.id}", by=moderator)
    assert (answer.status, answer.body) == (204, b"")
    await house.send(wire, cafe.id, "hello!")
    assert (await house.api("GET", f"{MUTE}/{ann.id}", by=ann)).json == {"muted": False}
    assert (await house.api("DELETE", f"{MUTE}/{ann.id}", by=moderator)).status == 204


async def test_who_was_muted_for_spam_starts_afresh(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    wire = await house.enter(ann)
    for number in range(3):
        await wire.refused("message:send", {"cafeId": cafe.id, "content": f"gold coins {number}"})
    assert (await house.api("GET", f"{MUTE}/{ann.id}", by=ann)).json["muted"]
    await house.api("DELETE", f"{MUTE}/{ann.id}", by=moderator)
    assert (await check(house, ann, "gold coins"))["action"] == "block"


async def joined(house: House, cafe: Cafe, receipt_id: str, patron_key: str | None = None) -> tuple[Person, str]:
    printed = await house.parts.receipts.issue(cafe.id, receipt_id)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, "patronKey": patron_key}
    answer = await house.api("POST", "/api/auth/join", body)
    assert answer.status == 201, answer
    user = answer.json["user"]
    return Person(user["id"], user["username"], answer.json["accessToken"], cafe.id), answer.json["patronKey"]


async def test_a_mute_follows_the_person(house: House, cafe: Cafe, moderator: Person) -> None:
    """From the one who earned it by spam to who else they are, and to who they become; its end does too."""
    first, key = await joined(house, cafe, "r-1")
    second, _ = await joined(house, cafe, "r-2", key)
    stranger, _ = await joined(house, cafe, "r-3")
    wires = {person.id: await house.enter(person) for person in (first, second, stranger)}
    for _ in range(3):
        no = await wires[first.id].refused("message:send", {"cafeId": cafe.id, "content": "gold coins"})
        assert no["code"] == "spam_blocked"
    until = (await wires[first.id].heard("moderation:muted"))["until"]
    assert (await wires[second.id].heard("moderation:muted"))["until"] == until
    assert (await wires[second.id].refused("message:send", {"cafeId": cafe.id, "content": "hello"}))["code"] == "muted"
    third, _ = await joined(house, cafe, "r-4", key)
    wire = await house.enter(third)
    assert (await wire.refused("message:send", {"cafeId": cafe.id, "content": "hello"}))["until"] == until
    await house.send(wires[stranger.id], cafe.id, "good evening")
    answer = await house.api("DELETE", f"{MUTE}/{third.id}", by=moderator)
    assert answer.status == 204
    for heard in (wires[first.id], wires[second.id], wire):
        assert await heard.heard("moderation:unmuted") == {}
    await house.send(wire, cafe.id, "thank you")
