"""Who is there, over the wire: devices, the grace time, status, typing, and staff who only watch."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.cafe.commands import PresenceQuery
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import CLOSE, Wire, frame, said

GRACE_S = 30.0
TYPING_S = 3.0


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
async def bob(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


def update(cafe: Cafe, action: str, person: Person, count: int, status: str = "online") -> dict[str, Any]:
    return {"cafeId": cafe.id, "action": action, "user": {"id": person.id, "username": person.name, "status": status, "badge": None}, "userCount": count}


async def gone(house: House, cafe: Cafe, wire: Wire, left: int) -> None:
    """The connection is cut, and the server has noticed: `left` sockets remain."""
    await wire.aclose()
    with trio.fail_after(5):
        while len(house.parts.sockets) > left:
            await trio.sleep(0.001)
    await house.parts.directory.ref(cafe.id).ask(PresenceQuery())  # and so has the room


async def test_several_devices_are_one_presence(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    b = await house.enter(bob)
    devices = [await house.enter(ann) for _ in range(3)]
    assert await b.settle() == [{"event": "users:update", "data": update(cafe, "join", ann, 2)}]
    answer = await devices[2].ask("join:cafe", {"cafeId": cafe.id})
    assert (answer["userCount"], len(answer["users"])) == (2, 2)
    await devices[0].ask("leave:cafe", {"cafeId": cafe.id})
    await devices[1].bye()
    assert await b.settle() == []
    await devices[2].ask("leave:cafe", {"cafeId": cafe.id})
    assert await b.settle() == [{"event": "users:update", "data": update(cafe, "leave", ann, 1)}]


async def test_a_dropped_user_is_gone_after_the_grace_time(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    await b.ask("presence:update", {"status": "online"})
    await b.settle()
    await gone(house, cafe, a, 1)
    flow.jump(GRACE_S - 1)
    assert await b.settle() == []
    assert (await b.ask("join:cafe", {"cafeId": cafe.id}))["userCount"] == 2
    flow.jump(1.5)
    assert await b.heard("users:update") == update(cafe, "leave", ann, 1)
    assert (await b.ask("join:cafe", {"cafeId": cafe.id}))["userCount"] == 1


async def test_a_return_within_the_grace_time_is_silent(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    await a.ask("presence:update", {"status": "busy"})
    await b.settle()
    await gone(house, cafe, a, 1)
    flow.jump(GRACE_S - 1)
    again = await house.connect(ann)
    answer = await again.ask("join:cafe", {"cafeId": cafe.id})
    assert [user["status"] for user in answer["users"] if user["id"] == ann.id] == ["busy"]
    flow.jump(10)
    assert await b.settle() == []
    assert await again.settle() == []
    await gone(house, cafe, again, 1)
    flow.jump(GRACE_S - 1)  # the grace time began anew
    assert await b.settle() == []


@pytest.mark.parametrize("code", [1001, 1011, 4000])
async def test_a_page_that_is_left_has_the_grace_time_too(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock, code: int) -> None:
    """A page that is reloaded says goodbye to its socket, not to the room."""
    a, b = await house.enter(ann), await house.enter(bob)
    await b.settle()
    assert (await a.bye(code))[0] == code
    flow.jump(GRACE_S - 1)
    again = await house.enter(ann)
    assert await b.settle() == []
    assert (await again.bye(code))[0] == code
    flow.jump(GRACE_S + 1)
    assert await b.heard("users:update") == update(cafe, "leave", ann, 1)


@pytest.mark.parametrize("payload", [b"\x03\xe8", b"\x03\xe8that is all", b""])
async def test_a_socket_that_is_closed_for_good_leaves_at_once(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock, payload: bytes) -> None:
    """With 1000, or with no code, which is what a page's own `close()` sends. The last device counts."""
    a, twin, b = await house.enter(ann), await house.enter(ann), await house.enter(bob)
    await b.settle()
    await twin.send(frame(payload, CLOSE))
    assert (await twin.closed())[0] == 1000
    await a.settle()
    assert await b.settle() == []
    await a.send(said("typing:start", {"cafeId": cafe.id}) + frame(payload, CLOSE))
    assert (await a.closed())[0] == 1000
    assert (await b.heard("typing:indicator"))["isTyping"] is True
    assert (await b.heard("typing:indicator"))["isTyping"] is False
    assert await b.heard("users:update") == update(cafe, "leave", ann, 1)
    await house.enter(ann)
    assert await b.heard("users:update") == update(cafe, "join", ann, 2)
    flow.jump(GRACE_S + 1)
    assert await b.settle() == []


async def test_an_answer_to_the_servers_goodbye_is_none_to_the_room(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock) -> None:
    """Some clients answer every close with 1000. Whoever was too slow, or has to renew a token, will be back."""
    b, a = await house.enter(bob), await house.enter(ann)
    await b.settle()
    [connection] = [one for one in house.parts.sockets.all() if one.identity is not None and one.identity.user_id == ann.id]
    connection.outbox.close(4001, "the access token has expired")
    assert (await a.bye())[0] == 4001
    flow.jump(GRACE_S - 1)
    await house.enter(ann)
    assert await b.settle() == []


