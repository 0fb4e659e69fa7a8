"""The parts of the client that need no network: the line, the verdicts, the inbox, the decoding, the tokens, addresses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from brewd.client import Client, DmMessage, DmRead, DmTyping, Joined, Lagged, MessageNew, Rejected, ServerError, SessionOver, Unknown, Unreachable
from brewd.client.events import Reply, decode
from brewd.client.http import plain_url
from brewd.client.inbox import Inbox
from brewd.client.line import Line, Place
from brewd.client.retry import Backoff, Ending, Verdict, failure, handshake_ending, judge
from brewd.client.session import Session
from brewd.client.shapes import Message
from brewd.runtime.clock import Clock
from tests.client.scripted import CAFE, EPOCH, ME, Scripted, message, token


def made(*seqs: int) -> tuple[Message, ...]:
    return tuple(msgspec.convert(message(seq), Message) for seq in seqs)


def joined(seq: int, *history: int) -> Joined:
    return Joined(cafe_id=CAFE, epoch=EPOCH, seq=seq, messages=made(*history))


def test_the_line_shows_each_number_once() -> None:
    line = Line()
    line.begin(joined(3, 2, 3))
    assert [line.place(m) for m in made(3, 4, 4, 6, 5)] == [Place.REPEAT, Place.NEXT, Place.REPEAT, Place.AHEAD, Place.NEXT]
    assert [(m.seq, gone) for m, gone in line.catch_up(made(4, 5, 6, 9))] == [(6, 0), (9, 2)]
    assert (line.skip_to(12), line.skip_to(11), line.seq) == (3, 0, 12)


def test_a_new_line_shows_only_what_was_made_since() -> None:
    line = Line()
    line.begin(joined(8, 7, 8))
    assert [m.seq for m in line.restart(joined(9, 6, 8, 9))] == [9]
    assert line.seq == 9


@pytest.mark.parametrize(
    ("ending", "renewable", "verdict"),
    [
        (Ending(code=1000), False, Verdict.BYE),
        (Ending(), False, Verdict.BACK),
        (Ending(code=4001), True, Verdict.RENEW),
        (Ending(code=4001), False, Verdict.OVER),
        (Ending(code=4004), True, Verdict.OVER),
        (Ending(refusal=Rejected("token_expired", "")), True, Verdict.RENEW),
        (Ending(refusal=Rejected("cafe_unavailable", "")), True, Verdict.BACK),
        (Ending(refusal=Rejected("banned", "")), True, Verdict.OVER),
        (handshake_ending(502, Rejected("banned", ""), 0), True, Verdict.BACK),
        (handshake_ending(429, Rejected("rate_limited", "", retryAfterMs=1500), 1), True, Verdict.BACK),
        (handshake_ending(403, Rejected("forbidden", ""), 0), True, Verdict.OVER),
    ],
)
def test_verdicts(ending: Ending, renewable: bool, verdict: Verdict) -> None:
    assert judge(ending, renewable=renewable) is verdict


def test_an_ending_becomes_its_own_exception() -> None:
    refusal = Rejected("banned", "for life")
    assert failure(Ending(refusal=refusal)) is refusal
    assert str(failure(Ending(code=4003, reason="kicked"))) == "the session is over: kicked (4003)"
    assert isinstance(failure(Ending(code=4003)), SessionOver)


def test_backoff_is_full_jitter_under_a_ceiling() -> None:
    chances = iter([0.0, 0.5, 0.999, 1.0, 1.0, 1.0, 0.5])
    backoff = Backoff(base_s=1, max_s=10, chance=lambda: next(chances))
    assert [backoff.next_s(), backoff.next_s(), backoff.next_s(), backoff.next_s(), backoff.next_s(), backoff.next_s(3)] == [0, 1, 3.996, 8, 10, 13]
    backoff.reset()
    assert backoff.next_s() == 0.5


@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"event":1}', "nonsense", '{"event":"message:new","data":{"message":{"id":1}}}'])
def test_frames_that_cannot_be_read_are_unknown(frame: str) -> None:
    assert isinstance(decode(frame), Unknown)


def test_fields_and_events_of_a_newer_server_are_tolerated() -> None:
    event = decode(msgspec.json.encode({"event": "message:new", "shiny": 1, "data": {"message": message(1) | {"mood": "☕"}, "clientMsgId": "k"}}))
    assert isinstance(event, MessageNew)
    assert event.client_msg_id == "k"
    direct = {
        "id": "d",
        "channelId": "c",
        "seq": 1,
        "userId": "u",
        "username": "ann",
        "content": "Hi",
        "createdAt": "2026-11-22T10:00:00.000Z",
        "deleted": False,
    }
    event = decode(msgspec.json.encode({"event": "dm_message", "data": {"channelId": "c", "message": direct, "clientMsgId": "k"}}))
    assert isinstance(event, DmMessage)
    assert (event.channel_id, event.message.content, event.message.deleted, event.client_msg_id) == ("c", "Hi", False, "k")
    assert decode('{"event":"dm:read","data":{"channelId":"c","seq":3,"unread":1}}') == DmRead(channel_id="c", seq=3, unread=1)
    assert decode('{"event":"dm:typing","data":{"channelId":"c","isTyping":true}}') == DmTyping(channel_id="c", is_typing=True)
    assert decode('{"event":"lagged","data":{"from":3,"to":9}}') == Lagged(first=3, last=9)
    assert decode('{"event":"error","data":{"code":"invalid_request","detail":"d"}}') == ServerError(code="invalid_request", detail="d")
    assert decode('{"event":"error","ref":"7","data":{"code":"muted"}}') == Reply("7", msgspec.Raw(b'{"code":"muted"}'), {"code": "muted"})
    assert decode('{"event":"moderation:unmuted"}') != decode('{"event":"x","data":{}}')


async def test_an_inbox_without_a_reader_keeps_nothing() -> None:
    inbox = Inbox(0)
    for _ in range(3):
        inbox.put(Unknown(event="x", data=None))
        await inbox.roomy()
    inbox.end(None)
    with pytest.raises(StopAsyncIteration):
        await inbox.get()


async def test_what_is_queued_is_delivered_before_the_end(mock_clock: Any) -> None:
    inbox = Inbox(2)
    inbox.put(Unknown(event="x", data=None))
    inbox.end(SessionOver(4003, "kicked"))
    inbox.end(None)
    assert await inbox.get() == Unknown(event="x", data=None)
    with pytest.raises(SessionOver):
        await inbox.get()


async def test_one_renewal_at_a_time_even_when_its_caller_leaves(server: Scripted, clock: Clock) -> None:
    def refresh(query: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        answered.append(body["refreshToken"])
        return 200, {"accessToken": token(7200), "refreshToken": "r2", "user": {"id": ME, "username": "F", "cafeId": CAFE}}

    answered: list[str] = []
    server.http["POST", "/api/auth/refresh"] = refresh
    async with Client(server.url) as api:
        session = Session(api=api, clock=clock, access_token=token(10), refresh_token="r1")
        with trio.CancelScope() as scope:
            scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.fresh)
        assert answered == []  # cancelled before it began
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(session.fresh)
    assert answered == ["r1"]
    assert session.refresh_token == "r2"


async def test_tokens_without_an_end_are_never_renewed(server: Scripted, clock: Clock) -> None:
    async with Client(server.url) as api:
        for access in ("", "opaque", "a.b.c", "e30.bm90IGpzb24.x"):
            session = Session(api=api, clock=clock, access_token=access, refresh_token="r")
            assert session.renew_at_ms() is None
            assert await session.fresh() == access


async def test_http_answers_and_refusals(server: Scripted) -> None:
    server.http["GET", "/api/health"] = lambda query, body, headers: (200, {"status": "ok", "version": "1", "uptimeS": 3, "checks": {}})
    server.http["GET", "/api/users/me"] = lambda query, body, headers: (401, {"code": "unauthorized", "detail": headers.get("authorization", "none")})
    server.http["POST", "/api/auth/logout"] = lambda query, body, headers: (204, None)
    server.http["GET", f"/api/chat/presence/{CAFE}"] = lambda query, body, headers: (502, b"<html>bad gateway</html>")
    server.http["GET", f"/api/chat/topics/{CAFE}"] = lambda query, body, headers: (200, b"not json")
    async with Client(server.url, token="T") as api:
        assert (await api.health()).uptime_s == 3
        await api.logout()
        with pytest.raises(Rejected, match="Bearer T"):
            await api.me()
        with pytest.raises(Rejected, match="Bearer mine"):
            await api.me(token="mine")
        with pytest.raises(Rejected, match="HTTP 502") as caught:
            await api.presence(CAFE)
        assert caught.value.code == "internal"
        with pytest.raises(Unreachable, match="not what the API promises"):
            await api.topics(CAFE)


async def test_nobody_answers(mock_clock: Any) -> None:
    async with Client("127.0.0.1:1") as api:
        with pytest.raises(Unreachable):
            await api.health()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("http://h:1/", "http://h:1"),
        ("ws://h:1", "http://h:1"),
        ("wss://h/brew/", "https://h/brew"),
        ("h:8080", "http://h:8080"),
        ("https://h", "https://h"),
    ],
)
def test_addresses(given: str, plain: str) -> None:
    assert plain_url(given) == plain


@pytest.mark.parametrize("given", ["", "ftp://h", "http://"])
def test_addresses_that_are_none(given: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        plain_url(given)
