"""Writes answers: makes the prompt, has it answered, and gathers the words into chunks.

All that takes time of an answer is here or below, so this runs in the worker; the daemon gets chunks that are ready to be passed on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from brewd.agent.calls import Meter, Opening, Written
from brewd.agent.chunks import Gatherer
from brewd.agent.prompt import Task, prompt_of
from brewd.agent.upstream import Claude, open_claude
from brewd.agent.words import told


class Writer:
    """Made by `open_writer`."""

    put: Final = None

    def __init__(self, claude: Claude, nursery: trio.Nursery) -> None:
        self._claude = claude
        self._nursery = nursery

    def use_key(self, api_key: str) -> None:
        """Another key from the next call on."""
        self._claude.use_key(api_key)

    async def answer(self, task: Task, *, model: str, max_tokens: int, on_chunk: Callable[[str], None], meter: Meter) -> Written:
        """As `Claude.answer`. What came has gone to `on_chunk` when this returns, raises or is cancelled."""
        prompt, gatherer = prompt_of(task), Gatherer(on_chunk)
        self._nursery.start_soon(gatherer.run)
        try:
            reason = await self._claude.answer(prompt, model=model, max_tokens=max_tokens, on_text=lambda text: gatherer.add(told(text)), meter=meter)
        finally:
            gatherer.end()
        return Written(reason, prompt.sources)


@asynccontextmanager
async def open_writer(opening: Opening) -> AsyncIterator[Writer]:
    """A writer for the block."""
    async with open_claude(opening) as claude, trio.open_nursery() as nursery:
        yield Writer(claude, nursery)
        nursery.cancel_scope.cancel()
