"""HTTP/1.1 as hypercorn speaks it, with an end to every connection: whoever has said their last word still hears the answer, and
nobody waits for those who are gone."""

from __future__ import annotations

from typing import Any

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol


class _Requests(h11.Connection):
    """`over`: the connection has ended; nothing that came on it, or comes yet, is read any more."""

    over = False

    def next_event(self) -> Any:
        return h11.ConnectionClosed() if self.over else super().next_event()


class Http1(H11Protocol):
    """HTTP/2 is not offered on it: that would be a second protocol at the same door, with limits of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = self._requests = _Requests(h11.SERVER, self.config.h11_max_incomplete_size)

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
