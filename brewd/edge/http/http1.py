"""HTTP/1.1 as hypercorn speaks it, with brewd's answers to what it refuses, and an end to every connection: whoever has said
their last word still hears the answer, and nobody waits for those who are gone."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol

from brewd.edge.head import HEAD_MAX_BYTES
from brewd.edge.http.problem import problem

_MALFORMED: Final = "This is not an HTTP/1.1 request, or not a whole one."
_TOO_LARGE: Final = f"The request head is larger than {HEAD_MAX_BYTES} bytes."
_TWO_LENGTHS: Final = "It has both Content-Length and Transfer-Encoding, so that others could see another end of it."
_LATE_UPGRADE: Final = "A WebSocket is opened by the first request of a connection, with `Upgrade: websocket` alone. Open a new connection for it."


class _Requests(h11.Connection):
    """What the peer asks. `refused`: why, when that is for a reason of ours. `over`: what came on this connection, or comes yet, is not read any more."""

    refused = ""
    over = False

    def next_event(self) -> Any:
        if self.over:
            return h11.ConnectionClosed()
        event = super().next_event()
        if isinstance(event, h11.Request) and (refused := _wrong_with(event)):
            self.refused = refused
            raise h11.RemoteProtocolError(refused)
        return event


def _wrong_with(request: h11.Request) -> str:
    """What h11 would let pass."""
    names = {name for name, _ in request.headers}
    if b"content-length" in names and b"transfer-encoding" in names:
        return _TWO_LENGTHS
    if b"upgrade" in names and b"websocket" in _options(request, b"upgrade") and b"upgrade" in _options(request, b"connection"):
        return _LATE_UPGRADE
    return ""


def _options(request: h11.Request, header: bytes) -> set[bytes]:
    return {option.strip().lower() for name, value in request.headers if name == header for option in value.split(b",")}


class Http1(H11Protocol):
    """HTTP/2 is not offered on it: that would be a second protocol at the same door, with limits of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = self._requests = _Requests(h11.SERVER, HEAD_MAX_BYTES)

    async def handle(self, event: Event) -> None:
        """`RawData` without data: the peer will say no more. It may still be listening, so what it asked for is answered first."""
        if isinstance(event, Closed):
            self._requests.over = True
            await self.can_read.set()  # hypercorn would wait for ever, with the next request in hand, for an answer that cannot be sent
        await super().handle(event)
        if isinstance(event, RawData) and not event.data and self.stream is not None and self._requests.their_state is h11.CLOSED:
            await self.can_read.clear()
            await self.can_read.wait()

    async def _check_protocol(self, _: h11.Request) -> None:
        """A client that asks for h2c is answered in HTTP/1.1, which it has to be ready for."""

    async def _send_error_response(self, status_code: int) -> None:
        """The connection ends after it."""
        too_large = status_code == 431
        refusal = problem("invalid_request", _TOO_LARGE if too_large else self._requests.refused or _MALFORMED, status=431 if too_large else None)
        headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        headers += [(b"cache-control", b"no-store"), (b"connection", b"close"), *self.config.response_headers("h11")]
        await self._send_h11_event(h11.Response(status_code=refusal.status_code, headers=headers))
        with contextlib.suppress(h11.LocalProtocolError):  # an answer to HEAD has no body
            await self._send_h11_event(h11.Data(data=await refusal.get_data(as_text=False)))
            await self._send_h11_event(h11.EndOfMessage())
