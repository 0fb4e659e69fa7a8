"""Words that trickle in, gathered into chunks: the first at once, the others every `GAP_S` or `CHARS_MAX` characters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

GAP_S: Final = 0.1
"""Ten times a second is as smooth as anyone reads; each chunk is a frame for everybody who asked alike."""

CHARS_MAX: Final = 64


class Chunker:
    """Pure; times are passed in. `due_s`: when what is held back is to go out; infinite when nothing is."""

    __slots__ = ("_held", "_told_s", "due_s")

    def __init__(self) -> None:
        self._held = ""
        self._told_s = -math.inf
        self.due_s = math.inf

    def add(self, text: str, now_s: float) -> str:
        """The chunk that goes out now; empty: none does."""
        self._held += text
        if not self._held:
            return ""
        if len(self._held) >= CHARS_MAX or now_s >= self._told_s + GAP_S:
            return self.take(now_s)
        self.due_s = self._told_s + GAP_S
        return ""

    def take(self, now_s: float) -> str:
        """Everything that is held back."""
        held, self._held = self._held, ""
        if held:
            self._told_s = now_s
        self.due_s = math.inf
        return held


class Gatherer:
    """A chunker that keeps time. `tell` gets each chunk, and must neither block nor raise."""

    __slots__ = ("_chunker", "_due", "_scope", "_tell")

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._chunker = Chunker()
        self._due = trio.Event()
        self._scope = trio.CancelScope()

    def add(self, text: str) -> None:
        """More words came."""
        self._pass_on(self._chunker.add(text, trio.current_time()))
        if self._chunker.due_s != math.inf:
            self._due.set()

    async def run(self) -> None:
        """Let words that are held back go when they are due. Runs until `end`, or cancelled."""
        with self._scope:
            while True:
                await self._due.wait()
                self._due = trio.Event()
                while self._chunker.due_s != math.inf:
                    now_s = trio.current_time()
                    if now_s >= self._chunker.due_s:
                        self._pass_on(self._chunker.take(now_s))
                    else:
                        await trio.sleep_until(self._chunker.due_s)

    def end(self) -> None:
        """There is no more: everything that came is told now."""
        self._pass_on(self._chunker.take(trio.current_time()))
        self._scope.cancel()

    def _pass_on(self, chunk: str) -> None:
        if chunk:
            self._tell(chunk)
