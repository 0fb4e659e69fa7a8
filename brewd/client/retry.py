"""When to come back, and when not to. Pure: chance is an argument.

| how the connection ended | what the room does |
| --- | --- |
| 1000 | the server said goodbye: over, without an error |
| 1008, 4002, 4003, 4004; a refused handshake or join that no waiting can mend | over |
| 4001, `token_expired` | a new token by the refresh token, then back; over when there is none |
| 1001, 1006, 1012, 1013, 4008, a timeout, and every code not known here | back, after a wait |
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import msgspec

from brewd.client.failures import SessionOver, retry_after_s
from brewd.errors import Rejected

BYE: Final = 1000
GOING_AWAY: Final = 1001
LOST: Final = 1006
TOKEN_EXPIRED: Final = 4001
_FINAL: Final = frozenset({1008, 4002, 4003, 4004})
_PASSING: Final = frozenset({"rate_limited", "mailbox_full", "storage_unavailable", "cafe_unavailable", "internal"})
_PASSING_STATUS: Final = frozenset({408, 425, 429})


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection ended. `refusal`: it was an answer; `wait_s`: the server asked not to be bothered for so long."""

    code: int = LOST
    reason: str = ""
    refusal: Rejected | None = None
    wait_s: float = 0.0


class Verdict(Enum):
    BACK = auto()
    RENEW = auto()  # back, with a new access token
    OVER = auto()
    BYE = auto()


def judge(ending: Ending, *, renewable: bool) -> Verdict:
    """What to do after `ending`. `renewable`: there is a refresh token that has not been refused."""
    if ending.code == TOKEN_EXPIRED or (ending.refusal and ending.refusal.code == "token_expired"):
        return Verdict.RENEW if renewable else Verdict.OVER
    if ending.refusal:
        return Verdict.BACK if ending.refusal.code in _PASSING else Verdict.OVER
    if ending.code == BYE:
        return Verdict.BYE
    return Verdict.OVER if ending.code in _FINAL else Verdict.BACK


def failure(ending: Ending) -> Exception:
    """The exception that tells of an ending for good."""
    return ending.refusal or SessionOver(ending.code, ending.reason)


def handshake_ending(status: int, refusal: Rejected, wait_s: float) -> Ending:
    """The ending that a refused WebSocket handshake amounts to: any 5xx may pass, whatever stands in its body."""
    if status >= 500 or status in _PASSING_STATUS:
        return Ending(reason=f"HTTP {status}", wait_s=max(wait_s, retry_after_s(refusal)))
    return Ending(reason=f"HTTP {status}", refusal=refusal)


class Backoff:
    """Exponential with full jitter: the n-th wait is uniform in [0, base·2ⁿ), so that many clients of one server do not come back in step."""

    def __init__(self, *, base_s: float, max_s: float, chance: Callable[[], float]) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._chance = chance
        self._tries = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """The next wait: what the server asked for, and the jitter on top."""
        ceiling_s = min(self._max_s, self._base_s * float(1 << min(self._tries, 30)))
        self._tries += 1
        return at_least_s + self._chance() * ceiling_s

    def reset(self) -> None:
        """The connection held: start from the short waits again."""
        self._tries = 0
