"""Every method of the control socket, by name, over the objects the daemon is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.edge.control.agent import agent_methods
from brewd.edge.control.cafes import cafe_methods
from brewd.edge.control.jobs import job_methods
from brewd.edge.control.limits import limits_methods
from brewd.edge.control.moderation import moderation_methods
from brewd.edge.control.operations import operation_methods
from brewd.edge.control.people import staff_methods, user_methods

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from brewd.agent.parts import AgentParts
    from brewd.cafe.directory import Directory
    from brewd.config import Config
    from brewd.edge.control.server import Method
    from brewd.edge.networks import Networks
    from brewd.jobs.housekeeping import Housekeeping
    from brewd.people.allowances import Allowances
    from brewd.people.cafes import Cafes
    from brewd.people.moderation import Moderation
    from brewd.people.staff import Staff
    from brewd.people.users import Users
    from brewd.runtime.clock import Clock
    from brewd.runtime.supervisor import Supervisor


def build_methods(
    *,
    cafes: Cafes,
    networks: Networks,
    staff: Staff,
    users: Users,
    directory: Directory,
    moderation: Moderation,
    allowances: Allowances,
    keeping: Housekeeping,
    clock: Clock,
    agent: AgentParts,
    supervisor: Supervisor,
    config: Config,
    health: Callable[[], Awaitable[dict[str, Any]]],
    drain: Callable[[], None],
    stop: Callable[[], None],
    urls: Sequence[str] | None = None,
) -> dict[str, Method]:
    """`health` answers what `GET /api/health` does; `drain` and `stop` ask the daemon to end, and return at once.

    `urls`: where it really listens, for `status`; None: as configured.
    """
    listening = config.server.listen if urls is None else urls
    return {
        **operation_methods(directory=directory, supervisor=supervisor, config=config, urls=listening, health=health, drain=drain, stop=stop),
        **cafe_methods(cafes=cafes, networks=networks, directory=directory),
        **staff_methods(staff=staff, cafes=cafes),
        **user_methods(users=users, cafes=cafes, moderation=moderation),
        **moderation_methods(moderation=moderation, cafes=cafes),
        **limits_methods(allowances=allowances, moderation=moderation, cafes=cafes),
        **job_methods(keeping=keeping, moderation=moderation, cafes=cafes, clock=clock),
        **agent_methods(agent=agent, cafes=cafes),
    }
