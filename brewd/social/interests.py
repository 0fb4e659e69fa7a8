"""What customers say they are interested in, in one spelling, and whether they may be poked."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from brewd.cafe.text import is_blank
from brewd.errors import Rejected
from brewd.people.records import Queries, User, invalid, user_from
from brewd.runtime.clock import Clock, as_datetime
from brewd.store.postgres import Postgres

MAX: Final = 10
MAX_CHARS: Final = 40

_JOINERS: Final = "\u200c\u200d"  # of Persian words and of many emoji: invisible, and no control characters


def normalised(path: str, text: str) -> str:
    """An interest as it is kept and compared: NFKC, lower case, single spaces. Raises `Rejected`, naming `path`."""
    if any(unicodedata.category(sign)[0] == "C" and sign not in _JOINERS for sign in text):
        raise invalid(path, "must not have control characters")
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    plain = " ".join(plain.split())
    if is_blank(plain) or len(plain) > MAX_CHARS:
        raise invalid(path, f"must have 1 to {MAX_CHARS} characters, not only spaces")
    return plain


def normalised_all(texts: Sequence[str]) -> list[str]:
    """In the order given, each once, however often and in whichever spelling it was there. Raises `Rejected`, naming the index."""
    return _few("interests", [normalised(f"interests[{index}]", text) for index, text in enumerate(texts)])


def _few(path: str, interests: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(interests))
    if len(distinct) > MAX:
        raise invalid(path, f"there may be at most {MAX} interests")
    return distinct


Change = Callable[[list[str]], list[str]]


class Interests:
    """Every method raises `StoreError`, and `Rejected`: `user_expired` when the customer's time is over, `invalid_request` for what cannot be an interest."""

    def __init__(self, *, pg: Postgres, clock: Clock) -> None:
        self._pg = pg
        self._clock = clock

    async def set(self, user_id: str, interests: Sequence[str]) -> User:
        """These and no others."""
        after = normalised_all(interests)
        return await self._change(user_id, lambda _: after)

    async def add(self, user_id: str, interest: str) -> User:
        """One more; nothing changes if it is there."""
        more = normalised("interest", interest)
        return await self._change(user_id, lambda before: _few("interest", [*before, more]))

    async def remove(self, user_id: str, interest: str) -> User:
        """One less; nothing changes if it is not there."""
        less = normalised("interest", interest)
        return await self._change(user_id, lambda before: [one for one in before if one != less])

    async def enable_pokes(self, user_id: str, enabled: bool) -> User:
        """Whether others find them and may poke them. What was poked before is not touched."""
        row = await self._pg.fetchrow("poke_enabled_set", user_id, enabled, as_datetime(self._clock.now_ms()))
        return _user(row)

    async def _change(self, user_id: str, change: Change) -> User:
        return _user(await self._pg.transaction(_write, user_id, change, as_datetime(self._clock.now_ms())))


async def _write(tx: Queries, user_id: str, change: Change, now: datetime) -> Any:
    row = await tx.fetchrow("interests_lock", user_id, now)
    return None if row is None else await tx.fetchrow("interests_set", user_id, change(row["interests"]), now)


def _user(row: Any) -> User:
    if row is None:
        raise Rejected("user_expired", "This user's time is over; join again with a new receipt.")
    return user_from(row)
