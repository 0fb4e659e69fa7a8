"""Joining: a receipt becomes a customer, exactly once.

The network is checked first, so a token is never used up by someone who may not come in. Then one transaction locks the
receipt and decides; its lock makes of any number of joins at once a first one and others that come too late.
Wrong tokens are counted on the receipt, so guessing ends after a few tries wherever they come from.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from brewd.errors import Rejected, StoreConflict
from brewd.people.cafes import Cafes
from brewd.people.codes import token_hash
from brewd.people.holders import Bearer, bearer_from
from brewd.people.network import Evidence, decide
from brewd.people.records import Queries, User, user_from
from brewd.people.sessions import Sessions, banned
from brewd.people.tokens import Tokens
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

TRIES_MAX: Final = 10
_PATRON_TTL_MS: Final = 90 * 86_400_000  # from the last visit; a badge lives 30 days


class JoinRequest(Struct, frozen=True, kw_only=True):
    cafe_id: str
    username: str
    join_token: str
    wifi_ssid: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    patron_key: str | None = None


class JoinAnswer(Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str
    user: User
    patron_key: str


class _Plan(Struct, frozen=True, kw_only=True):
    """Everything the transaction needs, made beforehand: no chance and no time on the far side of the bridge."""

    cafe_id: str
    username: str
    token_hash: bytes
    now_ms: int
    expires_ms: int
    user_id: str
    session_id: str
    refresh_jti: str
    patron_id: str
    known_patron_hash: bytes | None
    fresh_patron_hash: bytes


class _Joined(Struct, frozen=True):
    """`muted`: until when, and why; the patron is."""

    user: User
    knew_patron: bool
    bearer: Bearer
    muted: tuple[int, str] | None = None


class _Refused(Struct, frozen=True):
    code: str
    until_ms: int = 0


class Joins:
    """`user_ttl_s`: how long a customer lives. `tries_max`: wrong tokens a receipt survives."""

    def __init__(
        self, *, pg: Postgres, clock: Clock, ids: Ids, cafes: Cafes, tokens: Tokens, sessions: Sessions, user_ttl_s: float, tries_max: int = TRIES_MAX
    ) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._cafes = cafes
        self._tokens = tokens
        self._sessions = sessions
        self._user_ttl_ms = int(user_ttl_s * 1000)
        self._tries_max = tries_max
        self.on_muted: Callable[[str, str, int, str], None] | None = None
        """`fn(cafe_id, user_id, until_ms, reason)`: somebody who is muted came in anew. Must not block."""

    async def join(self, request: JoinRequest, client_address: str | None) -> JoinAnswer:
        """Raises `StoreError`, and `Rejected`: `not_found` (the café), `network_check_failed`, `unauthorized` (name or token),
        `rate_limited` (too many wrong tokens), `join_token_used`, `token_expired`, `banned` (the patron), `conflict` (the name is in use)."""
        cafe = await self._cafes.get(request.cafe_id)
        evidence = Evidence(request.wifi_ssid, request.latitude, request.longitude, client_address)
        decision = decide(cafe.policy(), evidence)
        if not decision.accepted:
            how = "Any one of these would show it" if cafe.join_policy == "any" else "These did not show it"
            detail = f"To join you have to be in the café. {how}: {', '.join(decision.missing)}."
            raise Rejected("network_check_failed", detail, missing=list(decision.missing))
        fresh_key = urlsafe_b64encode(self._ids.secret(32)).rstrip(b"=").decode()
        plan = self._plan(request, fresh_key)
        try:
            outcome = await self._pg.transaction(_join, plan, self._tries_max)
        except StoreConflict as error:
            raise Rejected("conflict", "Somebody here already has this name.") from error
        if isinstance(outcome, _Refused):
            raise self._refusal(outcome)
        if outcome.bearer.badge is not None:
            self._sessions.holders.hold(outcome.bearer)
        patron_key = request.patron_key if request.patron_key is not None and outcome.knew_patron else fresh_key
        if outcome.muted is not None and self.on_muted is not None:
            self.on_muted(plan.cafe_id, outcome.user.id, *outcome.muted)
        return self._welcome(outcome.user, plan, patron_key)

    def _plan(self, request: JoinRequest, fresh_key: str) -> _Plan:
        now_ms = self._clock.now_ms()
        known = request.patron_key
        return _Plan(
            cafe_id=request.cafe_id,
            username=request.username.strip(),
            token_hash=token_hash(request.cafe_id, request.join_token),
            now_ms=now_ms,
            expires_ms=now_ms + self._user_ttl_ms,
            user_id=self._ids.uuid7(),
            session_id=self._ids.uuid7(),
            refresh_jti=self._ids.uuid4(),
            patron_id=self._ids.uuid7(),
            known_patron_hash=None if known is None else patron_hash(request.cafe_id, known),
            fresh_patron_hash=patron_hash(request.cafe_id, fresh_key),
        )

    def _welcome(self, user: User, plan: _Plan, patron_key: str) -> JoinAnswer:
        access_token, _ = self._tokens.issue_access(
            user_id=user.id,
            cafe_id=user.cafe_id,
            role="user",
            session_id=plan.session_id,
            username=user.username,
            badge=user.badge,
            user_expires_ms=user.expires_ms,
        )
        refresh_token = self._sessions.refresh_token(user, plan.session_id, plan.refresh_jti)
        return JoinAnswer(access_token=access_token, refresh_token=refresh_token, user=user, patron_key=patron_key)

    def _refusal(self, refused: _Refused) -> Rejected:
        if refused.code == "rate_limited":
            wait_ms = max(0, refused.until_ms - self._clock.now_ms())
            return Rejected("rate_limited", "Too many wrong tokens for this name; ask for a new receipt.", retryAfterMs=wait_ms)
        if refused.code == "banned":
            return banned(refused.until_ms)
        return Rejected(refused.code, _SENTENCES[refused.code])


_SENTENCES: Final = {
    "unauthorized": "The name or the join token is wrong.",
    "join_token_used": "This join token was used already.",
    "token_expired": "This join token has expired; ask for a new receipt.",
}


async def _join(tx: Queries, plan: _Plan, tries_max: int) -> _Joined | _Refused:
    """A refusal is returned, not raised: a counted try has to be committed."""
    now = as_datetime(plan.now_ms)
    receipt = await tx.fetchrow("receipt_lock", plan.cafe_id, plan.username)
    if receipt is None:
        return _Refused("unauthorized")
    expires_ms = as_ms(receipt["expires_at"])
    if receipt["tries"] >= tries_max and receipt["used_at"] is None and expires_ms > plan.now_ms:
        return _Refused("rate_limited", expires_ms)
    if not hmac.compare_digest(receipt["token_hash"], plan.token_hash):
        await tx.execute("receipt_wrong_try", receipt["id"])
        return _Refused("unauthorized")
    if receipt["used_at"] is not None:
        return _Refused("join_token_used")
    if expires_ms <= plan.now_ms:
        return _Refused("token_expired")
    patron_id, knew_patron = await _patron(tx, plan)
    ban = await tx.fetchrow("ban_of_patron", patron_id) if knew_patron else None
    if ban is not None and ban["action"] == "ban" and as_ms(ban["until_at"]) > plan.now_ms:
        return _Refused("banned", as_ms(ban["until_at"]))
    await tx.execute("customer_free_name", plan.cafe_id, receipt["username"], now)
    row = await tx.fetchrow("customer_add", plan.user_id, plan.cafe_id, patron_id, receipt["username"], now, as_datetime(plan.expires_ms))
    await tx.execute("receipt_use", receipt["id"], now, plan.user_id)
    await tx.execute("session_add", plan.session_id, plan.user_id, None, plan.refresh_jti, now, as_datetime(plan.expires_ms))
    mute = await tx.fetchrow("mute_of_patron", patron_id) if knew_patron else None
    if mute is None or mute["action"] != "mute" or as_ms(mute["until_at"]) <= plan.now_ms:
        return _Joined(user_from(row), knew_patron, bearer_from(row))
    return _Joined(user_from(row), knew_patron, bearer_from(row), (as_ms(mute["until_at"]), mute["reason"]))


async def _patron(tx: Queries, plan: _Plan) -> tuple[str, bool]:
    """The patron of the key that came along, if there is one in this café; else a new one."""
    now, expires_at = as_datetime(plan.now_ms), as_datetime(plan.now_ms + _PATRON_TTL_MS)
    if plan.known_patron_hash is not None:
        row = await tx.fetchrow("patron_renew", plan.cafe_id, plan.known_patron_hash, now, expires_at)
        if row is not None:
            return row["id"], True
    await tx.execute("patron_add", plan.patron_id, plan.cafe_id, plan.fresh_patron_hash, now, expires_at)
    return plan.patron_id, False


def patron_hash(cafe_id: str, key: str) -> bytes:
    """Tied to the café: even in the database, one key does not link two of them."""
    return hashlib.sha256(f"brewd patron:{cafe_id}:{key}".encode("utf-8", "surrogatepass")).digest()
