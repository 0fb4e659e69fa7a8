"""From bytes to text messages.

Nearly every frame a client sends is one whole, masked, final text frame; those are read here, since this is where the edge spends
its time. Everything else of RFC 6455 (control frames, fragments, whatever breaks the rules) goes, frame by whole frame, to
wsproto, which exists from the first such frame on: an idle socket does without.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from brewd.errors import ProtocolError

FRAGMENTS_MAX = 64
"""Fragments one message may come in: a flood of empty ones would otherwise cost without ever growing."""

PROTOCOL = 1002
NOT_UTF8 = 1007
POLICY = 1008
TOO_BIG = 1009

_TEXT_FIN = 0x81
_MASKED = 0x80
_LEN_16 = 126
_LEN_64 = 127
_CLOSE_FRAME = b"\x88"
_MASKED_HEAD_BYTES = 6
_CLOSE_MAX_BYTES = _MASKED_HEAD_BYTES + 125


class InBound:
    """One socket's receiving side. `message_max_bytes` bounds a message over all its fragments, and what is held of an unfinished frame."""

    __slots__ = ("_fragments", "_max_bytes", "_rest", "_size_bytes", "_text", "_ws")

    def __init__(self, message_max_bytes: int) -> None:
        self._max_bytes = message_max_bytes
        self._rest = b""
        self._ws: Connection | None = None
        self._text = ""
        self._size_bytes = 0
        self._fragments = 0

    @property
    def ws(self) -> Connection:
        """The protocol object, also for what is sent as control frames."""
        if self._ws is None:
            self._ws = Connection(ConnectionType.SERVER)
        return self._ws

    def feed(self, data: bytes) -> Iterator[str | bytes | Ping | Pong | CloseConnection]:
        """What `data` completes, in order. A binary message comes as `b""`: nobody here reads them. Raises `ProtocolError`, and is of no use after that."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        at, end = 0, len(data)
        while end - at >= 2:
            first, size = data[at], data[at + 1] & 127
            masked = data[at + 1] & _MASKED
            start = at + 2
            if size >= _LEN_16:
                start += 2 if size == _LEN_16 else 8
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
                if size < (_LEN_16 if start == at + 4 else 1 << 16):
                    raise ProtocolError(PROTOCOL, "a length in more bytes than it needs")
            if size > self._max_bytes:
                raise ProtocolError(TOO_BIG, f"a message may have {self._max_bytes} bytes")
            if masked:
                start += 4
            if end < start + size:
                break
            if first == _TEXT_FIN and masked and not self._fragments:
                yield _unmasked(data[start - 4 : start], data[start : start + size])
            else:
                yield from self._other(data[at : start + size])
            at = start + size
        self._rest = data[at:]

    def _other(self, frame: bytes) -> Iterator[str | bytes | Ping | Pong | CloseConnection]:
        try:
            self.ws.receive_data(frame)
            for event in self.ws.events():
                if isinstance(event, TextMessage):
                    text = self._gather(event)
                    if text is not None:
                        yield text
                elif isinstance(event, BytesMessage):
                    self._count(len(event.data))
                    if event.message_finished:
                        self._fragments = self._size_bytes = 0
                        yield b""
                elif isinstance(event, CloseConnection) and self._ws_is_open():
                    raise ProtocolError(event.code, event.reason or "")  # nobody said goodbye: it is wsproto's word for a breach
                elif isinstance(event, Ping | Pong | CloseConnection):
                    yield event
        except RemoteProtocolError as error:
            hint = error.event_hint
            raise ProtocolError(hint.code if isinstance(hint, CloseConnection) else PROTOCOL, str(error)) from None

    def _ws_is_open(self) -> bool:
        """Whether the peer has not said goodbye."""
        return self.ws.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING)

    def _gather(self, event: TextMessage) -> str | None:
        """Add a fragment; the message when it is whole."""
        self._count(len(event.data.encode()))
        self._text += event.data
        if not event.message_finished:
            return None
        text, self._text, self._size_bytes, self._fragments = self._text, "", 0, 0
        return text

    def _count(self, size_bytes: int) -> None:
        self._fragments += 1
        self._size_bytes += size_bytes
        if self._fragments > FRAGMENTS_MAX:
            raise ProtocolError(POLICY, f"more than {FRAGMENTS_MAX} fragments in one message")
        if self._size_bytes > self._max_bytes:
            raise ProtocolError(TOO_BIG, f"a message may have {self._max_bytes} bytes")


def _unmasked(mask: bytes, payload: bytes) -> str:
    """The text under the mask (RFC 6455, section 5.3), as one exclusive-or of two long numbers."""
    size = len(payload)
    stream = (mask * (size // 4 + 1))[:size]
    plain = (int.from_bytes(payload, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise ProtocolError(NOT_UTF8, "text frames must be UTF-8") from None


def ends_with_goodbye(data: bytes) -> bool:
    """Whether the last frame in `data` can be a close frame (RFC 6455, section 5.5.1), wherever the frames before it begin."""
    at = data.rfind(_CLOSE_FRAME, max(0, len(data) - _CLOSE_MAX_BYTES))
    while at >= 0:
        if len(data) - at >= _MASKED_HEAD_BYTES and data[at + 1] & 127 == len(data) - at - _MASKED_HEAD_BYTES:
            return True
        at = data.rfind(_CLOSE_FRAME, max(0, len(data) - _CLOSE_MAX_BYTES), at)
    return False
