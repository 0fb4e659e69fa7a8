"""The agent and what belongs to it, wired together."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio
from msgspec import Struct

from brewd.agent.accounts import AgentLog
from brewd.agent.agent import Agent
from brewd.agent.cache import AnswerCache
from brewd.agent.calling import Calls, OpenClient
from brewd.agent.calls import GiveWay
from brewd.agent.context import Context
from brewd.agent.proactive import Proactive, Rooms
from brewd.agent.row_writer import RowWriter
from brewd.agent.rows import put_rows
from brewd.agent.settings import AgentConfigs
from brewd.config_agent import Agent as Config
from brewd.people.cafes import Cafes
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.supervisor import ENDLESS, Restart, Supervisor
from brewd.store.mirror import Mirror, Pipeline
from brewd.store.postgres import Postgres
from brewd.store.stores import ENDLESS_RESTART

END_S: Final = 1.0

RESTART: Final = Restart(intensity=ENDLESS, period_s=60.0, backoff_s=0.02)
"""Service goes on without the agent, so there is no end to trying: ever more slowly within a period, of which starting the worker takes a second."""


class AgentParts(Struct, frozen=True):
    """`proactive.round` and `log.expire` are work for jobs."""

    agent: Agent
    configs: AgentConfigs
    log: AgentLog
    proactive: Proactive

    def spawn(self, root: Supervisor) -> None:
        root.spawn("agent", self.agent.run, restart=RESTART)
        root.spawn("agent-log", self.log.writer.run, restart=ENDLESS_RESTART)

    async def end(self, root: Supervisor) -> None:
        """Stop what is being answered, and write down what it cost. Takes `END_S` at most."""
        child = root.discard("agent")
        with trio.move_on_after(END_S):
            if child is not None:
                await child.ended.wait()
            await self.log.writer.flush(END_S)


def make_agent(
    config: Config,
    *,
    pg: Postgres,
    redis: Pipeline,
    mirror: Mirror,
    cafes: Cafes,
    rooms: Rooms,
    clock: Clock,
    ids: Ids,
    open_client: OpenClient,
    give_way: GiveWay,
) -> AgentParts:
    """`open_client` opens whoever makes the calls."""
    configs = AgentConfigs(pg=pg)
    context = Context(pg=pg, cafes=cafes, rooms=rooms, clock=clock)
    writer = RowWriter(put=partial(put_rows, pg), give_way=give_way)
    log = AgentLog(pg=pg, cafes=cafes, mirror=mirror, clock=clock, writer=writer)
    calls = Calls(config=config, log=log, clock=clock, ids=ids, open_client=open_client, give_way=give_way, place=pg.place)
    cache = AnswerCache(clock=clock, redis=redis, mirror=mirror)
    return AgentParts(
        agent=Agent(calls=calls, configs=configs, context=context, cache=cache, log=log, rooms=rooms, clock=clock, ids=ids, give_way=give_way),
        configs=configs,
        log=log,
        proactive=Proactive(calls=calls, configs=configs, context=context, pg=pg, rooms=rooms, clock=clock, ids=ids),
    )
