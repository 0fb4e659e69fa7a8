"""Token buckets and sliding windows as plain arithmetic: exact integers, no timers, nothing to sweep.

A bucket's state is two numbers: how much is used, and when the last token was taken. What has come back since is worked out
when somebody looks (the virtual scheduling of ITU-T I.371, annex A, with its remainder kept). One token is `period_ms` units and
every millisecond gives `tokens` units back, so no rate, however odd, is ever rounded. In any span of t ms a bucket lets through
at most `burst + t * tokens // period_ms`.

A window lets through `limit` in any `period_ms`, for what is rare enough to remember each time.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

Uses = tuple[int, int]
"""`(used, at_ms)`: units used when the last token was taken, and when that was."""

Packed = int
"""Uses as one number, where there are many of them: `used` above `AT_BITS` bits of `at_ms`."""

AT_BITS: Final = 48
_AT_MASK: Final = (1 << AT_BITS) - 1

NEVER: Final = None


class Rate(Struct, frozen=True):
    """`burst` tokens at most, `tokens` of them back each `period_ms`, and `gap_ms` between two. `tokens` 0: they do not come back."""

    tokens: int
    period_ms: int
    burst: int
    gap_ms: int = 0


def wait_ms(uses: Uses | None, rate: Rate, now_ms: int) -> int | None:
    """How long until a token may be taken: 0 when one may be now, `NEVER` when none ever will. Exact: one ms less is too early."""
    if rate.burst < 1:
        return NEVER
    if uses is None:
        return 0
    missing = _used(uses, rate, now_ms) + (1 - rate.burst) * rate.period_ms
    if missing > 0 and not rate.tokens:
        return NEVER
    refill_ms = -(-missing // rate.tokens) if missing > 0 else 0
    return max(refill_ms, gap_wait_ms(uses, rate, now_ms))


def gap_wait_ms(uses: Uses | None, rate: Rate, now_ms: int) -> int:
    """The part of the wait that is for the gap alone."""
    return 0 if uses is None else min(rate.gap_ms, max(0, uses[1] + rate.gap_ms - now_ms))


def packed(uses: Uses) -> Packed:
    return uses[0] << AT_BITS | uses[1]


def unpacked(held: Packed | None) -> Uses | None:
    return None if held is None else (held >> AT_BITS, held & _AT_MASK)


def drawn(held: Packed | None, rate: Rate, now_ms: int) -> Packed | None:
    """`take`, where `wait_ms` is 0, in one go for who is in a hurry: the state after one more token; None, and nothing taken, when there is none now."""
    period_ms = rate.period_ms
    if held is None:
        return period_ms << AT_BITS | now_ms if rate.burst >= 1 else None
    since_ms = now_ms - (held & _AT_MASK)
    used = (held >> AT_BITS) - since_ms * rate.tokens
    if since_ms < 0 or since_ms < rate.gap_ms or used > (rate.burst - 1) * period_ms:  # none, or a clock that was set back
        uses = unpacked(held)
        return packed(take(uses, rate, now_ms)) if wait_ms(uses, rate, now_ms) == 0 else None
    return (used + period_ms if used > 0 else period_ms) << AT_BITS | now_ms


def take(uses: Uses | None, rate: Rate, now_ms: int) -> Uses:
    """The state after one more token. Whether there was one is for the caller to ask first."""
    if uses is None:
        return rate.period_ms, now_ms
    return _used(uses, rate, now_ms) + rate.period_ms, max(now_ms, uses[1])


def remaining(uses: Uses | None, rate: Rate, now_ms: int) -> int:
    """Whole tokens left, whatever the gap says."""
    if uses is None:
        return rate.burst
    return max(0, (rate.burst * rate.period_ms - _used(uses, rate, now_ms)) // rate.period_ms)


def full_in_ms(uses: Uses | None, rate: Rate, now_ms: int) -> int | None:
    """How long until nothing is used and no gap runs, and the state says no more than None does. `NEVER` where tokens do not come back."""
    if uses is None:
        return 0
    used = _used(uses, rate, now_ms)
    if used and not rate.tokens:
        return NEVER
    return max(-(-used // rate.tokens) if used else 0, gap_wait_ms(uses, rate, now_ms))


def _used(uses: Uses, rate: Rate, now_ms: int) -> int:
    """What is still used. A clock that was set back gives nothing back twice."""
    return max(0, uses[0] - max(0, now_ms - uses[1]) * rate.tokens)


class Window(Struct, frozen=True):
    """At most `limit` in any `period_ms`; None: ever."""

    limit: int
    period_ms: int | None = None

    def recent(self, times_ms: tuple[int, ...], now_ms: int) -> tuple[int, ...]:
        """Those of the times, oldest first, that still count."""
        if self.period_ms is None:
            return times_ms
        since_ms = now_ms - self.period_ms
        return tuple(at_ms for at_ms in times_ms if at_ms > since_ms)

    def wait_ms(self, times_ms: tuple[int, ...], now_ms: int) -> int | None:
        """As for a bucket."""
        recent = self.recent(times_ms, now_ms)
        if len(recent) < self.limit:
            return 0
        if not self.limit or self.period_ms is None:
            return NEVER
        return recent[-self.limit] + self.period_ms - now_ms
