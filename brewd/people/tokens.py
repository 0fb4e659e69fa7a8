"""JSON Web Tokens: who someone is, in a form that needs no database to check.

An access token carries name, badge and the end of its user, so a WebSocket connect asks no database. PyJWT signs, and
verifies whatever we did not sign a moment ago; only HS256 is ever allowed, so `alg:none` and its cousins have nothing to choose.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

import jwt
import msgspec
from jwt.api_jws import PyJWS

from brewd.errors import Rejected
from brewd.people.keys import Key, KeyRing
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

__all__ = ["Identity", "KeyRing", "RefreshGrant", "Tokens"]

_TOKEN_MAX_CHARS: Final = 4096  # ours have about 600; anything near this is not ours, and hashing it would be a gift


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who is asking, as an access token proves it. `badge` is what messages show; times are wall ms.

    `user_expires_ms` is when the person is gone for good; for staff, who do not end, it equals `expires_ms`.
    """

    user_id: str
    cafe_id: str
    role: str
    session_id: str
    jti: str
    username: str
    badge: str | None
    expires_ms: int
    user_expires_ms: int

    @property
    def is_staff(self) -> bool:
        return self.role != "user"


class RefreshGrant(msgspec.Struct, frozen=True, gc=False):
    """What a genuine refresh token says; whether it may still be used is for `Sessions` to know."""

    user_id: str
    cafe_id: str
    session_id: str
    jti: str
    expires_ms: int


class _Claims(msgspec.Struct, frozen=True, gc=False):
    typ: str
    sub: str
    cafe: str
    role: str
    sid: str
    jti: str
    exp: float
    name: str = ""
    badge: str | None = None
    uexp: float | None = None


