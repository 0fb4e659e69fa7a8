"""Customers: who they are, which there are, made in bulk for support and load tests, and sent home early."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from brewd.errors import Rejected, StoreConflict
from brewd.people.names import made_name
from brewd.people.records import Queries, User, invalid, user_from
from brewd.people.sessions import Sessions
from brewd.people.tokens import Identity, Tokens
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

ADD_MAX: Final = 100_000
_BATCH: Final = 250  # some 6 ms of signing between two turns of the event loop, while rooms are live
_LIST_MAX: Final = 10_000
_BATCH_TRIES: Final = 3


class NewUser(Struct, frozen=True, rename="camel"):
    id: str
    username: str
    access_token: str


class Users:
    """Every method raises `StoreError` when Postgres does not answer."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, tokens: Tokens, sessions: Sessions, user_ttl_s: float) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._tokens = tokens
        self._sessions = sessions
        self._user_ttl_ms = int(user_ttl_s * 1000)

    async def me(self, identity: Identity) -> User:
        """Raises `Rejected` (`user_expired`) when their time is over."""
        user = await self._find(identity.user_id)
        if user is None or not user.is_live(self._clock.now_ms()):
            raise Rejected("user_expired", "This user's time is over; join again with a new receipt.")
        return user

    async def show(self, user_id: str) -> User:
        """Live or not. Raises `Rejected` (`not_found`)."""
        user = await self._find(user_id)
        if user is None:
            raise Rejected("not_found", "There is no such user.")
        return user

    async def list(self, cafe_id: str, limit: int = _LIST_MAX) -> Sequence[User]:
        """The live ones, oldest first, at most `limit`."""
        rows = await self._pg.fetch("customer_list", cafe_id, as_datetime(self._clock.now_ms()), min(limit, _LIST_MAX))
        return [user_from(row) for row in rows]

    async def add_many(self, cafe_id: str, count: int) -> Sequence[NewUser]:
        """Ready customers with an access token each and no refresh token. Raises `Rejected`: `not_found` (the café), `invalid_request` (`count`)."""
        if not 1 <= count <= ADD_MAX:
            raise invalid("count", f"must be between 1 and {ADD_MAX:,}")
        if await self._pg.fetchval("cafe_epoch", cafe_id) is None:
            raise Rejected("not_found", "There is no such café.")
        made: list[NewUser] = []
        for start in range(0, count, _BATCH):
            made += await self._add_batch(cafe_id, min(_BATCH, count - start))
        return made

    async def expire(self, user_id: str) -> User:
        """End a customer's time now. Raises `Rejected` (`not_found`)."""
        return await self._sessions.end_user(user_id)

    async def _add_batch(self, cafe_id: str, count: int) -> Sequence[NewUser]:
        for last in (False,) * (_BATCH_TRIES - 1) + (True,):
            now_ms = self._clock.now_ms()
            expires_ms = now_ms + self._user_ttl_ms
            user_ids, session_ids = [self._ids.uuid7() for _ in range(count)], [self._ids.uuid7() for _ in range(count)]
            names = [made_name(self._ids) for _ in range(count)]
            try:
                await self._pg.transaction(_add_many, cafe_id, (user_ids, names, session_ids), as_datetime(now_ms), as_datetime(expires_ms))
            except StoreConflict:  # two of 2^42 names met
                if last:
                    raise
                continue
            people = zip(user_ids, names, session_ids, strict=True)
            return [NewUser(user_id, name, self._token(cafe_id, user_id, name, sid, expires_ms)) for user_id, name, sid in people]
        raise AssertionError("unreachable")

    def _token(self, cafe_id: str, user_id: str, username: str, session_id: str, expires_ms: int) -> str:
        token, _ = self._tokens.issue_access(
            user_id=user_id, cafe_id=cafe_id, role="user", session_id=session_id, username=username, badge=None, user_expires_ms=expires_ms
        )
        return token

    async def _find(self, user_id: str) -> User | None:
        row = await self._pg.fetchrow("customer_by_id", user_id)
        return None if row is None else user_from(row)


async def _add_many(tx: Queries, cafe_id: str, columns: tuple[list[str], list[str], list[str]], now: datetime, expires_at: datetime) -> None:
    user_ids, names, session_ids = columns
    await tx.execute("customer_add_many", cafe_id, user_ids, names, now, expires_at)
    await tx.execute("session_add_many", session_ids, user_ids, now, expires_at)
