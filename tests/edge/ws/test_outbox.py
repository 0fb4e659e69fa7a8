"""The way out of one socket, on a real pair of sockets: what the kernel does not take waits, in order and within bounds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from wsproto.events import Pong

from brewd.edge.ws.inbound import InBound
from brewd.edge.ws.outbox import FAREWELL_S, Outbox
from brewd.edge.ws.plain import Plain, text_frame
from tests.edge.ws.wire import Closed, Raw, Response, Wire

LIMIT = 65_536


def is_closed(outbox: Outbox) -> bool:
    return outbox.closed


def is_slow(outbox: Outbox) -> bool:
    return outbox.slow


Pair = tuple[Outbox, Wire]


@pytest.fixture
async def pair(nursery: trio.Nursery) -> AsyncIterator[Pair]:
    """An outbox and the client at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outbox = Outbox(sock=ours, stream=None, inbound=InBound(16_384), dialect=Plain(), limit_bytes=LIMIT, nursery=nursery)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    yield outbox, Wire(Raw(stream), Response(101, {}, b""))
    outbox.abort()
    trio.lowlevel.notify_closing(ours)
    ours.close()
    await trio.aclose_forcefully(stream)


def numbered(at: int, size: int = 1000) -> bytes:
    return text_frame(b'{"event":"n","data":%d,"fill":"%s"}' % (at, b"x" * size))


async def heard_until_the_end(wire: Wire) -> tuple[list[int], int]:
    """The numbers that arrive before the close frame, and its code."""
    with pytest.raises(Closed) as closed:
        await wire.heard("nothing")
    return [one["data"] for one in wire.inbox if one["event"] == "n"], closed.value.code


async def test_what_the_kernel_does_not_take_comes_in_order(pair: Pair) -> None:
    outbox, wire = pair
    for at in range(60):
        outbox.push(numbered(at))
    outbox.close(1000, "bye")
    assert await heard_until_the_end(wire) == (list(range(60)), 1000)


async def test_behind_the_bound_the_socket_is_told_to_go(pair: Pair) -> None:
    outbox, wire = pair
    for at in range(1000):
        outbox.push(numbered(at))
    assert is_closed(outbox)
    heard, code = await heard_until_the_end(wire)
    assert code == 4008
    assert heard == list(range(len(heard)))  # a beginning, whole
    assert len(heard) < 20


async def test_one_answer_larger_than_the_bound_fits_and_the_next_does_not(pair: Pair) -> None:
    """A resume may say more than the outbox holds; a socket that does not read it must not take the room down with it."""
    outbox, wire = pair
    outbox.push(numbered(0, 5 * LIMIT))
    assert not is_closed(outbox)
    outbox.push(numbered(1))
    assert is_closed(outbox)
    outbox.push(numbered(2))
    assert await heard_until_the_end(wire) == ([0], 4008)


async def test_a_goodbye_is_said_even_when_the_bound_is_reached(pair: Pair) -> None:
    outbox, wire = pair
    outbox.push(numbered(0, 5 * LIMIT))
    outbox.close(4003, "kicked")
    assert await heard_until_the_end(wire) == ([0], 4003)


async def test_nothing_follows_a_goodbye(pair: Pair) -> None:
    outbox, wire = pair
    outbox.push(numbered(0))
    outbox.close(1012, "restarting")
    outbox.close(1000, "and again")
    outbox.push(numbered(1))
    outbox.control(Pong(b"x"))
    assert outbox.cut_at_s == pytest.approx(trio.current_time() + FAREWELL_S, abs=0.5)
    assert await heard_until_the_end(wire) == ([0], 1012)


async def test_a_slow_socket_is_told_what_it_missed_once_it_catches_up(pair: Pair) -> None:
    outbox, wire = pair
    while not outbox.slow:
        outbox.push(numbered(7))
    outbox.withhold(3)
    outbox.withhold(5)
    assert await wire.heard("lagged") == {"from": 3, "to": 5}
    assert not is_slow(outbox)
    outbox.push(numbered(8))
    await wire.heard("n")
    assert "lagged" not in [one["event"] for one in wire.inbox]


async def test_pings_do_not_pile_up_on_a_socket_that_does_not_read(pair: Pair) -> None:
    outbox, wire = pair
    for _ in range(200_000):
        outbox.control(Pong(b"x" * 125))
        if outbox.closed:
            break
    with pytest.raises(Closed) as closed:
        await wire.heard("nothing")
    assert closed.value.code == 4008


async def test_an_aborted_outbox_swallows_everything(pair: Pair) -> None:
    outbox, wire = pair
    outbox.push(numbered(0))
    outbox.abort()
    outbox.abort()
    outbox.push(numbered(1))
    outbox.close(1000, "")
    await wire.heard("n")
    with pytest.raises(Closed) as closed:
        await wire.heard("nothing")
    assert closed.value.code == 1006


async def test_a_peer_that_went_away_while_much_was_waiting(pair: Pair) -> None:
    outbox, wire = pair
    for at in range(30):
        outbox.push(numbered(at))
    await wire.aclose()
    for at in range(30):
        outbox.push(numbered(at))
        await trio.testing.wait_all_tasks_blocked()
    assert is_closed(outbox)
