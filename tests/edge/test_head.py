"""The head of a request: however it is cut, it is read the same; whatever it is, it is bounded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from brewd.edge.head import HEAD_MAX_BYTES, BadHead, Head, read_head

UPGRADE = b"GET /ws?x=1 HTTP/1.1\r\nHost: cafe.test\r\nUPGRADE:WebSocket\r\nConnection:  keep-alive, Upgrade \r\nX-Odd: a:b\r\nX-Odd: c\r\n\r\n"


def pieces_of(pieces: list[bytes]) -> Callable[[], Awaitable[bytes]]:
    """What a socket would receive; then its end."""
    left = list(pieces)

    async def receive() -> bytes:
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else b""

    return receive


def read(pieces: list[bytes]) -> Head | int | None:
    """The head, the status of its refusal, or nothing."""

    async def main() -> Head | int | None:
        try:
            return await read_head(pieces_of(pieces))
        except BadHead as bad:
            return bad.status

    return trio.run(main)


def test_what_is_in_a_head() -> None:
    head = read([UPGRADE + b"the rest"])
    assert isinstance(head, Head)
    assert (head.method, head.target) == ("GET", "/ws?x=1")
    assert head.headers == {"host": "cafe.test", "upgrade": "WebSocket", "connection": "keep-alive, Upgrade", "x-odd": "a:b, c"}
    assert (head.raw, head.rest) == (UPGRADE, b"the rest")
    assert head.upgrades_to_websocket


def test_every_cut_reads_the_same() -> None:
    whole = read([UPGRADE])
    for at in range(1, len(UPGRADE)):
        assert read([UPGRADE[:at], UPGRADE[at:]]) == whole, at
    assert read([bytes([byte]) for byte in UPGRADE]) == whole


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=10))
def test_noise_is_a_refusal_or_a_head_and_nothing_else(noise: bytes, sizes: list[int]) -> None:
    data, pieces = UPGRADE[: len(noise) // 2] + noise + b"\r\n\r\n", list[bytes]()
    whole = data
    for size in sizes:
        pieces, data = [*pieces, data[:size]], data[size:]
    found = read([piece for piece in [*pieces, data] if piece])
    assert type(found) is type(read([whole]))
    if isinstance(found, Head):
        assert found.raw.endswith(b"\r\n\r\n")
    else:
        assert found == 400


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\r\n", b"GET / HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n", b"GET  / HTTP/1.1\r\n", b"GET / x HTTP/1.1\r\n", b"\r\n", b"\x16\x03\x01\x02\x00\x01\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n", b"GET / HTTP/1.1\r\n: no name\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n", b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n", b"GET / HTTP/1.1\r\nA: b\rC: d\r\n", b"GET / HTTP/1.1\r\nA: b\0\r\n",
    ],
)  # fmt: skip
def test_what_is_no_head(head: bytes) -> None:
    assert read([head + b"\r\n"]) == 400


def test_the_end_comes_too_soon_or_at_once() -> None:
    assert read([]) is None
    assert read([b"\r\n"]) is None
    assert read([UPGRADE[:-1]]) == 400


def test_the_bound() -> None:
    fill = HEAD_MAX_BYTES - len(b"GET / HTTP/1.1\r\nA: ")
    fits = b"GET / HTTP/1.1\r\nA: " + b"x" * fill + b"\r\n\r\n"
    assert isinstance(read([fits]), Head)
    assert read([fits[:-4] + b"x\r\n\r\n"]) == 431
    assert read([b"x" * (HEAD_MAX_BYTES + 1)]) == 431
    assert read([b"x"] * (HEAD_MAX_BYTES + 1)) == 431


def test_nothing_is_read_past_the_bound() -> None:
    read_bytes = 0

    async def endless() -> bytes:
        nonlocal read_bytes
        await trio.lowlevel.checkpoint()
        read_bytes += 1000
        return b"x" * 1000

    async def main() -> None:
        with pytest.raises(BadHead):
            await read_head(endless)

    trio.run(main)
    assert read_bytes <= HEAD_MAX_BYTES + 1000


@pytest.mark.parametrize(
    ("lines", "upgrades"),
    [
        (b"Upgrade: websocket\r\nConnection: Upgrade\r\n", True),
        (b"Upgrade: WEBSOCKET\r\nConnection: foo, upgrade\r\n", True),
        (b"Upgrade: websocket\r\n", False),
        (b"Connection: Upgrade\r\n", False),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", False),
        (b"Upgrade: websocket\r\nConnection: no-upgrade-please\r\n", False),
        (b"Upgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n", True),
    ],
)
def test_what_asks_for_a_websocket(lines: bytes, upgrades: bool) -> None:
    head = read([b"GET / HTTP/1.1\r\n" + lines + b"\r\n"])
    assert isinstance(head, Head)
    assert head.upgrades_to_websocket is upgrades
