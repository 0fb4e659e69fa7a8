"""The jobs, each in one line, and those who do them, wired together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from brewd.agent.parts import AgentParts
from brewd.agent.proactive import ROUND_MAX_S
from brewd.cafe.directory import Directory
from brewd.jobs.job import Job
from brewd.jobs.scheduler import Scheduler
from brewd.people.analytics import Analytics
from brewd.people.badges import Badges
from brewd.people.erasure import Erasure, SendAway
from brewd.people.expiry import Expiry
from brewd.people.retention import Numbers, Retention
from brewd.people.sessions import Sessions
from brewd.people.standings import Decisions
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.pokes import Pokes
from brewd.store.mirror import Mirror, Pipeline
from brewd.store.postgres import Postgres


class Housekeeping(Struct, frozen=True):
    scheduler: Scheduler
    erasure: Erasure
    analytics: Analytics


def housekeeping(
    *,
    pg: Postgres,
    replica: Postgres,
    redis: Pipeline,
    mirror: Mirror,
    clock: Clock,
    ids: Ids,
    sessions: Sessions,
    rooms: Directory,
    decisions: Decisions,
    send_away: SendAway,
    retention_days: int,
    numbers_days: int,
    badges: Badges,
    pokes: Pokes,
    agent: AgentParts,
) -> Housekeeping:
    """`replica`: `pg` itself when there is none; `send_away` closes the sockets of a user."""
    erasure = Erasure(
        pg=pg, redis=redis, mirror=mirror, clock=clock, ids=ids, sessions=sessions, rooms=rooms, decisions=decisions, questions=agent.log.writer,
        send_away=send_away,
    )  # fmt: skip
    erasure.on_patrons.append(badges.recheck)
    erasure.on_people += [agent.agent.forget, sessions.holders.forget]
    expiry = Expiry(pg=pg, clock=clock, erasure=erasure)
    analytics = Analytics(pg=pg, replica=replica, clock=clock)
    retention = Retention(pg=pg, clock=clock, rooms=rooms, days=retention_days)
    jobs = (
        Job("expireUsers", "0 * * * *", expiry.run),
        Job("aggregateAnalytics", "5 * * * *", analytics.run),
        Job("expireBadges", "0 0 * * *", badges.expire),
        Job("calculateBadges", "5 0 * * *", badges.calculate),
        Job("expirePokes", "*/5 * * * *", pokes.expire),
        Job("proactiveMessages", "*/2 * * * *", _counted("messages", agent.proactive.round), deadline_s=ROUND_MAX_S),
        Job("expireAgentQueries", "10 * * * *", _counted("queries", agent.log.expire)),
        Job("purgeMessages", "30 3 * * *", retention.run),
        Job("purgeNumbers", "45 3 * * *", Numbers(pg=pg, clock=clock, days=numbers_days).run),
    )
    return Housekeeping(Scheduler(jobs=jobs, pg=pg, clock=clock, ids=ids), erasure, analytics)


def _counted(what: str, work: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[dict[str, int]]]:
    """Work that counts one thing, as a job that says which."""

    async def run() -> dict[str, int]:
        return {what: await work()}

    return run
