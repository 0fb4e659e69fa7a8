"""From bytes to text messages: wsproto speaks RFC 6455, and this bounds what it may gather.

`InBound.feed` takes what came from the socket and yields whole text messages, pings, pongs and the close, in order. What breaks
the protocol or a bound is a `ProtocolError` that names the close code.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

from brewd.errors import ProtocolError

FRAGMENTS_MAX = 64
"""Fragments one message may come in: a flood of empty ones would otherwise cost without ever growing."""

TOO_BIG = 1009
UNSUPPORTED = 1003
POLICY = 1008
PROTOCOL = 1002


class InBound:
    """One socket's receiving side. `message_max_bytes` bounds a message over all its fragments."""

    __slots__ = ("_fragments", "_max_bytes", "_size_bytes", "_text", "ws")

    def __init__(self, ws: Connection, message_max_bytes: int) -> None:
        self.ws = ws
        self._max_bytes = message_max_bytes
        self._text = ""
        self._size_bytes = 0
        self._fragments = 0

    def feed(self, data: bytes) -> Iterator[str | bytes | Ping | Pong | CloseConnection]:
        """What `data` completes. Binary messages come as `b""`: nobody here reads them."""
        try:
            self.ws.receive_data(data)
            for event in self.ws.events():
                if isinstance(event, TextMessage):
                    if event.message_finished and not self._fragments:
                        self._check_size(len(event.data) if event.data.isascii() else len(event.data.encode()))
                        yield event.data
                    else:
                        text = self._gather(event)
                        if text is not None:
                            yield text
                elif isinstance(event, BytesMessage):
                    self._check_size(self._size_bytes + len(event.data))
                    if event.message_finished:
                        yield b""
                elif isinstance(event, Ping | Pong | CloseConnection):
                    yield event
        except RemoteProtocolError as error:
            hint = error.event_hint
            raise ProtocolError(hint.code if isinstance(hint, CloseConnection) else PROTOCOL, str(error)) from None

    def _gather(self, event: TextMessage) -> str | None:
        """Add a fragment; the message when it is whole."""
        self._fragments += 1
        if self._fragments > FRAGMENTS_MAX:
            raise ProtocolError(POLICY, f"more than {FRAGMENTS_MAX} fragments in one message")
        self._size_bytes += len(event.data.encode())
        self._check_size(self._size_bytes)
        self._text += event.data
        if not event.message_finished:
            return None
        text, self._text, self._size_bytes, self._fragments = self._text, "", 0, 0
        return text

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise ProtocolError(TOO_BIG, f"a message may have {self._max_bytes} bytes")
