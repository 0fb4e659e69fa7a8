"""Discovery: who in the café shares interests with somebody, page by page.

The first page (offset 0) fixes the order for a while: further pages go on in it, whoever comes and goes meanwhile. Nobody is there
twice or left out; whoever may no longer be found is missing from their place, and newcomers show with the next first page.

Owns these orders, one for each session, in memory and bounded: the oldest are forgotten, and worked out anew when asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final
from uuid import UUID

from msgspec import Struct

from brewd.errors import Rejected
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, as_datetime
from brewd.social.company import Bans, Company, Rooms, company
from brewd.store.postgres import Postgres

LIMIT_MAX: Final = 100
KEPT_MS: Final = 300_000
KEPT_MAX: Final = 500_000
"""Ids in all orders together, 16 bytes each; an order itself counts as `ORDER_COST` more."""

ORDER_COST: Final = 16


class Found(Struct, frozen=True):
    """Somebody to meet. `shared` is alphabetical; `online`: the others see them in the room right now."""

    user_id: str
    username: str
    shared: tuple[str, ...]
    online: bool


class Page(Struct, frozen=True):
    """`count`: how many there are on all pages together."""

    found: tuple[Found, ...]
    count: int


class _Order(Struct, frozen=True):
    packed: bytes
    until_ms: int

    def __len__(self) -> int:
        return len(self.packed) // 16

    def ids(self, offset: int, limit: int) -> list[UUID]:
        return [UUID(bytes=self.packed[at * 16 : at * 16 + 16]) for at in range(offset, min(offset + limit, len(self)))]


class Matching:
    """See the module. One for the process."""

    def __init__(self, *, pg: Postgres, clock: Clock, rooms: Rooms, bans: Bans, kept_max: int = KEPT_MAX) -> None:
        self._pg = pg
        self._clock = clock
        self._rooms = rooms
        self._bans = bans
        self._kept_max = kept_max
        self._orders: OrderedDict[str, _Order] = OrderedDict()
        self._kept = 0

    async def discover(self, who: Identity, *, limit: int, offset: int = 0) -> Page:
        """At most `limit` (1 to 100) from `offset` on. Raises `Rejected` (`user_expired`, or as the room does) and `StoreError`."""
        now = as_datetime(self._clock.now_ms())
        own = await self._pg.fetchval("discover_self", who.user_id, now)
        if own is None:
            raise Rejected("user_expired", "This user's time is over; join again with a new receipt.")
        around = await company(self._rooms, self._bans, who.cafe_id)
        order = self._kept_order(who.session_id) if offset > 0 else None
        if order is None:
            order = await self._order(who, own, around)
        ids = order.ids(offset, limit)
        if not ids:
            return Page((), len(order))
        rows = await self._pg.fetch("discover_page", who.cafe_id, who.user_id, ids, now, own, around.barred)
        mine = frozenset(own)
        found = tuple(Found(row["id"], row["username"], tuple(sorted(mine.intersection(row["interests"]))), row["id"] in around.present) for row in rows)
        return Page(found, len(order))

    async def _order(self, who: Identity, own: list[str], around: Company) -> _Order:
        now_ms = self._clock.now_ms()
        row = await self._pg.fetchrow("discover_order", who.cafe_id, who.user_id, own, as_datetime(now_ms))
        assert row is not None
        order = _Order(b"".join(_online_first(row["ids"], row["shared"], around)), now_ms + KEPT_MS)
        self._forget(who.session_id)
        self._orders[who.session_id] = order
        self._kept += len(order) + ORDER_COST
        while self._orders and (self._kept > self._kept_max or next(iter(self._orders.values())).until_ms <= now_ms):
            self._forget(next(iter(self._orders)))
        return order

    def _kept_order(self, session_id: str) -> _Order | None:
        order = self._orders.get(session_id)
        return order if order is not None and order.until_ms > self._clock.now_ms() else None

    def _forget(self, session_id: str) -> None:
        order = self._orders.pop(session_id, None)
        if order is not None:
            self._kept -= len(order) + ORDER_COST


def _online_first(packed: bytes, shared: Iterable[int], around: Company) -> Iterator[bytes]:
    """The ids, each packed, without those who are barred; of those who share as much as each other, those who are in the room come first."""
    present, barred = _packed(around.present), _packed(around.barred)
    at = 0
    for _, alike in groupby(shared):
        away: list[bytes] = []
        for _ in alike:
            id = packed[at : at + 16]
            at += 16
            if id in barred:
                continue
            if id in present:
                yield id
            else:
                away.append(id)
        yield from away


def _packed(ids: Iterable[str]) -> set[bytes]:
    return {bytes.fromhex(id.replace("-", "")) for id in ids}
