"""A WebSocket client that others wrote and that keeps every rule: trio-websocket, from the handshake to the goodbye."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import WAIT_S


async def ask(socket: WebSocketConnection, event: str, data: Any, ref: int) -> Any:
    await socket.send_message(json.dumps({"event": event, "data": data, "ref": ref}))
    with trio.fail_after(WAIT_S):
        while True:
            found = json.loads(await socket.get_message())
            if found.get("ref") == ref:
                return found


async def heard(socket: WebSocketConnection, event: str) -> Any:
    """The data of the next event of that name."""
    with trio.fail_after(WAIT_S):
        while True:
            found = json.loads(await socket.get_message())
            if found["event"] == event:
                return found["data"]


async def opened(house: House, nursery: trio.Nursery, **options: Any) -> WebSocketConnection:
    """On a stream of the house, which closes it in the end whatever the client does."""
    stream = await house.stream()
    with trio.fail_after(WAIT_S):
        return await wrap_client_stream(nursery, stream, "cafe.test", "/ws", **options)


def bearer(person: Person) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"Bearer {person.token}".encode())]


async def test_a_visit(house: House, nursery: trio.Nursery) -> None:
    cafe = await house.cafe()
    ann, bob = await house.guests(cafe, 2)
    a = await opened(house, nursery, extra_headers=bearer(ann))
    b = await opened(house, nursery, subprotocols=["brewd.v1", f"brewd.bearer.{bob.token}"])
    assert (a.subprotocol, b.subprotocol) == (None, "brewd.v1")
    for socket, person in ((a, ann), (b, bob)):
        hello = json.loads(await socket.get_message())
        assert (hello["event"], hello["data"]["userId"]) == ("connected", person.id)
        assert (await ask(socket, "join:cafe", {"cafeId": cafe.id}, 1))["event"] == "reply"
    sent = await ask(a, "message:send", {"cafeId": cafe.id, "content": "all by the book €\U0001f375"}, 2)
    assert (await heard(b, "message:new"))["message"]["id"] == sent["data"]["message"]["id"]
    with trio.fail_after(WAIT_S):
        await a.ping(b"payload")
    await b.send_message(b"\0\1binary")
    assert (await heard(b, "error"))["code"] == "invalid_request"
    with trio.fail_after(WAIT_S):
        await a.aclose(4321, "enough")
        await b.aclose()
        assert a.closed is not None
        assert a.closed.code == 4321
        while len(house.parts.sockets):
            await trio.sleep(0.001)


async def test_a_refusal(house: House) -> None:
    async def come() -> None:
        async with trio.open_nursery() as nursery:
            await opened(house, nursery, extra_headers=[(b"Authorization", b"Bearer x")])

    def says_why(rejected: ConnectionRejected) -> bool:
        problem = json.loads(rejected.body or b"{}")
        return rejected.status_code == 401 and (problem["code"], problem["type"], problem["title"]) == ("unauthorized", "/docs#unauthorized", "Unauthorized")

    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionRejected, check=says_why), flatten_subgroups=True):
        await come()


@pytest.mark.parametrize(("message", "count", "code"), [("{", 20, 1008), ("x" * 100_000, 1, 1009)])
async def test_a_goodbye_from_the_server(house: House, nursery: trio.Nursery, message: str, count: int, code: int) -> None:
    """Both sides have said it, and neither waits for the other any longer."""
    ann = await house.guest(await house.cafe())
    socket = await opened(house, nursery, extra_headers=bearer(ann))
    await socket.get_message()
    for _ in range(count):
        await socket.send_message(message)
    with pytest.raises(ConnectionClosed) as closed:
        await heard(socket, "nothing")
    assert closed.value.reason is not None
    assert closed.value.reason.code == code
    with trio.fail_after(2.5):
        while len(house.parts.sockets):
            await trio.sleep(0.001)
