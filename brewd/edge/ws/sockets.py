"""Every WebSocket of this process, findable by session and by user, and watched over.

`watch` is one task for all of them: it pings the silent, cuts the dead and those whose goodbye was not answered, and closes
those whose token has run out. Ten thousand timers would cost more than the sockets.
"""

from __future__ import annotations

from typing import NoReturn, Protocol

import trio
from wsproto.events import Ping

from brewd.cafe.events import Draining
from brewd.edge.ws.hello import HEARTBEAT_S
from brewd.edge.ws.outbox import Outbox
from brewd.errors import Rejected
from brewd.people.sessions import CLOSE_EXPIRED
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock

SWEEP_S = 1.0
SWEEP_SHARES = 5
"""Each sweep looks at one share of the sockets, so that none of them waits for a long loop."""

RETRY_MS = 5000
"""When to try again if too many are open. Nobody knows when one of them closes."""


class Connected(Protocol):
    """A connection, as far as it can be managed from outside."""

    outbox: Outbox
    identity: Identity | None
    address: bytes | None
    heard_s: float
    until_ms: float

    def leave(self) -> None: ...
    def drain(self, notice: Draining) -> None: ...


class Sockets:
    """Owns the index. `add` and `remove` are the connection's own; everything else is for those who manage people.

    `per_user`: how many sockets one user may have open; 0 is no limit.
    """

    def __init__(self, clock: Clock, *, per_user: int) -> None:
        self._clock = clock
        self._per_user = per_user
        self._all: dict[int, Connected] = {}
        self._by_address: dict[bytes, int] = {}
        self._by_session: dict[str, set[int]] = {}
        self._by_user: dict[str, set[int]] = {}
        self._next = 0
        self._share = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connected) -> int:
        self._next += 1
        self._all[self._next] = connection
        if connection.address is not None:
            self._by_address[connection.address] = self._by_address.get(connection.address, 0) + 1
        return self._next

    def check_address(self, address: bytes, most: int) -> None:
        """Room for one more from an address that may have `most`? Raises `Rejected` (`rate_limited`)."""
        if self._by_address.get(address, 0) >= most:
            raise _too_many(f"{most} WebSockets are open from this address.", "sockets-per-address")

    def check_user(self, user_id: str) -> None:
        """Room for one more of a user's? One that was told to go counts no more. Raises `Rejected` (`rate_limited`)."""
        numbers = self._by_user.get(user_id, ())
        if self._per_user and len(numbers) >= self._per_user and sum(not self._all[number].outbox.closed for number in numbers) >= self._per_user:
            raise _too_many(f"You have {self._per_user} WebSockets open.", "sockets-per-user")

    def identified(self, number: int, identity: Identity) -> None:
        """The connection has said who it is."""
        self._by_session.setdefault(identity.session_id, set()).add(number)
        self._by_user.setdefault(identity.user_id, set()).add(number)

    def remove(self, number: int) -> None:
        connection = self._all.pop(number)
        address = connection.address
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        if connection.identity is None:
            return
        for index, key in ((self._by_session, connection.identity.session_id), (self._by_user, connection.identity.user_id)):
            numbers = index[key]
            numbers.discard(number)
            if not numbers:
                del index[key]

    def close_session(self, session_id: str, code: int, reason: str) -> int:
        """Close every socket of a session, which is over; how many there were."""
        return self._close(self._by_session.get(session_id, set()), code, reason)

    def close_user(self, user_id: str, code: int, reason: str) -> int:
        """Close every socket of a user who has to go; how many there were."""
        return self._close(self._by_user.get(user_id, set()), code, reason)

    def all(self) -> list[Connected]:
        return list(self._all.values())

    def sessions(self) -> list[Identity]:
        """One identity for each session that is connected."""
        return [identity for numbers in self._by_session.values() for n in list(numbers)[:1] if (identity := self._all[n].identity) is not None]

    async def watch(self) -> NoReturn:
        while True:
            await trio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Look at the next share of the sockets."""
        self._share = (self._share + 1) % SWEEP_SHARES
        now_s, now_ms = trio.current_time(), self._clock.now_ms()
        for number, connection in list(self._all.items()):
            if number % SWEEP_SHARES != self._share:
                continue
            outbox = connection.outbox
            if now_s >= outbox.cut_at_s or now_s - connection.heard_s > 2 * HEARTBEAT_S:
                outbox.abort()
            elif now_ms >= connection.until_ms:
                outbox.close(CLOSE_EXPIRED, "the access token has expired")
            elif now_s - connection.heard_s > HEARTBEAT_S:
                outbox.control(Ping())

    def _close(self, numbers: set[int], code: int, reason: str) -> int:
        for number in list(numbers):
            connection = self._all[number]
            if not connection.outbox.closed:
                connection.leave()
                connection.outbox.close(code, reason)
        return len(numbers)


def _too_many(detail: str, limit: str) -> Rejected:
    return Rejected("rate_limited", f"{detail} Close one first.", retryAfterMs=RETRY_MS, limit=limit)
