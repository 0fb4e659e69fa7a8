"""The agent: one for the daemon. See the package for the way of a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.agent.accounts import AgentLog
from brewd.agent.answers import KEPT_S, Answer, Asked
from brewd.agent.cache import AnswerCache, Answered, Key, key_of
from brewd.agent.calling import Calls, Status, Ticket, busy
from brewd.agent.calls import GiveWay
from brewd.agent.context import Context, Rooms
from brewd.agent.kept import Kept
from brewd.agent.personas import PERSONAS
from brewd.agent.pieces import Complete, End, Usage
from brewd.agent.prompt import Question
from brewd.agent.rows import Entry
from brewd.agent.settings import AgentConfig, AgentConfigs
from brewd.agent.words import checked_query
from brewd.cafe import commands as c
from brewd.cafe.commands import Who
from brewd.errors import Rejected
from brewd.people.records import invalid
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

__all__ = ["Agent", "Asked", "Inquiry", "Status"]

STATUS_S: Final = 0.5
"""Who only wants to know how it is waits no longer for a café's budget to be read."""


class Inquiry(Struct, frozen=True, kw_only=True):
    """Somebody wants to know. `personality`: the persona they would like to hear."""

    cafe_id: str
    who: Who
    session_id: str
    query: str
    personality: str | None = None


