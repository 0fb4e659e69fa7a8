"""An answer as it is made and heard: one call of the API, or a text from the cache, and everyone who asked for it.

An `Answer` keeps its chunks and tells whoever listens. An `Asked` is one question of one asker. While somebody wants an
answer, its call goes on; an asker whose socket is lost is waited for a moment (`LINGER_S`), and one who cancels is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from brewd.agent.pieces import Chunk, Complete, End, Piece
from brewd.runtime.clock import Clock

LINGER_S: Final = 0.8
"""An asker who is gone for so long wants no more: a lost socket stops its call within a second."""

Tell = Callable[[Piece], None]
"""Gets each piece in the very step that brings it, so that it is on its way to a hundred sockets without a switch to a hundred tasks.
It must neither block nor raise."""

KEPT_S: Final = 120.0
"""An answer that ended can be resumed for so long."""


class _Listener:
    """One listening to one question, from chunk `index` on."""

    __slots__ = ("asked", "index", "tell")

    def __init__(self, asked: Asked, tell: Tell, index: int) -> None:
        self.asked = asked
        self.tell = tell
        self.index = index

    def hear(self, piece: Piece) -> None:
        if not self.asked.cancelled and (not isinstance(piece, Chunk) or piece.index >= self.index):
            self.tell(piece)


class Answer:
    """`askers`: who still wants it. `scope`: cancels its call."""

    __slots__ = ("_clock", "askers", "cached", "chunks", "end", "ended", "ended_s", "first_s", "listeners", "scope")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.listeners: dict[_Listener, None] = {}
        self.cached = False
        self.chunks: list[str] = []
        self.end: End | None = None
        self.ended = trio.Event()
        self.ended_s = math.inf
        self.first_s: float | None = None
        self.scope = trio.CancelScope()
        self.askers: set[Asked] = set()

    @classmethod
    def known(cls, clock: Clock, text: str, end: Complete) -> Answer:
        """One that is there already."""
        answer = cls(clock)
        answer.cached = True
        answer.chunks = [text]
        answer.finish(end)
        return answer

    @property
    def text(self) -> str:
        return "".join(self.chunks)

    @property
    def stopping(self) -> bool:
        """Its call is being cancelled: nobody new may share it."""
        return self.scope.cancel_called

    def said(self, text: str) -> None:
        """Another chunk came."""
        if self.first_s is None:
            self.first_s = self._clock.monotonic_s()
        self.chunks.append(text)
        self._spread(Chunk(len(self.chunks) - 1, text))

    def finish(self, end: End) -> None:
        """There is no more."""
        self.end = end
        self.ended_s = self._clock.monotonic_s()
        self.ended.set()
        self._spread(end)

    def _spread(self, piece: Piece) -> None:
        for listener in list(self.listeners):
            listener.hear(piece)


class Asked:
    """One question of one asker. Made by the agent; `lost` is told when nobody listens any more."""

    __slots__ = ("_lost", "_scopes", "answer", "cafe_id", "cancelled", "query", "query_id", "user_id")

    def __init__(self, *, query_id: str, query: str, cafe_id: str, user_id: str, answer: Answer, lost: Callable[[Asked], None]) -> None:
        self.query_id: Final = query_id
        self.query: Final = query
        self.cafe_id: Final = cafe_id
        self.user_id: Final = user_id
        self.answer: Final = answer
        self.cancelled = False
        self._lost = lost
        self._scopes: set[trio.CancelScope] = set()
        answer.askers.add(self)

    @property
    def cached(self) -> bool:
        return self.answer.cached

    @property
    def heard(self) -> bool:
        """Somebody listens."""
        return bool(self._scopes)

    async def hear(self, tell: Tell, index: int = 0) -> None:
        """Tell the answer from chunk `index` on as it comes, then its end, and return. After `cancel` there is no end.

        Cancelling this is a lost socket: with nobody listening to any asker of the question the call is stopped within a second; what
        came is kept, and can be resumed.
        """
        answer, listener, scope = self.answer, _Listener(self, tell, index), trio.CancelScope()
        self._scopes.add(scope)
        if not self.cancelled:
            answer.askers.add(self)
        try:
            for at in range(index, len(answer.chunks)):
                listener.hear(Chunk(at, answer.chunks[at]))
            if answer.end is not None:
                listener.hear(answer.end)
            elif not self.cancelled:
                answer.listeners[listener] = None
                with scope:
                    await answer.ended.wait()
        finally:
            answer.listeners.pop(listener, None)
            self._scopes.discard(scope)
            if not (self._scopes or self.cancelled) and answer.end is None:
                self._lost(self)

    def cancel(self) -> None:
        """The asker wants no more."""
        self.cancelled = True
        for scope in self._scopes:
            scope.cancel()
        self.give_up()

    def give_up(self) -> None:
        """Want the answer no longer; its call is stopped when nobody else does."""
        answer = self.answer
        answer.askers.discard(self)
        if not answer.askers and answer.end is None:
            answer.scope.cancel()
