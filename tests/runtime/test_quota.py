"""A bound over many takers: never passed, and free again when given back."""

from __future__ import annotations

from brewd.runtime.quota import Quota


def test_takes_up_to_the_limit_and_no_more() -> None:
    quota = Quota(2)
    assert [quota.take() for _ in range(3)] == [True, True, False]
    assert quota.used == 2


def test_what_is_given_back_can_be_taken_again() -> None:
    quota = Quota(3)
    for _ in range(3):
        quota.take()
    quota.give(2)
    assert quota.used == 1
    assert [quota.take() for _ in range(3)] == [True, True, False]
    quota.give()
    assert quota.used == 2
