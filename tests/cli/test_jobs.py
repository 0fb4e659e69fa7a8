"""`brewd jobs`, `brewd user erase`, `brewd patron erase` and `brewd cafe analytics`, against a real daemon."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from tests.cli.conftest import Dev, Ran
from tests.cli.test_live import NOBODY, post

Brewd = Callable[..., Ran]
NAMES = (
    "expireUsers", "aggregateAnalytics", "expireBadges", "calculateBadges", "expirePokes", "proactiveMessages", "expireAgentQueries", "purgeMessages",
    "purgeNumbers",
)  # fmt: skip


@pytest.fixture
def cafe(brewd: Brewd) -> str:
    return str(brewd("cafe", "add", "--name", "Corner", "--json").json["cafe"]["id"])


def test_jobs_are_listed_with_their_schedule_and_their_runs(brewd: Brewd) -> None:
    ran = brewd("jobs", "list")
    assert ran.code == 0
    assert ran.out.splitlines()[0].split() == ["JOB", "SCHEDULE", "LAST", "RUN", "OUTCOME", "TOOK", "NEXT"]
    done = brewd("jobs", "run", "purgeMessages")
    assert (done.code, done.out.splitlines()[0].split()) == (0, ["outcome", "ok"])
    jobs = {job["name"]: job for job in brewd("jobs", "list", "--json").json["jobs"]}
    assert set(NAMES) <= jobs.keys()
    assert (jobs["expireUsers"]["cron"], jobs["aggregateAnalytics"]["cron"]) == ("0 * * * *", "5 * * * *")
    last = jobs["purgeMessages"]["last"]
    assert (last["outcome"], last["detail"], last["durationMs"] >= 0) == ("ok", {"cafes": 0, "messages": 0}, True)
    assert jobs["purgeMessages"]["next"].endswith("T03:30:00.000Z")


def test_a_job_that_is_none_is_answered_with_those_there_are(brewd: Brewd) -> None:
    ran = brewd("jobs", "run", "tidyUp")
    assert ran.code == 4
    assert all(name in ran.err for name in NAMES)
    assert brewd("jobs", "run").code == 2


def test_a_user_who_was_sent_home_is_erased_by_the_job(brewd: Brewd, cafe: str) -> None:
    user = brewd("user", "add", "--cafe", cafe, "--json").json["users"][0]
    brewd("user", "expire", user["id"])
    run = brewd("jobs", "run", "expireUsers", "--json").json["run"]
    assert (run["outcome"], run["detail"]["users"] >= 1) == ("ok", True)
    assert brewd("user", "show", user["id"]).code == 4


def test_an_erasure_prints_what_went_where(brewd: Brewd, cafe: str) -> None:
    first, second = brewd("user", "add", "--cafe", cafe, "--count", "2", "--json").json["users"]
    raw = brewd("user", "erase", "--cafe", cafe, first["username"], "--json").json
    assert (raw["userId"], raw["tables"]["customer"], raw["tables"]["session"]) == (first["id"], 1, 1)
    assert set(raw) == {"userId", "tables", "keys", "backups"}
    shown = brewd("user", "erase", "--cafe", cafe, second["id"])
    assert (shown.code, ["customer", "1"] in [line.split() for line in shown.out.splitlines()]) == (0, True)
    assert "not included" in shown.out
    for whom in (first["id"], first["username"], NOBODY):
        assert brewd("user", "erase", "--cafe", cafe, whom).code == 4
    assert brewd("user", "erase", "--cafe", NOBODY, first["id"]).code == 4
    assert brewd("user", "erase", first["id"]).code == 2


def test_a_patron_is_erased_by_the_key_on_stdin(brewd: Brewd, dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    cafe, staff = dev.demo["cafe"]["id"], dev.demo["staff"]
    _, login = post(dev, "/api/auth/staff/login", {"cafeId": cafe, "name": staff["name"], "password": staff["password"]})
    _, receipt = post(dev, "/api/auth/barista/generate-username", {"cafeId": cafe, "receiptId": "for-a-patron"}, login["accessToken"])
    _, joined = post(dev, "/api/auth/join", {"cafeId": cafe, "username": receipt["username"], "joinToken": receipt["joinToken"]})
    key = joined.get("patronKey", "")

    def erase(text: str) -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return brewd("patron", "erase", "--cafe", cafe, "--key-stdin", "--json")

    assert key, joined
    assert erase(f"{key}\n").json["tables"]["patron"] == 1
    assert (erase(f"{key}\n").code, erase("\n").code) == (4, 2)
    assert brewd("patron", "erase", "--cafe", cafe).code == 2


def test_how_long_messages_are_kept_is_the_cafes(brewd: Brewd, cafe: str) -> None:
    assert brewd("cafe", "set", cafe, "--retention-days", "2", "--json").json["cafe"]["retentionDays"] == 2
    assert "2 days" in brewd("cafe", "show", cafe).out
    assert brewd("cafe", "set", cafe, "--retention-days", "", "--json").json["cafe"]["retentionDays"] is None
    for wrong, code in (("0", 2), ("x", 2), ("4000", 2)):
        assert brewd("cafe", "set", cafe, "--retention-days", wrong).code == code


def test_hours_are_shown(brewd: Brewd, cafe: str) -> None:
    ran = brewd("cafe", "analytics", cafe)
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing in the last 24 hours yet; an hour is counted when it is over\n")
    assert brewd("cafe", "analytics", cafe, "--json").json == {"rows": []}
    assert brewd("cafe", "analytics", cafe, "--hours", "745").code == 2
    assert brewd("cafe", "analytics", NOBODY).code == 4
