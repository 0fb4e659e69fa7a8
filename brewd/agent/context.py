"""Gathers the facts of a café for a prompt: what it says of itself, what people buy and like, who is around (as a number), what is talked about.

Owns what it read of each café's statistics, for ten minutes, and what it made of them. Direct messages, pokes, sessions and receipts of single guests are not
looked at; of names it keeps those of the authors, to take them out of what was said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any, Final, Protocol
from uuid import NAMESPACE_URL, uuid5

import trio
from msgspec import Struct

from brewd.agent.prompt import CHAT_LINES_MAX, LIST_MAX, Live, Stable, menu_lines, version_of
from brewd.agent.settings import AgentConfig
from brewd.agent.words import secrets_of
from brewd.cafe import commands as c
from brewd.cafe.events import TalkAnswer
from brewd.cafe.ref import CafeRef
from brewd.people.cafes import Cafes
from brewd.people.records import Cafe
from brewd.people.visits import zone_of
from brewd.runtime.clock import Clock, as_datetime, rfc3339
from brewd.store.postgres import Postgres
from brewd.store.records import Message

DAY_MS: Final = 86_400_000
DRINKS_MS: Final = 7 * DAY_MS
PEAKS_MS: Final = 28 * DAY_MS
PEAK_HOURS: Final = 3
PEOPLE_MIN: Final = 3
"""An interest that fewer share, or a drink on fewer receipts, says too much about each of them."""

STATISTICS_MS: Final = 600_000
REMEMBERED_MAX: Final = 5000
TALK_MS: Final = 2 * 3_600_000
"""What was said earlier is no longer talked about."""

TALK_READ: Final = 64
EARLIER_MAX_CHARS: Final = 4096
"""Of a message that is not shown. The order for an answer has an end, however long messages may be."""

_QUARTER_MS: Final = 900_000
"""Wherever it is, an hour begins with a quarter of one in UTC: no offset of today's is finer."""


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def ref(self, cafe_id: str) -> CafeRef: ...


class _Statistics(Struct, frozen=True):
    at_ms: int
    drinks: tuple[str, ...]
    interests: tuple[str, ...]
    peak_hours: tuple[int, ...]


