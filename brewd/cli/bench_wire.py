"""The bytes `brewd bench` puts on the wire: the upgrade request, the join, and messages that carry the time they were sent.

Only the standard library is imported here: the load generator must start fast and hold nothing but sockets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
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
