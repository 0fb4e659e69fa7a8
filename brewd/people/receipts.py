"""Receipts: a name and a join token for one customer, as text, link and QR code."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import trio
from msgspec import Struct

from brewd.errors import Rejected, StoreConflict
from brewd.people.codes import new_token, token_hash
from brewd.people.names import receipt_name
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

_NAMES_TRIED: Final = 8  # one in some 500 names is taken once a café has printed 70,000 receipts; eight in a row never are
_QR_AT_ONCE: Final = 1


class Item(Struct, frozen=True):
    """What was bought."""

    name: str
    quantity: int


class Printed(Struct, frozen=True):
    """What goes on the paper. `join_token` is nowhere else: only its hash is stored. Times are wall ms."""

    username: str
    join_token: str
    expires_ms: int
    join_url: str
    qr_svg: str


class Receipts:
    """`public_url`: what customers open; `ttl_s`: how long a join token is good."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, public_url: str, ttl_s: float) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._public_url = public_url.rstrip("/")
        self._ttl_ms = int(ttl_s * 1000)
        self._drawing = trio.CapacityLimiter(_QR_AT_ONCE)

    async def issue(self, cafe_id: str, receipt_id: str, items: Sequence[Item] = (), staff_id: str | None = None) -> Printed:
        """One name and token for a receipt. Raises `Rejected` (`conflict`: this receipt had its token already) and `StoreError`."""
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + self._ttl_ms
        token = new_token(self._ids)
        bought = msgspec.json.encode(items).decode()
        rest = (token_hash(cafe_id, token), bought, staff_id, as_datetime(now_ms), as_datetime(expires_ms))
        username = await self._store(cafe_id, receipt_id, rest)
        join_url = self.join_url(cafe_id, username, token)
        qr_svg = await trio.to_thread.run_sync(_qr_svg, join_url, limiter=self._drawing, abandon_on_cancel=True)
        return Printed(username, token, expires_ms, join_url, qr_svg)

    def join_url(self, cafe_id: str, username: str, token: str) -> str:
        """The token stands behind the `#`, which a browser never sends: it is in no log of any server."""
        return f"{self._public_url}/join#{urlencode({'cafe': cafe_id, 'name': username, 'token': token}, quote_via=quote)}"

    async def _store(self, cafe_id: str, receipt_id: str, rest: tuple[Any, ...]) -> str:
        """Write the row under a name that is free; answer the name. `rest`: the columns of `receipt_add` behind the name."""
        for _ in range(_NAMES_TRIED):
            username = receipt_name(self._ids)
            try:
                await self._pg.execute("receipt_add", self._ids.uuid7(), cafe_id, receipt_id, username, *rest)
            except StoreConflict as error:
                if error.constraint == "receipt_username_key":
                    continue
                raise Rejected("conflict", "This receipt already has its name and token.") from error
            return username
        raise RuntimeError("no free username found")


def _qr_svg(text: str) -> str:
    """An SVG of some 3 kB. The mask is fixed: choosing the best of eight costs 7 ms of 10, and scanners read any."""
    import segno  # 50 ms, and only a café that prints receipts needs it

    drawn = io.BytesIO()
    segno.make_qr(text, error="m", mask=3).save(drawn, kind="svg", xmldecl=False, scale=4, svgclass=None, lineclass=None, light="#fff")
    return drawn.getvalue().decode().strip()
