"""Channels without the pokes that lead to them, and a room that only listens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import trio

from brewd.cafe import commands as c
from brewd.cafe.events import CompanyAnswer, Event
from brewd.cafe.spam import Violation
from brewd.errors import Rejected, StoreError
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, rfc3339
from brewd.runtime.ids import Ids
from brewd.social.dm import DirectMessages
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres
from tests.people.world import World, make_world

FAR_MS = 2**60


async def open_channel(pg: Postgres, cafe_id: str, one: str, other: str, *, id: str, at_ms: int) -> str:
    """The channel of a pair, as a match makes it."""
    a, b = sorted((UUID(one), UUID(other)))

    async def write(tx: Tx) -> None:
        await tx.script(
            "INSERT INTO dm_channel (id, cafe_id, user_a, user_b, shared_interest, created_at) "
            f"VALUES ('{id}', '{cafe_id}', '{a}', '{b}', 'tea', '{rfc3339(at_ms)}')"
        )

    await pg.transaction(write)
    return id


async def run_sql(pg: Postgres, sql: str) -> None:
    async def run(tx: Tx) -> None:
        await tx.script(sql)

    await pg.transaction(run)


class Ears:
    """Stands where the rooms stand: keeps what each user is told, in order, and everything it is asked or ordered."""

    def __init__(self) -> None:
        self.told: dict[str, list[Event]] = {}
        self.asked: list[Any] = []
        self.orders: list[Any] = []
        self.present: frozenset[str] = frozenset()
        self.warnings: tuple[Violation, ...] = ()
        self.refusal: Rejected | None = None

    def ref(self, cafe_id: str) -> Any:
        return self

    async def ask(self, command: Any, timeout_s: float = 5.0) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        if isinstance(command, c.CompanyQuery):
            return CompanyAnswer(self.present, frozenset())
        if self.refusal is not None:
            raise self.refusal
        return self.warnings

    def tell(self, command: Any) -> None:
        self.asked.append(command)

    def order(self, cafe_id: str, command: Any) -> None:
        self.orders.append(command)

    def notify(self, cafe_id: str, user_id: str, event: Event) -> None:
        self.told.setdefault(user_id, []).append(event)


class Shaky:
    """Postgres, but the next write can be lost on its way there (`before`) or its answer on the way back (`after`), or be done when `arrive` says so (`late`).

    `meanwhile` is done right before the next write.
    """

    def __init__(self, pg: Postgres) -> None:
        self._pg = pg
        self._late: list[tuple[str, Any]] = []
        self.loses: str | None = None
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def arrive(self) -> list[Any]:
        """What is late is done; the rows."""
        late, self._late = self._late, []
        return [await self._pg.fetchrow(name, *args) for name, args in late]

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> Any:
        return await self._pg.fetch(name, *args, timeout_s=timeout_s)

    async def fetchrow(self, name: str, *args: Any, timeout_s: float = 5.0) -> Any:
        loses = None
        if name in ("dm_send", "dm_delete", "dm_read"):
            loses, self.loses = self.loses, None
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                await meanwhile()
        if loses == "late":
            self._late.append((name, args))
            raise StoreError("still on its way")
        if loses == "before":
            raise StoreError("lost on the way there")
        row = await self._pg.fetchrow(name, *args, timeout_s=timeout_s)
        if loses == "after":
            raise StoreError("lost on the way back")
        return row

    async def fetchval(self, name: str, *args: Any, timeout_s: float = 5.0) -> Any:
        row = await self.fetchrow(name, *args, timeout_s=timeout_s)
        return None if row is None else row[0]


class Corner:
    """A café with guests and direct messages."""

    def __init__(self, world: World, cafe: Cafe) -> None:
        self.world = world
        self.cafe = cafe
        self.ears = Ears()
        self.pg = Shaky(world.pg)
        self.dms = DirectMessages(pg=cast("Postgres", self.pg), clock=world.clock, ids=world.ids, rooms=cast("Any", self.ears), guests=world.sessions)

    async def guest(self) -> Identity:
        (made,) = await self.world.users.add_many(self.cafe.id, 1)
        return self.world.sessions.identify(made.access_token)

    async def channel(self, one: Identity, other: Identity) -> str:
        world = self.world
        return await open_channel(world.pg, self.cafe.id, one.user_id, other.user_id, id=world.ids.uuid7(), at_ms=world.clock.now_ms())


async def open_corner(pg: Postgres, clock: Clock, ids: Ids) -> Corner:
    world = make_world(pg, clock, ids)
    return Corner(world, await world.cafe())
