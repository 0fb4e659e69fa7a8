"""What is limited at the edge by where somebody comes from: requests without a token, open WebSockets; and receipts and tips by barista.

| limit | counts | how |
| --- | --- | --- |
| `anonymous` | requests and handshakes without a good token, by address; not the health probes, and not what `attempts` judges | a bucket that fills in 15 minutes |
| `receipts` | receipts that were made, by barista | so many in any hour |
| `tips` | tips that were recorded, by barista and user | so many in any minute |
| `sockets-per-address` | WebSockets open at once, by address; `ws/sockets` counts them | a plain count |

An address of a café's own network has `cafe_network_factor` times as much. Somebody without an address came over a Unix socket
through a proxy that does not say for whom: nobody is told from anybody there, so nothing is counted by address.

Everything is memory, gone with a restart, and bounded: `ROOM` addresses of some 220 bytes each (7 MB if all of it is in use).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from brewd.config import EdgeLimits
from brewd.edge.networks import Networks, key_of
from brewd.edge.standing import OverLimit, Standing
from brewd.runtime.bucket import Rate, Uses, remaining, take, wait_ms
from brewd.runtime.clock import Clock
from brewd.runtime.tally import HOLD, Tally, Windows

ROOM: Final = 32_768
_BARISTAS_MAX: Final = 16_384
QUARTER_MS: Final = 900_000
_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000


class _Most(Struct, frozen=True):
    """`count` in any `period_ms`; 0 is no limit."""

    limit: str
    count: int
    period_ms: int
    detail: str


class Limits:
    """See the module. Nothing here blocks; time comes from the clock."""

    def __init__(self, *, config: EdgeLimits, clock: Clock, networks: Networks) -> None:
        self._clock = clock
        self._networks = networks
        self._factor = config.cafe_network_factor
        self._rate = _quarterly(config.anonymous_per_15min)
        self._cafe_rate = _quarterly(config.anonymous_per_15min * config.cafe_network_factor)
        self._anonymous: Tally[bytes, Uses] = Tally(room=ROOM, grip=self._grip)
        self._per_hour = config.receipts_per_hour
        self._receipts: Windows[str] = Windows(limit=self._per_hour, period_ms=_HOUR_MS, room=_BARISTAS_MAX)
        self._tips_per_minute = config.tips_per_minute
        self._tips: Windows[str] = Windows(limit=self._tips_per_minute, period_ms=_MINUTE_MS, room=_BARISTAS_MAX)
        self._sockets_max = config.sockets_per_address

    def __len__(self) -> int:
        """Addresses that are remembered."""
        return len(self._anonymous)

    @property
    def by_address(self) -> bool:
        """Whether anybody's address is asked for here at all."""
        return bool(self._rate or self._sockets_max)

    def anonymous(self, address: str | None) -> Standing | None:
        """Count a request without a token. None where there is no limit. Raises `OverLimit`, and then nothing is counted."""
        if self._rate is None or address is None:
            return None
        rate = self._cafe_rate if self._networks.is_cafe(address) else self._rate
        if rate is None:
            return None
        now_ms, key = self._clock.now_ms(), key_of(address)
        uses = _within(self._anonymous.get(key), rate)
        wait = wait_ms(uses, rate, now_ms)
        if wait:
            detail = "Too many requests without a token came from this address."
            raise OverLimit(detail, Standing("anonymous", rate.burst, QUARTER_MS // 1000, 0, wait))
        uses = take(uses, rate, now_ms)
        self._anonymous.put(key, uses, now_ms)
        left = remaining(uses, rate, now_ms)
        more_in_ms = wait_ms(uses, Rate(rate.tokens, rate.period_ms, rate.burst - left), now_ms)
        return Standing("anonymous", rate.burst, QUARTER_MS // 1000, left, more_in_ms)

    @contextmanager
    def receipt(self, staff_id: str, tell: Callable[[Standing], None]) -> Iterator[None]:
        """Around the making of one receipt, which counts from the start, and not when it was not made. Raises `OverLimit`."""
        with self._counted(self._receipts, staff_id, _Most("receipts", self._per_hour, _HOUR_MS, "One barista can make {} receipts an hour."), tell):
            yield

    @contextmanager
    def tip(self, staff_id: str, user_id: str, tell: Callable[[Standing], None]) -> Iterator[None]:
        """The same around the recording of one tip."""
        most = _Most("tips", self._tips_per_minute, _MINUTE_MS, "One barista can record {} tips of one user a minute.")
        with self._counted(self._tips, f"{staff_id} {user_id}", most, tell):
            yield

    @contextmanager
    def _counted(self, windows: Windows[str], key: str, most: _Most, tell: Callable[[Standing], None]) -> Iterator[None]:
        if not most.count:
            yield
            return
        now_ms = self._clock.now_ms()
        window_s = most.period_ms // 1000
        wait = windows.wait_ms(key, now_ms, most.count)
        if wait:
            raise OverLimit(most.detail.format(most.count), Standing(most.limit, most.count, window_s, 0, wait))
        made = windows.add(key, now_ms, most.count)
        done = False
        try:
            yield
            done = True
            tell(Standing(most.limit, most.count, window_s, most.count - len(made), made[0] + most.period_ms - now_ms))
        finally:
            if not done:
                windows.take_back(key, now_ms)

    def sockets_max(self, address: str) -> int:
        """How many WebSockets may be open from an address; 0 is no limit."""
        return self._sockets_max * (self._factor if self._networks.is_cafe(address) else 1)

    def _grip(self, uses: Uses, now_ms: int) -> float:
        """How much an address has used up. Whoever has nothing left is not forgotten."""
        assert self._rate is not None
        left = remaining(uses, self._rate, now_ms)
        return HOLD if not left else float(self._rate.burst - left)


def _quarterly(limit: int) -> Rate | None:
    return Rate(tokens=limit, period_ms=QUARTER_MS, burst=limit) if limit else None


def _within(uses: Uses | None, rate: Rate) -> Uses | None:
    """What was used under a wider rate is at most all of this one: an address that is no café's any more does not pay for its rush."""
    return None if uses is None else (min(uses[0], rate.burst * rate.period_ms), uses[1])
