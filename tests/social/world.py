"""Discovery and pokes over a real Postgres, with a room of which a test says who is in it, and ears for what users are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from brewd.cafe.commands import CompanyQuery, MuteQuery, Take
from brewd.cafe.events import CompanyAnswer, Event, MuteAnswer
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.delivery import Delivery
from brewd.social.interests import Interests
from brewd.social.matching import Matching
from brewd.social.pokes import Pokes
from brewd.store.postgres import Postgres
from tests.people.world import World as People
from tests.people.world import make_world


class Rooms:
    """`taken`: by whom a poke was taken. A user in `muted` is refused; nobody runs out."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.muted: set[str] = set()
        self.taken: list[str] = []

    def ref(self, cafe_id: str) -> Rooms:
        return self

    async def ask(self, command: Any, timeout_s: float = 5.0) -> Any:
        if isinstance(command, CompanyQuery):
            return CompanyAnswer(frozenset(self.present), frozenset(self.muted))
        if isinstance(command, MuteQuery):
            return MuteAnswer(True, "2100-01-01T00:00:00.000Z", "loud")
        assert isinstance(command, Take)
        self.taken.append(command.who.user_id)
        return {}


class World(Struct, frozen=True, kw_only=True):
    """`told`: what reached whom, in order."""

    people: People
    clock: Clock
    ids: Ids
    rooms: Rooms
    told: list[tuple[str, Event]]
    delivery: Delivery
    interests: Interests
    matching: Matching
    pokes: Pokes

    async def guests(self, cafe: Cafe, count: int, *interests: str) -> Sequence[Identity]:
        made = await self.people.users.add_many(cafe.id, count)
        guests = [self.people.tokens.verify_access(one.access_token) for one in made]
        if interests:
            for guest in guests:
                await self.interests.set(guest.user_id, interests)
        return guests

    async def guest(self, cafe: Cafe, *interests: str) -> Identity:
        return (await self.guests(cafe, 1, *interests))[0]

    def heard(self, who: Identity) -> list[Event]:
        return [event for user_id, event in self.told if user_id == who.user_id]


def make_social(pg: Postgres, clock: Clock, ids: Ids) -> World:
    people, rooms = make_world(pg, clock, ids), Rooms()
    told: list[tuple[str, Event]] = []

    def notify(cafe_id: str, user_id: str, event: Event) -> None:
        told.append((user_id, event))

    delivery = Delivery(clock=clock, notify=notify)
    bans = people.sessions
    return World(
        people=people, clock=clock, ids=ids, rooms=rooms, told=told, delivery=delivery,
        interests=Interests(pg=pg, clock=clock),
        matching=Matching(pg=pg, clock=clock, rooms=rooms, bans=bans),
        pokes=Pokes(pg=pg, clock=clock, ids=ids, rooms=rooms, bans=bans, delivery=delivery, notify=notify),
    )  # fmt: skip
