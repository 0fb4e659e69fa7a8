"""When a job is due, by its cron expression, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from brewd.jobs.job import Job


async def nothing() -> Mapping[str, int]:
    return {}


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("cron", "now", "last", "following"),
    [
        ("0 * * * *", "2026-11-24T10:00:00", "2026-11-24T10:00", "2026-11-24T11:00"),
        ("0 * * * *", "2026-11-24T10:00:00.500", "2026-11-24T10:00", "2026-11-24T11:00"),
        ("0 * * * *", "2026-11-24T09:59:59.999", "2026-11-24T09:00", "2026-11-24T10:00"),
        ("*/5 * * * *", "2026-11-24T10:07:30", "2026-11-24T10:05", "2026-11-24T10:10"),
        ("5 0 * * *", "2026-11-24T00:04:59", "2026-11-23T00:05", "2026-11-24T00:05"),
        ("30 3 * * *", "2026-12-31T23:59:59", "2026-12-31T03:30", "2027-01-01T03:30"),
    ],
)
def test_the_last_time_and_the_next(cron: str, now: str, last: str, following: str) -> None:
    job = Job("tidy", cron, nothing)
    assert (job.last_ms(ms(now)), job.next_ms(ms(now))) == (ms(last), ms(following))


def test_it_is_utc_whatever_the_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Vienna")
    assert Job("tidy", "0 0 * * *", nothing).next_ms(ms("2026-11-24T23:30")) == ms("2026-11-25T00:00")
