"""Interests, discovery and pokes through a real daemon: routes and events, both sides of a match, and everybody whom it does not concern."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.config import Config
from brewd.people.records import Cafe
from brewd.social.pokes import NEUTRAL
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import RFC3339_MS, UUID, Response, Wire
from tests.patience import PATIENCE

NOBODY = "01890000-0000-4000-8000-000000000000"

ROUTES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "users:interests": ("PUT", "/api/users/me/interests", {"interests": ["tea"]}),
    "users:poke-enabled": ("PUT", "/api/users/me/poke-enabled", {"enabled": True}),
    "interests:get": ("GET", "/api/matching/interests", None),
    "interests:set": ("POST", "/api/matching/interests", {"interests": ["tea"]}),
    "interests:add": ("POST", "/api/matching/interests/add", {"interest": "tea"}),
    "interests:remove": ("POST", "/api/matching/interests/remove", {"interest": "jazz"}),
    "matching:discover": ("GET", "/api/matching/discover", None),
    "pokes:send": ("POST", "/api/pokes/send", {"toUserId": NOBODY, "sharedInterest": "tea"}),
    "pokes:respond": ("POST", "/api/pokes/respond", {"pokeId": NOBODY, "action": "accept"}),
    "pokes:pending": ("GET", "/api/pokes/pending", None),
    "pokes:sent": ("GET", "/api/pokes/sent", None),
}


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


async def drinker(house: House, cafe: Cafe, *interests: str) -> Person:
    person = await house.guest(cafe)
    assert (await house.api("PUT", "/api/users/me/interests", {"interests": interests or ["tea"]}, by=person)).status == 200
    return person


async def poke(house: House, by: Person, whom: Person | str) -> Response:
    return await house.api("POST", "/api/pokes/send", {"toUserId": whom if isinstance(whom, str) else whom.id, "sharedInterest": "tea"}, by=by)


def shape(value: Any) -> Any:
    """An answer without what is different in every one."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return re.sub(UUID, "id", re.sub(RFC3339_MS, "time", value)) if isinstance(value, str) else value


async def test_a_poke_reaches_every_socket_and_is_accepted_on_one(house: House, cafe: Cafe, flow: MockClock) -> None:
    ann, bob, eve, _ = [await drinker(house, cafe) for _ in range(4)]
    anns, bobs, eves = [await house.enter(ann), await house.connect(ann)], [await house.enter(bob), await house.connect(bob)], await house.enter(eve)
    sent = await anns[0].ask("pokes:send", {"toUserId": bob.id, "sharedInterest": "Tea"})
    assert (sent["poke"]["status"], sent["matched"]) == ("pending", False)
    assert sent.keys() == {"poke", "matched"}
    flow.jump(3)
    for wire in bobs:
        assert await wire.heard("poke_received") == {"pokeId": sent["poke"]["id"], "sharedInterest": "tea"}
    pending = await bobs[1].ask("pokes:pending", {})
    assert pending == (await house.api("GET", "/api/pokes/pending", by=bob)).json
    (one,) = pending["pokes"]
    assert one.keys() == {"id", "sharedInterest", "createdAt", "expiresAt"}
    assert one["createdAt"].endswith(":00:00.000Z")
    assert one["expiresAt"].endswith(":00:00.000Z")
    answer = (await house.api("POST", "/api/pokes/respond", {"pokeId": one["id"], "action": "accept"}, by=bob)).json
    assert (answer["poke"], answer["matched"]) == ({"id": one["id"], "status": "matched", "expiresAt": one["expiresAt"]}, True)
    for wires, other in ((anns, bob), (bobs, ann)):
        for wire in wires:
            matched = {"matchedUser": {"id": other.id, "username": other.name}, "channelId": answer["channelId"], "sharedInterest": "tea"}
            assert await wire.heard("poke_matched") == matched
    (mine,) = (await anns[0].ask("pokes:sent", {}))["pokes"]
    assert (mine["toUserId"], mine["status"], mine["channelId"]) == (bob.id, "matched", answer["channelId"])
    for wire in (*anns, *bobs, eves):
        assert not [frame for frame in await wire.settle() if frame["event"].startswith("poke")], "each once, and only to the two"


async def test_interests_and_discovery_over_both_ways(house: House, cafe: Cafe) -> None:
    ann, bob = await drinker(house, cafe, "Tea", "jazz"), await drinker(house, cafe, "jazz", "go")
    wire = await house.enter(ann)
    assert await wire.ask("interests:add", {"interest": "Go"}) == {"interests": ["tea", "jazz", "go"]}
    assert await wire.ask("interests:remove", {"interest": "tea"}) == {"interests": ["jazz", "go"]}
    assert await wire.ask("interests:get", {}) == (await house.api("GET", "/api/matching/interests", by=ann)).json
    found = await wire.ask("matching:discover", {"cafeId": cafe.id, "limit": 5})
    match = {"userId": bob.id, "username": bob.name, "sharedInterests": ["go", "jazz"], "totalSharedInterests": 2, "online": False}
    assert found == {"matches": [match], "count": 1}
    await house.enter(bob)
    assert (await wire.ask("matching:discover", {}))["matches"] == [{**match, "online": True}]
    await wire.ask("users:poke-enabled", {"enabled": False})
    assert (await house.api("GET", f"/api/matching/discover?cafeId={cafe.id}", by=bob)).json == {"matches": [], "count": 0}
    assert (await house.api("GET", "/api/users/me", by=ann)).json["user"]["pokeEnabled"] is False
    other = await house.cafe()
    assert (await wire.refused("matching:discover", {"cafeId": other.id}))["code"] == "not_in_cafe"


