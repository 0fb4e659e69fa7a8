"""Everything in `brewd.people`, wired over a real Postgres, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from brewd.cafe.commands import Command
from brewd.cafe.events import Event
from brewd.cafe.ref import CafeRef
from brewd.people.alike import Alike
from brewd.people.allowances import Allowances
from brewd.people.analytics import Analytics
from brewd.people.badges import Badges
from brewd.people.cafes import Cafes
from brewd.people.erasure import Erasure
from brewd.people.join import JoinAnswer, JoinRequest, Joins
from brewd.people.keys import KeyRing
from brewd.people.moderation import Moderation, Moderator
from brewd.people.passwords import Passwords
from brewd.people.receipts import Printed, Receipts
from brewd.people.records import Cafe
from brewd.people.sessions import Sessions
from brewd.people.staff import Staff
from brewd.people.tokens import Tokens
from brewd.people.users import Users
from brewd.people.visits import Visits
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.mirror import Mirror, RedisCommand
from brewd.store.postgres import Postgres

ACCESS_TTL_S = 3600
USER_TTL_S = 86_400
JOIN_TTL_S = 900


class Rooms:
    """What the rooms and the sockets are told. No room is there to answer."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Command]] = []
        self.away: list[tuple[str, int, str]] = []
        self.badges: list[tuple[str, str | None]] = []
        self.told: list[tuple[str, Event]] = []

    def set_badge(self, cafe_id: str, user_id: str, badge: str | None) -> None:
        self.badges.append((user_id, badge))

    def notify(self, cafe_id: str, user_id: str, event: Event) -> None:
        self.told.append((user_id, event))

    def order(self, cafe_id: str, command: Command) -> None:
        self.orders.append((cafe_id, command))

    def is_open(self, cafe_id: str) -> bool:
        return False

    def ref(self, cafe_id: str) -> CafeRef:
        raise AssertionError(f"nobody asks {cafe_id}")

    def send_away(self, user_id: str, code: int, reason: str) -> int:
        self.away.append((user_id, code, reason))
        return 1


class NoRedis:
    """Takes every command, and has nothing."""

    async def pipeline(self, commands: Sequence[RedisCommand], *, timeout_s: float = 1.0) -> list[Any]:
        return [0] * len(commands)


class AllWritten:
    """Nothing waits to be written down."""

    async def settled(self, cafe_id: str) -> None: ...


class World(Struct, frozen=True, kw_only=True):
    pg: Postgres
    clock: Clock
    ids: Ids
    keys: KeyRing
    tokens: Tokens
    sessions: Sessions
    cafes: Cafes
    staff: Staff
    receipts: Receipts
    joins: Joins
    users: Users
    rooms: Rooms
    alike: Alike
    moderation: Moderation
    allowances: Allowances
    visits: Visits
    badges: Badges
    erasure: Erasure
    analytics: Analytics

    async def moderator(self, cafe: Cafe) -> Moderator:
        member = await self.staff.add(cafe.id, f"Mo {len(await self.staff.list(cafe.id))}", "moderator", "pw")
        return Moderator(cafe.id, member.name, member.id)

    async def cafe(self, **fields: object) -> Cafe:
        return await self.cafes.add(**{"name": "Corner", **fields})

    async def receipt(self, cafe: Cafe, receipt_id: str = "r-1") -> Printed:
        return await self.receipts.issue(cafe.id, receipt_id)

    async def join(self, cafe: Cafe, receipt_id: str = "r-1", patron_key: str | None = None) -> JoinAnswer:
        return await self.join_with(cafe, await self.receipt(cafe, receipt_id), patron_key=patron_key)

    async def join_with(self, cafe: Cafe, printed: Printed, *, token: str | None = None, patron_key: str | None = None) -> JoinAnswer:
        request = JoinRequest(cafe_id=cafe.id, username=printed.username, join_token=token or printed.join_token, patron_key=patron_key)
        return await self.joins.join(request, "192.0.2.7")


def make_world(pg: Postgres, clock: Clock, ids: Ids) -> World:
    keys = KeyRing.in_memory(clock=clock, ids=ids, lifetime_s=USER_TTL_S)
    tokens = Tokens(clock=clock, ids=ids, keys=keys, access_ttl_s=ACCESS_TTL_S)
    sessions = Sessions(pg=pg, clock=clock, ids=ids, tokens=tokens, user_ttl_s=USER_TTL_S)
    cafes = Cafes(pg=pg, clock=clock, ids=ids)
    rooms, visits = Rooms(), Visits(pg=pg)
    sessions.on_open.append(visits.opened)
    hasher = Passwords(time_cost=1, memory_kib=64)
    joins = Joins(pg=pg, clock=clock, ids=ids, cafes=cafes, tokens=tokens, sessions=sessions, user_ttl_s=USER_TTL_S)
    alike = Alike(pg=pg, clock=clock, rooms=rooms)
    joins.on_muted = alike.mute
    return World(
        pg=pg,
        clock=clock,
        ids=ids,
        keys=keys,
        tokens=tokens,
        sessions=sessions,
        cafes=cafes,
        staff=Staff(pg=pg, clock=clock, ids=ids, hasher=hasher, sessions=sessions),
        receipts=Receipts(pg=pg, clock=clock, ids=ids, public_url="https://cafe.example", ttl_s=JOIN_TTL_S),
        joins=joins,
        users=Users(pg=pg, clock=clock, ids=ids, tokens=tokens, sessions=sessions, user_ttl_s=USER_TTL_S),
        rooms=rooms,
        alike=alike,
        moderation=Moderation(pg=pg, clock=clock, ids=ids, sessions=sessions, rooms=rooms, send_away=rooms.send_away),
        allowances=Allowances(pg=pg, clock=clock, ids=ids, cafes=cafes, rooms=rooms),
        visits=visits,
        badges=Badges(pg=pg, clock=clock, ids=ids, cafes=cafes, holders=sessions.holders, visits=visits, rooms=rooms),
        erasure=Erasure(
            pg=pg,
            redis=NoRedis(),
            mirror=Mirror(redis=NoRedis(), name="none"),
            clock=clock,
            ids=ids,
            sessions=sessions,
            rooms=rooms,
            decisions=AllWritten(),
            questions=AllWritten(),
            send_away=rooms.send_away,
        ),
        analytics=Analytics(pg=pg, replica=pg, clock=clock),
    )
