"""`jobs.list`, `jobs.run`, `user.erase`, `patron.erase`, `cafe.analytics`: what brewd does by the clock, done or shown at a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from brewd.edge.control.server import Method, Params, method
from brewd.people.analytics import HOUR_MS
from brewd.people.records import invalid
from brewd.runtime.clock import Clock, rfc3339

if TYPE_CHECKING:
    from brewd.jobs.housekeeping import Housekeeping
    from brewd.jobs.runs import Run
    from brewd.jobs.scheduler import Listed, Scheduler
    from brewd.people.analytics import Analytics, Hour
    from brewd.people.cafes import Cafes
    from brewd.people.erasure import Erasure, Receipt
    from brewd.people.moderation import Moderation

_ERASE_S = 60.0
_END_S = 30.0
"""On top of what a job may take: for claiming it, and for recording its end."""


class RunJob(Params, frozen=True, kw_only=True):
    name: str


class EraseUser(Params, frozen=True, kw_only=True):
    """`user`: their id, or their name in the café."""

    cafe_id: UUID
    user: str


class ErasePatron(Params, frozen=True, kw_only=True):
    cafe_id: UUID
    key: str

    def __repr__(self) -> str:
        return f"ErasePatron(cafe_id={self.cafe_id})"  # no key in any log


class ShowAnalytics(Params, frozen=True, kw_only=True):
    cafe_id: UUID
    hours: int = 24


def job_methods(*, keeping: Housekeeping, moderation: Moderation, cafes: Cafes, clock: Clock) -> dict[str, Method]:
    return {
        **_scheduler_methods(keeping.scheduler),
        **_erasure_methods(keeping.erasure, moderation, cafes),
        **_analytics_methods(keeping.analytics, cafes, clock),
    }


def _scheduler_methods(scheduler: Scheduler) -> dict[str, Method]:
    async def list_all(_: Params) -> dict[str, Any]:
        return {"jobs": [_listed_json(listed) for listed in await scheduler.list()]}

    async def run(params: RunJob) -> dict[str, Any]:
        return {"run": _run_json(await scheduler.run_now(params.name))}

    return {
        "jobs.list": method(Params, list_all),
        "jobs.run": method(RunJob, run, deadline_s=scheduler.deadline_max_s + _END_S),
    }


def _erasure_methods(erasure: Erasure, moderation: Moderation, cafes: Cafes) -> dict[str, Method]:
    async def user(params: EraseUser) -> dict[str, Any]:
        cafe_id = (await cafes.get(str(params.cafe_id))).id
        user_id = await moderation.find(cafe_id, params.user)
        return {"userId": user_id, **_receipt_json(await erasure.user(user_id, cafe_id))}

    async def patron(params: ErasePatron) -> dict[str, Any]:
        cafe_id = (await cafes.get(str(params.cafe_id))).id
        return _receipt_json(await erasure.patron(cafe_id, params.key))

    return {
        "user.erase": method(EraseUser, user, deadline_s=_ERASE_S),
        "patron.erase": method(ErasePatron, patron, deadline_s=_ERASE_S),
    }


def _analytics_methods(analytics: Analytics, cafes: Cafes, clock: Clock) -> dict[str, Method]:
    async def show(params: ShowAnalytics) -> dict[str, Any]:
        if not 1 <= params.hours <= 31 * 24:
            raise invalid("hours", "must be between 1 and 744, which are 31 days")
        cafe_id, now_ms = (await cafes.get(str(params.cafe_id))).id, clock.now_ms()
        return {"rows": [_hour_json(hour) for hour in await analytics.rows(cafe_id, now_ms - params.hours * HOUR_MS, now_ms)]}

    return {"cafe.analytics": method(ShowAnalytics, show)}


def _receipt_json(receipt: Receipt) -> dict[str, Any]:
    return {"tables": receipt.tables, "keys": receipt.keys, "backups": receipt.backups}


def _listed_json(listed: Listed) -> dict[str, Any]:
    last = listed.last
    return {"name": listed.job.name, "cron": listed.job.cron, "next": rfc3339(listed.next_ms), "last": None if last is None else _run_json(last)}


def _run_json(run: Run) -> dict[str, Any]:
    """`outcome` null: it is under way."""
    return {
        "id": run.id,
        "job": run.job,
        "dueAt": rfc3339(run.due_ms),
        "startedAt": rfc3339(run.started_ms),
        "endedAt": None if run.ended_ms is None else rfc3339(run.ended_ms),
        "durationMs": None if run.ended_ms is None else run.ended_ms - run.started_ms,
        "outcome": run.outcome,
        "detail": dict(run.detail),
    }


def _hour_json(hour: Hour) -> dict[str, Any]:
    return {
        "hour": rfc3339(hour.at_ms),
        "messages": hour.messages,
        "authors": hour.authors,
        "joins": hour.joins,
        "pokes": hour.pokes,
        "matches": hour.matches,
        "agentQueries": hour.agent_queries,
    }
