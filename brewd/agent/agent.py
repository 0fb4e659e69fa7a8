"""The agent: one for the daemon. See the package for the way of a question."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import NoReturn

import trio
from msgspec.structs import replace

from brewd.agent.accounts import AgentLog
from brewd.agent.answers import KEPT_S, Answer, Asked
from brewd.agent.cache import AnswerCache, Key, key_of
from brewd.agent.calling import Calls, Status, Ticket, busy
from brewd.agent.calls import GiveWay
from brewd.agent.context import Context, Rooms
from brewd.agent.kept import Kept
from brewd.agent.personas import PERSONAS
from brewd.agent.pieces import Complete, End, Usage
from brewd.agent.prompt import Question, version_of
from brewd.agent.rows import Entry
from brewd.agent.settings import AgentConfig, AgentConfigs
from brewd.agent.words import checked_query
from brewd.cafe import commands as c
from brewd.cafe.commands import Who
from brewd.errors import Rejected
from brewd.people.records import invalid
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

__all__ = ["Agent", "Asked", "Status"]


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
        self._kept = Kept(self._is_over)

    @property
    def status(self) -> Status:
        return self._calls.status

    async def run(self) -> NoReturn:
        """Make calls until cancelled. On a crash every answer under way ends as failed, and what was answered can still be resumed."""
        await self._calls.run()

    async def ask(self, *, cafe_id: str, who: Who, session_id: str, query: str, personality: str | None = None) -> Asked:
        """Raises `Rejected`: `invalid_request`, `rate_limited`, `muted`, `agent_unavailable`, `agent_budget_spent`, `not_found`, …; and `StoreError`.

        Takes as long as a question may wait for its turn (`agent.queue_s`), and a bit. Cancelling it forgets the question. Until somebody
        listens to what it returns, its asker counts as lost.
        """
        query = checked_query(query)
        await self._give_way()
        config = _as_asked(await self._configs.get(cafe_id), personality)
        if self.status.state == "off":
            self._calls.check()
        if not config.enabled:
            raise Rejected("agent_unavailable", "The agent is off in this café.")
        facts = await self._context.stable(cafe_id, config)
        key = key_of(cafe_id, query, config.persona, version_of(facts, *await self._context.crowd(cafe_id)))
        entry = Entry(
            id=self._ids.uuid7(), cafe_id=cafe_id, user_id=who.user_id, session_id=session_id, staff=who.staff, query=query,
            persona=config.persona, model="", at_ms=self._clock.now_ms(),
        )  # fmt: skip
        answer = self._shared(key, entry)
        if answer is None:
            until_s = self._calls.deadline_s()

            async def question() -> Question:
                return Question(await self._context.stable(cafe_id, config), await self._context.live(cafe_id), query)

            async with self._one_at_a_time(key, until_s):  # so that of many who ask the same at once, one pays for all
                answer = self._shared(key, entry)
                if answer is None:
                    await self._give_way()
                    answer = await self._found(key, entry)
                if answer is None:
                    ticket = await self._calls.admit(entry, config, question, lambda: self._rooms.ref(cafe_id).ask(c.Take("agent", who, session_id)), until_s)
                    answer = self._start(key, ticket)
                    return self._asked(entry, answer)
        return self._asked(entry, answer)

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
        for key in [key for key in self._under_way if key.cafe_id == cafe_id]:
            del self._under_way[key]
        self._cache.forget(cafe_id)
        self._context.forget(cafe_id)
        self._log.writer.forget(user_ids)

    def _shared(self, key: Key, entry: Entry) -> Answer | None:
        """The same answer, under way or in memory. It costs nothing."""
        answer = self._under_way.get(key)
        if answer is not None and not answer.stopping:
            self._log.end(replace(entry, outcome="shared", cached=True))
            return answer
        held = self._cache.get(key)
        return None if held is None else self._from_cache(held.text, held.sources, entry)

    async def _found(self, key: Key, entry: Entry) -> Answer | None:
        held = await self._cache.find(key)
        return None if held is None else self._from_cache(held.text, held.sources, entry)

    def _from_cache(self, text: str, sources: tuple[str, ...], entry: Entry) -> Answer:
        self._log.end(replace(entry, outcome="cached", cached=True))
        return Answer.known(self._clock, text, Complete(text, True, sources, Usage()))

    def _start(self, key: Key, ticket: Ticket) -> Answer:
        answer = self._under_way[key] = Answer(self._clock)

        def done(end: End) -> None:
            if self._under_way.get(key) is not answer:  # somebody it may speak of was erased meanwhile
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


def _as_asked(config: AgentConfig, personality: str | None) -> AgentConfig:
    """The café's config, with the persona an asker wants."""
    if personality is None:
        return config
    if personality not in PERSONAS:
        raise invalid("data.personality", f"there is no persona {personality!r}; there are {', '.join(PERSONAS)}")
    if personality == "custom" and not config.custom_text:
        raise invalid("data.personality", "this café has no persona of its own")
    return replace(config, persona=personality)