class Tokens:
    """Issues and verifies tokens. Nothing here blocks, awaits or remembers a token."""

    __slots__ = ("_access_ttl_ms", "_clock", "_decode_claims", "_encode", "_head", "_ids", "_jws", "_keys")

    def __init__(self, *, clock: Clock, ids: Ids, keys: KeyRing, access_ttl_s: float) -> None:
        self._clock = clock
        self._ids = ids
        self._keys = keys
        self._access_ttl_ms = int(access_ttl_s * 1000)
        self._encode = msgspec.json.Encoder().encode
        self._decode_claims = msgspec.json.Decoder(_Claims).decode
        self._jws = PyJWS(algorithms=["HS256"])
        self._head: tuple[Key | None, str] = (None, "")

    def issue_access(
        self, *, user_id: str, cafe_id: str, role: str, session_id: str, username: str, badge: str | None, user_expires_ms: int | None
    ) -> tuple[str, int]:
        """The token and when it expires (wall ms), never after its user. `user_expires_ms` is None for staff."""
        now_ms = self._clock.now_ms()
        exp_ms = now_ms + self._access_ttl_ms
        if user_expires_ms is not None:
            exp_ms = min(exp_ms, user_expires_ms)
        claims: dict[str, Any] = {
            "typ": "access",
            "sub": user_id,
            "cafe": cafe_id,
            "role": role,
            "sid": session_id,
            "jti": self._ids.uuid4(),
            "iat": now_ms // 1000,
            "exp": _numeric_date(exp_ms),
            "name": username,
            "badge": badge,
        }
        if user_expires_ms is not None:
            claims["uexp"] = _numeric_date(user_expires_ms)
        return self._sign(claims), exp_ms

    def issue_refresh(self, *, user_id: str, cafe_id: str, role: str, session_id: str, jti: str, expires_ms: int) -> str:
        """A refresh token; `jti` is the one its session row expects next."""
        claims = {
            "typ": "refresh",
            "sub": user_id,
            "cafe": cafe_id,
            "role": role,
            "sid": session_id,
            "jti": jti,
            "iat": self._clock.now_ms() // 1000,
            "exp": _numeric_date(expires_ms),
        }
        return self._sign(claims)

    def verify_access(self, token: str) -> Identity:
        """Raises `Rejected`: `unauthorized` for anything not ours, `user_expired`, `token_expired`. Asks nobody."""
        claims = self._verified(token, "access")
        now_ms = self._clock.now_ms()
        exp_ms = round(claims.exp * 1000)
        user_exp_ms = exp_ms if claims.uexp is None else round(claims.uexp * 1000)
        if claims.uexp is not None and user_exp_ms <= now_ms:
            raise Rejected("user_expired", "This user's time is over; join again with a new receipt.")
        if exp_ms <= now_ms:
            raise Rejected("token_expired", "The access token has expired; refresh it.")
        return Identity(claims.sub, claims.cafe, claims.role, claims.sid, claims.jti, claims.name, claims.badge, exp_ms, user_exp_ms)

    def verify_refresh(self, token: str) -> RefreshGrant:
        """Raises `Rejected`: `unauthorized` for anything not ours, `user_expired` when its time is over (a refresh token ends with its user)."""
        claims = self._verified(token, "refresh")
        exp_ms = round(claims.exp * 1000)
        if exp_ms <= self._clock.now_ms():
            raise Rejected("user_expired", "This user's time is over; join again with a new receipt.")
        return RefreshGrant(claims.sub, claims.cafe, claims.sid, claims.jti, exp_ms)

    def _own_head(self, key: Key) -> str:
        """The header of every token signed with `key`, encoded, and the dot that ends it."""
        if self._head[0] is not key:
            self._head = (key, self._sign({}).partition(".")[0] + ".")
        return self._head[1]

    def _sign(self, claims: dict[str, Any]) -> str:
        key = self._keys.current
        return self._jws.encode(self._encode(claims), key.secret, "HS256", headers={"kid": key.kid})

    def _verified(self, token: str, typ: str) -> _Claims:
        if len(token) > _TOKEN_MAX_CHARS:
            raise _not_ours()
        try:
            claims = self._decode_claims(self._payload(token))
        except (ValueError, jwt.PyJWTError, msgspec.MsgspecError):  # not ASCII, not ours, not JSON, a claim missing or of a wrong type
            raise _not_ours() from None
        if claims.typ != typ:
            raise Rejected("unauthorized", f"This is not an {typ} token." if typ == "access" else f"This is not a {typ} token.")
        return claims

    def _payload(self, token: str) -> bytes:
        """The signed bytes. Nearly every token is signed with the current key, so that one is tried before the header is asked for another.

        A header that is, letter for letter, the one we sign with needs no reading: what is left of RFC 7515, section 5.2, is one
        HMAC. It takes a fifteenth of the time, at every connect and every request. Any other header is PyJWT's to judge.
        """
        key = self._keys.current
        if token.startswith(self._own_head(key)):
            signed, _, signature = token.rpartition(".")
            expected = urlsafe_b64encode(hmac.digest(key.secret, signed.encode("ascii"), "sha256")).rstrip(b"=")
            if not hmac.compare_digest(expected, signature.encode("ascii")):
                raise jwt.InvalidSignatureError("signed with another key")
            return urlsafe_b64decode(signed.partition(".")[2] + "==")
        try:
            verified = self._jws.decode_complete(token, key.secret, algorithms=["HS256"])
        except jwt.InvalidSignatureError:
            older = self._keys.by_kid(self._jws.get_unverified_header(token).get("kid", ""))
            if older is None or older is key:
                raise
            key = older
            verified = self._jws.decode_complete(token, key.secret, algorithms=["HS256"])
        if verified["header"].get("kid") != key.kid:
            raise jwt.InvalidTokenError("signed with a key it does not name")
        payload: bytes = verified["payload"]
        return payload


def _numeric_date(at_ms: int) -> int | float:
    """RFC 7519's NumericDate: seconds since 1970, with a fraction only where there is one."""
    return at_ms // 1000 if at_ms % 1000 == 0 else at_ms / 1000


def _not_ours() -> Rejected:
    return Rejected("unauthorized", "The token is not valid.")
