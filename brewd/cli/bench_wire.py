"""The bytes `brewd bench` puts on the wire: the upgrade request, the join, and messages that carry the time they were sent.

Only the standard library is imported here: the load generator must start fast and hold nothing but sockets.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

MARK: Final = b'"message:new"'
"""Stands once in every delivery. Long enough that a search skips most of the bytes, where one for a single byte looks at each."""

STAMP: Final = b"~T"
STAMP_DIGITS: Final = 19
STAMP_ZERO_NS: Final = 1_234_567_890_123_456_789
"""What a stamp says at the start of the monotonic clock. A number full of zeros, as soon after a boot, is not what people write, and a daemon may take it for spam."""
JOINED: Final = b'"ref":"j"'
PING: Final = 0x89
CLOSE: Final = 0x88
FRAME_END: Final = 0x7D
"""Every text frame ends with the brace of its JSON object; a read that does not end so was cut inside a frame, or ends in a control frame."""

_TEXT: Final = b" some words that differ "
_COUNTER_DIGITS: Final = 8

SO_TIMESTAMPNS: Final = 35  # socket(7); `socket` has no name for it
_TIMESPEC: Final = struct.Struct("ll")
ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)


def note_arrivals(setsockopt: Callable[[int, int, int], None]) -> None:
    """Have the kernel tell, with each `recvmsg` of that socket, when the bytes reached it. One that cannot tells nothing."""
    with suppress(OSError):
        setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def unread_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """How long the last bytes of a read had been at the socket by now; 0 when the kernel did not say.

    What came before them in the same read had been there for longer: its age is put too high then, never too low.
    """
    for level, kind, data in ancillary:
        if (level, kind, len(data)) == (socket.SOL_SOCKET, SO_TIMESTAMPNS, _TIMESPEC.size):
            seconds, ns = _TIMESPEC.unpack(data)
            return max(0, time.time_ns() - int(seconds) * 1_000_000_000 - int(ns))
    return 0


def upgrade(port: int, path: str, token: str) -> bytes:
    """The WebSocket opening handshake with a bearer token."""
    head = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    return head.encode()


def frame_head(opcode: int, size: int) -> bytes:
    """A client frame's head. The mask is zero, so the payload stays as it is: servers unmask it all the same, and masking here would only cost the generator."""
    if size < 126:
        return struct.pack("!BBI", 0x80 | opcode, 0x80 | size, 0)
    return struct.pack("!BBHI", 0x80 | opcode, 0xFE, size, 0)


def text_frame(payload: bytes) -> bytes:
    return frame_head(1, len(payload)) + payload


def join_frame(cafe_id: str) -> bytes:
    return text_frame(b'{"event":"join:cafe","ref":"j","data":{"cafeId":"%s"}}' % cafe_id.encode())


def message_template(cafe_id: str) -> bytes:
    """A message frame of this café, to be filled with `% (ns, counter)`. Its length never changes, so neither does the head."""
    before = b'{"event":"message:send","data":{"cafeId":"%b","content":"' % cafe_id.encode() + STAMP
    after = b'"}}'
    size = len(before) + STAMP_DIGITS + len(_TEXT) + _COUNTER_DIGITS + len(after)
    filled = b"%%0%dd%b%%0%dd" % (STAMP_DIGITS, _TEXT, _COUNTER_DIGITS)
    return (frame_head(1, size) + before).replace(b"%", b"%%") + filled + after


def control_frames(buffer: bytearray, size: int) -> Iterator[tuple[int, bytes]]:
    """Pings and close frames in `buffer[:size]`, as (first byte, payload).

    The generator does not follow frame boundaries. A control frame is recognised by standing at the start or right after a frame's closing
    brace; at worst an unasked pong goes out, which the protocol allows.
    """
    for kind in (PING, CLOSE):
        at = buffer.find(kind, 0, size)
        while at >= 0 and at + 1 < size:
            length = buffer[at + 1]
            if length < 126 and at + 2 + length <= size and (at == 0 or buffer[at - 1] == FRAME_END):
                yield kind, bytes(buffer[at + 2 : at + 2 + length])
            at = buffer.find(kind, at + 1, size)