class Context:
    """`pg` may be slow: every method raises `StoreError`, within its deadline, or that of another's reading and its own, and `Rejected` (`not_found`) for no such café.

    What is talked about comes from the café's actor, which knows it without asking anybody, what was just deleted included.
    """

    def __init__(self, *, pg: Postgres, cafes: Cafes, rooms: Rooms, clock: Clock) -> None:
        self._pg = pg
        self._cafes = cafes
        self._rooms = rooms
        self._clock = clock
        self._statistics: dict[str, _Statistics] = {}
        self._reading: dict[str, trio.Event] = {}
        self._forgets: Counter[str] = Counter()
        self._stable: dict[str, tuple[tuple[Cafe, AgentConfig, _Statistics], Stable]] = {}  # with what it was made of

    async def stable(self, cafe_id: str, config: AgentConfig) -> Stable:
        cafe = await self._cafes.get(cafe_id)
        return self._facts(cafe, config, await self._known(cafe))

    async def version(self, cafe_id: str, config: AgentConfig) -> str:
        """What an answer given now rests on: see `prompt.version_of`."""
        cafe = await self._cafes.get(cafe_id)
        return self._version(cafe, config, await self._known(cafe))

    def version_remembered(self, cafe_id: str, config: AgentConfig) -> str | None:
        """As `version`, where nobody has to be asked. Never blocks, and raises nothing."""
        cafe, known = self._cafes.remembered(cafe_id), self._fresh(cafe_id)
        return None if cafe is None or known is None else self._version(cafe, config, known)

    async def live(self, cafe_id: str) -> Live:
        room, cafe = self._rooms.ref(cafe_id), await self._cafes.get(cafe_id)
        heard: TalkAnswer = await room.ask(c.TalkQuery(TALK_READ, LIST_MAX))
        own_id, chat = agent_user_id(cafe_id), self._lately(cafe_id, heard.messages)[-CHAT_LINES_MAX:]
        in_chat = {message.seq for message in chat}
        return Live(
            local_time=local_time(self._clock.now_ms(), cafe.timezone).strftime("%A, %d %B %Y, %H:%M"),
            present=room.members,
            topics=tuple(view.topic for view in heard.topics),
            chat=tuple(message.content for message in chat),
            earlier=tuple(message.content[:EARLIER_MAX_CHARS] for message in heard.messages if message.seq not in in_chat),
            names=tuple({message.username: None for message in heard.messages if message.user_id != own_id}),
        )

    async def talk(self, cafe_id: str) -> Sequence[Message]:
        """What guests said lately and did not take back, oldest first."""
        heard: TalkAnswer = await self._rooms.ref(cafe_id).ask(c.TalkQuery(TALK_READ, 0))
        return self._lately(cafe_id, heard.messages)

    def forget(self, cafe_id: str) -> None:
        """Read its statistics anew, those that are being read at the moment, too."""
        self._forgets[cafe_id] += 1
        self._statistics.pop(cafe_id, None)
        self._stable.pop(cafe_id, None)

    def _facts(self, cafe: Cafe, config: AgentConfig, known: _Statistics) -> Stable:
        of, made = (cafe, config, known), self._stable.get(cafe.id)
        if made is None or made[0] != of:  # they are the very same nearly always: a long menu is looked through once, not with every question
            made = self._stable[cafe.id] = of, _stable(*of)
        return made[1]

    def _version(self, cafe: Cafe, config: AgentConfig, known: _Statistics) -> str:
        quarter = self._clock.now_ms() // _QUARTER_MS
        return version_of(self._facts(cafe, config, known), self._rooms.ref(cafe.id).members, _local_hour(quarter, cafe.timezone))

    def _lately(self, cafe_id: str, messages: Sequence[Message]) -> Sequence[Message]:
        since, own_id = rfc3339(self._clock.now_ms() - TALK_MS), agent_user_id(cafe_id)
        return [m for m in messages if m.user_id != own_id and not m.deleted and m.created_at > since]

    def _fresh(self, cafe_id: str) -> _Statistics | None:
        known = self._statistics.get(cafe_id)
        return known if known is not None and 0 <= self._clock.now_ms() - known.at_ms < STATISTICS_MS else None

    async def _known(self, cafe: Cafe) -> _Statistics:
        """Of many who come at once one reads; the others read for themselves only if that failed."""
        if (reading := self._reading.get(cafe.id)) is not None:
            await reading.wait()
        if (known := self._fresh(cafe.id)) is not None:
            return known
        reading = self._reading[cafe.id] = trio.Event()
        try:
            return await self._read(cafe)
        finally:
            reading.set()
            if self._reading.get(cafe.id) is reading:
                del self._reading[cafe.id]

    async def _read(self, cafe: Cafe) -> _Statistics:
        now_ms, forgets = self._clock.now_ms(), self._forgets[cafe.id]
        drinks = await self._pg.fetch("agent_popular_items", cafe.id, as_datetime(now_ms - DRINKS_MS), PEOPLE_MIN, LIST_MAX)
        interests = await self._pg.fetch("agent_top_interests", cafe.id, as_datetime(now_ms), PEOPLE_MIN, LIST_MAX)
        known = _Statistics(now_ms, tuple(row["name"] for row in drinks), tuple(row["interest"] for row in interests), await self._peaks(cafe, now_ms))
        if self._forgets[cafe.id] == forgets:  # else somebody who may be counted there was erased meanwhile
            self._keep(cafe.id, known)
        return known

    def _keep(self, cafe_id: str, known: _Statistics) -> None:
        if len(self._statistics) >= REMEMBERED_MAX:
            self._statistics.clear()
            self._stable.clear()
        self._statistics[cafe_id] = known

    async def _peaks(self, cafe: Cafe, now_ms: int) -> tuple[int, ...]:
        rows: list[Any] = await self._pg.fetch("agent_peak_hours", cafe.id, as_datetime(now_ms - PEAKS_MS), cafe.timezone, PEAK_HOURS)
        return tuple(sorted(row["local_hour"] for row in rows))


def _stable(cafe: Cafe, config: AgentConfig, known: _Statistics) -> Stable:
    return Stable(
        name=cafe.name,
        address=cafe.address,
        persona=config.persona,
        custom_text=config.custom_text,
        menu=menu_lines(cafe.menu),
        drinks=known.drinks,
        interests=known.interests,
        peak_hours=known.peak_hours,
        secrets=secrets_of([cafe.wifi_ssid]),
    )


@lru_cache(maxsize=1024)
def _local_hour(quarter: int, timezone: str) -> str:
    return local_time(quarter * _QUARTER_MS, timezone).isoformat(timespec="hours")


def agent_user_id(cafe_id: str) -> str:
    """Who the agent's own messages are from: an id of its own in each café, which no customer has."""
    return str(uuid5(NAMESPACE_URL, f"brewd:agent:{cafe_id}"))


def local_time(at_ms: int, timezone: str) -> datetime:
    """That moment by the café's clock."""
    return as_datetime(at_ms).astimezone(zone_of(timezone))


def day_starts_ms(day: date, timezone: str) -> int:
    """When that day begins there."""
    start = datetime.combine(day, time(), zone_of(timezone))
    return int(start.timestamp() * 1000)
