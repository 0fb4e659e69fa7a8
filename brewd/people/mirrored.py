"""People as Redis shows them: sessions, users, and which refresh token is the current one (its hash, never the token).

Written as they open and end. After Redis was away or emptied, `run` writes every live session anew from Postgres, page by page.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NoReturn, Protocol

import trio

from brewd.errors import StoreError
from brewd.people.holders import Bearer
from brewd.people.records import User, user_from
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import BEFORE_ALL
from brewd.store.mirror import Mirror, RedisCommand

PAGE: Final = 1000
RETRY_S: Final = 1.0


class Pages(Protocol):
    async def fetch(self, name: str, *args: Any) -> list[Any]: ...


class PeopleMirror:
    """Owns the keys `session:{sid}`, `user:{id}` and `user:{id}:refresh_token`."""

    def __init__(self, *, mirror: Mirror, pg: Pages, clock: Clock) -> None:
        self._mirror = mirror
        self._pg = pg
        self._clock = clock
        self._asked = trio.Event()
        mirror.rewritten.append(self._ask)

    def opened(self, user: User, session_id: str, refresh_jti: str) -> None:
        """A customer's session began, or went on with a new refresh token."""
        self._mirror.write(f"session:{session_id}", _session(user, session_id, refresh_jti))

    def badge(self, bearer: Bearer) -> None:
        """A user has another badge now, or none."""
        person, status = f"user:{bearer.user_id}", bearer.badge or "none"
        named = ("HSET", person, "username", bearer.username, "cafeId", bearer.cafe_id, "badgeStatus", status)
        self._mirror.write(f"{person}:badge", [named, ("EXPIREAT", person, bearer.expires_ms // 1000)])

    def ended(self, session_id: str | None, user_id: str, _code: int) -> None:
        """A session was revoked, or, with no session, everything of a user."""
        gone = [f"session:{session_id}"] if session_id is not None else [f"user:{user_id}"]
        self._mirror.write(gone[0], [("DEL", *gone, f"user:{user_id}:refresh_token")])

    def _ask(self) -> None:
        self._asked.set()

    async def run(self) -> NoReturn:
        """Write all live sessions whenever the mirror was written anew."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            await self._write_all()

    async def _write_all(self) -> None:
        after = BEFORE_ALL
        while True:
            try:
                rows = await self._pg.fetch("session_live", as_datetime(self._clock.now_ms()), after, PAGE)
            except StoreError:
                await trio.sleep(RETRY_S)
                continue
            for row in rows:
                self.opened(user_from(row), row["session_id"], row["refresh_jti"])
            if len(rows) < PAGE:
                return
            after = rows[-1]["session_id"]
            await trio.sleep(RETRY_S)  # a page a second: nobody waits for it, and it must not crowd out what is fresh


def _session(user: User, session_id: str, refresh_jti: str) -> list[RedisCommand]:
    ends_s = user.expires_ms // 1000
    session, person = f"session:{session_id}", f"user:{user.id}"
    return [
        ("HSET", session, "userId", user.id, "cafeId", user.cafe_id, "role", "user"),
        ("EXPIREAT", session, ends_s),
        ("HSET", person, "username", user.username, "cafeId", user.cafe_id, "badgeStatus", user.badge_status),
        ("EXPIREAT", person, ends_s),
        ("SET", f"{person}:refresh_token", sha256(refresh_jti.encode()).hexdigest(), "EXAT", ends_s),
    ]
