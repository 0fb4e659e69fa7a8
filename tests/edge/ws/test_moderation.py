"""Limits, spam and moderation as they are felt on sockets, through the real daemon and its real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace

from brewd import config as cfg
from brewd.config import Config
from brewd.config_spam import Spam
from brewd.edge.control.client import ControlClient
from brewd.people.moderation import Action, Moderator
from brewd.people.records import Cafe
from brewd.runtime.bridge import Bridge
from brewd.store.redis import open_redis
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Refused, Wire

WIDE = cfg.Bucket(per_hour=3600, burst=50, gap_s=0)


@pytest.fixture
def strict(config: Config) -> Config:
    """Spam is looked for, and limits are what `WIDE` says."""
    return replace(config, limits=replace(config.limits, profiles={"standard": cfg.Profile(message=WIDE, badge_message=WIDE)}, spam=Spam(words=["gold coins"])))


@pytest.fixture
async def house(strict: Config) -> AsyncIterator[House]:
    async with open_house(strict) as house:
        yield house


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
async def bob(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


def mo(cafe_id: str) -> Moderator:
    return Moderator(cafe_id, "operator")


async def say(wire: Wire, who: Person, content: str) -> Any:
    return await wire.refused("message:send", {"cafeId": who.cafe_id, "content": content})


async def logged(house: House, cafe: Cafe, count: int) -> tuple[Action, ...]:
    """The log, once it has so many entries: what a room decides is written down behind its back."""
    with trio.fail_after(5):
        while len((page := await house.parts.moderation.log(cafe.id)).actions) < count:
            await trio.sleep(0.01)
    return page.actions


# Spam and limits


async def test_spam_from_the_first_warning_to_the_mute(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    loud, phone, other = await house.enter(ann), await house.enter(ann), await house.enter(bob)
    sent = await house.send(loud, cafe.id, "WHAT A NICE PLACE")
    assert [one["type"] for one in sent["warnings"]] == ["capitals"]
    assert (await phone.heard("moderation:warning"))["violations"] == sent["warnings"]
    assert set(sent["warnings"][0]) == {"type", "severity", "detail"}
    assert (await other.heard("message:new"))["message"]["content"] == "WHAT A NICE PLACE"
    for n in range(3):
        refusal = await say(loud, ann, f"gold coins {n}")
        assert (refusal["code"], refusal["rule"]) == ("spam_blocked", "words")
    muted = await phone.heard("moderation:muted")
    assert set(muted) == {"until", "reason"}
    assert refusal["mutedUntil"] == muted["until"]
    assert (await say(phone, ann, "hello?"))["code"] == "muted"
    assert [one["event"] for one in await other.settle() if one["event"] != "topics:update"] == ["users:update"]
    assert [(one.action, one.rule) for one in await logged(house, cafe, 4)] == [("mute", "blocks"), ("block", "words"), ("block", "words"), ("block", "words")]


async def test_a_limit_says_when_to_come_back(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    changes = await house.parts.allowances.set(cafe.id, {"message": {"burst": 2, "per_hour": 1}})
    assert {(change.name, change.old, change.new) for change in changes} == {("message.burst", 50, 2), ("message.per_hour", 3600, 1)}
    for n in range(2):
        await house.send(wire, cafe.id, f"hello {n}")
    refusal = await say(wire, ann, "hello 2")
    assert (refusal["code"], refusal["action"]) == ("rate_limited", "message")
    assert 3_500_000 < refusal["retryAfterMs"] <= 3_600_000
    trial = await house.parts.allowances.attempt(cafe.id, {"message": {"burst": 1}})
    assert (trial.sends, trial.refused, [(one.user_id, one.username) for one in trial.senders]) == (2, 1, [(ann.id, ann.name)])
    await house.parts.allowances.reset(mo(cafe.id), ann.id, "message")
    await house.send(wire, cafe.id, "hello again")


async def test_another_profile_counts_for_those_who_are_in_the_room(strict: Config) -> None:
    slow = cfg.Profile(message=cfg.Bucket(per_hour=1, burst=1, gap_s=0))
    limits = replace(strict.limits, profiles={**strict.limits.profiles, "slow": slow})
    async with open_house(replace(strict, limits=limits)) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire = await house.enter(ann)
        await house.send(wire, cafe.id, "one")
        await trio.to_thread.run_sync(_set_profile, strict.control_path, cafe.id)
        assert (await say(wire, ann, "two"))["code"] == "rate_limited"


def _set_profile(control: Path, cafe_id: str) -> None:
    with ControlClient(control) as client:
        assert client.call("cafe.set", cafeId=cafe_id, profile="slow")["cafe"]["profile"] == "slow"


# Orders


async def test_a_mute_and_its_end_are_felt_at_once(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    wire, other = await house.enter(ann), await house.enter(bob)
    await other.settle()
    action = await house.parts.moderation.mute(mo(cafe.id), ann.id, reason="too loud", duration_s=60)
    assert (await say(wire, ann, "hello"))["code"] == "muted"
    assert (await wire.heard("moderation:muted"))["reason"] == "too loud"
    await wire.say("typing:start", {"cafeId": cafe.id})
    await wire.ask("presence:update", {"status": "busy"})
    assert [(one["event"], one["data"].get("action")) for one in await other.settle()] == [("users:update", "leave")]
    again = await house.enter(ann)
    assert (await again.heard("moderation:muted"))["until"]
    await house.parts.moderation.unmute(mo(cafe.id), ann.id)
    await house.send(wire, cafe.id, "hello")
    await wire.heard("moderation:unmuted")
    assert (await other.heard("users:update"))["user"]["status"] == "busy"
    assert (await other.heard("message:new"))["message"]["userId"] == ann.id
    assert action.until_ms is not None


async def test_a_kick_ends_every_socket_and_the_token_is_still_good(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    wires, other = [await house.enter(ann), await house.enter(ann), await house.connect(ann)], await house.enter(bob)
    await other.settle()
    await house.parts.moderation.kick(mo(cafe.id), ann.id, reason="out")
    for wire in wires:
        assert await wire.closed() == (4003, "out")
    assert [(one["event"], one["data"].get("action")) for one in await other.settle()] == [("users:update", "leave")]
    await house.send(await house.enter(ann), cafe.id, "sorry")


async def test_a_ban_keeps_out_whichever_way_they_come(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    action = await house.parts.moderation.ban(mo(cafe.id), ann.id, reason="enough")
    assert await wire.closed() == (4004, "enough")
    with pytest.raises(Refused) as refused:
        await house.open(authorization=f"Bearer {ann.token}")
    assert (refused.value.status, refused.value.problem["code"]) == (403, "banned")
    first = await house.open()
    await first.say("auth", {"token": ann.token}, "a")
    assert (await first.answer("a"))["data"]["code"] == "banned"
    assert (await first.closed())[0] == 4004
    head = f"GET /api/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann.token}\r\n\r\n"
    response = await house.http(head.encode())
    assert (response.status, response.json["code"]) == (403, "banned")
    await house.parts.moderation.unban(mo(cafe.id), ann.id)
    await house.send(await house.enter(ann), cafe.id, "thank you")
    assert action.action == "ban"


async def test_a_moderator_takes_a_message_back(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    sent = await house.send(wire, cafe.id, "something awful")
    message = await house.parts.moderation.delete(mo(cafe.id), sent["message"]["id"])
    assert (message.deleted, message.content) == (True, "")
    assert (await wire.heard("message:deleted"))["messageId"] == message.id
    assert [(one.action, one.staff_name, one.message_id, one.username) for one in await logged(house, cafe, 1)] == [
        ("delete", "operator", message.id, ann.name)
    ]


# Restarts


async def test_everything_holds_over_a_restart_without_redis(strict: Config, bridge: Bridge) -> None:
    async with open_house(strict) as house:
        cafe = await house.cafe()
        ann, bob, cid = await house.guests(cafe, 3)
        await house.parts.allowances.set(cafe.id, {"message": {"burst": 2, "per_hour": 1}})
        await house.parts.moderation.mute(mo(cafe.id), ann.id, reason="too loud")
        await house.parts.moderation.ban(mo(cafe.id), bob.id)
        await house.send(await house.enter(cid), cafe.id, "one")
    async with open_redis(bridge, url=strict.redis.url) as redis:
        await redis.pipeline([("FLUSHALL",)])
    async with open_house(strict) as house:
        wire = await house.enter(ann)
        assert (await say(wire, ann, "hello"))["reason"] == "too loud"
        with pytest.raises(Refused) as refused:
            await house.open(authorization=f"Bearer {bob.token}")
        assert refused.value.problem["code"] == "banned"
        wire = await house.enter(cid)
        await house.send(wire, cafe.id, "two")
        assert (await say(wire, cid, "three"))["code"] == "rate_limited"


async def test_redis_shows_it_under_the_names_of_the_contract(house: House, strict: Config, bridge: Bridge, cafe: Cafe, ann: Person) -> None:
    await house.send(await house.enter(ann), cafe.id, "hello")
    await house.parts.moderation.mute(mo(cafe.id), ann.id)
    names = [f"ratelimit:message:{ann.id}", f"ratelimit:message:{ann.id}:last", f"spam:duplicate:{ann.id}", f"spam:mute:{ann.id}"]
    async with open_redis(bridge, url=strict.redis.url) as redis:
        with trio.fail_after(15):
            while await redis.pipeline([("EXISTS", *names)]) != [4]:
                await trio.sleep(0.05)
        (mute,) = await redis.pipeline([("GET", names[3])])
    assert set(msgspec.json.decode(mute)) == {"until", "reason"}
