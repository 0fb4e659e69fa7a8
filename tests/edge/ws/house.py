"""The real daemon, run inside the test on ports and stores of its own, and the people who come in."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
import trio
from msgspec import Struct

from brewd import config as cfg
from brewd.agent.calling import OpenClient
from brewd.config_spam import Spam
from brewd.daemon import Parts, run
from brewd.people.records import Cafe, Role
from brewd.people.users import NewUser
from brewd.runtime.clock import Clock
from tests.agent.table import open_near
from tests.edge.ws.wire import WAIT_S, Raw, Response, Wire, upgrade

_HALF_HOUR_S: Final = 1800
_AHEAD_S: Final = _HALF_HOUR_S if time.time() % 3600 > _HALF_HOUR_S else 0
"""By how much the house's clock is: no full hour, at which jobs remove what is over, comes within the next half. Redis goes by the machine's."""

_FREE = cfg.Bucket(per_hour=1_000_000, burst=1_000_000, gap_s=0)


def house_config(data_dir: Path, postgres_dsn: str, redis_url: str) -> cfg.Config:
    """Ports of its own choice, and no limit on how fast anybody may be, nor on what they say."""
    return cfg.Config(
        server=cfg.Server(listen=["127.0.0.1:0"]),
        data=cfg.Data(dir=str(data_dir)),
        postgres=cfg.Postgres(url=postgres_dsn, pool_max=3),
        redis=cfg.Redis(url=redis_url),
        limits=cfg.Limits(
            profiles={"standard": cfg.Profile(message=_FREE, badge_message=_FREE)},
            edge=cfg.WIDE_OPEN,
            spam=Spam(enabled=False),
        ),
        observe=cfg.Observe(log_level="warning"),
    )


class Person(Struct, frozen=True):
    """Someone with a token."""

    id: str
    name: str
    token: str
    cafe_id: str


class House:
    """A running daemon."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.tokens = parts.tokens
        self._streams: list[trio.SocketStream] = []

    @property
    def port(self) -> int:
        return urlsplit(self.parts.urls[0]).port or 0

    async def cafe(self, name: str = "Corner") -> Cafe:
        return await self.parts.cafes.add(name=name)

    async def guests(self, cafe: Cafe, count: int) -> list[Person]:
        made: list[NewUser] = list(await self.parts.users.add_many(cafe.id, count))
        return [Person(one.id, one.username, one.access_token, cafe.id) for one in made]

    async def guest(self, cafe: Cafe) -> Person:
        return (await self.guests(cafe, 1))[0]

    def staff(self, cafe: Cafe, role: Role) -> Person:
        """Staff with a token as a login would give it."""
        ids = self.parts.ids
        staff_id = ids.uuid7()
        token, _ = self.tokens.issue_access(
            user_id=staff_id, cafe_id=cafe.id, role=role, session_id=ids.uuid7(), username=f"Ana {role}", badge=None, user_expires_ms=None
        )
        return Person(staff_id, f"Ana {role}", token, cafe.id)

    async def stream(self, *, read_buffer_bytes: int | None = None) -> trio.SocketStream:
        """A TCP connection. A small `read_buffer_bytes` makes the kernel hold little for a client that does not read."""
        sock = trio.socket.socket()
        if read_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer_bytes)
        with trio.fail_after(WAIT_S):
            await sock.connect(("127.0.0.1", self.port))
        stream = trio.SocketStream(sock)
        self._streams.append(stream)
        return stream

    async def raw(self) -> Raw:
        return Raw(await self.stream())

    async def http(self, request: bytes) -> Response:
        """One request on a connection of its own."""
        raw = await self.raw()
        await raw.send(request)
        try:
            return await raw.response()
        finally:
            await raw.aclose()

    async def api(self, method: str, path: str, body: Any = None, *, by: Person | None = None) -> Response:
        """One request with a JSON body, `by` somebody, on a connection of its own."""
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: cafe.test\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
        bearer = "" if by is None else f"Authorization: Bearer {by.token}\r\n"
        return await self.http(f"{head}{bearer}\r\n".encode() + sent)

    async def open(self, path: str = "/ws", *, then: bytes = b"", **headers: str | None) -> Wire:
        """An upgraded connection on which nothing was heard yet. Raises `Refused`."""
        return await Wire.open(await self.stream(), upgrade(path, **headers), then)

    async def connect(self, person: Person) -> Wire:
        """Authenticated by header; `connected` was heard."""
        wire = await self.open(authorization=f"Bearer {person.token}")
        await wire.heard("connected")
        return wire

    async def enter(self, person: Person, **since: Any) -> Wire:
        """Connected and in the room."""
        wire = await self.connect(person)
        await wire.ask("join:cafe", {"cafeId": person.cafe_id, **since})
        return wire

    async def send(self, wire: Wire, cafe_id: str, content: str, **more: Any) -> Any:
        """A message; the reply's data."""
        return await wire.ask("message:send", {"cafeId": cafe_id, "content": content, **more})

    async def leave(self) -> None:
        """Every client is gone."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_house(config: cfg.Config, *, open_client: OpenClient = open_near) -> AsyncIterator[House]:
    """Run the daemon for the block; afterwards the clients go and it stops. What the agent asks, it asks from this process, which starts sooner."""
    ready = trio.Event()
    found: list[Parts] = []

    async def is_ready(parts: Parts) -> None:
        found.append(parts)
        ready.set()

    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        async with trio.open_nursery() as nursery:
            clock = Clock(int((time.time() + _AHEAD_S) * 1000))
            nursery.start_soon(lambda: run(config, ready=is_ready, open_client=open_client, clock=clock))
            with trio.fail_after(20):
                await ready.wait()
            house = House(found[0])
            yield house
            with trio.CancelScope(shield=True):
                await house.leave()
            found[0].stop()
    finally:
        # The daemon owns its process's log; here it is a guest in another's.
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
