"""Logins: which are revoked, and how a refresh token turns into the next pair.

Owns the sets of revoked sessions, ended users and banned ones in memory, so that checking a token costs no query. They are loaded from
Postgres at the start and hold an entry only until the tokens it forbids have expired by themselves. So it is with badges: the token says
who had one when it was made, `holders` says who has one now.
A revocation counts in memory before it is written, and is written whatever becomes of the caller: someone who hangs up right after
logging out is logged out all the same, also after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.errors import Rejected, StoreError
from brewd.people.holders import Holders
from brewd.people.records import Queries, StaffMember, User, user_from
from brewd.people.tokens import Identity, RefreshGrant, Tokens
from brewd.runtime.clock import Clock, as_datetime, as_ms, rfc3339
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

CLOSE_EXPIRED: Final = 4001
CLOSE_REVOKED: Final = 4002
_SWEEP_EVERY_MS: Final = 60_000
_BAN_MAX_MS: Final = 31 * 86_400_000

OnRevoke = Callable[[str | None, str, int], None]
"""`fn(session_id or None for all of them, user_id, close_code)`. Called in the same tick as the revocation; must not block."""


OnOpen = Callable[[User, str, str], None]
"""`fn(user, session_id, refresh_jti)`: a customer's session began or went on. Must not block."""


class Renewed(Struct, frozen=True):
    """A fresh pair of tokens, and whose they are."""

    access_token: str
    refresh_token: str
    user: User


