"""The way out: nobody new, everybody told, everything accepted stored, the mirror written, the sockets closed.

Clients are told first, each with a different time to come back, so that they do not all return in the same instant. From then on
nothing more is accepted from them, and what was is settled; then they are sent away. Whoever does not go is cut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from brewd.cafe.events import Draining
from brewd.cafe.ledger import Ledger
from brewd.edge.listener import Listener
from brewd.edge.ws.sockets import Sockets
from brewd.runtime.ids import Ids
from brewd.runtime.quota import Quota
from brewd.store.mirror import Mirror

if TYPE_CHECKING:
    from brewd.edge.http.server import HttpServer

RECONNECT_SPREAD_MS = 5000
FAREWELL_S = 2.0
"""How long clients may take to answer the close frame."""

STOP_S = 1.0
"""What is left after them for the stores to end in order."""

RESTART = 1012
STOPPING = 1001


async def drain(
    *,
    listener: Listener,
    http: HttpServer,
    sockets: Sockets,
    quota: Quota,
    ledger: Ledger,
    end_agent: Callable[[], Awaitable[None]],
    mirror: Mirror,
    ids: Ids,
    within_s: float,
) -> None:
    """Returns within `within_s`, whatever the stores and the clients do; see the module. Cancelling it leaves the sockets as they are."""
    until_s = trio.current_time() + within_s
    listener.accepting.cancel()
    for connection in sockets.all():
        connection.drain(Draining(ids.below(RECONNECT_SPREAD_MS)))
    await http.drain()
    with trio.move_on_at(max(until_s - FAREWELL_S - STOP_S, until_s - within_s / 2)):
        await end_agent()
        while quota.used or len(ledger):
            ledger.hurry()
            await trio.sleep(0.01)
        await mirror.flush()
    for connection in sockets.all():
        connection.outbox.close(RESTART, "restarting")
    with trio.move_on_at(min(trio.current_time() + FAREWELL_S, until_s)):
        while len(sockets) or http.connections:
            await trio.sleep(0.01)


def see_out(sockets: Sockets) -> None:
    """Whoever is still here is told at least that it ends."""
    for connection in sockets.all():
        connection.outbox.close(STOPPING, "stopping")
