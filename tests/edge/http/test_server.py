"""How HTTP connections end, through real sockets: whoever has stopped talking is answered, and whoever is gone is not waited for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from quart import request
from quart_trio import QuartTrio
from trio.testing import MockClock

from brewd.edge.http.server import HttpServer
from brewd.edge.listener import LINGER_S
from tests.edge.ws.wire import Raw

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 500_000
"""Bytes of an answer: more than the kernel takes at once."""


BODY_MAX = 1000


class Door:
    """A server whose app answers when told to, and no long bodies."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.asked = 0
        self.given_up = 0
        self.port = 0
        self.streams: list[trio.SocketStream] = []
        app = QuartTrio(__name__)
        app.config["MAX_CONTENT_LENGTH"] = BODY_MAX

        @app.route("/", methods=["GET", "POST"])
        async def answer() -> str:
            self.asked += 1
            try:
                await request.get_data()
                await self.go.wait()
            except trio.Cancelled:
                self.given_up += 1
                raise
            return "x" * LONG

        self.server = HttpServer(app)

    async def raw(self) -> Raw:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return Raw(stream)

    async def sees(self, asked: int) -> None:
        """The app works on that many requests."""
        with trio.fail_after(5):
            while self.asked < asked:
                await trio.sleep(0.001)

    async def forgets(self) -> None:
        """No connection is left."""
        with trio.fail_after(5):
            while self.server.connections:
                await trio.sleep(0.001)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: door.server.serve(stream, b""), 0)
        door.port = listeners[0].socket.getsockname()[1]
        yield door
        for stream in door.streams:
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


async def finish(raw: Raw) -> None:
    """Say that nothing more will be sent."""
    assert isinstance(raw.stream, trio.SocketStream)
    await raw.stream.send_eof()


async def hang_up(raw: Raw) -> None:
    """Gone, as a process that died is: with a reset."""
    assert isinstance(raw.stream, trio.SocketStream)
    raw.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await raw.aclose()


async def test_a_client_that_has_said_all_gets_the_whole_answer(door: Door) -> None:
    raw = await door.raw()
    await raw.send(GET)
    await finish(raw)
    await door.sees(1)
    await trio.testing.wait_all_tasks_blocked(0.01)
    door.go.set()
    assert len((await raw.response()).body) == LONG
    assert not await raw.more()
    await door.forgets()


async def test_a_client_that_has_said_all_gets_every_answer(door: Door) -> None:
    door.go.set()
    raw = await door.raw()
    await raw.send(GET + GET + GET)
    await finish(raw)
    assert [len((await raw.response()).body) for _ in range(3)] == [LONG] * 3
    assert not await raw.more()
    await door.forgets()


async def test_a_request_that_will_never_be_whole_is_not_worked_on(door: Door) -> None:
    raw = await door.raw()
    await raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
    await door.sees(1)
    await finish(raw)
    assert (await raw.response()).status == 400
    assert not await raw.more()
    await door.forgets()
    assert door.given_up == 1


@pytest.mark.parametrize("requests", [1, 2, 3])
async def test_a_client_that_is_gone_is_not_waited_for(door: Door, requests: int) -> None:
    """Neither before its answer, nor in the middle of it, nor with further requests in hand."""
    early, late = await door.raw(), await door.raw()
    for raw in (early, late):
        await raw.send(GET * requests)
    await door.sees(2)
    await hang_up(early)
    await trio.testing.wait_all_tasks_blocked(0.01)
    door.go.set()
    await late.more()
    await hang_up(late)
    await door.forgets()


@pytest.mark.parametrize("request_", [GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"GET / HTTP/1.0\r\n\r\n"])
async def test_a_client_that_asks_for_the_end_gets_it_with_the_answer(door: Door, request_: bytes) -> None:
    door.go.set()
    for _ in range(10):
        raw = await door.raw()
        await raw.send(request_)
        with trio.fail_after(5):
            assert len((await raw.response()).body) == LONG
            assert not await raw.more()
        await raw.aclose()
    await door.forgets()


async def test_a_client_that_goes_on_sending_hears_why_it_should_not(flow: MockClock, door: Door) -> None:
    """And not for long: what it sends after the last answer is not taken for ever."""
    raw = await door.raw()
    await raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    while True:
                        await raw.send(b"x" * 10_000)
                        await trio.sleep(0)

            nursery.start_soon(pour)
            assert (await raw.response()).status == 413
            assert not await raw.more()
            flow.jump(LINGER_S)
    await door.forgets()