class Sessions:
    """Opens, renews and revokes logins. Add to `on_revoke` whatever must hear of a revocation (the sockets of the edge)."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, tokens: Tokens, user_ttl_s: float) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._tokens = tokens
        self._user_ttl_ms = int(user_ttl_s * 1000)
        self._revoked: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._banned: dict[str, int] = {}
        self._erased: dict[bytes, int] = {}  # before this process began: nobody knows their ids any more
        self._sweep_ms = 0
        self.holders = Holders(clock)
        self.on_revoke: list[OnRevoke] = []
        self.on_open: list[OnOpen] = []

    async def warm(self) -> None:
        """Load what was revoked before this process began. Call it before serving. Raises `StoreError`."""
        now = as_datetime(self._clock.now_ms())
        revoked = await self._pg.fetch("session_revoked", now)
        ended = await self._pg.fetch("customer_ended_early", now)
        banned = await self._pg.fetch("ban_live", now, as_datetime(self._clock.now_ms() - _BAN_MAX_MS))
        erased = await self._pg.fetch("erased_live", now)
        self._erased.update((row["id_hash"], as_ms(row["expires_at"])) for row in erased)
        self._revoked.update((row["id"], as_ms(row["expires_at"])) for row in revoked)
        self._ended.update((row["id"], as_ms(row["expires_at"])) for row in ended)
        self._banned.update((row["id"], as_ms(row["until_at"])) for row in banned)

    def is_revoked(self, identity: Identity) -> bool:
        """True when the token, though genuine, counts no more."""
        return identity.session_id in self._revoked or self._is_over(identity.user_id) or self._is_banned(identity.user_id)

    def identify(self, token: str) -> Identity:
        """Whose access token this is, if it counts. Raises `Rejected`: `unauthorized`, `token_expired`, `user_expired` or `banned`. Asks nobody."""
        return self.check(self._tokens.verify_access(token))

    def check(self, identity: Identity) -> Identity:
        """The identity as it is now: with the badge they have. Or `Rejected`: `user_expired`, `unauthorized` or `banned`."""
        if self._is_over(identity.user_id):
            raise _user_over()
        if identity.session_id in self._revoked:
            raise _revoked()
        if self._is_banned(identity.user_id):
            raise banned(self._banned[identity.user_id])
        badge = self.holders.badge(identity.user_id, identity.badge)
        return identity if badge == identity.badge else replace(identity, badge=badge)

    def barred(self, token: str) -> Identity | None:
        """Whose access token this is, when they are banned and it would count otherwise; None for any other. Raises `Rejected` for what is not ours."""
        identity = self._tokens.verify_access(token)
        over = self._is_over(identity.user_id) or identity.session_id in self._revoked
        return identity if self._is_banned(identity.user_id) and not over else None

    def is_out(self, user_id: str) -> bool:
        """Whether no token of this user counts now: their time was ended, or they are banned."""
        return self._is_over(user_id) or self._is_banned(user_id)

    def ban(self, user_id: str, until_ms: int) -> None:
        """No token of this user counts until then. Somebody else has stored it."""
        self._sweep(self._clock.now_ms())
        self._banned[user_id] = until_ms

    def unban(self, user_id: str) -> None:
        self._banned.pop(user_id, None)

    def banned(self) -> list[str]:
        """Every user who is banned at the moment, of any café."""
        now_ms = self._clock.now_ms()
        return [user_id for user_id, until_ms in self._banned.items() if until_ms > now_ms]

    async def open_staff(self, member: StaffMember) -> tuple[str, int]:
        """A login of staff: an access token and when it expires. Staff have no refresh token; they log in again."""
        now_ms = self._clock.now_ms()
        session_id = self._ids.uuid7()
        token, expires_ms = self._tokens.issue_access(
            user_id=member.id,
            cafe_id=member.cafe_id,
            role=member.role,
            session_id=session_id,
            username=member.name,
            badge=None,
            user_expires_ms=None,
        )
        await self._pg.execute("session_add", session_id, None, member.id, None, as_datetime(now_ms), as_datetime(expires_ms))
        return token, expires_ms

    def is_genuine(self, refresh_token: str) -> bool:
        """Whether this is a refresh token of ours whose session, as far as memory knows, goes on. It may have been used before."""
        try:
            grant = self._tokens.verify_refresh(refresh_token)
        except Rejected:
            return False
        return grant.session_id not in self._revoked and not self._is_over(grant.user_id)

    async def refresh(self, refresh_token: str) -> Renewed:
        """The next pair for a refresh token, which is thereby used up.

        A token that was used before is in two hands, and nobody can tell which is the thief's: the session is revoked
        (`unauthorized`). Raises `Rejected` (also `banned`) and `StoreError`.
        """
        grant = self._tokens.verify_refresh(refresh_token)
        if self._is_over(grant.user_id):
            raise _user_over()
        if self._is_banned(grant.user_id):
            raise banned(self._banned[grant.user_id])
        next_jti = self._ids.uuid4()
        now_ms = self._clock.now_ms()
        outcome, user = await self._pg.transaction(_rotate, grant, next_jti, now_ms)
        if outcome == "reused":
            self._mark(grant.session_id, grant.expires_ms)
            self._tell(grant.session_id, grant.user_id)
            raise Rejected("unauthorized", "This refresh token was used before; the session is revoked. Join again with a new receipt.")
        if outcome == "revoked":
            self._mark(grant.session_id, grant.expires_ms)  # in case the process that revoked it was another, or died telling us
            raise _revoked()
        if outcome == "over" or user is None:
            raise _user_over()
        access_token, _ = self._tokens.issue_access(
            user_id=user.id,
            cafe_id=user.cafe_id,
            role="user",
            session_id=grant.session_id,
            username=user.username,
            badge=self.holders.badge(user.id, user.badge),
            user_expires_ms=user.expires_ms,
        )
        return Renewed(access_token, self.refresh_token(user, grant.session_id, next_jti), user)

    def refresh_token(self, user: User, session_id: str, jti: str) -> str:
        """The refresh token a session row with this `jti` expects; it ends with its user. Tells `on_open`."""
        for listener in self.on_open:
            listener(user, session_id, jti)
        return self._tokens.issue_refresh(user_id=user.id, cafe_id=user.cafe_id, role="user", session_id=session_id, jti=jti, expires_ms=user.expires_ms)

    async def revoke(self, session_id: str, user_id: str) -> None:
        """End one login, idempotently, for at most 5 s. Raises `StoreError`, and then nothing is revoked.

        Cancelling it changes nothing: what counts in memory alone would count no more after a restart.
        """
        already = session_id in self._revoked
        self._mark(session_id, self._clock.now_ms() + self._user_ttl_ms)
        try:
            with trio.CancelScope(shield=True):  # the query has a deadline of its own
                await self._pg.execute("session_revoke", session_id, as_datetime(self._clock.now_ms()))
        except StoreError:
            if not already:
                self._revoked.pop(session_id, None)
            raise
        self._tell(session_id, user_id)

    async def revoke_staff(self, staff_id: str) -> None:
        """End every login of a staff member. Raises `StoreError`."""
        for row in await self._pg.fetch("session_revoke_staff", staff_id, as_datetime(self._clock.now_ms())):
            self._mark(row["id"], as_ms(row["expires_at"]))
        self._tell(None, staff_id)

    def end(self, user_id: str, expires_ms: int) -> None:
        """No token of this user counts, for as long as one could. Somebody else has stored it, and tells whoever has to hear of it."""
        now_ms = self._clock.now_ms()
        if expires_ms > now_ms:
            self._sweep(now_ms)
            self._ended[user_id] = expires_ms

    async def end_user(self, user_id: str) -> User:
        """End a customer's time now: every token of theirs is refused with `user_expired`. Raises `Rejected` (`not_found`), `StoreError`."""
        now_ms = self._clock.now_ms()
        row = await self._pg.transaction(_end, user_id, now_ms)
        if row is None:
            raise Rejected("not_found", "There is no such user.")
        user = user_from(row)
        self.end(user_id, user.expires_ms)
        self._tell(None, user_id, CLOSE_EXPIRED)
        return user

    def _is_over(self, user_id: str) -> bool:
        return user_id in self._ended or (bool(self._erased) and erased_hash(user_id) in self._erased)

    def _is_banned(self, user_id: str) -> bool:
        return self._banned.get(user_id, 0) > self._clock.now_ms()

    def _mark(self, session_id: str, until_ms: int) -> None:
        self._sweep(self._clock.now_ms())
        self._revoked[session_id] = max(until_ms, self._revoked.get(session_id, 0))

    def _tell(self, session_id: str | None, user_id: str, code: int = CLOSE_REVOKED) -> None:
        for listener in self.on_revoke:
            listener(session_id, user_id, code)

    def _sweep(self, now_ms: int) -> None:
        """Forget entries whose tokens have expired; now and then, so that a revocation costs no walk over all others."""
        if now_ms < self._sweep_ms:
            return
        self._sweep_ms = now_ms + _SWEEP_EVERY_MS
        self._revoked = {key: until_ms for key, until_ms in self._revoked.items() if until_ms > now_ms}
        self._ended = {key: until_ms for key, until_ms in self._ended.items() if until_ms > now_ms}
        self._banned = {key: until_ms for key, until_ms in self._banned.items() if until_ms > now_ms}
        self._erased = {key: until_ms for key, until_ms in self._erased.items() if until_ms > now_ms}


