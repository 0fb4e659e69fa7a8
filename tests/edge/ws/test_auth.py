"""Who a socket is: said in three ways, checked once, and for as long as it is open."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from trio.testing import MockClock

from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import RFC3339_MS, UUID, Closed, Refused, Wire, said

AUTH_S = 5.0


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def forged(token: str, *, header: dict[str, Any] | None = None, signature: bytes | None = None, **claims: Any) -> str:
    """The token with another header, other claims or another signature."""
    parts = token.split(".")
    if header is not None:
        parts[0] = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    if claims:
        parts[1] = base64.urlsafe_b64encode(json.dumps({**claims_of(token), **claims}).encode()).rstrip(b"=").decode()
    if signature is not None:
        parts[2] = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    return ".".join(parts)


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


def is_hello(hello: Any, person: Person) -> bool:
    assert set(hello) == {"userId", "cafeId", "sessionId", "serverTime", "heartbeatMs", "protocol"}
    assert (hello["userId"], hello["cafeId"]) == (person.id, person.cafe_id)
    assert hello["sessionId"] == claims_of(person.token)["sid"]
    assert UUID.fullmatch(hello["sessionId"])
    assert RFC3339_MS.fullmatch(hello["serverTime"])
    assert isinstance(hello["heartbeatMs"], int)
    assert hello["protocol"] == "brewd.v1"
    return True


async def test_by_header(house: House, ann: Person) -> None:
    wire = await house.open(authorization=f"Bearer {ann.token}")
    first = await wire.next()
    assert set(first) == {"event", "data"}
    assert first["event"] == "connected"
    assert is_hello(first["data"], ann)
    assert "sec-websocket-protocol" not in wire.response.headers
    assert await wire.settle() == []


async def test_the_scheme_is_spelled_in_any_case(house: House, ann: Person) -> None:
    wire = await house.open(authorization=f"bearer  {ann.token} ")
    assert is_hello(await wire.heard("connected"), ann)


async def test_by_subprotocol(house: House, ann: Person) -> None:
    wire = await house.open(sec_websocket_protocol=f"brewd.v1, brewd.bearer.{ann.token}")
    assert is_hello(await wire.heard("connected"), ann)
    assert wire.response.headers["sec-websocket-protocol"] == "brewd.v1"


async def test_by_the_first_frame(house: House, ann: Person) -> None:
    wire = await house.open(sec_websocket_protocol="brewd.v1")
    assert await wire.settle() == []
    await wire.say("auth", {"token": ann.token}, "a1")
    first, second = await wire.next(), await wire.next()
    assert first["event"] == "connected"
    assert is_hello(first["data"], ann)
    assert second == {"event": "reply", "ref": "a1", "data": first["data"]}
    assert await wire.settle() == []


async def test_a_first_frame_without_a_ref_is_only_greeted(house: House, ann: Person) -> None:
    wire = await house.open()
    await wire.say("auth", {"token": ann.token})
    assert [one["event"] for one in await wire.settle()] == ["connected"]


async def test_frames_right_behind_the_handshake_are_served(house: House, cafe: Cafe, ann: Person) -> None:
    join = said("join:cafe", {"cafeId": cafe.id}, 1)
    for wire in [
        await house.open(then=join, authorization=f"Bearer {ann.token}"),
        await house.open(then=said("auth", {"token": ann.token}) + join),
    ]:
        assert (await wire.next())["event"] == "connected"
        assert (await wire.answer(1))["event"] == "reply"


async def test_a_token_in_the_url_is_not_looked_at(house: House, ann: Person) -> None:
    wire = await house.open(f"/ws?token={ann.token}&access_token={ann.token}")
    assert await wire.settle() == []
    assert (await wire.refused("presence:update", {"status": "away"}))["code"] == "invalid_request"
    assert (await wire.closed())[0] == 1008


async def test_whoever_says_nothing_has_five_seconds(house: House, flow: MockClock) -> None:
    wire = await house.open()
    flow.jump(AUTH_S - 0.5)
    assert await wire.settle() == []
    flow.jump(0.5)
    assert await wire.closed() == (1008, "no auth within 5 s")


async def test_trickling_is_not_saying_who_one_is(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.open()
    auth = said("auth", {"token": ann.token})
    await wire.send(auth[:-1])
    assert await wire.settle_quietly() == []
    flow.jump(AUTH_S)
    with pytest.raises(Closed) as closed:
        await wire.heard("connected")
    assert closed.value.code == 1008
    await wire.send(auth[-1:])
    assert await wire.settle_quietly() == []  # the goodbye was said; what comes after it is not looked at


async def test_whoever_is_known_has_all_day(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.open()
    await wire.say("auth", {"token": ann.token})
    await wire.heard("connected")
    flow.jump(AUTH_S + 1)
    assert await wire.settle() == []


async def test_the_first_frame_must_be_auth(house: House, ann: Person) -> None:
    for event in ["join:cafe", "message:send", "nonsense"]:
        wire = await house.open()
        refusal = await wire.refused(event, {"cafeId": ann.cafe_id})
        assert refusal["code"] == "invalid_request"
        assert (await wire.closed())[0] == 1008


async def test_a_cafe_that_does_not_exist(house: House) -> None:
    nowhere = house.parts.ids.uuid7()
    token, _ = house.tokens.issue_access(
        user_id=house.parts.ids.uuid7(), cafe_id=nowhere, role="user", session_id=nowhere, username="Nobody", badge=None, user_expires_ms=None
    )
    wire = await house.open(authorization=f"Bearer {token}")
    for more in [{}, {"since": 5}]:
        assert (await wire.refused("join:cafe", {"cafeId": nowhere, **more}))["code"] == "not_found"
    assert (await wire.refused("message:send", {"cafeId": nowhere, "content": "echo"}))["code"] == "not_found"
    assert (await wire.bye())[0] == 1000


async def test_a_token_that_is_not_ours_is_refused_by_every_way(house: House, cafe: Cafe, ann: Person) -> None:
    ids, now_s = house.parts.ids, house.parts.clock.now_ms() // 1000
    claims = claims_of(ann.token)
    kid = jwt.get_unverified_header(ann.token)["kid"]
    refresh = house.tokens.issue_refresh(
        user_id=ann.id, cafe_id=cafe.id, role="user", session_id=claims["sid"], jti=ids.uuid4(), expires_ms=now_s * 1000 + 60_000
    )
    for name, token, code in [
        ("alg:none", forged(ann.token, header={"alg": "none", "kid": kid}, signature=b""), "unauthorized"),
        ("alg:None with a signature", forged(ann.token, header={"alg": "None", "kid": kid}), "unauthorized"),
        ("another key", jwt.encode(claims, "k" * 32, "HS256", {"kid": kid}), "unauthorized"),
        ("an unknown kid", jwt.encode(claims, "k" * 32, "HS256", {"kid": "../../dev/null"}), "unauthorized"),
        ("no kid", jwt.encode(claims, "k" * 32, "HS256"), "unauthorized"),
        ("another café in the claims", forged(ann.token, cafe=ids.uuid4()), "unauthorized"),
        ("another role in the claims", forged(ann.token, role="moderator"), "unauthorized"),
        ("a refresh token", refresh, "unauthorized"),
        ("no token at all", "x", "unauthorized"),
        ("something huge", "x" * 4000, "unauthorized"),
        ("not ASCII", "\xe9\xe9", "unauthorized"),
        ("dots", "...", "unauthorized"),
    ]:
        with pytest.raises(Refused) as refused:
            await house.open(authorization=f"Bearer {token}")
        assert refused.value.status == 401, name
        assert refused.value.problem.items() >= {"status": 401, "code": code}.items(), name
        if token.isascii():
            with pytest.raises(Refused) as refused:
                await house.open(sec_websocket_protocol=f"brewd.v1, brewd.bearer.{token}")
            assert refused.value.problem["code"] == code, name
        wire = await house.open()
        assert (await wire.refused("auth", {"token": token}))["code"] == code, name
        assert (await wire.closed())[0] == 1008, name


async def test_a_token_that_has_expired_says_so(house: House, ann: Person, flow: MockClock) -> None:
    flow.jump(3600)
    with pytest.raises(Refused) as refused:
        await house.open(authorization=f"Bearer {ann.token}")
    assert (refused.value.status, refused.value.problem["code"]) == (401, "token_expired")
    wire = await house.open()
    assert (await wire.refused("auth", {"token": ann.token}))["code"] == "token_expired"
    assert (await wire.closed())[0] == 4001


async def test_a_user_whose_day_is_over_is_told_so(house: House, ann: Person, flow: MockClock) -> None:
    flow.jump(86_400)
    with pytest.raises(Refused) as refused:
        await house.open(authorization=f"Bearer {ann.token}")
    assert (refused.value.status, refused.value.problem["code"]) == (401, "user_expired")


async def test_a_user_who_was_sent_home_is_told_so(house: House, cafe: Cafe) -> None:
    ann, bob = await house.guests(cafe, 2)
    wire, other = await house.enter(ann), await house.enter(bob)
    await house.parts.users.expire(ann.id)
    assert (await wire.closed())[0] == 4001
    with pytest.raises(Refused) as refused:
        await house.open(authorization=f"Bearer {ann.token}")
    assert (refused.value.status, refused.value.problem["code"]) == (401, "user_expired")
    assert await other.ask("presence:update", {"status": "away"}) == {}


async def test_a_token_for_another_cafe_opens_no_door(house: House, cafe: Cafe, ann: Person) -> None:
    away = await house.cafe("Away")
    stranger = await house.connect(await house.guest(away))
    member = await house.enter(ann)
    for event, data in [
        ("join:cafe", {"cafeId": cafe.id}),
        ("join:cafe", {"cafeId": cafe.id, "since": 0}),
        ("message:send", {"cafeId": cafe.id, "content": "let me in"}),
        ("leave:cafe", {"cafeId": cafe.id}),
        ("typing:start", {"cafeId": cafe.id}),
        ("typing:stop", {"cafeId": cafe.id}),
    ]:
        assert (await stranger.refused(event, data))["code"] == "not_in_cafe", event
    assert await member.settle() == []


async def test_another_cafes_messages_cannot_be_deleted(house: House, cafe: Cafe, ann: Person) -> None:
    member = await house.enter(ann)
    sent = await house.send(member, cafe.id, "mine")
    away = await house.cafe("Away")
    for person in [await house.guest(away), house.staff(away, "moderator")]:
        stranger = await house.enter(person)
        assert (await stranger.refused("message:delete", {"messageId": sent["message"]["id"]}))["code"] == "not_found"
    assert [one["event"] for one in await member.settle()] in (["message:new"], ["message:new", "topics:update"])


async def logout(house: House, person: Person) -> None:
    answer = await house.http(
        f"POST /api/auth/logout HTTP/1.1\r\nHost: cafe.test\r\nAuthorization: Bearer {person.token}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert answer.status == 204, answer


async def test_logging_out_closes_every_socket_of_the_session_and_no_other(house: House, cafe: Cafe) -> None:
    ann, bob = await house.guests(cafe, 2)
    phone, laptop, other = await house.enter(ann), await house.connect(ann), await house.enter(bob)
    await logout(house, ann)
    assert await phone.closed() == (4002, "the session was ended")
    assert await laptop.closed() == (4002, "the session was ended")
    assert await other.ask("presence:update", {"status": "away"}) == {}
    with pytest.raises(Refused) as refused:
        await house.open(authorization=f"Bearer {ann.token}")
    assert (refused.value.status, refused.value.problem["code"]) == (401, "unauthorized")
    wire = await house.open()
    assert (await wire.refused("auth", {"token": ann.token}))["code"] == "unauthorized"


def renewed(house: House, person: Person, **changes: Any) -> tuple[str, int]:
    """A fresh access token of the same session."""
    claims = claims_of(person.token)
    fields: dict[str, Any] = {
        "user_id": person.id,
        "cafe_id": person.cafe_id,
        "role": "user",
        "session_id": claims["sid"],
        "username": person.name,
        "badge": None,
        "user_expires_ms": round(claims["uexp"] * 1000),
    }
    return house.tokens.issue_access(**{**fields, **changes})


async def wait_for_the_sweep(flow: MockClock, wire: Wire) -> None:
    """Sockets are looked at in turns: within five seconds each has been."""
    for _ in range(6):
        flow.jump(1)
        await wire.settle()


async def test_a_token_that_expires_meanwhile_closes_with_4001(house: House, cafe: Cafe, flow: MockClock) -> None:
    ann, bob = await house.guests(cafe, 2)
    wire, other = await house.connect(ann), await house.connect(bob)
    for _ in range(100):
        flow.jump(35.9)
        await wire.settle(), await other.settle()
    token, _ = renewed(house, bob)
    await other.ask("token:refresh", {"token": token})
    flow.jump(10)
    await wait_for_the_sweep(flow, other)
    assert await wire.closed() == (4001, "the access token has expired")
    assert await other.settle() == []


async def test_a_fresh_token_prolongs_the_socket(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.connect(ann)
    flow.jump(20)
    token, expires_ms = renewed(house, ann)
    answer = await wire.ask("token:refresh", {"token": token})
    assert set(answer) == {"expiresAt"}
    assert RFC3339_MS.fullmatch(answer["expiresAt"])
    assert abs(expires_ms - house.parts.clock.now_ms() - 3_600_000) < 2000
    # `auth` on a socket that is known already means the same.
    assert await wire.ask("auth", {"token": token}) == answer


async def test_only_a_token_of_the_same_session_prolongs(house: House, cafe: Cafe) -> None:
    ann, bob = await house.guests(cafe, 2)
    wire = await house.enter(ann)
    other_session, _ = renewed(house, ann, session_id=house.parts.ids.uuid7())
    for token, code in [(bob.token, "forbidden"), (other_session, "forbidden"), ("x", "unauthorized"), (forged(ann.token, exp=2**33), "unauthorized")]:
        assert (await wire.refused("token:refresh", {"token": token}))["code"] == code
    assert await wire.ask("presence:update", {"status": "away"}) == {}
