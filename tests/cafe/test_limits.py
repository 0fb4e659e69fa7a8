"""Limits as policy: a profile, and a café's own values on top."""

from __future__ import annotations

from typing import Any

import pytest

from brewd.cafe.limits import DAY_MS, HOUR_MS, Limits, limits_of, overridden
from brewd.config import LIVELY, Bucket, PerDay, Profile
from brewd.errors import Rejected
from brewd.runtime.bucket import Rate, Window


def test_the_standard_profile_is_what_the_contract_says() -> None:
    limits = limits_of(Profile())
    plain, badge = limits.of(None), limits.of("regular")
    assert plain.message == Rate(tokens=30, period_ms=HOUR_MS, burst=30, gap_ms=30_000)
    assert badge.message == Rate(tokens=60, period_ms=HOUR_MS, burst=60, gap_ms=15_000)
    assert (plain.poke, badge.poke) == (Window(5, DAY_MS), Window(10, DAY_MS))
    assert (plain.agent, plain.agent_gap_ms, badge.agent, badge.agent_gap_ms) == (Window(2), 120_000, Window(5), 60_000)


def test_the_lively_profile_allows_bursts_of_ten_and_thirty_a_minute() -> None:
    message = limits_of(LIVELY).plain.message
    assert (message.burst, message.tokens * 60_000 // message.period_ms, message.gap_ms) == (10, 30, 1000)


@pytest.mark.parametrize(
    ("message", "badge", "memory_ms"),
    [
        (Bucket(per_hour=30, burst=30), Bucket(per_hour=60, burst=60), DAY_MS),
        (Bucket(per_hour=1, burst=30), Bucket(per_hour=60, burst=60), 30 * HOUR_MS),
    ],
)
def test_a_message_counts_for_a_whole_stay_since_who_goes_on_sending_never_has_a_full_bucket(message: Bucket, badge: Bucket, memory_ms: int) -> None:
    assert limits_of(Profile(message=message, badge_message=badge)).memory_ms == memory_ms


def test_single_values_are_replaced_and_the_others_stay() -> None:
    profile = overridden(LIVELY, {"message": {"per_hour": 40, "gap_s": None}, "badge_poke": {"per_day": 0}})
    assert profile.message == Bucket(per_hour=40, burst=10, gap_s=1)
    assert (profile.badge_message, profile.badge_poke, profile.agent) == (LIVELY.badge_message, PerDay(per_day=0), LIVELY.agent)
    assert isinstance(limits_of(profile), Limits)
    assert overridden(LIVELY, {}) == LIVELY


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"mesage": {"per_hour": 1}}, "limits.mesage.per_hour"),
        ({"mesage": {}}, "limits.mesage"),
        ({"message": {"per_our": None}}, "limits.message.per_our"),
        ({"message": 5}, "limits.message"),
        ({"message": None}, "limits.message"),
        ({"message": {"per_hour": 0}}, "limits.message.per_hour"),
        ({"message": {"per_hour": -3}}, "limits.message.per_hour"),
        ({"message": {"per_hour": "30"}}, "limits.message.per_hour"),
        ({"message": {"burst": 10**10}}, "limits.message.burst"),
        ({"message": {"gap_s": -1}}, "limits.message.gap_s"),
        ({"message": {"gap_s": 86_401}}, "limits.message.gap_s"),
        ({"message": {"gap_s": float("nan")}}, "limits.message.gap_s"),
        ({"poke": {"per_day": 1.5}}, "limits.poke.per_day"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(overrides: Any, path: str) -> None:
    with pytest.raises(Rejected) as caught:
        overridden(Profile(), overrides)
    assert caught.value.code == "invalid_request"
    assert caught.value.extras["errors"][0]["path"] == path
