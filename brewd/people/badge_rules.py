"""What earns a badge, and until when one holds. Pure: facts in, badges out; no clock, no store.

| badge | is earned by | counts in | holds |
| --- | --- | --- | --- |
| `regular` | `TIP_THRESHOLD` tips | any `WINDOW_DAYS` days, to the ms | 30 days from the last tip that earned it |
| `early_bird` | being there from 05:00 to 08:00 | | 30 days after the last such day |
| `night_owl` | being there from 22:00 to 02:00 | | the same |
| `social_butterfly` | `MATCHES_NEEDED` matches | any 30 days | the same, from the last match that earned it |
| `frequent_visitor` | being there on `DAYS_NEEDED` days | any 30 days | the same, from the last day that earned it |

Days and hours are those of the café's time zone. `regular` alone is shown with messages and has limits of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal

from msgspec import Struct

Type = Literal["regular", "early_bird", "night_owl", "social_butterfly", "frequent_visitor"]
REGULAR: Final = "regular"

TIP_THRESHOLD: Final = 5
WINDOW_DAYS: Final = 7
HELD_DAYS: Final = 30
SEEN_DAYS: Final = 30
"""How far back days are counted."""

DAYS_NEEDED: Final = 5
MATCHES_NEEDED: Final = 3
EARLY: Final = range(5, 8)
LATE: Final = (22, 23, 0, 1)

DAY_MS: Final = 86_400_000
WINDOW_MS: Final = WINDOW_DAYS * DAY_MS
TIPS_KEPT_MS: Final = WINDOW_MS + HELD_DAYS * DAY_MS
"""A tip that is older says nothing about any badge."""


class Visit(Struct, frozen=True):
    """One day on which a patron was there."""

    day: date
    early: bool = False
    late: bool = False
    matches: int = 0


class Facts(Struct, frozen=True):
    """What is known of one patron: tips in the order of time, in ms; days in the order of the calendar, each once."""

    zone: tzinfo = UTC
    tips_ms: Sequence[int] = ()
    visits: Sequence[Visit] = ()


class Eligibility(Struct, frozen=True, rename="camel"):
    """How far from `regular`. A tip counts for `windowDays` to the ms, and no more when it is exactly that old."""

    eligible: bool
    tips_in_window: int
    tips_needed: int
    tip_threshold: int = TIP_THRESHOLD
    window_days: int = WINDOW_DAYS


def eligibility(tips_ms: Iterable[int], now_ms: int) -> Eligibility:
    """Of tips at one instant the one that is stored last may have begun first: those that are later than `now_ms` count."""
    counted = sum(at_ms > now_ms - WINDOW_MS for at_ms in tips_ms)
    return Eligibility(counted >= TIP_THRESHOLD, counted, max(0, TIP_THRESHOLD - counted))


def earned(facts: Facts, now_ms: int) -> dict[Type, int]:
    """The badges these facts are worth now, each with when it ends (ms). The same facts give the same, however often they are asked."""
    today = day_of(now_ms, facts.zone)
    visits = [visit for visit in facts.visits if today - timedelta(days=SEEN_DAYS) < visit.day <= today]
    ends: dict[Type, int] = {}
    last_ms = _last_tip_ms(facts.tips_ms)
    if last_ms is not None:
        ends[REGULAR] = last_ms + HELD_DAYS * DAY_MS
    for kind, weight, needed in _BY_DAY:
        last = _last_day([(visit.day, weight(visit)) for visit in visits], needed)
        if last is not None:
            ends[kind] = midnight_ms(last + timedelta(days=HELD_DAYS + 1), facts.zone)
    return {kind: end_ms for kind, end_ms in ends.items() if end_ms > now_ms}


def day_of(at_ms: int, zone: tzinfo) -> date:
    """The day of the calendar there."""
    return _local(at_ms, zone).date()


def midnight_ms(day: date, zone: tzinfo) -> int:
    """When that day begins there; where clocks skip midnight, when they say one."""
    return round(datetime.combine(day, time(), zone).timestamp() * 1000)


def visits_of(times_ms: Iterable[int], matched_ms: Iterable[int], zone: tzinfo) -> list[Visit]:
    """The days of somebody who was seen at these times, and had matches at those."""
    found: dict[date, Visit] = {}
    for at_ms in times_ms:
        local = _local(at_ms, zone)
        day = found.get(local.date(), Visit(local.date()))
        found[day.day] = Visit(day.day, day.early or local.hour in EARLY, day.late or local.hour in LATE)
    for at_ms in matched_ms:
        on = day_of(at_ms, zone)
        day = found.get(on, Visit(on))
        found[on] = Visit(on, day.early, day.late, day.matches + 1)
    return [found[day] for day in sorted(found)]


def _local(at_ms: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone)


def _last_tip_ms(tips_ms: Sequence[int]) -> int | None:
    """The last tip that, with those before it, was enough."""
    for first_ms, last_ms in zip(reversed(tips_ms[: 1 - TIP_THRESHOLD]), reversed(tips_ms), strict=False):
        if first_ms > last_ms - WINDOW_MS:
            return last_ms
    return None


def _last_day(weights: Sequence[tuple[date, int]], needed: int) -> date | None:
    """The last day that, with those up to it, weighs enough; all of them lie within `SEEN_DAYS`."""
    total, last = 0, None
    for day, weight in weights:
        total += weight
        if weight and total >= needed:
            last = day
    return last


_BY_DAY: Final[tuple[tuple[Type, Callable[[Visit], int], int], ...]] = (
    ("early_bird", lambda visit: visit.early, 1),
    ("night_owl", lambda visit: visit.late, 1),
    ("social_butterfly", lambda visit: visit.matches, MATCHES_NEEDED),
    ("frequent_visitor", lambda _: 1, DAYS_NEEDED),
)
