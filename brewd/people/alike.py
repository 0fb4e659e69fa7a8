"""One person behind several users: a mute of one, as far as their patron key shows that they are the same, holds for all of them.

A moderator's order names a user and is carried out for everybody alike (`moderation`). This is for the mutes nobody gave: what a
room decides about one user, the rooms are told about the others as soon as it is written; and who joins anew, as somebody who is
muted, is muted from the first moment. A café that opens reads all of it (`standings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from brewd.cafe.commands import Command, Mute
from brewd.cafe.effects import Record
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.log import get_logger

log = get_logger("moderation")

TIMEOUT_S = 2.0


class Queries(Protocol):
    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]: ...


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def order(self, cafe_id: str, command: Command) -> None: ...


class Alike:
    """See the module. Has no state."""

    def __init__(self, *, pg: Queries, clock: Clock, rooms: Rooms) -> None:
        self._pg = pg
        self._clock = clock
        self._rooms = rooms

    async def follow(self, mutes: Sequence[Record]) -> None:
        """These were decided in rooms and are written: they hold for the others too, unless a later word was spoken. Raises `StoreError`."""
        ids = [mute.user_id for mute in mutes]
        # A join with the same key either has read what is written, or is waited for here and found below.
        await self._pg.fetch("patron_lock_many", ids, timeout_s=TIMEOUT_S)
        for row in await self._pg.fetch("mute_follows", ids, as_datetime(self._clock.now_ms()), timeout_s=TIMEOUT_S):
            self.mute(row["cafe_id"], row["user_id"], as_ms(row["until_at"]), row["reason"])

    def mute(self, cafe_id: str, user_id: str, until_ms: int, reason: str) -> None:
        """This user is somebody who is muted."""
        log.info("mute_follows", cafe=cafe_id, user=user_id, reason=reason)
        self._rooms.order(cafe_id, Mute(user_id, until_ms, reason))