class Agent:
    """Owns the answers under way, and what was answered lately."""

    def __init__(
        self,
        *,
        calls: Calls,
        configs: AgentConfigs,
        context: Context,
        cache: AnswerCache,
        log: AgentLog,
        rooms: Rooms,
        clock: Clock,
        ids: Ids,
        give_way: GiveWay,
    ) -> None:
        self._give_way = give_way
        self._calls = calls
        self._configs = configs
        self._context = context
        self._cache = cache
        self._log = log
        self._rooms = rooms
        self._clock = clock
        self._ids = ids
        self._under_way: dict[Key, Answer] = {}
        self._admissions: dict[Key, trio.Lock] = {}
        self._unsaid: Counter[str] = Counter()
        self._kept = Kept(self._is_over)

    @property
    def status(self) -> Status:
        return self._calls.status

    async def status_of(self, cafe_id: str) -> Status:
        """As `status`, and what is so in this café alone, if that is soon known: its budget may be spent. Raises `Rejected` (`not_found`) and `StoreError`."""
        spent = None
        if self.status.state == "ok":
            config = await self._configs.get(cafe_id)
            with trio.move_on_after(STATUS_S):
                spent = (await self._log.account(cafe_id, config)).budget.exhausted()
        return self.status if spent is None else Status("unavailable", f"what it may cost this café {spent} is spent")

    async def run(self) -> NoReturn:
        """Make calls until cancelled. On a crash every answer under way ends as failed, and what was answered can still be resumed."""
        await self._calls.run()

    def look(self, inquiry: Inquiry) -> Asked | None:
        """The same answer, where it is under way or in memory, and to know that nobody has to be asked. It costs nothing. Never blocks; raises `Rejected`
        as `ask` does."""
        query = checked_query(inquiry.query)
        config = self._configs.remembered(inquiry.cafe_id)
        if config is None:
            return None
        config = self._as_asked(config, inquiry.personality)
        version = self._context.version_remembered(inquiry.cafe_id, config)
        if version is None:
            return None
        found = self._shared(key_of(inquiry.cafe_id, query, config.persona, version))
        return None if found is None else self._given(found, self._entry(inquiry, query, config))

    async def ask(self, inquiry: Inquiry) -> Asked:
        """Raises `Rejected`: `invalid_request`, `rate_limited`, `muted`, `agent_unavailable`, `agent_budget_spent`, `not_found`, …; and `StoreError`.

        Takes as long as a question may wait for its turn (`agent.queue_s`), and a bit. Cancelling it forgets the question. Until somebody
        listens to what it returns, its asker counts as lost.
        """
        query, cafe_id = checked_query(inquiry.query), inquiry.cafe_id
        await self._give_way()
        config = self._as_asked(await self._configs.get(cafe_id), inquiry.personality)
        key = key_of(cafe_id, query, config.persona, await self._context.version(cafe_id, config))
        entry = self._entry(inquiry, query, config)
        found = self._shared(key)
        if found is None:
            until_s, unsaid = self._calls.deadline_s(), 0

            async def question() -> Question:
                nonlocal unsaid
                unsaid = self._unsaid[cafe_id]
                return Question(await self._context.stable(cafe_id, config), await self._context.live(cafe_id), query)

            async def take() -> object:
                return await self._rooms.ref(cafe_id).ask(c.Take("agent", inquiry.who, inquiry.session_id))

            async with self._one_at_a_time(key, until_s):  # so that of many who ask the same at once, one pays for all
                found = self._shared(key)
                if found is None:
                    await self._give_way()
                    found = await self._cache.find(key)
                if found is None:
                    ticket = await self._calls.admit(entry, config, question, take, until_s)
                    return self._asked(entry, self._start(key, ticket, shared=self._unsaid[cafe_id] == unsaid))
        return self._given(found, entry)

    def resume(self, query_id: str, user_id: str) -> Asked:
        """A question asked before, until 2 min after its end. Raises `Rejected` (`not_found`), alike for one that never was and for another's."""
        asked = self._kept.get(query_id)
        if asked is None or asked.user_id != user_id or asked.cancelled:
            raise Rejected("not_found", "There is no such question of yours, or it is too long ago.")
        return asked

    def cancel(self, query_id: str, user_id: str) -> None:
        """The asker wants no more: their pieces end at once, and the call, unless another shares it. Raises as `resume` does; harmless after the end."""
        asked = self.resume(query_id, user_id)
        self._kept.pop(query_id)
        asked.cancel()

    def forget(self, cafe_id: str, user_ids: Collection[str]) -> None:
        """These people are erased: what they asked is gone from here, and what is answered in their café by now is not answered again. Never blocks."""
        for asked in self._kept.of(user_ids):
            self._kept.pop(asked.query_id)
            asked.cancel()
        self._context.forget(cafe_id)
        self._log.writer.forget(user_ids)
        self.unsaid(cafe_id)

    def unsaid(self, cafe_id: str) -> None:
        """Something was taken back there: what is answered by now, or asked with it, is answered to nobody who comes later. Never blocks."""
        self._unsaid[cafe_id] += 1
        for key in [key for key in self._under_way if key.cafe_id == cafe_id]:
            del self._under_way[key]
        self._cache.forget(cafe_id)

    def _as_asked(self, config: AgentConfig, personality: str | None) -> AgentConfig:
        """The café's config, with the persona an asker wants. Raises `Rejected` where the agent is off, or there is no such persona."""
        config = _with_persona(config, personality)
        if self.status.state == "off":
            self._calls.check()
        if not config.enabled:
            raise Rejected("agent_unavailable", "The agent is off in this café.")
        return config

    def _entry(self, inquiry: Inquiry, query: str, config: AgentConfig) -> Entry:
        who = inquiry.who
        return Entry(
            id=self._ids.uuid7(), cafe_id=inquiry.cafe_id, user_id=who.user_id, session_id=inquiry.session_id, staff=who.staff, query=query,
            persona=config.persona, model="", at_ms=self._clock.now_ms(),
        )  # fmt: skip

    def _shared(self, key: Key) -> Answer | Answered | None:
        """The same answer, under way or in memory."""
        answer = self._under_way.get(key)
        return self._cache.get(key) if answer is None or answer.stopping else answer

    def _given(self, found: Answer | Answered, entry: Entry) -> Asked:
        """One that was there costs nothing."""
        if isinstance(found, Answer):
            outcome, answer = "shared", found
        else:
            outcome, answer = "cached", Answer.known(self._clock, found.text, Complete(found.text, True, found.sources, Usage()))
        self._log.end(replace(entry, outcome=outcome, cached=True))
        return self._asked(entry, answer)

    def _start(self, key: Key, ticket: Ticket, *, shared: bool) -> Answer:
        """`shared`: nothing was taken back since its question was put together."""
        answer = Answer(self._clock)
        if shared:
            self._under_way[key] = answer

        def done(end: End) -> None:
            if self._under_way.get(key) is not answer:  # something it may speak of was taken back
                return
            del self._under_way[key]
            if isinstance(end, Complete) and not end.truncated:
                self._cache.put(key, end.full_response, end.sources)

        self._calls.start(ticket, answer, done)
        return answer

    def _asked(self, entry: Entry, answer: Answer) -> Asked:
        asked = Asked(query_id=entry.id, query=entry.query or "", cafe_id=entry.cafe_id, user_id=entry.user_id or "", answer=answer)
        self._kept.add(asked)
        return asked

    def _is_over(self, asked: Asked) -> bool:
        return self._clock.monotonic_s() >= asked.answer.ended_s + KEPT_S

    @asynccontextmanager
    async def _one_at_a_time(self, key: Key, until_s: float) -> AsyncIterator[None]:
        lock = self._admissions.setdefault(key, trio.Lock())
        try:
            try:
                lock.acquire_nowait()
            except trio.WouldBlock:
                with trio.move_on_at(until_s) as waiting:
                    await lock.acquire()
                if waiting.cancelled_caught:
                    raise busy() from None
            try:
                yield
            finally:
                lock.release()
        finally:
            if not lock.locked():  # else somebody waited for it and has it now
                self._admissions.pop(key, None)


def _with_persona(config: AgentConfig, personality: str | None) -> AgentConfig:
    if personality is None:
        return config
    if personality not in PERSONAS:
        raise invalid("data.personality", f"there is no persona {personality!r}; there are {', '.join(PERSONAS)}")
    if personality == "custom" and not config.custom_text:
        raise invalid("data.personality", "this café has no persona of its own")
    return replace(config, persona=personality)
