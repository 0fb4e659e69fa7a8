"""The frame reader alone: however the bytes are cut, the same messages come out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.events import CloseConnection, Ping, Pong

from brewd.edge.ws.inbound import FRAGMENTS_MAX, InBound
from brewd.errors import ProtocolError
from tests.edge.ws.wire import BINARY, CLOSE, PING, PONG, TEXT, frame

MAX = 2048
CONTINUE = 0

Items = list[Any]


def plain(item: Any) -> Any:
    """What an item says, whoever parsed it."""
    if isinstance(item, Ping | Pong):
        return type(item).__name__, bytes(item.payload)
    if isinstance(item, CloseConnection):
        return "close", int(item.code)
    return item


def read(pieces: list[bytes], max_bytes: int = MAX) -> Items:
    """Everything the pieces say, and at the end the close code when they broke the protocol."""
    inbound, found = InBound(max_bytes), list[Any]()
    try:
        for piece in pieces:
            for item in inbound.feed(piece):
                found.append(plain(item))
    except ProtocolError as error:
        found.append(error.close_code)
    return found


def cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = [0, *sorted(mark % (len(data) + 1) for mark in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


texts = st.text(max_size=40) | st.sampled_from(["x" * 125, "x" * 126, "x" * 127, "y" * MAX, "€" * 200])


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, Items]:
    """One message in any number of fragments with control frames between, or a control frame; and how it should be read."""
    control = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
    if draw(st.booleans()):
        opcode, payload = draw(control)
        return frame(payload, opcode), [("Ping" if opcode == PING else "Pong", payload)]
    text = draw(texts)
    opcode = draw(st.sampled_from([TEXT, TEXT, TEXT, BINARY]))
    pieces = cut(text.encode(), draw(st.lists(st.integers(0, 10_000), max_size=5)))
    data, between = b"", []
    for at, piece in enumerate(pieces):
        data += frame(piece, CONTINUE if at else opcode, fin=at == len(pieces) - 1)
        if at < len(pieces) - 1 and draw(st.booleans()):
            code, payload = draw(control)
            data += frame(payload, code)
            between.append(("Ping" if code == PING else "Pong", payload))
    return data, [*between, text if opcode == TEXT else b""]


@settings(max_examples=150, deadline=None)
@given(st.lists(messages(), max_size=6), st.lists(st.integers(0, 100_000), max_size=12))
def test_any_cut_of_any_conversation_reads_the_same(conversation: list[tuple[bytes, Items]], marks: list[int]) -> None:
    data = b"".join(said for said, _ in conversation)
    assert read(cut(data, marks)) == [item for _, items in conversation for item in items]


def test_every_cut_of_one_conversation() -> None:
    data = (
        frame('{"a":1}') + frame("x" * 130) + frame("p", PING) + frame("in ", fin=False) + frame("", PONG) + frame("€"[:1], CONTINUE) + frame("")
        + frame((1000).to_bytes(2, "big"), CLOSE)
    )  # fmt: skip
    expected = ['{"a":1}', "x" * 130, ("Ping", b"p"), ("Pong", b""), "in €", "", ("close", 1000)]
    assert read([data]) == expected
    assert read([bytes([byte]) for byte in data]) == expected
    for at in range(len(data) + 1):
        assert read([data[:at], data[at:]]) == expected, at


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_noise_ends_in_a_protocol_error_or_in_nothing(noise: bytes, marks: list[int]) -> None:
    whole, pieces = read([noise]), read(cut(noise, marks))
    assert pieces == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(messages(), min_size=1, max_size=4), st.integers(0, 10_000), st.integers(0, 7), st.lists(st.integers(0, 100_000), max_size=4))
def test_one_flipped_bit_never_does_more_than_end_the_socket(conversation: list[tuple[bytes, Items]], at: int, bit: int, marks: list[int]) -> None:
    data = bytearray(b"".join(said for said, _ in conversation))
    data[at % len(data)] ^= 1 << bit
    assert read(cut(bytes(data), marks)) == read([bytes(data)])


def test_nothing_is_held_of_a_frame_that_is_too_big() -> None:
    inbound = InBound(MAX)
    with pytest.raises(ProtocolError) as error:
        list(inbound.feed(frame("x" * (MAX + 1))[:8]))
    assert error.value.close_code == 1009


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("piece", [b"", b"x"])
def test_fragments_are_counted_whatever_is_in_them(opcode: int, piece: bytes) -> None:
    few = frame(piece, opcode, fin=False) + frame(piece, CONTINUE, fin=False) * (FRAGMENTS_MAX - 2) + frame(piece, CONTINUE)
    assert read([few]) == [(piece * FRAGMENTS_MAX).decode() if opcode == TEXT else b""]
    many = frame(piece, opcode, fin=False) + frame(piece, CONTINUE, fin=False) * FRAGMENTS_MAX
    assert read([many]) == [1008]
    assert read([few + few]) == read([few]) * 2


def test_the_size_is_counted_in_bytes_over_all_fragments() -> None:
    half = "€" * (MAX // 6)  # a character is three bytes
    assert read([frame(half, fin=False) + frame(half, CONTINUE)]) == [half * 2]
    assert read([frame(half, fin=False) + frame(half + "€€", CONTINUE)]) == [1009]
