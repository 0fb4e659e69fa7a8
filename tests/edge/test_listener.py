"""The front door, through real sockets: who gets in, who is told why not, and who is not waited for."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.config import Address, Config
from brewd.edge.listener import HEAD_S, PortInUse, bind
from tests.edge.ws.house import House, open_house
from tests.edge.ws.wire import KEY, Raw, Refused, Wire, frame, upgrade

HEALTH = b"GET /api/health/live HTTP/1.1\r\nHost: cafe.test\r\n\r\n"


def problem(answer: Any, status: int, code: str) -> bool:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= answer.json.keys()
    assert (answer.json["status"], answer.json["code"]) == (status, code)
    return True


async def test_what_a_handshake_must_have(house: House) -> None:
    for fields, status, code in [
        ({"path": "/"}, 404, "not_found"),
        ({"path": "/ws/"}, 404, "not_found"),
        ({"path": "/api/health"}, 404, "not_found"),
        ({"path": "//ws"}, 404, "not_found"),
        ({"path": "http://["}, 404, "not_found"),
        ({"sec_websocket_version": None}, 400, "invalid_request"),
        ({"sec_websocket_version": "8"}, 400, "invalid_request"),
        ({"sec_websocket_version": "13, 8"}, 400, "invalid_request"),
        ({"sec_websocket_key": None}, 400, "invalid_request"),
        ({"sec_websocket_key": ""}, 400, "invalid_request"),
        ({"sec_websocket_key": "dG9vIHNob3J0"}, 400, "invalid_request"),
        ({"sec_websocket_key": KEY + "AAAA"}, 400, "invalid_request"),
        ({"sec_websocket_key": "!" * 24}, 400, "invalid_request"),
        ({"sec_websocket_key": "\xe9" * 24}, 400, "invalid_request"),
        ({"sec_websocket_key": KEY[:-1]}, 400, "invalid_request"),
        ({"origin": "https://evil.test"}, 403, "forbidden"),
        ({"origin": "null"}, 403, "forbidden"),
        ({"origin": ""}, 403, "forbidden"),
        ({"origin": "cafe.test"}, 403, "forbidden"),
        ({"origin": "http://["}, 403, "forbidden"),
        ({"origin": "http://cafe.test.evil.test"}, 403, "forbidden"),
        ({"origin": "http://cafe.test@evil.test"}, 403, "forbidden"),
        ({"origin": "http://cafe.test:81"}, 403, "forbidden"),
        ({"origin": "http://", "host": ""}, 403, "forbidden"),
        ({"authorization": "Bearer x"}, 401, "unauthorized"),
    ]:
        with pytest.raises(Refused) as refused:
            await house.open(**fields)  # type: ignore[arg-type]
        assert problem(refused.value.response, status, code), fields
        assert refused.value.response.headers["connection"] == "close"
        assert refused.value.response.headers["sec-websocket-version"] == "13"
    answer = await house.http(upgrade().replace(b"GET", b"POST"))
    assert problem(answer, 400, "invalid_request")


async def test_what_a_handshake_may_have(house: House) -> None:
    for fields in [
        {},
        {"origin": "http://cafe.test"},
        {"origin": "https://CAFE.test"},
        {"path": "/ws?x=1"},
        {"path": "http://cafe.test/ws"},
        {"connection": "keep-alive, Upgrade", "upgrade": "WebSocket"},
        {"sec_websocket_extensions": "permessage-deflate; client_max_window_bits"},
        {"sec_websocket_protocol": "chat, soap"},
        {"authorization": "Basic dTpw"},
        {"host": "cafe.test:8080", "origin": "https://cafe.test:8080"},
    ]:
        wire = await house.open(**fields)  # type: ignore[arg-type]
        assert "sec-websocket-extensions" not in wire.response.headers, fields
        assert "sec-websocket-protocol" not in wire.response.headers, fields
        assert (await wire.bye())[0] == 1000


async def test_a_foreign_page_that_the_operator_allows(config: Config) -> None:
    async with open_house(replace(config, server=replace(config.server, origins=["https://menu.test"]))) as house:
        await house.open(origin="https://menu.test")
        for origin in ["http://menu.test", "https://menu.test:444", "https://menu.test.evil.test"]:
            with pytest.raises(Refused) as refused:
                await house.open(origin=origin)
            assert refused.value.status == 403


async def test_http_and_websockets_share_the_port(house: House) -> None:
    raw = await house.raw()
    for _ in range(3):  # kept alive
        await raw.send(HEALTH)
        answer = await raw.response()
        assert (answer.status, answer.json["status"]) == (200, "ok")
    assert "server" not in answer.headers
    await house.open()
    await raw.send(HEALTH + HEALTH + HEALTH)  # pipelined
    assert [(await raw.response()).status for _ in range(3)] == [200, 200, 200]
    for data in [HEALTH[:30], HEALTH[30:]]:
        await raw.send(data)
        await trio.sleep(0.01)
    assert (await raw.response()).status == 200
    answer = await house.http(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status in (400, 404, 426)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_websocket_is_opened_by_the_first_request_of_a_connection_only(house: House) -> None:
    """hypercorn has the connection then. The client is told to open another, and this one ends, so that a pool of connections will."""
    for odd in [{}, {"connection": "keep-alive, Upgrade"}, {"path": "/elsewhere"}]:
        raw = await house.raw()
        await raw.send(HEALTH)
        await raw.response()
        await raw.send(upgrade(**odd))
        answer = await raw.response()
        assert problem(answer, 400, "invalid_request")
        assert "new connection" in answer.json["detail"]
        assert answer.headers["connection"] == "close"
        assert not await raw.more()
    assert problem(await house.http(upgrade(upgrade="websocket, x")), 400, "invalid_request")
    assert (await house.http(upgrade("/api/health/live", connection="keep-alive", upgrade="websocket"))).status == 200  # asks for nothing


MALFORMED = {
    "a name with a space": b"GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
    "a name with a control character": b"GET / HTTP/1.1\r\nHost: x\r\nA\x01: c\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a method that is none": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target that is not ASCII": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a negative length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length, and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown encoding": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "a chunk without a size": b"POST /api/auth/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "less than it said": b"POST /api/auth/join HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n{",
}


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_a_request_that_is_malformed_is_a_problem_and_the_last(house: House, kept_alive: bool) -> None:
    for name, data in MALFORMED.items():
        raw = await house.raw()
        if kept_alive:
            await raw.send(HEALTH)
            assert (await raw.response()).status == 200
        await raw.send(data + HEALTH)
        if name == "less than it said":
            assert isinstance(raw.stream, trio.SocketStream)
            await raw.stream.send_eof()
        answer = await raw.response()
        assert problem(answer, 400, "invalid_request"), name
        assert answer.headers["connection"] == "close", name
        assert not await raw.more(), name
    assert (await house.http(HEALTH)).status == 200


async def test_a_late_head_that_is_too_large_is_a_problem_like_an_early_one(house: House) -> None:
    raw = await house.raw()
    await raw.send(HEALTH)
    await raw.response()
    await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000)
    assert problem(await raw.response(), 431, "invalid_request")
    assert not await raw.more()


async def test_an_answer_to_head_has_no_body_even_when_it_is_no(house: House) -> None:
    raw = await house.raw()
    await raw.send(MALFORMED["a length, and chunks"].replace(b"POST", b"HEAD"))
    head = (await raw.until(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 400")
    assert "application/problem+json" in head
    assert not await raw.more()


async def test_http2_is_not_spoken(house: House) -> None:
    """Whoever asks to switch is answered as if they had not, also later on the same connection."""
    raw = await house.raw()
    for _ in range(2):
        await raw.send(upgrade("/api/health/live", upgrade="h2c", HTTP2_Settings="AAMAAABkAAQAoAAAAAIAAAAA"))
        assert (await raw.response()).status == 200
    await raw.send(b"PRI * HTTP/2.0\r\n\r\n")
    assert 400 <= (await raw.response()).status < 500


async def test_a_request_head_without_an_end(house: House, flow: MockClock) -> None:
    idle, slow, tail = await house.raw(), await house.raw(), await house.raw()
    witness = await house.connect(await house.guest(await house.cafe()))
    await slow.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    await tail.send(upgrade()[:-1])
    for _ in range(3):
        flow.jump(HEAD_S / 4)
        await slow.send(b"A: b\r\n")
        await trio.testing.wait_all_tasks_blocked(0.001)
        await witness.settle()
    flow.jump(HEAD_S / 4)
    for raw in (idle, slow, tail):
        assert problem(await raw.response(), 408, "request_timeout")
        assert not await raw.more()


async def test_a_body_without_an_end(house: House, flow: MockClock) -> None:
    """Neither a body that never comes, nor one that trickles, nor silence between two requests holds a connection for long."""
    post = b"POST /api/auth/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    absent, slow, idle = [await house.raw() for _ in range(3)]
    await absent.send(post)
    await slow.send(post)
    await idle.send(HEALTH)
    assert (await idle.response()).status == 200
    for _ in range(8):
        with contextlib.suppress(trio.BrokenResourceError):  # it was answered, and then let go
            await slow.send(b" ")
        flow.jump(10)
        await trio.testing.wait_all_tasks_blocked(0.001)
    for raw in (absent, slow, idle):
        while await raw.more():
            pass
        assert raw.data == b"" or b"HTTP/1.1 408" in raw.data, raw.data
    assert (await house.http(HEALTH)).status == 200


async def test_a_head_of_twenty_megabytes(house: House) -> None:
    """Refused after the first sixteen kilobytes; the client is told although it is still sending."""
    for data in [b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000_000, b"x" * 20_000_000, upgrade(a="y" * 20_000)]:
        raw = await house.raw()
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:

                async def pour(raw: Raw = raw, data: bytes = data) -> None:
                    with contextlib.suppress(trio.BrokenResourceError):
                        await raw.send(data)

                nursery.start_soon(pour)
                answer = await raw.response()
                nursery.cancel_scope.cancel()
        assert problem(answer, 431, "invalid_request")


async def test_what_is_no_request(house: House) -> None:
    for data in [b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA\r\n\r\n"]:
        raw = await house.raw()
        await raw.send(data)
        assert problem(await raw.response(), 400, "invalid_request")
        assert not await raw.more()


async def test_hanging_up_at_any_moment(house: House) -> None:
    """Nobody notices, and nothing is logged as an error."""
    whole = upgrade() + frame('{"event":"auth","data":{"token":"x"}}')
    for at in range(0, len(whole), 7):
        raw = await house.raw()
        await raw.send(whole[:at])
        if at % 2:
            await trio.sleep(0)
        if at % 3:
            assert isinstance(raw.stream, trio.SocketStream)
            raw.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a goodbye
        await raw.aclose()
    with trio.fail_after(5):
        while len(house.parts.sockets):
            await trio.sleep(0.001)
    assert (await house.http(HEALTH)).status == 200


async def test_a_handshake_byte_by_byte(house: House) -> None:
    raw = await house.raw()
    head = upgrade()
    for at in range(len(head)):
        await raw.send(head[at : at + 1])
        if at % 8 == 0:
            await trio.sleep(0)
    assert (await raw.response()).status == 101


def unix_config(config: Config, path: Path) -> Config:
    return replace(config, server=replace(config.server, listen=[f"unix:{path}", "127.0.0.1:0"], public_url="http://cafe.test"))


async def test_a_unix_socket(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "brewd.sock"
    async with open_house(unix_config(config, path)) as house:
        assert house.parts.urls[0] == f"unix:{path}"
        guest = await house.guest(await house.cafe())
        raw = Raw(await trio.open_unix_socket(path))
        await raw.send(HEALTH + HEALTH)
        assert [(await raw.response()).status for _ in range(2)] == [200, 200]
        await raw.send(f"GET /api/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {guest.token}\r\n\r\n".encode())
        assert (await raw.response()).json["user"]["id"] == guest.id
        wire = await Wire.open(await trio.open_unix_socket(path), upgrade(authorization=f"Bearer {guest.token}"))
        assert (await wire.heard("connected"))["userId"] == guest.id
        assert (await wire.ask("join:cafe", {"cafeId": guest.cafe_id}))["userCount"] == 1
        assert (await wire.bye())[0] == 1000
        await raw.aclose()
        await wire.aclose()


def test_a_unix_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    address = Address(kind="unix", path=str(tmp_path / "s"))
    bind(address).close()
    assert stat.S_ISSOCK(os.stat(address.path).st_mode)
    bind(address).close()


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    address = Address(kind="unix", path=str(tmp_path / "s"))
    with bind(address), pytest.raises(PortInUse, match="in use"):
        bind(address)
    with bind(address) as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
        listening.accept()[0].close()


def test_a_file_where_the_socket_should_be_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="precious"):
        bind(Address(kind="unix", path=str(path)))
    assert path.read_text() == "data"


def test_a_port_in_use_is_named() -> None:
    with bind(Address(kind="tcp", host="127.0.0.1", port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            bind(Address(kind="tcp", host="127.0.0.1", port=port))


def test_an_inherited_descriptor() -> None:
    with bind(Address(kind="tcp", host="127.0.0.1", port=0)) as first, bind(Address(kind="fd", fd=first.fileno())) as second:
        assert first.getsockname() == second.getsockname()
        assert first.fileno() != second.fileno()


async def test_the_health_of_a_house_with_many_doors_open(house: House) -> None:
    """Connections that say nothing take nothing from those that do."""
    idle = [await house.raw() for _ in range(200)]
    halves = [await house.raw() for _ in range(200)]
    for raw in halves:
        await raw.send(upgrade()[:50])
    answer = await house.http(HEALTH)
    assert json.loads(answer.body)["status"] == "ok"
    for raw in [*idle, *halves]:
        await raw.aclose()
