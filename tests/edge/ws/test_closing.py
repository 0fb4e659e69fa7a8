"""How sockets end: goodbyes from either side, peers that are dead, peers that do not say goodbye back, and a server that drains."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import CLOSE, Closed, Wire, frame, said

HEARTBEAT_S = 25.0


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def all_gone(house: House, left: int = 0) -> None:
    with trio.fail_after(5):
        while len(house.parts.sockets) > left:
            await trio.sleep(0.001)


async def test_a_goodbye_is_answered_with_the_same_code(house: House, cafe: Cafe) -> None:
    for code in [1000, 1001, 1003, 1011, 3000, 3999, 4000, 4999]:
        wire = await house.enter(await house.guest(cafe))
        assert (await wire.bye(code))[0] == code
    await all_gone(house)


async def test_a_goodbye_without_a_code(house: House, ann: Person) -> None:
    wire = await house.enter(ann)
    await wire.send(frame(b"", CLOSE))
    assert (await wire.closed())[0] in (1000, 0)
    await all_gone(house)


async def test_a_goodbye_before_saying_who_one_is(house: House) -> None:
    wire = await house.open()
    assert (await wire.bye())[0] == 1000
    await all_gone(house)


async def test_a_peer_that_hangs_up_is_gone(house: House, cafe: Cafe) -> None:
    for person in await house.guests(cafe, 3):
        wire = await house.enter(person)
        await wire.aclose()
    half = await house.enter(await house.guest(cafe))
    assert isinstance(half.raw.stream, trio.SocketStream)
    await half.send(said("message:send", {"cafeId": cafe.id, "content": "and good night"})[:20])
    await half.raw.stream.send_eof()
    await all_gone(house)


async def pass_seconds(flow: MockClock, count: int, *awake: Wire) -> None:
    """Second by second, so that whoever watches over the sockets sees each of them pass."""
    for _ in range(count):
        flow.jump(1)
        await trio.testing.wait_all_tasks_blocked(0.001)
        for wire in awake:
            await wire.settle()


async def test_the_silent_are_pinged_and_the_dead_are_cut(house: House, cafe: Cafe, flow: MockClock) -> None:
    ann, bob = await house.guests(cafe, 2)
    dead, idle = await house.enter(ann), await house.enter(bob)
    dead.answers_pings = False
    await idle.settle()
    for _ in range(6):
        await pass_seconds(flow, 10)
        await idle.settle_quietly()
    assert idle.pings >= 1
    with pytest.raises(Closed) as closed:
        await dead.heard("nothing")
    assert closed.value.code == 1006
    assert dead.pings >= 1
    await all_gone(house, 1)
    await pass_seconds(flow, 31)
    assert (await idle.heard("users:update"))["action"] == "leave"
    assert await idle.ask("presence:update", {"status": "away"}) == {}


async def test_a_peer_that_does_not_answer_the_goodbye_is_cut(house: House, ann: Person, flow: MockClock) -> None:
    wire = await house.enter(ann)
    house.parts.sockets.close_user(ann.id, 4003, "kicked by a moderator")
    await wire.say("presence:update", {"status": "away"}, "late")
    with pytest.raises(Closed) as closed:
        await wire.answer("late")
    assert (closed.value.code, closed.value.reason) == (4003, "kicked by a moderator")
    await wire.say("presence:update", {"status": "away"}, "later")  # goes on talking, and is not heard
    await pass_seconds(flow, 9)
    assert await wire.raw.more() is False
    await all_gone(house)


async def test_both_say_goodbye_at_once(house: House, ann: Person) -> None:
    wire = await house.enter(ann)
    house.parts.sockets.close_user(ann.id, 4003, "kicked by a moderator")
    assert (await wire.bye())[0] == 4003
    await all_gone(house)


async def test_a_long_reason_is_cut_between_characters(house: House, ann: Person) -> None:
    wire = await house.enter(ann)
    house.parts.sockets.close_user(ann.id, 4003, "für " + "€" * 200)
    code, reason = await wire.closed()
    assert code == 4003
    assert reason.startswith("für €€€")
    assert len(reason.encode()) <= 123


async def test_a_drain_tells_everyone_and_closes_with_1012(house: House, cafe: Cafe) -> None:
    people = await house.guests(cafe, 5)
    wires = [await house.enter(person) for person in people]
    watcher = await house.enter(house.staff(cafe, "barista"))
    unknown = await house.open()
    url = house.port
    for n, wire in enumerate(wires):
        await wire.say("message:send", {"cafeId": cafe.id, "content": f"last words {n}"}, "m")
    house.parts.stop()
    waits: list[Any] = []
    for n, wire in enumerate([*wires, watcher]):
        waits.append((await wire.heard("server:draining"))["reconnectInMs"])
        assert await wire.closed() == (1012, "restarting")
        heard = [one for one in wire.inbox if one["event"] == "message:new"]
        if n < 5:
            # Whatever was accepted was stored, answered and told before the end.
            answer = await wire.answer("m")
            assert answer["event"] == "reply" or answer["data"]["code"] == "cafe_unavailable"
        assert [one["data"]["message"]["seq"] for one in heard] == list(range(1, len(heard) + 1))
    assert all(isinstance(wait, int) and 0 <= wait <= 5000 for wait in waits)
    assert len(set(waits)) > 1
    assert (await unknown.closed())[0] == 1012
    with pytest.raises(OSError, match=r"(?i)refused|all attempts"):
        await trio.open_tcp_stream("127.0.0.1", url)