async def test_status_is_told_when_it_changes(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    await a.settle(), await b.settle()
    for status in ["away", "busy", "online"]:
        assert await a.ask("presence:update", {"status": status}) == {}
        assert await b.heard("users:update") == update(cafe, "status", ann, 2, status)
        assert await a.heard("users:update") == update(cafe, "status", ann, 2, status)
    assert await a.ask("presence:update", {"status": "online"}) == {}
    assert await b.settle() == []
    for odd in ["offline", "", "online\n", "ONLINE", "\0", 1, None]:
        assert (await a.refused("presence:update", {"status": odd}))["code"] == "invalid_request", repr(odd)
    assert await b.settle() == []


async def test_typing_is_told_to_the_others_and_stops_by_itself(house: House, cafe: Cafe, ann: Person, bob: Person, flow: MockClock) -> None:
    a, twin, b = await house.enter(ann), await house.enter(ann), await house.enter(bob)
    for wire in (a, twin, b):
        await wire.settle()

    def told(on: bool) -> dict[str, Any]:
        return {"cafeId": cafe.id, "userId": ann.id, "username": ann.name, "isTyping": on}

    await a.say("typing:start", {"cafeId": cafe.id})
    assert await b.heard("typing:indicator") == told(True)
    flow.jump(TYPING_S - 0.5)
    await a.say("typing:start", {"cafeId": cafe.id})  # still at it: nothing new, but three more seconds
    await a.settle()
    flow.jump(TYPING_S - 0.5)
    assert await b.settle() == []
    flow.jump(0.5)
    assert await b.heard("typing:indicator") == told(False)
    await a.say("typing:start", {"cafeId": cafe.id})
    assert await b.heard("typing:indicator") == told(True)
    await a.say("typing:stop", {"cafeId": cafe.id})
    assert await b.heard("typing:indicator") == told(False)
    await a.say("typing:stop", {"cafeId": cafe.id})
    assert await a.settle() == []
    assert await twin.settle() == []
    assert await b.settle() == []


@pytest.mark.parametrize("how", ["message", "leave", "drop"])
async def test_typing_ends_with_a_message_or_a_goodbye(house: House, cafe: Cafe, ann: Person, bob: Person, how: str) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    await a.say("typing:start", {"cafeId": cafe.id})
    assert (await b.heard("typing:indicator"))["isTyping"] is True
    if how == "message":
        await house.send(a, cafe.id, "here it is")
    elif how == "leave":
        await a.ask("leave:cafe", {"cafeId": cafe.id})
    else:
        await a.aclose()
    assert (await b.heard("typing:indicator"))["isTyping"] is False


@pytest.mark.parametrize("role", ["barista", "moderator"])
async def test_staff_watch_without_being_counted(house: House, cafe: Cafe, ann: Person, role: Any, flow: MockClock) -> None:
    a = await house.enter(ann)
    watcher = await house.connect(house.staff(cafe, role))
    answer = await watcher.ask("join:cafe", {"cafeId": cafe.id})
    assert (answer["userCount"], [user["id"] for user in answer["users"]]) == (1, [ann.id])
    assert await a.settle() == []
    await house.send(a, cafe.id, "is anybody watching")
    assert (await watcher.heard("message:new"))["message"]["content"] == "is anybody watching"
    await a.say("typing:start", {"cafeId": cafe.id})
    assert (await watcher.heard("typing:indicator"))["userId"] == ann.id
    assert (await watcher.refused("message:send", {"cafeId": cafe.id, "content": "no"}))["code"] == "forbidden"
    assert (await watcher.refused("presence:update", {"status": "busy"}))["code"] in ("forbidden", "not_in_cafe")
    await watcher.ask("typing:start", {"cafeId": cafe.id})
    await a.say("typing:stop", {"cafeId": cafe.id})
    await a.settle()
    await watcher.ask("leave:cafe", {"cafeId": cafe.id})
    again = await house.enter(house.staff(cafe, role))
    await again.aclose()
    flow.jump(GRACE_S + 1)
    assert [one for one in await a.settle() if one["event"] != "topics:update"] == []


async def test_a_room_of_staff_alone_counts_nobody(house: House, cafe: Cafe) -> None:
    watcher = await house.connect(house.staff(cafe, "moderator"))
    answer = await watcher.ask("join:cafe", {"cafeId": cafe.id})
    assert (answer["userCount"], answer["users"]) == (0, [])


async def test_logging_out_is_leaving_at_once(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    """Someone whose time is over is not coming back, so there is nothing to wait for."""
    a, b = await house.enter(ann), await house.enter(bob)
    await b.settle()
    await house.parts.users.expire(ann.id)
    await a.closed()
    assert await b.heard("users:update") == update(cafe, "leave", ann, 1)
