"""Words that trickle in, gathered into chunks: the first at once, the others every `GAP_S` or `CHARS_MAX` characters. Pure; times are passed in."""

from __future__ import annotations

import math
from typing import Final

GAP_S: Final = 0.1
"""Ten times a second is as smooth as anyone reads; each chunk is a frame for everybody who asked alike."""

CHARS_MAX: Final = 64


class Chunker:
    """`due_s`: when what is held back is to go out; infinite when nothing is."""

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
