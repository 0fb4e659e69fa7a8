"""A bucket lets through what it promises, to the millisecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from brewd.runtime.bucket import Rate, Uses, Window, drawn, full_in_ms, packed, remaining, take, unpacked, wait_ms

rates = st.builds(
    Rate,
    tokens=st.integers(0, 200),
    period_ms=st.sampled_from([1, 7, 1000, 3_600_000, 86_400_000]),
    burst=st.one_of(st.integers(0, 4), st.integers(0, 40)),
    gap_ms=st.one_of(st.just(0), st.integers(0, 40_000)),
)
pauses = st.lists(st.one_of(st.just(0), st.integers(0, 100), st.integers(0, 4_000_000)), max_size=120)


def taken_at(rate: Rate, steps: list[int]) -> list[int]:
    """When a user who tries at all these times got a token."""
    uses: Uses | None = None
    now_ms, got = 0, []
    for pause_ms in steps:
        now_ms += pause_ms
        if wait_ms(uses, rate, now_ms) == 0:
            uses = take(uses, rate, now_ms)
            got.append(now_ms)
    return got


@given(rates, pauses)
def test_no_window_holds_more_than_the_bucket_allows(rate: Rate, steps: list[int]) -> None:
    got = taken_at(rate, steps)
    for first in range(len(got)):
        for last in range(first, len(got)):
            span_ms = got[last] - got[first]
            assert last - first + 1 <= rate.burst + span_ms * rate.tokens // rate.period_ms
            if last == first + 1:
                assert span_ms >= rate.gap_ms


@given(rates, pauses, st.integers(0, 10_000))
def test_the_wait_is_exact(rate: Rate, steps: list[int], later_ms: int) -> None:
    """One ms earlier is refused, then it is accepted; and whoever waits is not made to wait for more than that."""
    uses: Uses | None = None
    now_ms = 0
    for pause_ms in steps:
        now_ms += pause_ms
        wait = wait_ms(uses, rate, now_ms)
        if wait is None:
            assert wait_ms(uses, rate, now_ms + 10**12) is None
            return
        if wait:
            assert wait_ms(uses, rate, now_ms + wait - 1) == 1
            assert wait_ms(uses, rate, now_ms + wait) == 0
        assert remaining(uses, rate, now_ms + wait) >= 1
        uses = take(uses, rate, now_ms + wait)
        now_ms += wait
    full = full_in_ms(uses, rate, now_ms + later_ms)
    if full is not None and rate.burst:
        assert wait_ms(uses, rate, now_ms + later_ms + full) == 0
        assert remaining(uses, rate, now_ms + later_ms + full) == rate.burst


@given(rates, pauses)
def test_looking_changes_nothing(rate: Rate, steps: list[int]) -> None:
    """A token taken late counts as from then: nobody is owed what was not taken."""
    got = taken_at(rate, steps)
    again: Uses | None = None
    for at_ms in got:
        assert wait_ms(again, rate, at_ms) == 0
        again = take(again, rate, at_ms)


@given(rates, st.lists(st.one_of(st.just(0), st.integers(-5000, 100), st.integers(0, 4_000_000)), max_size=120))
def test_in_one_go_is_the_same_as_asking_first(rate: Rate, steps: list[int]) -> None:
    """Also when the clock is set back."""
    uses: Uses | None = None
    held, now_ms = None, 10_000_000
    for pause_ms in steps:
        now_ms = max(0, now_ms + pause_ms)
        after = drawn(held, rate, now_ms)
        assert (after is not None) is (wait_ms(uses, rate, now_ms) == 0)
        if after is not None:
            uses, held = take(uses, rate, now_ms), after
            assert unpacked(held) == uses
            assert packed(uses) == held


def test_a_clock_that_is_set_back() -> None:
    rate = Rate(tokens=60, period_ms=3_600_000, burst=2, gap_ms=5000)
    uses = take(take(None, rate, 1_000_000), rate, 1_010_000)
    assert remaining(uses, rate, 0) == 0
    assert wait_ms(uses, rate, 0) == 60_000 - 10_000
    assert take(uses, rate, 0)[1] == 1_010_000


@given(st.integers(0, 12), st.one_of(st.none(), st.integers(1, 10_000)), st.lists(st.integers(0, 3000), max_size=60))
def test_a_window(limit: int, period_ms: int | None, steps: list[int]) -> None:
    window = Window(limit, period_ms)
    times: tuple[int, ...] = ()
    now_ms = 0
    for pause_ms in steps:
        now_ms += pause_ms
        wait = window.wait_ms(times, now_ms)
        if wait == 0:
            times = (*times, now_ms)
        elif wait is not None:
            assert window.wait_ms(times, now_ms + wait - 1) == 1
            assert window.wait_ms(times, now_ms + wait) == 0
        else:
            assert len(times) == limit
        if period_ms is not None:
            assert sum(at_ms > now_ms - period_ms for at_ms in times) <= limit
    assert period_ms is not None or len(times) <= limit
