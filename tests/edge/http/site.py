"""The HTTP app over real people and a real Postgres, and a room that answers what a test tells it to."""

from __future__ import annotations

from typing import Any, cast

from msgspec import Struct
from quart_trio import QuartTrio

from brewd.agent.agent import Status
from brewd.agent.settings import AgentConfigs
from brewd.config import WIDE_OPEN, Config, EdgeLimits, Server
from brewd.edge.guard import open_guard
from brewd.edge.http.app import HttpParts, create_app
from brewd.people.allowances import Allowances
from brewd.people.moderation import Moderation
from brewd.people.records import Cafe
from brewd.social.delivery import Delivery
from brewd.social.dm import DirectMessages
from brewd.social.interests import Interests
from brewd.social.matching import Matching
from brewd.social.pokes import Pokes
from tests.people.world import World

PROBLEM = "application/problem+json"


class Answer(Struct, frozen=True):
    status: int
    headers: Any
    raw: bytes
    json: Any


class Room:
    """Stands where a café's room stands: remembers what it was asked, answers `answer`, or raises it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answer: Any = None
        self._cafe_id = ""

    def ref(self, cafe_id: str) -> Room:
        self._cafe_id = cafe_id
        return self

    async def ask(self, command: Any, timeout_s: float = 5.0) -> Any:
        self.asked.append((self._cafe_id, command))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class State:
    """What the process says of itself."""

    def __init__(self) -> None:
        self.is_live = True
        self.is_ready = True
        self.agent = Status("ok")

    async def agent_status(self, cafe_id: str) -> Status:
        return self.agent

    async def health(self) -> dict[str, Any]:
        return {"status": "ok", "version": "1", "uptimeS": 2.5, "checks": {"postgres": "ok", "redis": "ok", "agent": "off"}}

    async def live(self) -> bool:
        return self.is_live

    async def ready(self) -> bool:
        return self.is_ready


class Site(Struct, frozen=True, kw_only=True):
    world: World
    room: Room
    state: State
    app: QuartTrio

    async def call(self, method: str, path: str, *, token: str | None = None, peer: str = "192.0.2.7", **options: Any) -> Answer:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        response = await self.app.test_client().open(
            path, method=method, headers=headers, scope_base={"client": (peer, 5000), **options.pop("scope", {})}, **options
        )
        raw = await response.get_data(as_text=False)
        is_json = "json" in (response.content_type or "")
        return Answer(response.status_code, response.headers, raw, await response.get_json(force=True) if is_json else None)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, json: Any, **options: Any) -> Answer:
        return await self.call("POST", path, json=json, **options)

    async def barista(self, cafe: Cafe, role: Any = "barista") -> str:
        """The access token of a fresh staff login."""
        await self.world.staff.add(cafe.id, f"Ana {role}", role, "correct horse")
        answer = await self.post("/api/auth/staff/login", {"cafeId": cafe.id, "name": f"Ana {role}", "password": "correct horse"})
        assert answer.status == 200, answer
        return str(answer.json["accessToken"])

    async def customer(self, cafe: Cafe, receipt_id: str = "r-1") -> Any:
        """The answer of a join."""
        printed = await self.world.receipt(cafe, receipt_id)
        answer = await self.post("/api/auth/join", {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token})
        assert answer.status == 201, answer
        return answer.json


async def make_site(world: World, server: Server | None = None, edge: EdgeLimits = WIDE_OPEN) -> Site:
    room, state = Room(), State()
    pg, clock, ids, rooms = world.pg, world.clock, world.ids, cast("Any", room)
    parts = HttpParts(
        config=Config(server=server or Server(public_url="https://cafe.example")),
        clock=world.clock,
        ids=world.ids,
        pg=world.pg,
        cafes=world.cafes,
        staff=world.staff,
        users=world.users,
        receipts=world.receipts,
        joins=world.joins,
        sessions=world.sessions,
        tokens=world.tokens,
        directory=room,
        moderation=Moderation(pg=pg, clock=clock, ids=ids, sessions=world.sessions, rooms=rooms, send_away=lambda *_: 0),
        allowances=Allowances(pg=pg, clock=clock, ids=ids, cafes=world.cafes, rooms=rooms),
        badges=world.badges,
        dms=DirectMessages(pg=pg, clock=clock, ids=ids, rooms=rooms, guests=world.sessions),
        erasure=world.erasure,
        analytics=world.analytics,
        interests=Interests(pg=pg, clock=clock),
        matching=Matching(pg=pg, clock=clock, rooms=rooms, bans=world.sessions),
        pokes=Pokes(
            pg=pg, clock=clock, ids=ids, rooms=rooms, bans=world.sessions, delivery=Delivery(clock=clock, notify=lambda *_: None), notify=lambda *_: None
        ),
        agent_configs=AgentConfigs(pg=pg),
        agent_status=state.agent_status,
        guard=await open_guard(edge, clock=world.clock, cafes=world.cafes),
        health=state.health,
        live=state.live,
        ready=state.ready,
    )
    return Site(world=world, room=room, state=state, app=create_app(parts))


def is_problem(answer: Answer, status: int, code: str) -> bool:
    """True for an RFC 9457 problem of this kind; the assertion inside says what it is instead."""
    assert (answer.status, answer.json and answer.json.get("code")) == (status, code), answer
    assert answer.headers["Content-Type"] == PROBLEM
    assert {"type", "title", "status", "detail", "code"} <= answer.json.keys()
    assert answer.json["status"] == status
    return True
