"""Erasure in a running daemon: what a guest asks for is done everywhere at once, and the others in the room see nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.cafe.commands import Take, Who
from brewd.config import Config
from brewd.people.records import Cafe
from brewd.runtime.bridge import open_bridge
from brewd.store.postgres import Postgres, open_postgres
from brewd.store.redis import Redis, open_redis
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Refused
from tests.traces import in_postgres, in_redis


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


async def joined(house: House, cafe: Cafe, receipt_id: str) -> tuple[Person, Any]:
    """Somebody who came in with a receipt, and the answer they got."""
    printed = await house.parts.receipts.issue(cafe.id, receipt_id)
    answer = await house.api("POST", "/api/auth/join", {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token})
    user = answer.json["user"]
    return Person(user["id"], user["username"], answer.json["accessToken"], cafe.id), answer.json


async def traces(house: House, pg: Postgres, redis: Redis, person: Person) -> tuple[dict[str, int], list[str]]:
    """Once the mirror has written what it has."""
    while not await house.parts.mirror.flush():
        pass
    return await in_postgres(pg, person.id, person.name), await in_redis(redis, person.id, person.name)


async def nothing_left(house: House, pg: Postgres, redis: Redis, person: Person) -> None:
    """No row, and no key once the mirror is done with what it is writing at the moment."""
    assert await in_postgres(pg, person.id, person.name) == {}
    with trio.move_on_after(5):
        while (await traces(house, pg, redis, person))[1]:
            await trio.sleep(0.01)
    assert await in_redis(redis, person.id, person.name) == []


async def test_a_guest_who_wants_to_be_forgotten_is(house: House, cafe: Cafe, pg: Postgres, redis: Redis) -> None:
    await house.parts.mirror.flush()  # from now on it takes what is written once
    (ann, ann_joined), (bob, _) = await joined(house, cafe, "r-1"), await joined(house, cafe, "r-2")
    hers, his = await house.enter(ann), await house.enter(bob)
    sent = await house.send(hers, cafe.id, "I was here", clientMsgId="c-1")
    removed = await house.send(hers, cafe.id, "not this", clientMsgId="c-2")
    await hers.ask("message:delete", {"messageId": removed["message"]["id"]})
    await house.send(his, cafe.id, "so was I")
    await hers.ask("presence:update", {"status": "busy"})
    sid = house.tokens.verify_access(ann.token).session_id
    await house.parts.directory.ref(cafe.id).ask(Take("poke", Who(ann.id, ann.name), sid))
    moderator = house.staff(cafe, "moderator")
    await house.api("POST", "/api/moderation/mute", {"userId": ann.id, "reason": f"{ann.name} shouts"}, by=moderator)
    tables = {"customer", "session", "receipt", "message", "moderation_actions", "limit_use"}
    keys = {f"user:{ann.id}", f"session:{sid}", f"spam:mute:{ann.id}", f"ratelimit:poke:{ann.id}:count", f"cafe:{cafe.id}:messages"}
    with trio.fail_after(15):  # the ledger writes behind, and limits are shown every five seconds
        while not all(wanted <= set(found) for wanted, found in zip((tables, keys), await traces(house, pg, redis, ann), strict=True)):
            await trio.sleep(0.05)

    answer = await house.api("DELETE", "/api/users/me", by=ann)
    assert (answer.status, answer.body) == (204, b"")
    receipt = json.loads(answer.headers["erasure-receipt"])
    counts = {table: count for table, count in receipt["tables"].items() if count}
    assert counts == {"message": 2, "limit_use": 1, "moderation_actions": 1, "receipt": 1, "session": 1, "customer": 1}
    assert receipt["keys"]["user:{id}"] == receipt["keys"]["session:{sid}"] == receipt["keys"]["spam:mute:{id}"] == 1
    assert await hers.closed() == (4002, "everything about you was erased")
    await nothing_left(house, pg, redis, ann)

    gone = await his.heard("users:update")
    while gone["action"] != "leave":
        gone = await his.heard("users:update")
    history = (await his.ask("join:cafe", {"cafeId": cafe.id}))["messages"]
    assert [(m["username"], m["content"], m["deleted"]) for m in history] == [
        ("guest", "I was here", False),
        ("guest", "", True),
        (bob.name, "so was I", False),
    ]
    assert history[0]["userId"] == history[1]["userId"] != ann.id
    assert history[0]["id"] == sent["message"]["id"]
    over_http = await house.api("GET", f"/api/chat/messages/{cafe.id}", by=bob)
    assert over_http.json["messages"] == history

    for token in (ann.token, ann_joined["refreshToken"]):
        with pytest.raises(Refused):
            await house.open(authorization=f"Bearer {token}")
    again = await house.api("POST", "/api/auth/refresh", {"refreshToken": ann_joined["refreshToken"]})
    assert again.json["code"] == "user_expired"
    assert (await house.api("DELETE", "/api/users/me", by=ann)).json["code"] == "user_expired"


async def test_a_guest_who_is_banned_can_still_be_forgotten_and_nothing_else(house: House, cafe: Cafe, pg: Postgres, redis: Redis) -> None:
    (ann, ann_joined), (bob, _) = await joined(house, cafe, "r-1"), await joined(house, cafe, "r-2")
    moderator = house.staff(cafe, "moderator")
    for person in (ann, bob):
        assert (await house.api("POST", "/api/moderation/ban", {"userId": person.id, "reason": "loud"}, by=moderator)).status == 200
    assert (await house.api("POST", "/api/auth/logout", by=ann)).json["code"] == "banned"
    assert (await house.api("GET", "/api/users/me", by=ann)).json["code"] == "banned"
    house.parts.sessions._revoked[house.tokens.verify_access(bob.token).session_id] = house.parts.clock.now_ms() + 60_000
    assert (await house.api("DELETE", "/api/users/me", by=bob)).json["code"] == "unauthorized"  # whoever has a token that was revoked

    answer = await house.api("DELETE", "/api/users/me", by=ann)
    assert answer.status == 204
    assert json.loads(answer.headers["erasure-receipt"])["tables"]["moderation_actions"] == 1
    await nothing_left(house, pg, redis, ann)
    assert (await house.api("DELETE", "/api/users/me", by=ann)).json["code"] == "user_expired"
    printed = await house.parts.receipts.issue(cafe.id, "r-3")
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, "patronKey": ann_joined["patronKey"]}
    assert (await house.api("POST", "/api/auth/join", body)).json["code"] == "banned"


async def test_what_is_on_its_way_when_somebody_is_erased_arrives_as_nobodys(house: House, cafe: Cafe, pg: Postgres, redis: Redis) -> None:
    (ann, _), (bob, _) = await joined(house, cafe, "r-1"), await joined(house, cafe, "r-2")
    hers, his = await house.enter(ann), await house.enter(bob)
    for n in range(40):
        await hers.say("message:send", {"cafeId": cafe.id, "content": f"word {n}", "clientMsgId": str(n)}, ref=n)
    assert (await house.api("DELETE", "/api/users/me", by=ann)).status == 204
    await nothing_left(house, pg, redis, ann)
    history = (await his.ask("join:cafe", {"cafeId": cafe.id}))["messages"]
    assert {m["username"] for m in history} <= {"guest"}
    assert [m["seq"] for m in history] == list(range(1, len(history) + 1))


async def test_a_closed_cafe_shows_nothing_of_them_in_redis(house: House, cafe: Cafe, pg: Postgres, redis: Redis) -> None:
    ann, _ = await joined(house, cafe, "r-1")
    wire = await house.enter(ann)
    await house.send(wire, cafe.id, "I was here")
    assert f"cafe:{cafe.id}:messages" in (await traces(house, pg, redis, ann))[1]
    await house.parts.directory.stop(cafe.id)
    await wire.closed()
    while house.parts.directory.is_open(cafe.id):
        await trio.sleep(0.01)
    await house.parts.keeping.erasure.user(ann.id, cafe.id)
    await nothing_left(house, pg, redis, ann)


async def test_tokens_of_the_erased_do_not_come_back_with_the_next_daemon(config: Config) -> None:
    async with open_house(config) as house:
        cafe = await house.cafe()
        ann, _ = await joined(house, cafe, "r-1")
        assert (await house.api("DELETE", "/api/users/me", by=ann)).status == 204
    async with open_house(config) as house:
        with pytest.raises(Refused) as refused:
            await house.open(authorization=f"Bearer {ann.token}")
        assert refused.value.problem["code"] == "user_expired"


async def test_the_hourly_job_sends_home_whoever_is_over(config: Config, flow: MockClock) -> None:
    async with (
        open_house(config) as house, open_bridge() as bridge, open_postgres(bridge, dsn=config.postgres.url) as pg, open_redis(bridge, url=config.redis.url) as redis,
    ):  # fmt: skip
        cafe = await house.cafe()
        (ann, _), (bob, _) = await joined(house, cafe, "r-1"), await joined(house, cafe, "r-2")
        wire, other = await house.enter(ann), await house.enter(bob)
        await house.send(wire, cafe.id, "hello")
        await house.parts.users.expire(bob.id)
        assert await other.closed() == (4001, "your time here is over")
        run = await house.parts.keeping.scheduler.run_now("expireUsers")
        assert (run.outcome, run.detail["users"]) == ("ok", 1)
        await nothing_left(house, pg, redis, bob)
        assert (await traces(house, pg, redis, ann))[0]["customer"] == 1
        flow.jump(86_400)  # by itself, since it is due
        with trio.fail_after(30):
            while await in_postgres(pg, ann.id, ann.name):
                await trio.sleep(0.01)
        await nothing_left(house, pg, redis, ann)


@pytest.mark.parametrize("role", ["barista", "moderator"])
async def test_staff_cannot_erase_themselves_as_guests(house: House, cafe: Cafe, role: Any) -> None:
    answer = await house.api("DELETE", "/api/users/me", by=house.staff(cafe, role))
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert (await house.api("DELETE", "/api/users/me")).status == 401
