"""The agent speaks first: now and then a word to a room where people are and nobody says much.

`round` is a job's work. What it says is a message of the room like any other, from an author of its own in each café, so that history
has it and moderators can delete it; whoever else should hear of it registers with `listeners`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from brewd.agent import context
from brewd.agent.answers import Answer
from brewd.agent.cache import normalised
from brewd.agent.calling import Calls, Ticket
from brewd.agent.context import Context, agent_user_id
from brewd.agent.personas import MANNERS
from brewd.agent.pieces import Complete
from brewd.agent.prompt import Remark
from brewd.agent.rows import Entry
from brewd.agent.settings import AgentConfigs, Proactivity
from brewd.agent.words import plain, told
from brewd.cafe import commands as c
from brewd.cafe.events import SendAnswer
from brewd.cafe.ref import CafeStatus
from brewd.errors import Rejected, StoreError
from brewd.runtime.clock import Clock, as_ms, from_rfc3339
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres

log = get_logger("agent")

GAP_MS: Final[dict[Proactivity, int]] = {"occasional": 600_000, "active": 300_000, "hype": 120_000}
"""Between two of its messages; `silent` has none."""

PRESENT_MIN: Final = 2
FAST_MS: Final = 60_000
FAST_MESSAGES: Final = 5
"""So many messages in that time are a conversation that needs no help."""

SAID_READ: Final = 50
ALIKE: Final = 0.6
"""Share of words that two messages may not have in common."""

WORD_CHARS: Final = 8
"""Where there are that many signs to a space, it is not words that are between them."""

ROUND_S: Final = 100.0
"""A look that is not done by then is cut off."""

ROUND_MAX_S: Final = ROUND_S + 10.0
"""No round takes longer, with what comes before the looks and the end of those that are cut off. For the job's deadline: what it cuts off is not counted."""

AT_ONCE: Final = 4
TEXT_MAX: Final = 600

Heard = Callable[[str, str, int], None]
"""`fn(cafe_id, text, created_ms)`. Must not block."""


class Rooms(context.Rooms, Protocol):
    """… and which of them are in use."""

    def list(self) -> list[CafeStatus]: ...


class Proactive:
    """Owns nothing: what was said, and when, is read from the messages themselves, so it holds across restarts."""

    def __init__(self, *, calls: Calls, configs: AgentConfigs, context: Context, pg: Postgres, rooms: Rooms, clock: Clock, ids: Ids) -> None:
        self._calls = calls
        self._configs = configs
        self._context = context
        self._pg = pg
        self._rooms = rooms
        self._clock = clock
        self._ids = ids
        self.listeners: list[Heard] = []

    async def round(self) -> int:
        """Look at every café in use, and speak where it is time to; how many messages that were. Takes less than two minutes; never raises for one café."""
        if self._calls.status.state != "ok":
            return 0
        spoken = 0
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def look(cafe_id: str) -> None:
            nonlocal spoken
            async with limiter:
                try:
                    spoke = await self._look(cafe_id)
                    spoken += spoke  # no sooner: others count meanwhile
                except (Rejected, StoreError) as error:
                    log.info("proactive_left_out", cafe=cafe_id, why=str(error))

        with trio.move_on_after(ROUND_S):
            async with trio.open_nursery() as nursery:
                for status in self._rooms.list():
                    if status.members >= PRESENT_MIN and status.state == "running":
                        nursery.start_soon(look, status.cafe_id)
        return spoken

    async def _look(self, cafe_id: str) -> bool:
        """Speak in this café, if it is time to; whether it was, and something came of it."""
        config = await self._configs.get(cafe_id)
        if not config.enabled or config.proactivity == "silent":
            return False
        now_ms = self._clock.now_ms()
        rows: list[Any] = await self._pg.fetch("agent_said", agent_user_id(cafe_id), cafe_id, SAID_READ)
        if rows and now_ms - as_ms(rows[0]["created_at"]) < GAP_MS[config.proactivity]:
            return False
        talk = await self._context.talk(cafe_id)
        if sum(from_rfc3339(message.created_at) > now_ms - FAST_MS for message in talk) >= FAST_MESSAGES:
            return False
        said = [row["content"] for row in reversed(rows)]

        async def remark() -> Remark:
            return Remark(await self._context.stable(cafe_id, config), await self._context.live(cafe_id), tuple(said))

        entry = Entry(
            id=self._ids.uuid7(), cafe_id=cafe_id, user_id=None, session_id=None, staff=False, query=None,
            persona=config.persona, model="", at_ms=now_ms, proactive=True,
        )  # fmt: skip
        text = await self._made(await self._calls.admit(entry, config, remark, trio.lowlevel.checkpoint, self._calls.deadline_s()))
        if not text or any(alike(text, before) for before in said):
            return False
        ref = self._rooms.ref(cafe_id)
        if ref.members < PRESENT_MIN:  # they left meanwhile
            return False
        answer: SendAnswer = await ref.ask(c.Announce(c.Who(agent_user_id(cafe_id), MANNERS[config.persona].name), text))
        for heard in self.listeners:
            heard(cafe_id, text, from_rfc3339(answer.message.created_at))
        return True

    async def _made(self, ticket: Ticket) -> str:
        """What the model says; empty when it says nothing."""
        answer = Answer(self._clock)
        self._calls.start(ticket, answer, lambda end: None)
        try:
            await answer.ended.wait()
        finally:
            answer.scope.cancel()
        return " ".join(told(answer.text).split())[:TEXT_MAX] if isinstance(answer.end, Complete) else ""


def alike(one: str, other: str) -> bool:
    """Whether two messages say the same in nearly the same words, or in nearly the same pairs of signs where few spaces are written. Pure."""
    lines = plain(one), plain(other)
    of = set if all(len(line) < WORD_CHARS * len(line.split()) for line in lines) else _pairs
    a, b = (of(normalised(line).split()) for line in lines)
    return a == b or len(a & b) >= ALIKE * len(a | b)


def _pairs(words: list[str]) -> set[str]:
    text = " ".join(words)
    return {text[at : at + 2] for at in range(max(1, len(text) - 1))}
