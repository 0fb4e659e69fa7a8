"""Every way brewd says no, in one place.

`Rejected` is an answer: it travels to the client that asked, over HTTP or WebSocket, with a machine-readable code.
`ProtocolError` ends one socket. `StoreError` says that a dependency did not answer: the caller retries or degrades.
Anything else that is raised is a bug, and crashes the actor it happened in.
"""

from __future__ import annotations

from typing import Any, Final

STATUS: Final[dict[str, int]] = {
    "invalid_request": 400,
    "unauthorized": 401,
    "token_expired": 401,
    "user_expired": 401,
    "forbidden": 403,
    "not_in_cafe": 403,
    "network_check_failed": 403,
    "spam_blocked": 403,
    "muted": 403,
    "banned": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "join_token_used": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limited": 429,
    "mailbox_full": 429,
    "agent_budget_spent": 429,
    "internal": 500,
    "agent_unavailable": 503,
    "storage_unavailable": 503,
    "cafe_unavailable": 503,
}
"""Machine name of each refusal → the HTTP status that carries it."""


class Rejected(Exception):
    """A refused request. `code` is a key of `STATUS`; `detail` is a sentence for a person; `extras` are further JSON fields."""

    def __init__(self, code: str, detail: str, **extras: Any) -> None:
        super().__init__(code, detail)
        self.code: Final = code
        self.detail: Final = detail
        self.extras: Final = extras

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def data(self) -> dict[str, Any]:
        """The JSON object a client sees: code, detail and the extras."""
        return {"code": self.code, "detail": self.detail, **self.extras}


class ProtocolError(Exception):
    """The peer broke the wire protocol; its socket is closed with `close_code` (RFC 6455, section 7.4)."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code: Final = close_code
        self.reason: Final = reason


class StoreError(Exception):
    """Postgres or Redis could not be reached, did not answer in time, or lost the connection. Nothing is known about the outcome."""


def storage_unavailable() -> Rejected:
    """What a `StoreError` is to whoever asked."""
    return Rejected("storage_unavailable", "The store does not answer right now; try again in a moment.", retryAfterMs=1000)


class StoreConflict(Exception):
    """Postgres refused a write because it would break a uniqueness rule. `constraint` names it; nothing was written."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint: Final = constraint
