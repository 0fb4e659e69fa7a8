"""Everything of the agent over a real Postgres and Redis, with a room that answers as it is told and an API on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import trio

from brewd.agent.accounts import AgentLog
from brewd.agent.agent import Agent, Asked, Inquiry
from brewd.agent.calls import GiveWay, Opening
from brewd.agent.parts import make_agent
from brewd.agent.pieces import Chunk, Complete, Failed, Piece
from brewd.agent.settings import AgentConfigs
from brewd.agent.writer import Writer, open_writer
from brewd.cafe import commands as c
from brewd.cafe.commands import Who
from brewd.cafe.events import TalkAnswer, TopicView
from brewd.config_agent import Agent as Config
from brewd.errors import Rejected
from brewd.people.cafes import Cafes
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.messages import Messages
from brewd.store.mirror import Mirror
from brewd.store.postgres import Postgres
from brewd.store.redis import Redis
from tests.agent.upstream import Upstream
from tests.patience import PATIENCE

WAIT_S = 5 * PATIENCE


def open_near(opening: Opening, _: GiveWay) -> AbstractAsyncContextManager[Writer]:
    """What makes the calls here, in this process."""
    return open_writer(opening)


class Room:
    """What the agent sees of a room. `refuses`: what a question for a token is answered with."""

    def __init__(self, cafe_id: str, pg: Postgres) -> None:
        self._cafe_id = cafe_id
        self._messages = Messages(lane=pg, pool=pg, timeout_s=WAIT_S)
        self.members = 3
        self.taken: list[c.Take] = []
        self.topics: list[str] = []
        self.refuses: Rejected | None = None
        self.takes_max: int | None = None

    async def ask(self, question: c.Question) -> Any:
        await trio.lowlevel.checkpoint()
        if isinstance(question, c.TalkQuery):
            messages = await self._messages.before(self._cafe_id, 2**62, question.messages)
            return TalkAnswer(list(messages), [TopicView(topic, 1.0) for topic in self.topics])
        assert isinstance(question, c.Take)
        if self.refuses is not None:
            raise self.refuses
        if len(self.taken) == self.takes_max:
            raise Rejected("rate_limited", "The next question may go in 120 s.", retryAfterMs=120_000)
        self.taken.append(question)
        return {}


class Rooms:
    def __init__(self, pg: Postgres) -> None:
        self._pg = pg
        self._rooms: dict[str, Room] = {}

    def ref(self, cafe_id: str) -> Any:
        return self._rooms.setdefault(cafe_id, Room(cafe_id, self._pg))

    def list(self) -> list[Any]:
        return []


class Table:
    """`agent` runs for as long as the block that opened this. `way` is free while it is set."""

    def __init__(self, *, config: Config, pg: Postgres, redis: Redis, clock: Clock, ids: Ids, upstream: Upstream) -> None:
        self.pg, self.redis, self.clock, self.ids, self.upstream = pg, redis, clock, ids, upstream
        self.rooms = Rooms(pg)
        self.mirror = Mirror(redis=redis, name="test")
        self.cafes = Cafes(pg=pg, clock=clock, ids=ids)
        self.way = trio.Event()
        self.way.set()
        self.gave_way = 0
        parts = make_agent(
            config, pg=pg, redis=redis, mirror=self.mirror, cafes=self.cafes, rooms=self.rooms, clock=clock, ids=ids, open_client=open_near,
            give_way=self._give_way,
        )  # fmt: skip
        self.agent: Agent = parts.agent
        self.configs: AgentConfigs = parts.configs
        self.log: AgentLog = parts.log

    async def _give_way(self) -> None:
        self.gave_way += 1
        await self.way.wait()

    async def cafe(self, **fields: Any) -> Cafe:
        return await self.cafes.add(**{"name": "Corner", **fields})

    async def guest(self, cafe: Cafe, name: str = "", interests: tuple[str, ...] = ()) -> Who:
        """A customer who stays for an hour."""
        user_id, now_ms = self.ids.uuid7(), self.clock.now_ms()
        name = name or f"Guest-{user_id[-6:]}"
        await self.row(
            "INSERT INTO customer (id, cafe_id, username, interests, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
            user_id, cafe.id, name, list(interests), as_datetime(now_ms), as_datetime(now_ms + 3_600_000),
        )  # fmt: skip
        return Who(user_id, name)

    async def said(self, cafe: Cafe, user_id: str, name: str, content: str, *, ago_ms: int = 60_000) -> None:
        """A message in the room's history."""
        await self.row(
            "INSERT INTO message (cafe_id, seq, id, user_id, username, content, created_at)"
            " SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, $4, $5, $6 FROM message WHERE cafe_id = $1",
            cafe.id, self.ids.uuid7(), user_id, name, content, as_datetime(self.clock.now_ms() - ago_ms),
        )  # fmt: skip

    async def row(self, sql: str, *args: Any) -> list[Any]:
        """Plain SQL."""

        async def work(connection: Any) -> list[Any]:
            rows: list[Any] = await connection.fetch(sql, *args)
            return rows

        return await self.pg._bridge.call(self.pg._pool.use, work, 5.0, False)

    def inquiry(self, cafe_id: str, query: str = "what is good here?", who: Who | None = None, personality: str | None = None) -> Inquiry:
        who = who or Who("00000000-0000-4000-8000-0000000000aa", "Somebody")
        return Inquiry(cafe_id=cafe_id, who=who, session_id=self.ids.uuid7(), query=query, personality=personality)

    async def ask(self, cafe: Cafe, query: str = "what is good here?", who: Who | None = None, personality: str | None = None) -> Asked:
        with trio.fail_after(WAIT_S):
            return await self.agent.ask(self.inquiry(cafe.id, query, who, personality))

    async def heard(self, cafe: Cafe, query: str = "what is good here?", **more: Any) -> tuple[str, Complete | Failed]:
        """Ask, and hear the whole of it."""
        return await hear(await self.ask(cafe, query, **more))

    async def settled(self) -> None:
        """Everything that was asked is written down."""
        await self.log.writer.flush(WAIT_S)

    async def logged(self, columns: str = "outcome") -> list[Any]:
        await self.settled()
        return [tuple(row.values()) for row in await self.row(f"SELECT {columns} FROM agent_queries ORDER BY id")]


