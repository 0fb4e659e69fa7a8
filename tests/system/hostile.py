"""Daemons with limits as customers meet them, and people who do not mean well."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg
import trio

from brewd.store.embedded import PostgresServer
from tests.system.daemon import Daemon
from tests.system.guests import Answer, Cut, Guest, Line

CONFIG = """\
[server]
listen = ["127.0.0.1:0"]
[data]
dir = "data"
[limits]
profile = "lively"
[limits.edge]
sockets_per_address = 0
"""
"""Everything as it comes but for two things: the demo café's profile, and a whole crowd behind one address."""


_ANSWER = re.compile(rb'"code":"(\w+)"|"event":"(reply)"')
_ANSWER_MAX_BYTES = 64


class Witness(Guest):
    """An honest guest who remembers when each text came, and everything that was told of the others."""

    def __init__(self, address: Callable[[], tuple[str, int]], cafe_id: str, user_id: str, token: str) -> None:
        super().__init__(address, cafe_id, user_id, token)
        self.heard_s: dict[str, float] = {}
        self.frames: list[dict[str, Any]] = []

    def _told(self, frame: dict[str, Any]) -> None:
        if frame["event"] == "message:new":
            self.heard_s[frame["data"]["message"]["content"]] = trio.current_time()
        elif "ref" not in frame:
            self.frames.append(frame)
        super()._told(frame)

    async def send(self, content: str, client_msg_id: str | None = None) -> Answer:
        """Say it once, whatever comes of it."""
        data = {"cafeId": self.cafe_id, "content": content}
        return await self.ask("message:send", data if client_msg_id is None else {**data, "clientMsgId": client_msg_id})

    def told_of(self, user_id: str) -> list[dict[str, Any]]:
        """What was told of somebody's presence and typing."""
        return [frame for frame in self.frames if user_id in (frame["data"].get("userId"), frame["data"].get("user", {}).get("id"))]


class Attacker:
    """One of many: says what `text` makes of a number, `gap_s` apart after the first `late_s`, and does not care to listen. `codes`: how it was answered, `reply` where it was not refused."""

    def __init__(
        self, address: Callable[[], tuple[str, int]], user: tuple[str, str, str], text: Callable[[int], str], *, late_s: float, gap_s: float = 0.3
    ) -> None:
        self.cafe_id, self.user_id, self._token = user
        self._address = address
        self._text = text
        self._gap_s = gap_s
        self._late_s = late_s
        self.joined = trio.Event()
        self.codes: Counter[str] = Counter()

    async def live(self, begin: trio.Event) -> None:
        line = await Line.open(self._address(), self._token)
        try:
            await line.send("join:cafe", {"cafeId": self.cafe_id}, "join")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, line)
                await begin.wait()
                await trio.sleep(self._late_s)
                await self._talk(line)
        except* Cut:
            self.codes["cut"] += 1
        finally:
            line.close()

    async def _talk(self, line: Line) -> None:
        n = 0
        while True:
            data = {"cafeId": self.cafe_id, "content": self._text(n)}
            await line.send("typing:start", {"cafeId": self.cafe_id})
            await line.send("message:send", data, str(n))
            n += 1
            await trio.sleep(self._gap_s)

    async def _listen(self, line: Line) -> None:
        """Two hundred hear everything that is said: reading all of it would keep this machine busier than the daemon."""
        rest = b""
        while True:
            data = rest + await line.receive_bytes()
            end = 0
            for found in _ANSWER.finditer(data):
                end = found.end()
                self.codes[(found[1] or found[2]).decode()] += 1
            if self.codes["reply"]:
                self.joined.set()
            rest = data[end:][-_ANSWER_MAX_BYTES:]


class Decided(NamedTuple):
    action: str
    user_id: str
    rule: str | None


async def decided(daemon: Daemon, cafe_id: str) -> list[Decided]:
    """The log of what was done in a café, as the table has it."""
    dsn = PostgresServer(data_dir=daemon.data).dsn
    return await trio.to_thread.run_sync(lambda: asyncio.run(_decided(dsn, cafe_id)))


async def _decided(dsn: str, cafe_id: str) -> list[Decided]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        query = "SELECT action, user_id::text, rule FROM moderation_actions WHERE cafe_id = $1 ORDER BY created_at, id"
        return [Decided(*row) for row in await connection.fetch(query, cafe_id, timeout=30)]
    finally:
        await connection.close(timeout=10)
