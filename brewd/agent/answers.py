"""An answer as it is made and heard: one call of the API, or a text from the cache, and everyone who asked for it.

An `Answer` gathers words into chunks and wakes whoever listens. An `Asked` is one question of one asker. While somebody wants an
answer, its call goes on; an asker whose socket is lost is waited for a moment (`LINGER_S`), and one who cancels is not.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import Final

import trio

from brewd.agent.chunks import Chunker
from brewd.agent.pieces import Chunk, Complete, End, Piece
from brewd.runtime.clock import Clock

LINGER_S: Final = 0.8
"""An asker who is gone for so long wants no more: a lost socket stops its call within a second."""

KEPT_S: Final = 120.0
"""An answer that ended can be resumed for so long."""


class Answer:
    """`askers`: who still wants it. `scope`: cancels its call."""

    __slots__ = ("_changed", "_chunker", "_clock", "_due", "askers", "cached", "chunks", "end", "ended_s", "first_s", "scope")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chunker = Chunker()
        self._changed = trio.Event()
        self._due = trio.Event()
        self.cached = False
        self.chunks: list[str] = []
        self.end: End | None = None
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
        self._wake()

    async def more(self) -> None:
        """Wait for another chunk, or the end."""
        await self._changed.wait()

    def wake(self) -> None:
        """Have everyone who listens look again."""
        self._wake()

    def _tell(self, chunk: str) -> None:
        if chunk:
            self.chunks.append(chunk)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Asked:
    """One question of one asker. Made by the agent; `lost` is told when nobody listens any more."""

    __slots__ = ("_listening", "_lost", "answer", "cafe_id", "cancelled", "query", "query_id", "user_id")

    def __init__(self, *, query_id: str, query: str, cafe_id: str, user_id: str, answer: Answer, lost: Callable[[Asked], None]) -> None:
        self.query_id: Final = query_id
        self.query: Final = query
        self.cafe_id: Final = cafe_id
        self.user_id: Final = user_id
        self.answer: Final = answer
        self.cancelled = False
        self._lost = lost
        self._listening = 0
        answer.askers.add(self)

    @property
    def cached(self) -> bool:
        return self.answer.cached

    @property
    def heard(self) -> bool:
        """Somebody listens."""
        return self._listening > 0

    async def pieces(self, index: int = 0) -> AsyncGenerator[Piece, None]:
        """The answer from chunk `index` on, as it comes, then its end. After `cancel` they end without one.

        An async generator: close it (`contextlib.aclosing`) when the socket is gone. With nobody listening to any asker of the
        question the call is stopped within a second; what came is kept, and can be resumed.
        """
        answer, at = self.answer, index
        if self.cancelled:
            return
        self._listening += 1
        answer.askers.add(self)
        try:
            while not self.cancelled:
                if at < len(answer.chunks):
                    yield Chunk(at, answer.chunks[at])
                    at += 1
                elif answer.end is not None:
                    yield answer.end
                    return
                else:
                    await answer.more()
        finally:
            self._listening -= 1
            if not (self._listening or self.cancelled) and answer.end is None:
                self._lost(self)

    def cancel(self) -> None:
        """The asker wants no more."""
        self.cancelled = True
        self.answer.wake()
        self.give_up()

    def give_up(self) -> None:
        """Want the answer no longer; its call is stopped when nobody else does."""
        answer = self.answer
        answer.askers.discard(self)
        if not answer.askers and answer.end is None:
            answer.scope.cancel()
