"""How many sockets, and how many frames a second on each: what one too many is told, and that nothing else changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.config import Config, EdgeLimits, Server
from brewd.edge.ws.conduct import REFUSED_FRAMES_MAX
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import PING, Refused, Wire, frame, said

FEW = EdgeLimits(anonymous_per_15min=3, sockets_per_address=4, sockets_per_user=2)


@pytest.fixture
async def house(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    """Few sockets, and a proxy on this machine that says who connects."""
    config = replace(config, server=Server(listen=["127.0.0.1:0"], trusted_proxies=["127.0.0.1"]), limits=replace(config.limits, edge=FEW))
    async with open_house(config) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def connect(house: House, person: Person | None, address: str) -> Wire:
    return await house.open(X_Forwarded_For=address, authorization=None if person is None else f"Bearer {person.token}")


async def refused(house: House, person: Person | None, address: str) -> Refused:
    with pytest.raises(Refused) as caught:
        await connect(house, person, address)
    assert (caught.value.status, caught.value.problem["code"]) == (429, "rate_limited")
    assert caught.value.response.headers["retry-after"] == str(-(-caught.value.problem["retryAfterMs"] // 1000))
    return caught.value


def typing(person: Person) -> tuple[str, Any]:
    """An event that is answered at once, in the room or not."""
    return "typing:start", {"cafeId": person.cafe_id}


async def gone(house: House, wire: Wire) -> None:
    """Closed, and noticed by the server."""
    count = len(house.parts.sockets)
    await wire.bye()
    while len(house.parts.sockets) == count:
        await trio.lowlevel.checkpoint()


async def test_a_user_has_so_many_sockets_wherever_they_come_from(house: House, cafe: Cafe, ann: Person) -> None:
    wires = [await connect(house, ann, f"192.0.2.{number}") for number in range(2)]
    no = await refused(house, ann, "192.0.2.3")
    assert (no.problem["limit"], no.problem["retryAfterMs"]) == ("sockets-per-user", 5000)
    await connect(house, await house.guest(cafe), "192.0.2.3")
    await gone(house, wires[0])
    await connect(house, ann, "192.0.2.3")


async def test_a_user_who_says_so_in_the_first_frame_is_told_to_try_later(house: House, ann: Person) -> None:
    for number in range(2):
        await connect(house, ann, f"192.0.2.{number}")
    wire = await connect(house, None, "192.0.2.3")
    await wire.say("auth", {"token": ann.token}, "r")
    assert (await wire.answer("r"))["data"]["limit"] == "sockets-per-user"
    assert (await wire.closed())[0] == 1013


async def test_a_socket_that_was_told_to_go_takes_no_place(house: House, ann: Person) -> None:
    wires = [await connect(house, ann, f"192.0.2.{number}") for number in range(2)]
    house.parts.sockets.close_user(ann.id, 4001, "go")
    for wire in wires:
        await wire.heard("connected")
    await connect(house, ann, "192.0.2.3")


async def test_an_address_has_so_many_sockets(house: House, cafe: Cafe, ann: Person) -> None:
    people = await house.guests(cafe, 6)
    wires = [await connect(house, person, "2001:db8::1") for person in people[:4]]
    no = await refused(house, people[4], "2001:db8::2")
    assert no.problem["limit"] == "sockets-per-address"
    await connect(house, people[4], "2001:db8:0:1::2")
    await gone(house, wires[0])
    await connect(house, people[5], "2001:db8::3")


async def test_a_cafes_own_network_has_many_times_as_many(house: House) -> None:
    cafe = await house.parts.cafes.add(name="Corner", cidrs=("203.0.113.0/24",))
    await house.http(f"GET /api/cafes/{cafe.id} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.99\r\n\r\n".encode())
    for person in await house.guests(cafe, 20):
        await connect(house, person, "203.0.113.5")


async def test_a_handshake_without_a_token_is_a_request_like_another(house: House, cafe: Cafe, ann: Person, flow: MockClock) -> None:
    flow.rate = 0
    await house.http(b"GET /join HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    with pytest.raises(Refused) as caught:
        await house.open(X_Forwarded_For="192.0.2.1", authorization="Bearer a.b.c")
    assert caught.value.status == 401
    await connect(house, None, "192.0.2.1")
    no = await refused(house, None, "192.0.2.1")
    assert (no.problem["limit"], no.problem["retryAfterMs"]) == ("anonymous", 300_000)
    assert no.response.headers["ratelimit-policy"] == '"anonymous";q=3;w=900'
    assert no.response.headers["ratelimit"] == '"anonymous";r=0;t=300'
    with pytest.raises(Refused) as caught:
        await house.open("/elsewhere", X_Forwarded_For="192.0.2.1", authorization=f"Bearer {ann.token}")
    assert caught.value.status == 429
    await connect(house, ann, "192.0.2.1")
    flow.rate = 0.2


async def test_frames_over_the_limit_are_told_exactly_how_long(house: House, ann: Person, flow: MockClock) -> None:
    wire = await connect(house, ann, "192.0.2.1")
    flow.rate = 0
    for number in range(20):
        await wire.say(*typing(ann), number)
    assert [(await wire.answer(number))["event"] for number in range(20)] == ["reply"] * 20
    assert await wire.refused(*typing(ann)) == {
        "code": "rate_limited",
        "detail": "A socket may send 20 frames a second.",
        "retryAfterMs": 50,
        "limit": "frames",
    }
    flow.jump(0.049)
    assert (await wire.refused(*typing(ann)))["retryAfterMs"] == 1
    flow.jump(0.001)
    assert await wire.ask(*typing(ann)) == {}
    assert (await wire.refused(*typing(ann)))["retryAfterMs"] == 50
    for _ in range(100):
        flow.jump(0.05)
        assert await wire.ask(*typing(ann)) == {}
    flow.rate = 0.2


async def test_frames_over_the_limit_that_ask_for_no_answer_are_dropped(house: House, cafe: Cafe, ann: Person, flow: MockClock) -> None:
    wire = await connect(house, ann, "192.0.2.1")
    flow.rate = 0
    await wire.send(
        said(*typing(ann)) * 20 + said("typing:start", {"cafeId": cafe.id}) * 50 + frame("{") * 10 + frame(b"", PING) * 10 + said(*typing(ann), "r")
    )
    assert (await wire.answer("r"))["data"]["code"] == "rate_limited"
    assert [one["event"] for one in wire.inbox] == ["connected"]
    assert wire.pongs == []
    flow.jump(1)
    assert await wire.ask(*typing(ann)) == {}
    flow.rate = 0.2


async def test_a_flood_closes_the_socket(house: House, ann: Person, flow: MockClock) -> None:
    wire = await connect(house, ann, "192.0.2.1")
    flow.rate = 0
    await wire.send(said(*typing(ann)) * (20 + REFUSED_FRAMES_MAX - 1) + said(*typing(ann), "r"))
    assert (await wire.closed())[0] == 1008
    assert [one for one in wire.inbox if one["event"] == "error"] == []
    flow.rate = 0.2


async def test_a_socket_that_is_a_little_too_fast_all_the_time_is_closed_in_the_end(house: House, ann: Person, flow: MockClock) -> None:
    wire = await connect(house, ann, "192.0.2.1")
    flow.rate = 0
    for second in range(REFUSED_FRAMES_MAX // 5 - 1):
        await wire.send(said(*typing(ann)) * 24 + said(*typing(ann), second))
        assert (await wire.answer(second))["data"]["code"] == "rate_limited"
        flow.jump(1)
    await wire.send(said(*typing(ann)) * 25)
    assert (await wire.closed())[0] == 1008
    flow.rate = 0.2


async def test_bursts_with_rests_in_between_are_borne(house: House, ann: Person, flow: MockClock) -> None:
    wire = await connect(house, ann, "192.0.2.1")
    flow.rate = 0
    for number in range(10):
        await wire.send(said(*typing(ann)) * 100 + said(*typing(ann), number))
        assert (await wire.answer(number))["data"]["retryAfterMs"] == 50
        flow.jump(31)
        await wire.send(frame(b"", PING))
    flow.rate = 0.2


async def test_zero_is_no_limit(config: Config) -> None:
    async with open_house(config) as open_door:
        cafe = await open_door.cafe()
        ann = await open_door.guest(cafe)
        wires: list[Any] = [await open_door.connect(ann) for _ in range(10)]
        for _ in range(250):
            await open_door.open()
        await wires[0].send(said(*typing(ann), "r") * 1000)
        assert [(await wires[0].answer("r"))["event"] for _ in range(1000)] == ["reply"] * 1000
