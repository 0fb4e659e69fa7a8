"""A badge as it is felt on sockets: told, in force with the next message and shown to the others, through the real daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd import config as cfg
from brewd.config import Config
from brewd.people.records import Cafe
from brewd.runtime.bridge import Bridge
from brewd.store.mirror import MARKER
from brewd.store.redis import open_redis
from tests.agent.upstream import open_upstream
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Wire

PLAIN, BADGE = cfg.Bucket(per_hour=30, burst=2, gap_s=0), cfg.Bucket(per_hour=60, burst=4, gap_s=0)


@pytest.fixture
def config(config: Config) -> Config:
    """Two messages for anybody, four with a badge; of questions to the agent one and four."""
    asking, asking_more = cfg.PerSession(per_session=1, gap_s=0), cfg.PerSession(per_session=4, gap_s=0)
    profile = cfg.Profile(message=PLAIN, badge_message=BADGE, agent=asking, badge_agent=asking_more)
    return replace(config, limits=replace(config.limits, profiles={"standard": profile}))


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def tip(house: House, cafe: Cafe, person: Person, count: int = 1) -> Any:
    barista = house.staff(cafe, "barista")
    answers = [await house.api("POST", "/api/badges/record-tip", {"userId": person.id, "amountCents": 100}, by=barista) for _ in range(count)]
    assert [answer.status for answer in answers] == [201] * count
    return answers[-1].json


async def refused(wire: Wire, cafe: Cafe) -> Any:
    return await wire.refused("message:send", {"cafeId": cafe.id, "content": "one more"})


async def test_the_fifth_tip_counts_for_the_very_next_message(house: House, cafe: Cafe, ann: Person) -> None:
    bob = await house.guest(cafe)
    here, phone, other = await house.enter(ann), await house.connect(ann), await house.enter(bob)
    await tip(house, cafe, ann, 4)
    for text in ("one", "two"):
        await house.send(here, cafe.id, text)
    assert (await refused(here, cafe))["code"] == "rate_limited"
    before = await here.ask("badges:status", {})
    assert (before["badgeStatus"], before["eligibility"]["tipsNeeded"], before["perks"]["message"]["burst"]) == ("none", 1, 2)
    badge = (await tip(house, cafe, ann))["badge"]
    for text in ("three", "four"):  # what was used stays used
        await house.send(here, cafe.id, text)
    assert (await refused(here, cafe))["code"] == "rate_limited"
    for wire in (here, phone):
        assert await wire.heard("badge:awarded") == {"badge": badge}
    seen = [one for one in await other.settle() if one["event"] in ("message:new", "users:update", "badge:awarded")]
    assert [(one["event"], one["data"].get("message", one["data"].get("user", {}))["badge"]) for one in seen] == [
        ("message:new", None), ("message:new", None), ("users:update", "regular"), ("message:new", "regular"), ("message:new", "regular"),
    ]  # fmt: skip
    after = await here.ask("badges:status", {})
    assert (after["badgeStatus"], after["badges"], after["perks"]["message"]["burst"]) == ("regular", [badge], 4)
    limits = (await house.api("GET", "/api/v1/ratelimit/status", by=ann)).json["limits"]["message"]
    assert (limits["limit"], limits["remaining"]) == (4, 0)
    assert (await house.api("GET", f"/api/chat/presence/{cafe.id}", by=ann)).json["users"][0]["badge"] == "regular"
    await phone.ask("join:cafe", {"cafeId": cafe.id})
    late = await house.enter(ann)  # with the token from before
    assert (await refused(late, cafe))["code"] == "rate_limited"


async def test_it_counts_for_the_next_question_too(config: Config, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    async with open_upstream() as upstream, open_house(replace(config, agent=replace(config.agent, base_url=upstream.url, api_key_file=str(key)))) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire = await house.open("/ws/agent", authorization=f"Bearer {ann.token}")
        await wire.ask("query:stream", {"cafeId": cafe.id, "query": "What is good?"})
        assert (await wire.refused("query:stream", {"cafeId": cafe.id, "query": "And warm?"}))["code"] == "rate_limited"
        await tip(house, cafe, ann, 5)
        await wire.ask("query:stream", {"cafeId": cafe.id, "query": "And warm?"})


async def test_nobody_who_is_erased_is_held(house: House, cafe: Cafe, ann: Person) -> None:
    await tip(house, cafe, ann, 5)
    assert len(house.parts.sessions.holders) == 1
    assert (await house.api("DELETE", "/api/users/me", by=ann)).status == 204
    assert len(house.parts.sessions.holders) == 0


async def test_a_socket_that_joins_later_has_it(house: House, cafe: Cafe, ann: Person) -> None:
    here = await house.connect(ann)
    await tip(house, cafe, ann, 5)
    await here.ask("join:cafe", {"cafeId": cafe.id})
    for text in ("one", "two", "three"):
        await house.send(here, cafe.id, text)
    assert {one["data"]["message"]["badge"] for one in await here.settle() if one["event"] == "message:new"} == {"regular"}


async def test_when_it_ends_it_is_gone_within_a_second(house: House, cafe: Cafe, flow: MockClock, postgres_dsn: str) -> None:
    ann, bob = await house.guests(cafe, 2)
    await tip(house, cafe, ann, 5)
    held = house.parts.sessions.holders
    bearer = held._held[ann.id]
    now_ms = house.parts.clock.now_ms()
    await house.parts.badges._pg.transaction(_soon, ann.id)
    held._held.clear()
    held.hold(replace(bearer, until_ms=now_ms + 5000))
    here, other = await house.enter(ann), await house.enter(bob)
    await house.send(here, cafe.id, "while it holds")
    flow.jump(6)
    with trio.fail_after(10):
        while (update := await other.heard("users:update"))["user"]["badge"] is not None:
            pass
    assert (update["action"], update["user"]["id"]) == ("status", ann.id)
    await house.send(here, cafe.id, "and after")
    assert [one["data"]["message"]["badge"] for one in await other.settle() if one["event"] == "message:new"] == ["regular", None]
    assert (await house.api("GET", "/api/v1/ratelimit/status", by=ann)).json["limits"]["message"]["limit"] == 2


async def _soon(tx: Any, user_id: str) -> None:
    await tx.script(f"UPDATE customer SET badge_until = badge_until - interval '30 days' WHERE id = '{user_id}'")


async def test_it_survives_a_restart_with_the_token_from_before(config: Config) -> None:
    async with open_house(config) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        await tip(house, cafe, ann, 5)
    async with open_house(config) as house:
        here = await house.enter(ann)
        assert (await here.ask("badges:status", {}))["badgeStatus"] == "regular"
        await house.send(here, cafe.id, "hello again")
        assert (await here.heard("message:new"))["message"]["badge"] == "regular"


async def test_redis_says_so_too(house: House, cafe: Cafe, ann: Person, bridge: Bridge, redis_url: str) -> None:
    async with open_redis(bridge, url=redis_url) as redis:

        async def until(command: tuple[str, ...], answer: Any) -> None:
            with trio.fail_after(10):
                while await redis.pipeline([command]) != [answer]:
                    await trio.sleep(0.05)

        await until(("EXISTS", MARKER), 1)
        await tip(house, cafe, ann, 5)
        await until(("HGET", f"user:{ann.id}", "badgeStatus"), "regular")
        assert (await redis.pipeline([("TTL", f"user:{ann.id}")]))[0] > 0


async def test_who_comes_early_is_told_so(house: House, flow: MockClock) -> None:
    """The café lies where it is six in the morning now."""
    hour = house.parts.clock.now_ms() // 3_600_000 % 24
    ahead = (6 - hour + 11) % 24 - 11
    cafe = await house.parts.cafes.add(name="Early", timezone=f"Etc/GMT{-ahead:+d}")
    printed = await house.parts.receipts.issue(cafe.id, "r-1")
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token}
    joined = (await house.api("POST", "/api/auth/join", body)).json
    ann = Person(joined["user"]["id"], printed.username, joined["accessToken"], cafe.id)
    here = await house.enter(ann)
    flow.jump(1.1)
    badge = (await here.heard("badge:awarded"))["badge"]
    assert badge["type"] == "early_bird"
    status = await here.ask("badges:status", {})
    assert (status["badgeStatus"], status["badges"]) == ("none", [badge])
    assert (await house.parts.badges.calculate())["awarded"] == 0
