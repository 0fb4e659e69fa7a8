"""Tables and durations."""

from __future__ import annotations

import pytest

from brewd.cli.output import duration, facts, table


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    assert table(("NAME", "N"), [("café", 5), ("x", 12)]) == "NAME   N\ncafé   5\nx     12"


def test_a_table_of_nothing_is_its_head() -> None:
    assert table(("NAME", "N"), []) == "NAME  N"


def test_facts_leave_out_what_there_is_not() -> None:
    assert facts([("a", None), ("bc", 0), ("d", ""), ("e", "x")]) == "bc  0\ne   x"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3661, "1h 1m"), (90061, "1d 1h"), (86400, "1d")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
