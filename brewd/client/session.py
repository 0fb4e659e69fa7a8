"""The tokens of one customer or barista, kept fresh.

A refresh token works once, and using it twice ends the session: so there is one renewal at a time, and one that has been sent is
waited for even when its caller is cancelled.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
import trio

from brewd.client.http import Client
from brewd.errors import Rejected
from brewd.runtime.clock import Clock

_MARGIN_MAX_MS: Final = 60_000


class _Claims(msgspec.Struct):
    exp: int | None = None
    iat: int | None = None


class Session:
    """Owns an access token and, for customers, a refresh token. `refresh_token` is None when renewal is not possible, or no longer."""

    def __init__(self, *, api: Client, clock: Clock, access_token: str, refresh_token: str | None = None, patron_key: str | None = None) -> None:
        self.access_token = access_token
        self.refresh_token = refresh_token
        self.patron_key: Final = patron_key
        self._api = api
        self._clock = clock
        self._turn = trio.Lock()

    @property
    def renewable(self) -> bool:
        return self.refresh_token is not None

    def renew_at_ms(self) -> int | None:
        """Wall time at which the access token should be replaced: a minute before it ends, or in the last quarter of a short life. None: never."""
        claims = _claims(self.access_token)
        if claims.exp is None:
            return None
        life_ms = (claims.exp - claims.iat) * 1000 if claims.iat is not None else 4 * _MARGIN_MAX_MS
        return claims.exp * 1000 - min(_MARGIN_MAX_MS, life_ms // 4)

    async def fresh(self) -> str:
        """An access token that holds for a while yet. Raises `Rejected` when renewal is refused, `Unreachable` when nobody answers."""
        due_ms = self.renew_at_ms()
        if self.renewable and due_ms is not None and self._clock.now_ms() >= due_ms:
            await self.renew(self.access_token)
        return self.access_token

    async def renew(self, stale: str) -> None:
        """Replace the access token `stale`; nothing happens when somebody has done so meanwhile."""
        async with self._turn:
            if self.access_token != stale or self.refresh_token is None:
                return
            try:
                with trio.CancelScope(shield=True):  # bounded by the client's own deadline
                    grant = await self._api.refresh(self.refresh_token)
            except Rejected as refusal:
                if refusal.code in ("unauthorized", "token_expired", "user_expired", "forbidden"):
                    self.refresh_token = None
                raise
            self.access_token, self.refresh_token = grant.access_token, grant.refresh_token


def _claims(token: str) -> _Claims:
    """What a JWT says of itself. Not verified: only the server can, and only the time of renewal hangs on it."""
    try:
        payload = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError, msgspec.DecodeError):
        return _Claims()
