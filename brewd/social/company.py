"""Who is where in a café right now, as memory has it: the room's, and that of the sessions."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from brewd.cafe.commands import CompanyQuery
from brewd.cafe.events import CompanyAnswer


class Ref(Protocol):
    async def ask(self, command: Any, timeout_s: float = 5.0) -> Any: ...


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def ref(self, cafe_id: str) -> Ref: ...


class Bans(Protocol):
    """Who knows who is banned (the sessions)."""

    def banned(self) -> list[str]: ...


class Company(Struct, frozen=True):
    """Ids of users. `present`: the others see them in the room. `barred`: muted or banned, so that nothing new of them reaches anybody."""

    present: frozenset[str]
    muted: frozenset[str]
    banned: frozenset[str]

    @property
    def barred(self) -> list[str]:
        return sorted(self.muted | self.banned)


async def company(rooms: Rooms, bans: Bans, cafe_id: str) -> Company:
    """Asks the café's room. Raises `Rejected` (`cafe_unavailable`, `mailbox_full`, `storage_unavailable`), within its deadline."""
    answer: CompanyAnswer = await rooms.ref(cafe_id).ask(CompanyQuery())
    return Company(answer.present, answer.muted, frozenset(bans.banned()))
