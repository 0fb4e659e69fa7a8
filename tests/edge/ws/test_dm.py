"""Direct messages through the real daemon: what the two hear on all their sockets, and that nobody and nothing else gets any of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd import config as cfg
from brewd.cafe.commands import TopicsQuery
from brewd.config import Config
from brewd.config_spam import Spam
from brewd.people.moderation import Moderator
from brewd.people.records import Cafe
from brewd.runtime.bridge import Bridge
from brewd.social.dm import SEND_S
from brewd.store.embedded import PostgresServer
from brewd.store.postgres import Postgres, open_postgres
from brewd.store.redis import Redis, open_redis
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import WAIT_S, Wire
from tests.patience import PATIENCE
from tests.social.channels import open_channel

WIDE = cfg.Bucket(per_hour=3600, burst=50, gap_s=0)
SECRET = "meet-me-at-the-lighthouse"
NOBODY = "01900000-0000-7000-8000-00000000dead"


@pytest.fixture
def strict(config: Config) -> Config:
    """Spam is looked for, limits are on, and everything is logged."""
    limits = replace(config.limits, profiles={"standard": cfg.Profile(message=WIDE, badge_message=WIDE)}, spam=Spam(words=["gold coins"]))
    return replace(config, limits=limits, observe=cfg.Observe(log_level="debug"))


@pytest.fixture
async def house(strict: Config) -> AsyncIterator[House]:
    async with open_house(strict) as house:
        yield house


@pytest.fixture
async def pg(bridge: Bridge, strict: Config) -> AsyncIterator[Postgres]:
    async with open_postgres(bridge, dsn=strict.postgres.url, pool_max=1) as pg:
        yield pg


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
async def ab(house: House, pg: Postgres, cafe: Cafe, ann: Person, bob: Person) -> str:
    parts = house.parts
    return await open_channel(pg, cafe.id, ann.id, bob.id, id=parts.ids.uuid7(), at_ms=parts.clock.now_ms())


async def send(wire: Wire, channel_id: str, content: str, **more: Any) -> Any:
    return await wire.ask("dm:send", {"channelId": channel_id, "content": content, **more})


def direct(heard: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """The events of direct messages among what was heard."""
    return [(one["event"], one["data"]) for one in heard if one["event"].startswith("dm")]


async def calm(house: House, cafe: Cafe) -> None:
    """The café has told everything it was to tell."""
    await house.parts.directory.ref(cafe.id).ask(TopicsQuery(0))


async def settled(house: House, cafe: Cafe, wire: Wire) -> list[dict[str, Any]]:
    await calm(house, cafe)
    return await wire.settle()


async def test_two_talk_alone(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str) -> None:
    """On every socket of both, in the room or not; over HTTP as over the socket."""
    a1, a2, b1, b2 = await house.enter(ann), await house.connect(ann), await house.enter(bob), await house.connect(bob)
    for wire in (a1, a2, b1, b2):
        await settled(house, cafe, wire)
    sent = await send(a1, ab, "Hello", clientMsgId="n1")
    message = sent["message"]
    assert sent == {"message": message, "duplicate": False, "warnings": []}
    assert message == {
        "id": message["id"], "channelId": ab, "seq": 1, "userId": ann.id, "username": ann.name, "content": "Hello",
        "createdAt": message["createdAt"], "deleted": False,
    }  # fmt: skip
    told = [("dm_message", {"channelId": ab, "message": message})]
    named = [("dm_message", {"channelId": ab, "message": message, "clientMsgId": "n1"})]
    assert [direct(await settled(house, cafe, wire)) for wire in (a1, a2, b1, b2)] == [named, named, told, told]

    over_http = await house.api("POST", f"/api/dm/{ab}/messages", {"content": "Hi"}, by=bob)
    assert (over_http.status, over_http.json["message"]["seq"], over_http.json["duplicate"]) == (201, 2, False)
    resent = await house.api("POST", f"/api/dm/{ab}/messages", {"content": "Hello", "clientMsgId": "n1"}, by=ann)
    assert (resent.status, resent.json) == (201, {"message": message, "duplicate": True, "warnings": []})
    for wire in (a1, a2, b1, b2):
        assert direct(await settled(house, cafe, wire)) == [("dm_message", {"channelId": ab, "message": over_http.json["message"]})]

    page = (await house.api("GET", f"/api/dm/{ab}/messages?limit=1&before=2", by=bob)).json
    assert page == await b2.ask("dm:messages", {"channelId": ab, "limit": 1, "before": 2}) == {"messages": [message]}
    listed = (await house.api("GET", "/api/dm/channels", by=bob)).json
    assert listed == await b1.ask("dm:channels", {})
    assert listed == {
        "channels": [
            {
                "id": ab, "user": {"id": ann.id, "username": ann.name, "online": True}, "lastMessage": over_http.json["message"],
                "lastMessageAt": over_http.json["message"]["createdAt"], "unread": 1,
            }
        ]
    }  # fmt: skip


async def test_reading_is_told_to_ones_own_and_deleting_to_both(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str) -> None:
    a, b1, b2 = await house.connect(ann), await house.connect(bob), await house.connect(bob)
    id = (await send(a, ab, "one"))["message"]["id"]
    await send(a, ab, "two")
    for wire in (a, b1, b2):
        await settled(house, cafe, wire)
    assert await b1.ask("dm:read", {"channelId": ab, "seq": 1}) == {"channelId": ab, "seq": 1, "unread": 1}
    assert (await house.api("PUT", f"/api/dm/{ab}/read", {"seq": 99}, by=bob)).json == {"channelId": ab, "seq": 2, "unread": 0}
    read = [("dm:read", {"channelId": ab, "seq": 1, "unread": 1}), ("dm:read", {"channelId": ab, "seq": 2, "unread": 0})]
    assert [direct(await settled(house, cafe, wire)) for wire in (a, b1, b2)] == [[], read, read]
    assert (await a.ask("dm:delete", {"messageId": id}))["message"]["deleted"]
    assert (await house.api("DELETE", f"/api/dm/messages/{id}", by=ann)).json["message"]["content"] == ""
    for wire in (a, b1, b2):
        assert direct(await settled(house, cafe, wire)) == [("dm_deleted", {"channelId": ab, "messageId": id})]
    assert (await b1.refused("dm:delete", {"messageId": id}))["code"] == "forbidden"


async def test_typing_is_shown_to_the_other_for_three_seconds(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str, flow: MockClock) -> None:
    a1, a2, b = await house.connect(ann), await house.connect(ann), await house.connect(bob)
    await a1.say("dm:typing", {"channelId": ab})
    assert await b.heard("dm:typing") == {"channelId": ab, "isTyping": True}
    assert (await house.api("POST", f"/api/dm/{ab}/typing", {"isTyping": False}, by=ann)).status == 204
    assert await b.heard("dm:typing") == {"channelId": ab, "isTyping": False}
    assert await a1.ask("dm:typing", {"channelId": ab, "isTyping": True}) == {}
    assert await b.heard("dm:typing") == {"channelId": ab, "isTyping": True}
    flow.jump(2.5)
    assert direct(await settled(house, cafe, b)) == []
    flow.jump(0.5)
    assert await b.heard("dm:typing") == {"channelId": ab, "isTyping": False}
    assert [direct(await settled(house, cafe, wire)) for wire in (a1, a2)] == [[], []]


async def test_both_at_once_on_many_sockets_hear_everything_in_one_order(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str) -> None:
    wires = [await house.connect(who) for who in (ann, ann, ann, bob, bob, bob)]
    each, seqs = 9, list[int]()

    async def talk(wire: Wire, name: str) -> None:
        for n in range(each):
            sent = await send(wire, ab, f"{name} says {n}", clientMsgId=f"{name} {n}")
            seqs.append(sent["message"]["seq"])

    async with trio.open_nursery() as nursery:
        for at, wire in enumerate(wires):
            nursery.start_soon(talk, wire, f"w{at}")
    assert sorted(seqs) == list(range(1, 6 * each + 1))
    page = (await house.api("GET", f"/api/dm/{ab}/messages?limit=100", by=ann)).json["messages"]
    for wire in wires:
        heard = [data["message"] for event, data in direct(await settled(house, cafe, wire)) if event == "dm_message"]
        assert heard == page
    assert [message["seq"] for message in page] == list(range(1, 6 * each + 1))


# Who may not


CALLS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("dm:messages", "GET", "/api/dm/{channelId}/messages", {}),
    ("dm:send", "POST", "/api/dm/{channelId}/messages", {"content": "Let me in"}),
    ("dm:read", "PUT", "/api/dm/{channelId}/read", {"seq": 1}),
    ("dm:typing", "POST", "/api/dm/{channelId}/typing", {"isTyping": True}),
    ("dm:delete", "DELETE", "/api/dm/messages/{messageId}", {}),
)


@pytest.mark.parametrize(("role", "code"), [("third", "not_found"), ("of another café", "not_found"), ("barista", "forbidden"), ("moderator", "forbidden")])
async def test_to_anybody_else_a_channel_is_not_there(house: House, pg: Postgres, cafe: Cafe, ann: Person, bob: Person, ab: str, role: str, code: str) -> None:
    """Every call, over HTTP and over the socket, is refused in the very same words whether the channel exists, is another's, or is none."""
    elsewhere = await house.cafe("Elsewhere")
    cid, dan = await house.guests(elsewhere, 2)
    cd = await open_channel(pg, elsewhere.id, cid.id, dan.id, id=house.parts.ids.uuid7(), at_ms=house.parts.clock.now_ms())
    made = {"third": await house.guest(cafe), "of another café": await house.guest(elsewhere)}
    who = made[role] if role in made else house.staff(cafe, "barista" if role == "barista" else "moderator")
    a, b, c = await house.connect(ann), await house.connect(bob), await house.connect(cid)
    ids = [(ab, (await send(a, ab, SECRET))["message"]["id"]), (cd, (await send(c, cd, SECRET))["message"]["id"]), (NOBODY, NOBODY)]
    for wire in (a, b, c):
        await settled(house, cafe, wire)
    wire = await house.connect(who)
    for event, method, path, body in CALLS:
        refusals = []
        for channel_id, message_id in ids:
            target = {"messageId": message_id} if event == "dm:delete" else {"channelId": channel_id}
            over_http = await house.api(method, path.format(**target), body or None, by=who)
            told = await wire.refused(event, {**target, **body})
            assert (over_http.json["code"], over_http.json["detail"]) == (told["code"], told["detail"])
            refusals.append((over_http.status, over_http.body, told))
        assert refusals[0] == refusals[1] == refusals[2], event
        assert refusals[0][2]["code"] == code, event
    if code == "forbidden":
        assert (await wire.refused("dm:channels", {}))["code"] == "forbidden"
    else:
        assert await wire.ask("dm:channels", {}) == {"channels": []}
    assert direct(await settled(house, cafe, wire)) == []
    for member, channel_id in ((a, ab), (b, ab), (c, cd)):
        assert direct(await settled(house, cafe, member)) == []
        assert [message["content"] for message in (await member.ask("dm:messages", {"channelId": channel_id}))["messages"]] == [SECRET]


