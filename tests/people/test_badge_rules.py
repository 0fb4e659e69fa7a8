"""The rules of badges, by example and by what must hold for any facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brewd.people.badge_rules import (
    DAY_MS,
    DAYS_NEEDED,
    HELD_DAYS,
    MATCHES_NEEDED,
    TIP_THRESHOLD,
    WINDOW_MS,
    Facts,
    Visit,
    day_of,
    earned,
    eligibility,
    midnight_ms,
    visits_of,
)

VIENNA, KOLKATA, CAIRO, NEW_YORK = map(ZoneInfo, ("Europe/Vienna", "Asia/Kolkata", "Africa/Cairo", "America/New_York"))
NOW_MS = 1_795_341_600_000  # 2026-11-22T10:00:00Z
TODAY = date(2026, 11, 22)
HELD_MS = HELD_DAYS * DAY_MS

tips = st.lists(st.integers(NOW_MS - 3 * WINDOW_MS, NOW_MS), max_size=20).map(sorted)
visits = st.lists(
    st.builds(Visit, st.dates(TODAY - timedelta(days=40), TODAY), st.booleans(), st.booleans(), st.integers(0, 3)), max_size=40, unique_by=lambda one: one.day
).map(lambda found: sorted(found, key=lambda one: one.day))


def at(text: str, zone: ZoneInfo) -> int:
    """The ms of a wall clock there."""
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def days(*ago: int) -> list[Visit]:
    return [Visit(TODAY - timedelta(days=days)) for days in sorted(ago, reverse=True)]


# Tips


@pytest.mark.parametrize(("age_ms", "counts"), [(0, True), (WINDOW_MS - 1, True), (WINDOW_MS, False), (WINDOW_MS + 1, False), (-1, True)])
def test_a_tip_counts_for_seven_days_to_the_millisecond(age_ms: int, counts: bool) -> None:
    assert eligibility([NOW_MS - age_ms], NOW_MS).tips_in_window == counts
    four = [NOW_MS - 3, NOW_MS - 2, NOW_MS - 1, NOW_MS]
    assert ("regular" in earned(Facts(tips_ms=sorted([NOW_MS - age_ms, *four])), NOW_MS)) is counts


def test_five_tips_are_worth_thirty_days_from_the_last_one() -> None:
    times = [NOW_MS - day * DAY_MS for day in (6, 4, 4, 2, 0)]
    assert earned(Facts(tips_ms=sorted(times)), NOW_MS) == {"regular": NOW_MS + HELD_MS}
    assert earned(Facts(tips_ms=sorted(times)), NOW_MS + HELD_MS - 1) == {"regular": NOW_MS + HELD_MS}
    assert earned(Facts(tips_ms=sorted(times)), NOW_MS + HELD_MS) == {}
    assert earned(Facts(tips_ms=sorted(times)[1:]), NOW_MS) == {}


@given(tips)
def test_who_is_eligible_has_earned_it(times: list[int]) -> None:
    found = eligibility(times, NOW_MS)
    assert found.eligible == (found.tips_in_window >= TIP_THRESHOLD) == (found.tips_needed == 0)
    assert found.tips_needed + min(found.tips_in_window, TIP_THRESHOLD) == TIP_THRESHOLD
    if found.eligible:
        assert earned(Facts(tips_ms=times), NOW_MS)["regular"] == times[-1] + HELD_MS


@given(tips)
def test_regular_lasts_from_the_last_tip_that_earned_it(times: list[int]) -> None:
    """As somebody would say it who looked at every tip in turn."""
    enough = [last for last in times if sum(last - WINDOW_MS < one <= last for one in times) >= TIP_THRESHOLD]
    expected = {"regular": enough[-1] + HELD_MS} if enough and enough[-1] + HELD_MS > NOW_MS else {}
    assert earned(Facts(tips_ms=times), NOW_MS) == expected


# Days


def naive(found: Sequence[Visit]) -> dict[str, int]:
    """The same, day by day."""
    recent = [one for one in found if TODAY - timedelta(days=30) < one.day <= TODAY]
    sums = {
        "early_bird": (1, [(one.day, int(one.early)) for one in recent]),
        "night_owl": (1, [(one.day, int(one.late)) for one in recent]),
        "social_butterfly": (MATCHES_NEEDED, [(one.day, one.matches) for one in recent]),
        "frequent_visitor": (DAYS_NEEDED, [(one.day, 1) for one in recent]),
    }
    ends = {}
    for kind, (needed, weights) in sums.items():
        enough = [day for day, weight in weights if weight and sum(other for on, other in weights if on <= day) >= needed]
        if enough:
            ends[kind] = midnight_ms(max(enough) + timedelta(days=31), UTC)
    return ends


@given(visits)
@settings(max_examples=300)
def test_days_earn_what_they_are_worth(found: list[Visit]) -> None:
    assert earned(Facts(visits=found), NOW_MS) == naive(found)


@given(visits, st.integers(0, 60))
def test_more_never_earns_less_and_time_gives_nothing(found: list[Visit], later_days: int) -> None:
    before = earned(Facts(visits=found), NOW_MS)
    more = [one for one in found if one.day != TODAY] + [Visit(TODAY, True, True, 5)]
    after = earned(Facts(visits=more), NOW_MS)
    assert before.keys() <= after.keys()
    assert all(after[kind] >= end_ms for kind, end_ms in before.items())
    later = earned(Facts(visits=found), NOW_MS + later_days * DAY_MS)
    assert all(later[kind] <= before.get(kind, 0) for kind in later)


def test_who_comes_on_five_days_of_thirty_is_a_frequent_visitor() -> None:
    assert earned(Facts(visits=days(0, 5, 10, 20, 29)), NOW_MS) == {"frequent_visitor": midnight_ms(date(2026, 12, 23), UTC)}
    assert earned(Facts(visits=days(0, 5, 10, 20, 30)), NOW_MS) == {}
    assert earned(Facts(visits=days(0, 5, 10, 20)), NOW_MS) == {}


# The café's clock


@pytest.mark.parametrize(
    ("clock", "early", "late"),
    [
        ("04:59:59.999", False, False), ("05:00", True, False), ("07:59:59.999", True, False), ("08:00", False, False), ("21:59:59.999", False, False),
        ("22:00", False, True), ("23:59", False, True), ("00:00", False, True), ("01:59:59.999", False, True), ("02:00", False, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zone", [VIENNA, KOLKATA, NEW_YORK])
def test_early_and_late_are_what_the_clock_in_the_cafe_says(zone: ZoneInfo, clock: str, early: bool, late: bool) -> None:
    for day in ("2026-07-01", "2026-11-22"):
        assert visits_of([at(f"{day}T{clock}", zone)], [], zone) == [Visit(date.fromisoformat(day), early, late)]


def test_a_day_begins_at_midnight_in_the_cafe() -> None:
    before, after = at("2026-11-22T23:59:59.999", KOLKATA), at("2026-11-23T00:00", KOLKATA)
    assert after - before == 1
    assert [one.day.day for one in visits_of([before, after], [], KOLKATA)] == [22, 23]
    assert [one.day.day for one in visits_of([before, after], [], UTC)] == [22]


def test_days_on_which_clocks_change_are_days() -> None:
    spring, autumn = date(2026, 3, 29), date(2026, 10, 25)
    assert midnight_ms(spring + timedelta(days=1), VIENNA) - midnight_ms(spring, VIENNA) == 23 * 3_600_000
    assert midnight_ms(autumn + timedelta(days=1), VIENNA) - midnight_ms(autumn, VIENNA) == 25 * 3_600_000
    twice = at("2026-10-25T02:30", VIENNA)
    assert {day_of(twice + hour * 3_600_000, VIENNA) for hour in (-1, 0, 1, 2)} == {autumn}
    no_midnight = date(2026, 4, 24)  # in Cairo this day begins at one
    assert day_of(midnight_ms(no_midnight, CAIRO), CAIRO) == no_midnight
    assert day_of(midnight_ms(no_midnight, CAIRO) - 1, CAIRO) == no_midnight - timedelta(days=1)


@given(st.integers(NOW_MS - 400 * DAY_MS, NOW_MS + 400 * DAY_MS), st.sampled_from([VIENNA, KOLKATA, CAIRO, NEW_YORK]))
def test_every_moment_lies_in_its_day(at_ms: int, zone: ZoneInfo) -> None:
    day = day_of(at_ms, zone)
    assert midnight_ms(day, zone) <= at_ms < midnight_ms(day + timedelta(days=1), zone)


def test_matches_are_counted_on_their_day() -> None:
    found = visits_of([NOW_MS], [NOW_MS, NOW_MS + 1, NOW_MS - 2 * DAY_MS], UTC)
    assert found == [Visit(TODAY - timedelta(days=2), matches=1), Visit(TODAY, matches=2)]
    assert earned(Facts(visits=found), NOW_MS).keys() == {"social_butterfly"}