async def hear(asked: Asked, index: int = 0) -> tuple[str, Complete | Failed]:
    """The words from chunk `index` on, and the end. Chunks are numbered without a gap."""
    text = ""
    with trio.fail_after(WAIT_S):
        async with listening(asked, index) as pieces:
            async for piece in pieces:
                if isinstance(piece, Chunk):
                    assert piece.index == index
                    index += 1
                    text += piece.text
                else:
                    return text, piece
    raise AssertionError("no end")


@asynccontextmanager
async def listening(asked: Asked, index: int = 0) -> AsyncIterator[trio.MemoryReceiveChannel[Piece]]:
    """What is told, in turn. Leaving the block early is a lost socket."""
    told, pieces = trio.open_memory_channel[Piece](1000)

    def tell(piece: Piece) -> None:
        told.send_nowait(piece)
        if not isinstance(piece, Chunk):
            told.close()

    heard = asked.listen(tell, index, told.close)
    try:
        yield pieces
    finally:
        heard.stop()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.sleep(0.0005)


Opened = Callable[..., Awaitable[Table]]


@asynccontextmanager
async def open_table(*, pg: Postgres, redis: Redis, clock: Clock, ids: Ids, upstream: Upstream, key_file: str, **config: Any) -> AsyncIterator[Table]:
    table = Table(config=Config(base_url=upstream.url, api_key_file=key_file, **config), pg=pg, redis=redis, clock=clock, ids=ids, upstream=upstream)
    await table.mirror.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.agent.run)
        nursery.start_soon(table.log.writer.run)
        yield table
        nursery.cancel_scope.cancel()
