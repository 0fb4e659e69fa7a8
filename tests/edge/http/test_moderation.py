"""A moderator's orders over HTTP, against a real daemon: what they do at once, to whom alone, and what is kept of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.config import Config
from brewd.people.moderation import BAN_DEFAULT_S, DURATION_MAX_S, MUTE_DEFAULT_S
from brewd.people.records import Cafe
from brewd.runtime.clock import from_rfc3339, rfc3339
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import RFC3339_MS, UUID, Refused, Response, Wire

ORDERS = ("mute", "unmute", "kick", "ban", "unban")
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
async def bob(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
def moderator(house: House, cafe: Cafe) -> Person:
    return house.staff(cafe, "moderator")


async def order(house: House, by: Person | None, what: str, whom: Person | str, **more: Any) -> Response:
    user_id = whom if isinstance(whom, str) else whom.id
    return await house.api("POST", f"/api/moderation/{what}", {"userId": user_id, "reason": "too loud", **more}, by=by)


async def done(house: House, by: Person, what: str, whom: Person, **more: Any) -> Any:
    """The action, as it was answered."""
    answer = await order(house, by, what, whom, **more)
    assert answer.status == 200, answer
    return answer.json


async def log(house: House, by: Person, query: str = "") -> Any:
    answer = await house.api("GET", f"/api/moderation/log{query}", by=by)
    assert answer.status == 200, answer
    assert answer.json.keys() == {"actions", "hasMore"}
    return answer.json


def refused(answer: Response, status: int, code: str) -> bool:
    assert (answer.status, answer.json["code"]) == (status, code), answer
    return True


def lasts_s(action: Any) -> float:
    return (from_rfc3339(action["until"]) - from_rfc3339(action["createdAt"])) / 1000


async def join(house: House, cafe: Cafe, receipt_id: str, patron_key: str | None = None) -> Response:
    printed = await house.parts.receipts.issue(cafe.id, receipt_id)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, "patronKey": patron_key}
    return await house.api("POST", "/api/auth/join", body)


async def speaks(house: House, wire: Wire, cafe: Cafe) -> None:
    await house.send(wire, cafe.id, "hello")


# What each does


async def test_a_mute_is_felt_on_every_socket_and_its_end_with_the_next_message(
    house: House, cafe: Cafe, ann: Person, moderator: Person, flow: MockClock
) -> None:
    wires = [await house.enter(ann) for _ in range(2)]
    flow.rate = 0
    until = rfc3339(house.parts.clock.now_ms() + 60_000)
    action = await done(house, moderator, "mute", ann, durationS=60)
    assert action["until"] == until
    for wire in wires:
        assert await wire.heard("moderation:muted") == {"until": until, "reason": "too loud"}
        no = await wire.refused("message:send", {"cafeId": cafe.id, "content": "hello?"})
        assert (no["code"], no["until"], no["reason"], no["retryAfterMs"]) == ("muted", until, "too loud", 60_000)
    action = await done(house, moderator, "unmute", ann, reason="sorry")
    assert "until" not in action
    for wire in wires:
        await speaks(house, wire, cafe)
        assert await wire.heard("moderation:unmuted") == {}
    flow.rate = 0.2


async def test_a_kick_closes_every_socket_of_one_guest_and_nobody_elses(house: House, cafe: Cafe, ann: Person, bob: Person, moderator: Person) -> None:
    anns, bobs = [await house.enter(ann), await house.enter(ann), await house.connect(ann)], await house.enter(bob)
    await done(house, moderator, "kick", ann, reason="é" * 200)
    for wire in anns:
        code, reason = await wire.closed()
        assert code == 4003
        assert reason.startswith("é")
    while (await bobs.heard("users:update"))["action"] != "leave":
        pass
    await speaks(house, bobs, cafe)
    await speaks(house, await house.enter(ann), cafe)


async def test_a_ban_closes_the_sockets_and_no_token_counts(house: House, cafe: Cafe, ann: Person, bob: Person, moderator: Person) -> None:
    anns, bobs = [await house.enter(ann) for _ in range(2)], await house.enter(bob)
    action = await done(house, moderator, "ban", ann, durationS=3600)
    for wire in anns:
        assert await wire.closed() == (4004, "too loud")
    answer = await house.api("GET", "/api/users/me", by=ann)
    assert refused(answer, 403, "banned")
    assert answer.json["until"] == action["until"]
    with pytest.raises(Refused) as caught:
        await house.connect(ann)
    assert (caught.value.status, caught.value.problem["code"]) == (403, "banned")
    wire = await house.open()
    await wire.say("auth", {"token": ann.token}, "r")
    assert (await wire.answer("r"))["data"]["code"] == "banned"
    assert (await wire.closed())[0] == 4004
    await speaks(house, bobs, cafe)
    await done(house, moderator, "unban", ann)
    assert (await house.api("GET", "/api/users/me", by=ann)).status == 200
    await speaks(house, await house.enter(ann), cafe)


async def test_a_ban_is_about_the_person_and_not_the_name(house: House, cafe: Cafe, moderator: Person) -> None:
    first = (await join(house, cafe, "r-1")).json
    key = first["patronKey"]
    second = (await join(house, cafe, "r-2", key)).json
    people = [Person(one["user"]["id"], one["user"]["username"], one["accessToken"], cafe.id) for one in (first, second)]
    wires = [await house.enter(person) for person in people]
    await done(house, moderator, "ban", people[0])
    for wire in wires:
        assert (await wire.closed())[0] == 4004
    assert refused(await house.api("GET", "/api/users/me", by=people[1]), 403, "banned")
    assert refused(await house.api("POST", "/api/auth/refresh", {"refreshToken": second["refreshToken"]}), 403, "banned")
    assert refused(await join(house, cafe, "r-3", key), 403, "banned")
    assert (await join(house, cafe, "r-4")).status == 201
    await done(house, moderator, "unban", people[0])
    assert (await join(house, cafe, "r-5", key)).status == 201
    for person in people:
        await house.enter(person)


async def test_mutes_and_bans_hold_over_a_restart(config: Config) -> None:
    async with open_house(config) as house:
        cafe = await house.cafe()
        ann, bob, cid = await house.guests(cafe, 3)
        moderator = house.staff(cafe, "moderator")
        joined = (await join(house, cafe, "r-1")).json
        muted = await done(house, moderator, "mute", ann)
        await done(house, moderator, "ban", Person(joined["user"]["id"], joined["user"]["username"], joined["accessToken"], cafe.id))
        await done(house, moderator, "ban", bob)
        for what in ("mute", "unmute", "ban", "unban"):
            await done(house, moderator, what, cid)
        entries = await log(house, moderator)
    async with open_house(config) as house:
        no = await (await house.enter(ann)).refused("message:send", {"cafeId": cafe.id, "content": "hello?"})
        assert (no["code"], no["until"], no["reason"]) == ("muted", muted["until"], "too loud")
        assert refused(await house.api("GET", "/api/users/me", by=bob), 403, "banned")
        assert refused(await join(house, cafe, "r-2", joined["patronKey"]), 403, "banned")
        await speaks(house, await house.enter(cid), cafe)
        assert await log(house, moderator) == entries


@pytest.mark.parametrize(("what", "default_s"), [("mute", MUTE_DEFAULT_S), ("ban", BAN_DEFAULT_S)])
async def test_what_ends_ends_when_it_was_told_to(house: House, ann: Person, moderator: Person, what: str, default_s: int, flow: MockClock) -> None:
    flow.rate = 0
    assert lasts_s(await done(house, moderator, what, ann)) == default_s
    for duration_s in (1, 1.5, DURATION_MAX_S):
        assert lasts_s(await done(house, moderator, what, ann, durationS=duration_s)) == duration_s
    flow.rate = 0.2


# The log


async def test_the_log_says_who_whom_why_until_when(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    given = [await done(house, moderator, what, ann, reason=f" {what} it is ") for what in ORDERS]
    for what, action in zip(ORDERS, given, strict=True):
        assert UUID.fullmatch(action["id"])
        assert RFC3339_MS.fullmatch(action["createdAt"])
        about = {"id": action["id"], "action": what, "userId": ann.id, "username": ann.name, "reason": f"{what} it is", "createdAt": action["createdAt"]}
        until = {"until": action["until"]} if what in {"mute", "ban"} else {}
        assert action == {**about, "staffId": moderator.id, "staffName": moderator.name, **until}
    # The account of a moderator who has none, as in these tests, is not in the log; their name is.
    assert await log(house, moderator) == {"actions": [{**action, "staffId": None} for action in reversed(given)], "hasMore": False}


async def test_the_log_names_an_account(house: House, cafe: Cafe, ann: Person) -> None:
    member = await house.parts.staff.add(cafe.id, "Ana", "moderator", "correct horse")
    login = (await house.api("POST", "/api/auth/staff/login", {"cafeId": cafe.id, "name": "Ana", "password": "correct horse"})).json
    moderator = Person(member.id, "Ana", login["accessToken"], cafe.id)
    action = await done(house, moderator, "kick", ann)
    assert (action["staffId"], action["staffName"]) == (member.id, "Ana")
    assert (await log(house, moderator))["actions"] == [action]


async def test_the_log_comes_in_pages_newest_first(house: House, cafe: Cafe, ann: Person, bob: Person, moderator: Person) -> None:
    given = [await done(house, moderator, "mute", (ann, bob)[number % 2]) for number in range(5)]
    ids = [action["id"] for action in reversed(given)]
    pages = [await log(house, moderator, "?limit=2")]
    while pages[-1]["hasMore"]:
        pages.append(await log(house, moderator, f"?limit=2&before={pages[-1]['actions'][-1]['id']}"))
    assert [[action["id"] for action in page["actions"]] for page in pages] == [ids[:2], ids[2:4], ids[4:]]
    assert [action["id"] for action in (await log(house, moderator, f"?userId={bob.id}"))["actions"]] == ids[1::2]


async def test_a_message_taken_back_by_a_moderator_is_in_the_log_and_one_by_its_author_is_not(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    wire = await house.enter(ann)
    own, other = [(await house.send(wire, cafe.id, text))["message"]["id"] for text in ("oops", "buy this")]
    assert (await house.api("DELETE", f"/api/chat/messages/{own}", by=ann)).status == 200
    answer = await house.api("DELETE", f"/api/chat/messages/{other}", by=moderator)
    assert (answer.status, answer.json["message"]["deleted"], answer.json["message"]["content"]) == (200, True, "")
    await wire.heard("message:deleted")
    assert (await wire.heard("message:deleted"))["messageId"] == other
    with trio.fail_after(5):
        while not (entries := (await log(house, moderator))["actions"]):  # it is written behind
            await trio.sleep(0.01)
    (entry,) = entries
    assert (entry["action"], entry["messageId"], entry["userId"], entry["staffName"]) == ("delete", other, ann.id, moderator.name)


# Who may not


@pytest.mark.parametrize("what", ORDERS)
async def test_only_a_moderator_orders(house: House, cafe: Cafe, ann: Person, bob: Person, what: str) -> None:
    wire = await house.enter(ann)
    for person in (bob, ann, house.staff(cafe, "barista")):
        assert refused(await order(house, person, what, ann), 403, "forbidden")
    assert refused(await order(house, None, what, ann), 401, "unauthorized")
    assert refused(await order(house, house.staff(await house.cafe("Other"), "moderator"), what, ann), 404, "not_found")
    await speaks(house, wire, cafe)
    assert (await log(house, house.staff(cafe, "moderator")))["actions"] == []


async def test_only_a_moderator_reads_the_log_and_of_their_own_cafe(house: House, cafe: Cafe, ann: Person, moderator: Person) -> None:
    action = await done(house, moderator, "kick", ann)
    for person in (ann, house.staff(cafe, "barista")):
        assert refused(await house.api("GET", "/api/moderation/log", by=person), 403, "forbidden")
    assert refused(await house.api("GET", "/api/moderation/log"), 401, "unauthorized")
    other = house.staff(await house.cafe("Other"), "moderator")
    for query in ("", f"?userId={ann.id}", f"?before={action['id']}"):
        assert await log(house, other, query) == {"actions": [], "hasMore": False}


@pytest.mark.parametrize("what", ORDERS)
async def test_nobody_known_and_nobody_themselves(house: House, cafe: Cafe, moderator: Person, what: str) -> None:
    assert refused(await order(house, moderator, what, NOBODY), 404, "not_found")
    assert refused(await order(house, moderator, what, house.staff(cafe, "barista")), 404, "not_found")
    answer = await order(house, moderator, what, moderator)
    assert refused(answer, 400, "invalid_request")
    assert answer.json["errors"] == [{"path": "userId", "detail": "nobody moderates themselves"}]


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"durationS": -60}, "durationS"),
    ({"durationS": 0}, "durationS"),
    ({"durationS": 0.5}, "durationS"),
    ({"durationS": DURATION_MAX_S + 1}, "durationS"),
    ({"durationS": "60"}, "durationS"),
    ({"userId": "ann"}, "userId"),
    ({"userId": None}, "userId"),
    ({"reason": ""}, "reason"),
    ({"reason": "  "}, "reason"),
    ({"reason": "x" * 201}, "reason"),
    ({"reason": "a\nb"}, "reason"),
    ({"cafeId": NOBODY}, "cafeId"),
)


@pytest.mark.parametrize("what", ["kick", "unmute", "unban"])
async def test_an_order_without_an_end_takes_no_duration(house: House, ann: Person, moderator: Person, what: str) -> None:
    answer = await order(house, moderator, what, ann, durationS=60)
    assert refused(answer, 400, "invalid_request")
    assert [error["path"] for error in answer.json["errors"]] == ["durationS"]
    assert (await log(house, moderator))["actions"] == []


@pytest.mark.parametrize("what", ORDERS)
async def test_bad_input_is_named(house: House, ann: Person, moderator: Person, what: str) -> None:
    for change, at in BAD:
        answer = await house.api("POST", f"/api/moderation/{what}", {"userId": ann.id, "reason": "too loud", **change}, by=moderator)
        assert refused(answer, 400, "invalid_request")
        assert [error["path"] for error in answer.json["errors"]] == [at], change
    for absurd in (10**400, float("inf"), float("nan")):
        answer = await order(house, moderator, what, ann, durationS=absurd)
        assert refused(answer, 400, "invalid_request")
    answer = await house.api("POST", f"/api/moderation/{what}", {"userId": ann.id}, by=moderator)
    assert answer.json["errors"] == [{"path": "reason", "detail": "is required"}]
    assert (await log(house, moderator))["actions"] == []


async def test_an_action_there_is_not(house: House, ann: Person, moderator: Person) -> None:
    assert refused(await order(house, moderator, "praise", ann), 404, "not_found")
    for query in ("limit=0", "limit=101", "before=1", "userId=ann", "page=2"):
        answer = await house.api("GET", f"/api/moderation/log?{query}", by=moderator)
        assert refused(answer, 400, "invalid_request")
        assert [error["path"] for error in answer.json["errors"]] == [query.partition("=")[0]]
