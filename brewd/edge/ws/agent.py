"""The socket of `/ws/agent`: guests ask, and hear the answer as it is made; whoever joined hears what the agent says by itself.

It stands in no room: nobody is present by it, and no event of the room comes this way. A query whose answer is not there yet is a task of
the socket until it is taken; after that the agent's pieces are pushed out in the very step that brings them. It ends with the socket, and with it the
listening; what becomes of the call upstream is for the agent to know, since others may listen to the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import Final

import trio
from msgspec import UNSET

from brewd.agent.agent import Agent, Asked, Inquiry
from brewd.agent.answers import Listening
from brewd.agent.calls import GiveWay
from brewd.agent.pieces import Chunk, Complete, Piece
from brewd.agent.settings import AgentConfigs
from brewd.cafe import commands as c
from brewd.cafe.events import Draining, Event
from brewd.edge.refusal import internal
from brewd.edge.ws import agent_frames as f
from brewd.edge.ws import peer, plain
from brewd.edge.ws.watchers import Watchers
from brewd.errors import Rejected, StoreError, storage_unavailable
from brewd.people.tokens import Identity
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger

log = get_logger("brewd.edge.agent")

QUERIES_MAX: Final = 3
"""Queries that one socket may have under way."""

RETRY_MS: Final = 1000


class Parts(peer.Parts, frozen=True, kw_only=True):
    """What every socket of `/ws/agent` works with."""

    ids: Ids
    agent: Agent
    configs: AgentConfigs
    watchers: Watchers
    give_way: GiveWay


class _Query:
    """One query of this socket. Until it has an `id` it is being asked, in `scope`, and answered by `ref`. `told`: chunks of it were, here or before a resume."""

    __slots__ = ("id", "listening", "ref", "scope", "told")

    def __init__(self, ref: c.Ref) -> None:
        self.id = ""
        self.ref = ref
        self.scope = trio.CancelScope()
        self.listening: Listening | None = None
        self.told = False


class AgentSocket(peer.Peer):
    """A `Peer` that speaks of queries."""

    __slots__ = ("_nursery", "_queries", "_reconnect_ms")

    _parts: Parts

    def __init__(self, parts: Parts, opened: peer.Opened) -> None:
        self._nursery: trio.Nursery | None = None
        self._queries: dict[_Query, None] = {}
        self._reconnect_ms = 0
        super().__init__(parts, opened)

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):  # the peer is gone; there is nobody to tell
                await super().run()

    def leave(self) -> None:
        self._end_all(None)

    def drain(self, notice: Draining) -> None:
        super().drain(notice)
        self._reconnect_ms = notice.reconnect_in_ms
        self._end_all(self._restarting())

    def _met(self, identity: Identity) -> None:
        pass

    def _gone(self) -> None:
        self._end_all(None)
        if self.identity is not None:
            self._parts.watchers.remove(self.identity.cafe_id, self.outbox)

    def _restarting(self) -> Rejected:
        return Rejected("agent_unavailable", "The server is restarting. Ask again after reconnecting.", retryAfterMs=self._reconnect_ms)

    async def _received(self, data: bytes) -> bool:
        await self._parts.give_way()
        return await super()._received(data)

    def _decode(self, text: str) -> f.Frame:
        return f.decode(text)

    def _handle(self, frame: f.Frame) -> Awaitable[None] | None:
        match frame:
            case f.QueryFrame():
                self._ask(frame)
            case f.CancelFrame():
                self._cancel(frame)
            case f.ResumeFrame():
                self._resume(frame)
            case f.EnterFrame():
                return self._enter(self._in_cafe(frame.data.cafe_id).cafe_id, frame.ref)
            case f.ExitFrame():
                self._exit(frame)
            case plain.RefreshFrame() | plain.AuthFrame():
                self._refresh(frame)
        return None

    def _ask(self, frame: f.QueryFrame) -> None:
        identity = self._parts.sessions.check(self._in_cafe(frame.data.cafe_id))  # with the badge they have by now, which has limits of its own
        who = c.Who(identity.user_id, identity.username, identity.badge, staff=identity.is_staff, moderator=identity.role == "moderator")
        inquiry = Inquiry(cafe_id=identity.cafe_id, who=who, session_id=identity.session_id, query=frame.data.query, personality=frame.data.personality)
        query = self._query(frame.ref)
        try:
            asked = self._parts.agent.look(inquiry)
        except Exception as error:
            self._failed(query, error)
            return
        if asked is not None:  # most of a crowd asks what others have just asked: that needs no task
            self._start(query, asked)
            return
        assert self._nursery is not None
        self._nursery.start_soon(self._run, query, inquiry)

    def _resume(self, frame: f.ResumeFrame) -> None:
        """Whoever listens to it already on this socket hears each chunk once: the new listening takes over."""
        asked = self._no_longer_heard(frame.data.query_id)
        query = self._query(frame.ref)
        self._answer(frame.ref, f.QueryAnswer(asked.query_id))
        self._listen(query, asked, frame.data.index)

    def _cancel(self, frame: f.CancelFrame) -> None:
        """The reply is the last that is said here of the query."""
        asked = self._no_longer_heard(frame.data.query_id)
        self._parts.agent.cancel(asked.query_id, asked.user_id)
        self._answer(frame.ref, f.QueryAnswer(asked.query_id))

    def _no_longer_heard(self, query_id: str) -> Asked:
        """A question of theirs, to which this socket does not listen any more. Raises `Rejected` (`not_found`), and then nothing has changed."""
        assert self.identity is not None
        asked = self._parts.agent.resume(query_id, self.identity.user_id)
        for query in [query for query in self._queries if query.id == query_id]:
            self._end(query, None)
        return asked

    async def _enter(self, cafe_id: str, ref: c.Ref) -> None:
        try:
            config, status = await self._parts.configs.get(cafe_id), await self._parts.agent.status_of(cafe_id)
        except StoreError:
            self.outbox.push(self._parts.dialect.error(ref, storage_unavailable().data()))
            return
        self._parts.watchers.add(cafe_id, self.outbox)
        reason = status.reason if config.enabled else "The café has switched its agent off."
        available = config.enabled and status.takes_questions
        self._answer(ref, f.EnterAnswer(cafe_id, config.persona, available, UNSET if available else reason))

    def _exit(self, frame: f.ExitFrame) -> None:
        identity = self._in_cafe(frame.data.cafe_id)
        self._parts.watchers.remove(identity.cafe_id, self.outbox)
        self._answer(frame.ref, {})

    def _in_cafe(self, cafe_id: str | None) -> Identity:
        identity = self.identity
        if identity is None or cafe_id not in (None, identity.cafe_id):
            raise Rejected("not_in_cafe", "Your token is for another café.")
        return identity

    def _answer(self, ref: c.Ref, data: object) -> None:
        if ref is not None:
            self.outbox.push(self._parts.dialect.reply(ref, data))

    def _query(self, ref: c.Ref) -> _Query:
        """One more. Raises `Rejected` when there are too many."""
        if self.draining:
            raise self._restarting()
        if len(self._queries) >= QUERIES_MAX:
            raise Rejected("rate_limited", f"A socket may have {QUERIES_MAX} queries under way.", retryAfterMs=RETRY_MS, limit="queries")
        query = _Query(ref)
        self._queries[query] = None
        return query

    async def _run(self, query: _Query, inquiry: Inquiry) -> None:
        """Ask, in a task of its own, so that the socket goes on reading."""
        try:
            with query.scope:
                asked = await self._parts.agent.ask(inquiry)
                if query in self._queries:
                    self._start(query, asked)
        except Exception as error:
            self._failed(query, error)

    def _start(self, query: _Query, asked: Asked) -> None:
        dialect = self._parts.dialect
        answer = b"" if query.ref is None else dialect.reply(query.ref, f.QueryAnswer(asked.query_id))
        self.outbox.push(answer + dialect.event(f.QueryStart(asked.query_id, asked.query, asked.cached)))
        self._listen(query, asked, 0)

    def _failed(self, query: _Query, error: Exception) -> None:
        """Whatever becomes of a query, it is an answer."""
        match error:
            case Rejected():
                self._end(query, error)
            case StoreError():
                log.debug("store unavailable for a query", reason=str(error))
                self._end(query, storage_unavailable())
            case _:
                incident = self._parts.ids.uuid4()
                log.error("a query failed", incident=incident, query=query.id, exc_info=error)
                self._end(query, internal(incident))

    def _listen(self, query: _Query, asked: Asked, index: int) -> None:
        """Tell the pieces from `index` on as they come. They end with an end, unless the query is cancelled."""
        query.id, query.told = asked.query_id, index > 0
        outbox, encode = self.outbox, self._parts.dialect.event

        def tell(piece: Piece) -> None:
            if not outbox.closed:
                outbox.push(encode(_told(asked, piece)))
                query.told = True
            if outbox.closed or not isinstance(piece, Chunk):
                self._end(query, None)

        def cut() -> None:
            self._end(query, Rejected("conflict", "You have cancelled this query on another connection."))

        listening = asked.listen(tell, index, cut)
        if query in self._queries:
            query.listening = listening
        else:  # it is over already, or nobody is there to hear more
            listening.stop()

    def _end_all(self, why: Rejected | None) -> None:
        for query in list(self._queries):
            self._end(query, why)

    def _end(self, query: _Query, why: Rejected | None) -> None:
        """Nothing more is said of it here, but `why`: to the frame, or, once there is a query id, about the query. Harmless after its end."""
        if query not in self._queries:
            return
        del self._queries[query]
        query.scope.cancel()
        if query.listening is not None:
            query.listening.stop()
            query.listening = None  # which knows the query: together they would wait for the collector
        dialect = self._parts.dialect
        if why is not None and query.id:
            retry_ms = why.extras.get("retryAfterMs", UNSET)
            self.outbox.push(dialect.event(f.QueryError(query.id, why.code, why.detail, retry_ms, query.told)))
        elif why is not None:
            self.outbox.push(dialect.error(query.ref, why.data()))


def _told(asked: Asked, piece: Piece) -> Event:
    match piece:
        case Chunk():
            return f.QueryChunk(asked.query_id, piece.index, piece.text)
        case Complete():
            return f.QueryComplete(asked.query_id, piece.full_response, piece.cached, piece.sources, piece.usage, piece.truncated)
    retry_ms = UNSET if piece.retry_after_ms is None else piece.retry_after_ms
    return f.QueryError(asked.query_id, piece.code, piece.detail, retry_ms, piece.partial)
