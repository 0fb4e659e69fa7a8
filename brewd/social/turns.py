"""Turns in channels: what is done in one is done after the other, so that both hear of it in the order in which it is stored.

A turn also knows how far its channel was told. A write whose answer was lost may have been stored: its channel is unsure then, and
whoever comes next looks, and tells what nobody was told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from brewd.errors import StoreError

UNSURE_MAX: Final = 10_000
"""Channels remembered as unsure while nobody writes in them. Of more, a message may be seen only by who looks."""


class Turn:
    """Of one channel. `told_seq`: up to there everything was told; None: everything was that is stored."""

    __slots__ = ("_lock", "told_seq", "unsure", "users")

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self.told_seq: int | None = None
        self.unsure = False
        self.users = 0

    @asynccontextmanager
    async def taken(self, within_s: float) -> AsyncIterator[None]:
        """Wait for the turn, and have it for the block. First come, first served. Raises `StoreError` when those before take too long."""
        try:
            with trio.fail_after(within_s):
                await self._lock.acquire()
        except trio.TooSlowError:
            raise StoreError("what was said before in this channel is still being stored") from None
        try:
            yield
        finally:
            self._lock.release()


class Turns:
    """Those of the channels in which something is being done, and of the unsure ones."""

    def __init__(self) -> None:
        self._by_channel: dict[str, Turn] = {}

    def __len__(self) -> int:
        return len(self._by_channel)

    @contextmanager
    def of(self, channel_id: str) -> Iterator[Turn]:
        """The channel's turn. What is told of the channel during the block is known to it, before it is taken as well."""
        turn = self._by_channel.setdefault(channel_id, Turn())
        turn.users += 1
        try:
            yield turn
        finally:
            turn.users -= 1
            if not turn.users and (not turn.unsure or len(self._by_channel) > UNSURE_MAX):
                del self._by_channel[channel_id]
