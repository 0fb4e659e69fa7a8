"""The same doors behind TLS, with a certificate made for the test."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd import config as cfg
from brewd.config import Config
from brewd.edge.listener import HEAD_S
from tests.edge.ws.house import House, open_house
from tests.edge.ws.wire import WAIT_S, Closed, Raw, Refused, Wire, frame, said, upgrade

HEALTH = b"GET /api/health/live HTTP/1.1\r\nHost: cafe.test\r\n\r\n"

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate; its key is beside it."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    subject = ["-subj", "/CN=cafe.test", "-addext", "subjectAltName=DNS:cafe.test"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", *curve, "-nodes", "-days", "2", *subject, "-keyout", str(path.with_name("key.pem")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return path


@pytest.fixture
async def safe(config: Config, cert: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    tls = cfg.Tls(cert=str(cert), key=str(cert.with_name("key.pem")))
    async with open_house(replace(config, server=replace(config.server, tls=tls))) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


async def connected(house: House, cert: Path, context: ssl.SSLContext | None = None) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(await house.stream(), context or trusting(cert), server_hostname="cafe.test", https_compatible=True)
    with trio.fail_after(WAIT_S):
        await stream.do_handshake()
    return stream


async def test_http_and_websocket_behind_tls(safe: House, cert: Path) -> None:
    assert safe.parts.urls[0].startswith("https://127.0.0.1:")
    raw = Raw(await connected(safe, cert))
    for _ in range(2):
        await raw.send(HEALTH + HEALTH)
        assert [(await raw.response()).status for _ in range(2)] == [200, 200]
    cafe = await safe.cafe()
    ann, bob = await safe.guests(cafe, 2)
    join = said("join:cafe", {"cafeId": cafe.id}, 1)
    wires = [await Wire.open(await connected(safe, cert), upgrade(authorization=f"Bearer {one.token}"), join) for one in (ann, bob)]
    for wire in wires:
        assert (await wire.answer(1))["event"] == "reply"
    sent = await safe.send(wires[0], cafe.id, "between us " + "\U0001f375" * 900)
    for wire in wires:
        assert (await wire.heard("message:new"))["message"]["id"] == sent["message"]["id"]
        await wire.settle()
        assert (await wire.bye(3001))[0] == 3001
    with trio.fail_after(WAIT_S):
        while len(safe.parts.sockets):
            await trio.sleep(0.001)


async def test_refusals_and_goodbyes_arrive(safe: House, cert: Path, flow: MockClock) -> None:
    with pytest.raises(Refused) as refused:
        await Wire.open(await connected(safe, cert), upgrade("/elsewhere"))
    assert (refused.value.status, refused.value.problem["code"]) == (404, "not_found")
    raw = Raw(await connected(safe, cert))
    await raw.send(b"x" * 100_000)
    assert (await raw.response()).status == 431
    broken = await Wire.open(await connected(safe, cert), upgrade())
    await broken.send(frame("{}", masked=False))
    assert (await broken.closed())[0] == 1002
    silent = await Wire.open(await connected(safe, cert), upgrade())
    await silent.settle()
    flow.jump(5)
    assert (await silent.closed())[0] == 1008


async def test_an_answer_that_is_the_last_one_ends_the_connection(safe: House, cert: Path) -> None:
    raw = Raw(await connected(safe, cert))
    await raw.send(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await raw.response()).status == 200
    assert not await raw.more()


async def test_a_handshake_that_takes_too_long(safe: House, cert: Path, flow: MockClock) -> None:
    idle, half = await safe.raw(), await safe.raw()
    await half.send(b"\x16\x03\x01\x02\x00\x01")
    headless = Raw(await connected(safe, cert))
    await headless.send(b"GET / HTTP/1.1\r\n")
    await trio.sleep(0.05)
    flow.jump(HEAD_S)
    for raw in (idle, half):
        assert not await raw.more()
    assert (await headless.response()).status == 408


async def test_plain_text_at_the_tls_door(safe: House, cert: Path) -> None:
    for data in [HEALTH, upgrade(), b"\0" * 1000, b"\x16\x03\x01\x00\x05hello"]:
        raw = await safe.raw()
        await raw.send(data)
        while await raw.more():
            pass
        assert b"HTTP/1.1 1" not in raw.data
        assert b"HTTP/1.1 2" not in raw.data
    assert (await connected(safe, cert)).version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_tls_is_refused(safe: House, cert: Path, version: ssl.TLSVersion) -> None:
    def only(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = trusting(cert)
        context.set_ciphers("ALL:@SECLEVEL=0")  # else the client itself would not offer it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
        return context

    with pytest.raises(trio.BrokenResourceError):
        await connected(safe, cert, only(version))
    for modern in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
        raw = Raw(await connected(safe, cert, only(modern)))
        await raw.send(HEALTH)
        assert (await raw.response()).status == 200


async def test_a_slow_reader_behind_tls_is_told_and_cut(config: Config, cert: Path) -> None:
    tls = cfg.Tls(cert=str(cert), key=str(cert.with_name("key.pem")))
    narrow = replace(config, server=replace(config.server, tls=tls), room=replace(config.room, outbox_max_bytes=16_384))
    async with open_house(narrow) as house:
        cafe = await house.cafe()
        ann, bob = await house.guests(cafe, 2)
        plain = await house.stream(read_buffer_bytes=2048)
        stream = trio.SSLStream(plain, trusting(cert), server_hostname="cafe.test", https_compatible=True)
        slow = await Wire.open(stream, upgrade(authorization=f"Bearer {ann.token}"))
        await slow.ask("join:cafe", {"cafeId": cafe.id})
        quick = await Wire.open(await connected(house, cert), upgrade(authorization=f"Bearer {bob.token}"))
        await quick.ask("join:cafe", {"cafeId": cafe.id})
        for n in range(400):
            await house.send(quick, cafe.id, f"{n} ".ljust(1000, "x"))
        with pytest.raises(Closed) as closed:
            await slow.heard("nothing")
        assert closed.value.code == 4008
        heard = [one["data"]["message"]["seq"] for one in slow.inbox if one["event"] == "message:new"]
        assert heard == list(range(1, len(heard) + 1))
        assert len([one for one in await quick.settle() if one["event"] == "message:new"]) == 400