async def test_whoever_cannot_be_reached_is_poked_like_anybody(house: House, cafe: Cafe) -> None:
    ann, bob, off, over, muted, banned = [await drinker(house, cafe) for _ in range(6)]
    moderator, elsewhere = house.staff(cafe, "moderator"), await drinker(house, await house.cafe())
    await house.api("PUT", "/api/users/me/poke-enabled", {"enabled": False}, by=off)
    await house.parts.users.expire(over.id)
    for order, whom in (("mute", muted), ("ban", banned)):
        assert (await house.api("POST", f"/api/moderation/{order}", {"userId": whom.id, "reason": "loud"}, by=moderator)).status == 200
    targets = [bob.id, off.id, over.id, muted.id, banned.id, elsewhere.id, moderator.id, NOBODY]
    wire = await house.enter(ann)
    await house.parts.allowances.set(cafe.id, {"poke": {"per_day": 20}})
    answers = [await poke(house, ann, to) for to in targets]
    assert {answer.status for answer in answers} == {201}
    assert len({repr(shape(answer.json)) for answer in answers}) == 1
    assert len({repr(sorted((name, value) for name, value in answer.headers.items() if name != "date")) for answer in answers}) == 1
    sent = (await wire.ask("pokes:sent", {}))["pokes"]
    assert {one["toUserId"] for one in sent} == set(targets)
    assert len({repr(shape(one)) for one in sent}) == 1
    left = (await house.api("GET", "/api/v1/ratelimit/status", by=ann)).json["limits"]["poke"]["remaining"]
    assert left == 20 - len(targets), "each cost the same"
    again = await poke(house, ann, NOBODY)
    assert again.json == answers[-1].json


async def test_a_muted_guest_pokes_nobody(house: House, cafe: Cafe) -> None:
    ann, bob = await drinker(house, cafe), await drinker(house, cafe)
    moderator = house.staff(cafe, "moderator")
    assert (await poke(house, ann, bob)).status == 201
    await house.api("POST", "/api/moderation/mute", {"userId": ann.id, "reason": "loud"}, by=moderator)
    wire = await house.enter(ann)
    for whom in (bob.id, NOBODY):  # also one that would be the same again
        answer = await poke(house, ann, whom)
        assert (answer.status, answer.json["code"], answer.json["reason"]) == (403, "muted", "loud")
        assert (await wire.refused("pokes:send", {"toUserId": whom, "sharedInterest": "tea"}))["code"] == "muted"
    refusal = await wire.refused("pokes:respond", {"pokeId": NOBODY, "action": "accept"})
    assert (refusal["code"], refusal["reason"]) == ("muted", "loud")
    assert refusal["retryAfterMs"] > 0


@pytest.mark.parametrize("event", ROUTES)
async def test_staff_and_strangers_are_told_the_same_by_every_route_and_event(house: House, cafe: Cafe, event: str) -> None:
    method, path, body = ROUTES[event]
    for role in ("barista", "moderator"):
        staff = house.staff(cafe, role)
        answer = await house.api(method, path, body, by=staff)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        refusal = await (await house.connect(staff)).refused(event, body or {})
        assert (refusal["code"], refusal["detail"]) == ("forbidden", answer.json["detail"])
    assert (await house.api(method, path, body)).status == 401


