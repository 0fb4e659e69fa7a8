"""A bounded table of counts: what it lets go, what it holds on to, and that it never grows past its room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from brewd.runtime.tally import FORGET, HOLD, LOOK, Tally, Windows


def grip(state: tuple[int, bool], now: int) -> float:
    """A state is `(until, over the limit)`."""
    until, over = state
    if now >= until:
        return FORGET
    return HOLD if over else until - now


def tally(room: int = 32) -> Tally[str, tuple[int, bool]]:
    return Tally(room=room, grip=grip)


def test_it_remembers_what_was_put() -> None:
    found = tally()
    assert found.get("a") is None
    assert found.put("a", (10, False), 0)
    assert found.put("a", (20, True), 0)
    assert (found.get("a"), len(found)) == ((20, True), 1)


def test_a_newcomer_takes_the_place_of_the_one_that_matters_least() -> None:
    found = tally(room=4)
    for until, key in enumerate("abcd", 100):
        found.put(key, (until, False), 0)
    assert found.put("e", (200, False), 0)
    assert [found.get(key) is not None for key in "abcde"] == [False, True, True, True, True]


def test_who_is_over_the_limit_is_not_forgotten_however_many_come() -> None:
    found = tally(room=50)
    for number in range(25):
        found.put(f"over {number}", (1_000_000, True), 0)
    for number in range(10_000):
        assert found.put(f"new {number}", (1_000 + number, False), number)
        assert len(found) <= 50
    assert all(found.get(f"over {number}") == (1_000_000, True) for number in range(25))


def test_without_a_place_to_take_the_newcomer_is_not_remembered() -> None:
    found = tally(room=20)
    for number in range(20):
        found.put(f"over {number}", (100, True), 0)
    assert not found.put("new", (100, False), 99)
    assert found.get("new") is None
    assert len(found) == 20
    assert found.put("over 3", (300, True), 99), "who is known already keeps counting"
    assert found.put("new", (300, False), 100)
    assert len(found) <= 20 - LOOK + 2


def test_what_has_run_out_goes_while_others_come() -> None:
    found = tally(room=1_000)
    for number in range(900):
        found.put(f"old {number}", (10, True), 0)
    for number in range(900 // LOOK * 2):
        found.put(f"new {number}", (100, False), 10)
    assert len(found) == 900 // LOOK * 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.booleans(), st.integers(0, 3))), st.integers(1, 20))
def test_it_is_bounded_and_holds_on_to_who_is_over(puts: list[tuple[int, int, bool, int]], room: int) -> None:
    found: Tally[int, tuple[int, bool]] = Tally(room=room, grip=grip)
    known: dict[int, tuple[int, bool]] = {}
    now = 0
    for key, lasts, over, later in puts:
        now += later
        state = (now + lasts, over)
        if found.put(key, state, now):
            known[key] = state
        assert len(found) <= room
        for other, one in known.items():
            seen = found.get(other)
            assert seen in (None, one)
            if grip(one, now) == HOLD:
                assert seen == one
        known = {other: one for other, one in known.items() if found.get(other) is not None}


def test_a_window_holds_the_times_that_count_and_no_more_than_are_asked_for() -> None:
    found: Windows[str] = Windows(limit=3, period_ms=100, room=10)
    assert found.recent("a", 0) == ()
    assert [found.wait_ms("a", now, 3) for now in (0, 1) if found.add("a", now, 3)] == [0, 0]
    assert found.add("a", 50, 3) == (0, 1, 50)
    assert (found.wait_ms("a", 60, 3), found.wait_ms("a", 60, 2), found.wait_ms("a", 60, 4)) == (40, 41, 0)
    assert (found.wait_ms("a", 99, 3), found.wait_ms("a", 100, 3)) == (1, 0)
    assert found.recent("a", 100) == (1, 50)
    for now in range(51, 80):
        assert len(found.add("a", now, 3)) == 3
    assert found.recent("a", 80) == (77, 78, 79)


def test_what_did_not_happen_is_taken_back() -> None:
    found: Windows[str] = Windows(limit=3, period_ms=100, room=10)
    for now in (1, 2, 2):
        found.add("a", now, 3)
    found.take_back("a", 2)
    found.take_back("a", 99)
    found.take_back("b", 1)
    assert (found.recent("a", 3), len(found)) == ((1, 2), 1)


def test_windows_at_their_limit_are_held_on_to() -> None:
    found: Windows[int] = Windows(limit=2, period_ms=1_000_000, room=8)
    for now in (0, 1):
        for key in range(-7, 0):
            found.add(key, now, 2)
    for number in range(1000):
        found.add(number, number, 2)
    assert [found.wait_ms(key, 1000, 2) for key in range(-7, 0)] == [999_000] * 7
    assert len(found) == 8