async def test_without_a_token_there_is_nothing(house: House, ab: str) -> None:
    for _, method, path, body in CALLS:
        answer = await house.api(method, path.format(channelId=ab, messageId=ab), body or None)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"content": ""}, "content"), ({"content": " \n"}, "content"), ({"content": "x" * 2001}, "content"), ({"content": "a\0b"}, "content"),
        ({"content": 7}, "content"), ({"clientMsgId": ""}, "clientMsgId"), ({"clientMsgId": "x" * 65}, "clientMsgId"), ({"clientMsgId": "\0"}, "clientMsgId"),
        ({"more": 1}, "more"), ({"content": None}, "content"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_message_is_named(house: House, ann: Person, ab: str, change: dict[str, Any], path: str) -> None:
    body = {"content": "Hello", **change}
    over_http = await house.api("POST", f"/api/dm/{ab}/messages", body, by=ann)
    told = await (await house.connect(ann)).refused("dm:send", {"channelId": ab, **body})
    for answer in (over_http.json, told):
        assert (answer["code"], answer["errors"][0]["path"]) == ("invalid_request", path)
    assert (await house.api("GET", f"/api/dm/{ab}/messages", by=ann)).json == {"messages": []}


async def test_two_thousand_characters_fit(house: House, ann: Person, ab: str) -> None:
    content = "\U0001f375" * 2000
    over_http = await house.api("POST", f"/api/dm/{ab}/messages", {"content": content}, by=ann)
    assert (over_http.status, over_http.json["message"]["content"]) == (201, content)


# Nobody and nothing else


class _Recorder:
    """A stream that keeps every byte that comes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.heard = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self.heard += data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def recorded(wire: Wire) -> _Recorder:
    recorder = _Recorder(wire.raw.stream)
    wire.raw.stream = recorder  # type: ignore[assignment]
    return recorder


def clean(data: bytes, marks: list[str]) -> None:
    """None of the marks is in there, in whatever case."""
    for mark in marks:
        assert mark.lower().encode() not in data.lower(), (mark, data)


async def dump(redis: Redis) -> bytes:
    """Every key with everything in it."""
    reads = {b"string": ("GET",), b"hash": ("HGETALL",), b"set": ("SMEMBERS",), b"list": ("LRANGE", 0, -1), b"zset": ("ZRANGE", 0, -1, "WITHSCORES")}
    (keys,) = await redis.pipeline([("KEYS", "*")])
    kinds = await redis.pipeline([("TYPE", key) for key in keys])
    reading = [reads[kind if isinstance(kind, bytes) else kind.encode()] for kind in kinds]
    values = await redis.pipeline([(name, key, *rest) for key, (name, *rest) in zip(keys, reading, strict=True)])
    assert len(keys) > 5
    return repr((keys, values)).encode()


async def test_nothing_of_it_reaches_any_other_socket_nor_redis_nor_the_log(
    house: House, strict: Config, bridge: Bridge, cafe: Cafe, ann: Person, bob: Person, ab: str, capsys: pytest.CaptureFixture[str]
) -> None:
    third, moderator, elsewhere = await house.guest(cafe), house.staff(cafe, "moderator"), await house.cafe("Elsewhere")
    others = [await house.connect(who) for who in (third, third, moderator, house.staff(cafe, "barista"), await house.guest(elsewhere))]
    ears = [recorded(wire) for wire in others]
    for wire in (others[0], others[2], others[3]):
        await wire.ask("join:cafe", {"cafeId": cafe.id})
    a, b = await house.enter(ann), await house.enter(bob)
    marks = [ab, SECRET, "gold coins", "dm_", "dm:"]  # a guest may well be a Goldfinch
    for n in range(3):
        marks.append((await send(a, ab, f"{n} {SECRET}", clientMsgId=f"{SECRET}-{n}"))["message"]["id"])
    assert len((await send(b, ab, f"{SECRET.upper()}!!!!!!!!!!!"))["warnings"]) == 2
    for _ in range(3):
        assert (await b.refused("dm:send", {"channelId": ab, "content": f"{SECRET} gold coins"}))["code"] == "spam_blocked"
    assert (await b.refused("dm:send", {"channelId": ab, "content": SECRET}))["code"] == "muted"
    await a.say("dm:typing", {"channelId": ab})
    await a.ask("dm:delete", {"messageId": marks[-1]})
    assert [event for event, _ in direct(await settled(house, cafe, b))][:6] == ["dm_message"] * 4 + ["dm:typing", "dm_deleted"]
    await house.send(a, cafe.id, "hello everybody")
    for wire, ear in zip(others, ears, strict=True):
        await wire.settle()
        clean(ear.heard, marks)
    assert [b"hello everybody" in ear.heard for ear in ears] == [True, False, True, True, False]
    for path in ("/api/chat/messages/", "/api/chat/topics/", "/api/chat/presence/"):
        answer = await house.api("GET", path + cafe.id, by=third)
        assert answer.status == 200
        clean(answer.body, marks)
    with trio.fail_after(WAIT_S):  # the ledger writes behind
        while len((log := await house.api("GET", "/api/moderation/log", by=moderator)).json["actions"]) < 4:
            await trio.sleep(0.01)
    clean(log.body, marks)
    assert [(entry["action"], entry.get("rule")) for entry in log.json["actions"]] == [("mute", "blocks"), *[("block", "words")] * 3]
    muted = await house.api("GET", f"/api/v1/spam/mute/{bob.id}", by=moderator)
    assert muted.json["muted"]
    clean(muted.body, marks)
    async with open_redis(bridge, url=strict.redis.url) as redis:
        with trio.fail_after(15):
            while await redis.pipeline([("EXISTS", f"spam:duplicate:{ann.id}", f"spam:mute:{bob.id}")]) != [2]:
                await trio.sleep(0.05)
        kept = await dump(redis)
    clean(kept, marks)
    clean(kept, [f"spam:duplicate:{bob.id}", f"ratelimit:message:{bob.id}"])
    logged = capsys.readouterr().err
    assert '"block"' in logged
    clean(logged.encode(), marks)


# Mutes, limits, and stores that fail


async def test_a_mute_is_felt_at_once_and_so_is_its_end(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str) -> None:
    a, b = await house.connect(ann), await house.enter(bob)
    by = Moderator(cafe.id, "operator")
    await send(a, ab, "one", clientMsgId="n1")
    await house.parts.moderation.mute(by, ann.id, reason="too loud")
    refusal = await a.refused("dm:send", {"channelId": ab, "content": "two"})
    assert (refusal["code"], refusal["reason"]) == ("muted", "too loud")
    assert refusal["retryAfterMs"] > 0
    assert (await house.api("POST", f"/api/dm/{ab}/messages", {"content": "two"}, by=ann)).status == 403
    assert (await send(a, ab, "one", clientMsgId="n1"))["duplicate"]  # which was said before
    await a.ask("dm:typing", {"channelId": ab})
    await send(b, ab, "to one who hears")
    assert [channel["user"]["online"] for channel in (await a.ask("dm:channels", {}))["channels"]] == [True]
    await house.parts.moderation.unmute(by, ann.id)
    assert (await send(a, ab, "two"))["message"]["seq"] == 3
    assert [event for event, _ in direct(await settled(house, cafe, b))] == ["dm_message"] * 3


async def test_one_who_is_banned_hears_nothing_more_and_nothing_more_is_said(house: House, cafe: Cafe, ann: Person, bob: Person, ab: str) -> None:
    a, b = await house.connect(ann), await house.connect(bob)
    by = Moderator(cafe.id, "operator")
    await send(a, ab, "one")
    await house.parts.moderation.ban(by, bob.id)
    assert await b.closed() == (4004, "banned by a moderator")
    assert (await a.refused("dm:send", {"channelId": ab, "content": "two"}))["code"] == "conflict"
    assert len((await a.ask("dm:messages", {"channelId": ab}))["messages"]) == 1
    await house.parts.moderation.unban(by, bob.id)
    assert (await send(a, ab, "two"))["message"]["seq"] == 2


async def test_thirty_at_once_and_then_one_a_second(house: House, ann: Person, ab: str, flow: MockClock) -> None:
    answers = []
    for n in range(33):
        answers.append(await house.api("POST", f"/api/dm/{ab}/messages", {"content": f"word {n}"}, by=ann))
    refused = [answer for answer in answers if answer.status != 201]
    assert refused
    assert answers[:30] == [answer for answer in answers[:30] if answer.status == 201]
    assert (refused[0].json["code"], refused[0].json["limit"], refused[0].status) == ("rate_limited", "dm", 429)
    assert 0 < refused[0].json["retryAfterMs"] <= 1000
    assert refused[0].headers["retry-after"] == "1"


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process and its children stand still."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for one in pids:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in pids:
            os.kill(one, signal.SIGCONT)


async def test_while_postgres_stands_still_it_is_said_in_time_and_sent_again_it_is_there_once(
    house: House, postgres_server: PostgresServer, cafe: Cafe, ann: Person, bob: Person, ab: str
) -> None:
    a, b = await house.connect(ann), await house.connect(bob)
    await send(a, ab, "one")
    with paused(postgres_server.pid):
        before = time.monotonic()
        refusal = await a.refused("dm:send", {"channelId": ab, "content": "two", "clientMsgId": "n2"})
        assert (refusal["code"], refusal["retryAfterMs"]) == ("storage_unavailable", 1000)
        assert time.monotonic() - before < SEND_S
    with trio.fail_after(5 * PATIENCE):
        while (await a.answer(await _say(a, ab)))["event"] == "error":
            pass
    heard = [(data["message"]["seq"], data["message"]["content"]) for _, data in direct(await settled(house, cafe, b))]
    assert heard == [(1, "one"), (2, "two")]
    assert [message["content"] for message in (await b.ask("dm:messages", {"channelId": ab}))["messages"]] == ["one", "two"]


async def _say(wire: Wire, channel_id: str) -> str:
    ref = f"again {len(wire.pongs)} {time.monotonic()}"
    await wire.say("dm:send", {"channelId": channel_id, "content": "two", "clientMsgId": "n2"}, ref)
    return ref


async def test_the_pages_list_what_is_called_and_told(house: House) -> None:
    messages = (await house.api("GET", "/api/asyncapi.json")).json["components"]["messages"]
    assert {"dm_channels", "dm_messages", "dm_send", "dm_delete", "dm_read", "dm_typing", "dm_message", "dm_deleted", "dm_read_told", "dm_typing_told"} <= set(
        messages
    )
    assert messages["dm_typing_told"]["name"] == messages["dm_typing"]["name"] == "dm:typing"
    assert messages["dm_typing_told"]["summary"] == "droppable"
    paths = (await house.api("GET", "/api/openapi.json")).json["paths"]
    assert sorted(method for path in paths if path.startswith("/api/dm/") for method in paths[path]) == ["delete", "get", "get", "post", "post", "put"]