async def test_nobody_else_can_answer_a_poke_or_see_it(house: House, cafe: Cafe, flow: MockClock) -> None:
    ann, bob, eve, _ = [await drinker(house, cafe) for _ in range(4)]
    stranger = await drinker(house, await house.cafe())
    poke_id = (await poke(house, ann, bob)).json["poke"]["id"]
    flow.jump(3)
    refusals = []
    for person in (ann, eve, stranger):
        wire = await house.enter(person)
        for id in (poke_id, NOBODY):
            for action in ("accept", "decline"):
                refusals.append(await wire.refused("pokes:respond", {"pokeId": id, "action": action}))
                answer = await house.api("POST", "/api/pokes/respond", {"pokeId": id, "action": action}, by=person)
                assert answer.status == 404
                refusals.append({key: answer.json[key] for key in ("code", "detail")})
        assert (await wire.ask("pokes:pending", {}))["pokes"] == []
    assert refusals == [refusals[0]] * 24
    assert refusals[0]["code"] == "not_found"
    (one,) = (await house.api("GET", "/api/pokes/pending", by=bob)).json["pokes"]
    assert (one["id"], one["sharedInterest"]) == (poke_id, "tea")
    await house.parts.users.expire(eve.id)
    (one,) = (await house.api("GET", "/api/pokes/pending", by=bob)).json["pokes"]
    assert one["sharedInterest"] == NEUTRAL


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("pokes:send", {"toUserId": "bob", "sharedInterest": "tea"}, "toUserId"),
    ("pokes:send", {"toUserId": NOBODY}, "sharedInterest"),
    ("pokes:send", {"toUserId": NOBODY, "sharedInterest": 1}, "sharedInterest"),
    ("pokes:send", {"toUserId": NOBODY, "sharedInterest": "gin"}, "sharedInterest"),
    ("pokes:send", {"toUserId": NOBODY, "sharedInterest": "t\u0000"}, "sharedInterest"),
    ("pokes:send", {"toUserId": NOBODY, "sharedInterest": "tea", "x": 1}, "x"),
    ("pokes:respond", {"pokeId": NOBODY, "action": "ignore"}, "action"),
    ("pokes:respond", {"pokeId": 1, "action": "accept"}, "pokeId"),
    ("interests:set", {"interests": ["tea", ""]}, "interests[1]"),
    ("interests:set", {"interests": ["tea", "x" * 41]}, "interests[1]"),
    ("interests:set", {"interests": ["tea", 3]}, "interests[1]"),
    ("interests:set", {"interests": [f"i{n}" for n in range(11)]}, "interests"),
    ("interests:set", {"interests": "tea"}, "interests"),
    ("interests:add", {"interest": "a\nb"}, "interest"),
    ("users:poke-enabled", {"enabled": "yes"}, "enabled"),
]


async def test_what_is_wrong_is_named_the_same_over_both_ways(house: House, cafe: Cafe) -> None:
    ann = await drinker(house, cafe)
    wire = await house.enter(ann)
    for event, data, path in BAD:
        method, address, _ = ROUTES[event]
        answer = await house.api(method, address, data, by=ann)
        assert (answer.status, answer.json["code"], answer.json["errors"][0]["path"]) == (400, "invalid_request", path), (event, data)
        refusal = await wire.refused(event, data)
        assert (refusal["code"], refusal["errors"]) == ("invalid_request", answer.json["errors"])
    for query, path in (("limit=0", "limit"), ("limit=101", "limit"), ("offset=-1", "offset"), ("cafeId=x", "cafeId"), ("x=1", "x")):
        answer = await house.api("GET", f"/api/matching/discover?{query}", by=ann)
        assert (answer.status, answer.json["errors"][0]["path"]) == (400, path)
    for data in ({"toUserId": ann.id, "sharedInterest": "tea"},):
        assert (await wire.refused("pokes:send", data))["errors"][0]["path"] == "toUserId"


async def test_the_pages_list_all_of_it(house: House) -> None:
    events = (await house.api("GET", "/api/asyncapi.json")).json["components"]["messages"]
    paths = (await house.api("GET", "/api/openapi.json")).json["paths"]
    for event, (method, path, _) in ROUTES.items():
        assert event.replace(":", "_") in events
        assert method.lower() in paths[path]
    assert {"poke_received", "poke_matched"} <= events.keys()


async def test_five_hundred_pairs_who_poke_each_other_at_once_are_five_hundred_channels(config: Config) -> None:
    async with open_house(config) as house:
        cafe = await house.cafe()
        people = await house.guests(cafe, 1000)
        wires: list[Wire] = []
        for person in people:
            wires.append(await house.connect(person))
        async with trio.open_nursery() as nursery:
            for wire in wires:
                nursery.start_soon(wire.ask, "interests:set", {"interests": ["tea"]})
        answers: dict[str, Any] = {}

        async def send(n: int) -> None:
            wanted = {"toUserId": people[n ^ 1].id, "sharedInterest": "tea"}
            while (answer := await wires[n].answer(await wires[n]._referred("pokes:send", wanted)))["event"] == "error":
                assert answer["data"]["code"] == "storage_unavailable"  # a busy machine, and a house of three connections
                await trio.sleep(answer["data"]["retryAfterMs"] / 1000)
            answers[people[n].id] = answer["data"]

        with trio.fail_after(30 * PATIENCE):
            async with trio.open_nursery() as nursery:
                for n in range(1000):
                    nursery.start_soon(send, n)
        channels = set()
        for n in range(0, 1000, 2):
            pair = people[n], people[n + 1]
            (channel_id,) = {answers[one.id]["channelId"] for one in pair if answers[one.id]["matched"]}
            channels.add(channel_id)
            for k in (n, n + 1):
                told = await wires[k].heard("poke_matched")
                assert (told["channelId"], told["matchedUser"]["id"]) == (channel_id, people[k ^ 1].id)
        assert len(channels) == 500