def erased_hash(user_id: str) -> bytes:
    """What is kept of an erased user while a token of theirs could be good. Ids are half noise: no hash leads back to one."""
    return hashlib.sha256(f"brewd erased:{user_id}".encode()).digest()


async def _rotate(tx: Queries, grant: RefreshGrant, next_jti: str, now_ms: int) -> tuple[str, User | None]:
    """Rotate, or find out why not. The row lock makes of two uses at once a first and a second."""
    row = await tx.fetchrow("session_lock", grant.session_id, grant.user_id)
    if row is None:
        return "revoked", None
    user = user_from(row)
    if not user.is_live(now_ms):
        return "over", None
    if row["revoked_at"] is not None:
        return "revoked", None
    if row["refresh_jti"] != grant.jti:
        await tx.execute("session_revoke", grant.session_id, as_datetime(now_ms))
        return "reused", None
    await tx.execute("session_rotate", grant.session_id, next_jti)
    return "rotated", user


async def _end(tx: Queries, user_id: str, now_ms: int) -> Any:
    row = await tx.fetchrow("customer_end", user_id, as_datetime(now_ms))
    await tx.fetch("session_revoke_user", user_id, as_datetime(now_ms))
    return row


def banned(until_ms: int) -> Rejected:
    """Kept out by a moderator."""
    until = rfc3339(until_ms)
    return Rejected("banned", f"You are banned from this café until {until}.", until=until)


def _user_over() -> Rejected:
    return Rejected("user_expired", "This user's time is over; join again with a new receipt.")


def _revoked() -> Rejected:
    return Rejected("unauthorized", "This session is revoked; log in again.")
