"""An answer as it is made and heard: one call of the API, or a text from the cache, and everyone who asked for it.

An `Answer` gathers words into chunks and tells whoever listens. An `Asked` is one question of one asker, a `Listening` one way to hear
it; neither has a task. While somebody wants an answer, its call goes on; an asker whose socket is lost is waited for a moment
(`LINGER_S`), and one who cancels is not. That wait is a deadline of the call's own scope, so that none of it can be left behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from brewd.agent.chunks import Chunker
from brewd.agent.pieces import Chunk, Complete, End, Piece
from brewd.runtime.clock import Clock

LINGER_S: Final = 0.8
"""An asker who is gone for so long wants no more: a lost socket stops its call within a second."""

Tell = Callable[[Piece], None]
"""Gets each piece in the very step that brings it, so that it is on its way to a hundred sockets without a switch to a hundred tasks.
It must neither block nor raise."""

KEPT_S: Final = 120.0
"""An answer that ended can be resumed for so long."""


Cut = Callable[[], None]
"""Is called instead of an end when the asker has cancelled."""


class Listening:
    """One listening to one question, from chunk `index` on. It lasts until the end, `stop`, or the asker's `cancel`; it is told nothing after that."""

    __slots__ = ("_asked", "_index", "_tell", "cut")

    def __init__(self, asked: Asked, tell: Tell, index: int, cut: Cut) -> None:
        self._asked = asked
        self._tell = tell
        self._index = index
        self.cut: Final = cut

    def hear(self, piece: Piece) -> None:
        if isinstance(piece, Chunk):
            if piece.index >= self._index:
                self._tell(piece)
        else:
            self.stop()
            self._tell(piece)

    def stop(self) -> None:
        """Before the end this is a lost socket: with nobody listening to any asker of the question the call is stopped within a second; what came is
        kept, and can be resumed. Harmless when it is over."""
        self._asked.unheard_by(self)


class Answer:
    """`asked`: for whom it is made, but those who cancelled. `listeners`: who is told. `scope`: cancels its call."""

    __slots__ = ("_chunker", "_clock", "_due", "asked", "cached", "chunks", "end", "ended", "ended_s", "first_s", "listeners", "scope")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chunker = Chunker()
        self._due = trio.Event()
        self.listeners: dict[Listening, None] = {}
        self.cached = False
        self.chunks: list[str] = []
        self.end: End | None = None
        self.ended = trio.Event()
        self.ended_s = math.inf
        self.first_s: float | None = None
        self.scope = trio.CancelScope()
        self.asked: set[Asked] = set()

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

    @property
    def askers(self) -> list[Asked]:
        """Who still wants it."""
        now_s = trio.current_time()
        return [asked for asked in self.asked if asked.until_s > now_s]

    def reckon(self) -> None:
        """Somebody wants it less than before: when nobody listens, its call goes on until the last asker was waited for; at once, if there is none."""
        if self.listeners or self.end is not None:
            return
        askers = self.askers
        if askers:
            self.scope.deadline = max(asked.until_s for asked in askers)
        else:
            self.scope.cancel()

    def said(self, text: str) -> None:
        """More words came."""
        now_s = self._clock.monotonic_s()
        if self.first_s is None and text:
            self.first_s = now_s
        self._tell(self._chunker.add(text, now_s))
        if self._chunker.due_s != math.inf:
            self._due.set()

    async def tell_in_time(self) -> None:
        """Let words that are held back go when they are due. Runs until cancelled."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            while self._chunker.due_s != math.inf:
                now_s = self._clock.monotonic_s()
                if now_s >= self._chunker.due_s:
                    self._tell(self._chunker.take(now_s))
                else:
                    await trio.sleep(self._chunker.due_s - now_s)

    def flush(self) -> None:
        """Everything that came is told now."""
        self._tell(self._chunker.take(self._clock.monotonic_s()))

    def finish(self, end: End) -> None:
        """There is no more."""
        self.flush()
        self.end = end
        self.ended_s = self._clock.monotonic_s()
        self.ended.set()
        self._spread(end)

    def _tell(self, text: str) -> None:
        if text:
            self.chunks.append(text)
            self._spread(Chunk(len(self.chunks) - 1, text))

    def _spread(self, piece: Piece) -> None:
        for listener in list(self.listeners):
            if listener in self.listeners:  # else one before it has stopped it
                listener.hear(piece)


class Asked:
    """One question of one asker. Made by the agent; until somebody listens it counts as lost. `until_s`: when (trio time) the asker wants no more."""

    __slots__ = ("_listenings", "answer", "cafe_id", "cancelled", "query", "query_id", "until_s", "user_id")

    def __init__(self, *, query_id: str, query: str, cafe_id: str, user_id: str, answer: Answer) -> None:
        self.query_id: Final = query_id
        self.query: Final = query
        self.cafe_id: Final = cafe_id
        self.user_id: Final = user_id
        self.answer: Final = answer
        self.cancelled = False
        self._listenings: set[Listening] = set()
        answer.asked.add(self)
        self._lost()

    @property
    def cached(self) -> bool:
        return self.answer.cached

    def listen(self, tell: Tell, index: int = 0, cut: Cut = lambda: None) -> Listening:
        """Tell the answer from chunk `index` on, what is there at once and what follows as it comes, then its end. After `cancel` there is no end,
        but a `cut`."""
        answer, listening = self.answer, Listening(self, tell, index, cut)
        if self.cancelled:
            cut()
            return listening
        for at in range(index, len(answer.chunks)):
            tell(Chunk(at, answer.chunks[at]))
        if answer.end is not None:
            tell(answer.end)
            return listening
        self._listenings.add(listening)
        answer.listeners[listening] = None
        self.until_s = answer.scope.deadline = math.inf
        return listening

    def unheard_by(self, listening: Listening) -> None:
        """For `Listening.stop`."""
        if listening in self._listenings:
            self._listenings.remove(listening)
            del self.answer.listeners[listening]
            if not self._listenings:
                self._lost()

    def cancel(self) -> None:
        """The asker wants no more; the call is stopped when nobody else does."""
        self.cancelled = True
        self.answer.asked.discard(self)
        for listening in list(self._listenings):
            listening.stop()
            listening.cut()
        self.answer.reckon()

    def _lost(self) -> None:
        """Nobody listens any more."""
        self.until_s = trio.current_time() + LINGER_S
        self.answer.reckon()
