"""Where somebody stands under a limit, and how that is said: in the `RateLimit` headers of any answer, and as the refusal of one too many.

The headers are those of draft-ietf-httpapi-ratelimit-headers, structured fields by the name of the limit. `t` is how long nothing
more comes back, so that a client that waits for it, or for `Retry-After`, comes at the right moment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from brewd.errors import Rejected


class Standing(Struct, frozen=True):
    """`remaining` of `quota` in any `window_s` (None: not told); the next one comes back in `more_in_ms`, None when all are there."""

    limit: str
    quota: int
    window_s: int | None
    remaining: int
    more_in_ms: int | None = None


class OverLimit(Rejected):
    """`rate_limited`, by a limit that is counted: `standing` says which."""

    def __init__(self, detail: str, standing: Standing) -> None:
        super().__init__("rate_limited", detail, retryAfterMs=standing.more_in_ms, limit=standing.limit)
        self.standing = standing


def headers(standings: Sequence[Standing]) -> list[tuple[str, str]]:
    """The two headers; none when nothing was counted."""
    if not standings:
        return []
    return [("RateLimit-Policy", ", ".join(map(_policy, standings))), ("RateLimit", ", ".join(map(_service_limit, standings)))]


def _policy(standing: Standing) -> str:
    window = "" if standing.window_s is None else f";w={standing.window_s}"
    return f'"{standing.limit}";q={standing.quota}{window}'


def _service_limit(standing: Standing) -> str:
    more = "" if standing.more_in_ms is None else f";t={math.ceil(standing.more_in_ms / 1000)}"
    return f'"{standing.limit}";r={standing.remaining}{more}'
