"""The ways a client call fails. `Rejected` (from `brewd.errors`) is the server's considered no; these are the others."""

from __future__ import annotations

from typing import Any, Final

from brewd.errors import Rejected


class Unreachable(Exception):
    """No answer: the server could not be reached, broke off, or took too long. Whether it acted is not known. `retry_after_s` when it said so."""

    def __init__(self, reason: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s: Final = retry_after_s


class SessionOver(Exception):
    """The server ended the session for good: expired (4001), revoked (4002), kicked (4003), banned (4004), or against its policy (1008)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code: Final = code
        self.reason: Final = reason

    def __str__(self) -> str:
        return f"the session is over: {self.reason or 'no reason given'} ({self.code})"


class Unconfirmed(Exception):
    """A message was not confirmed in time. It may still have arrived: send it again with this `client_msg_id` and there will be one."""

    def __init__(self, client_msg_id: str) -> None:
        super().__init__(client_msg_id)
        self.client_msg_id: Final = client_msg_id

    def __str__(self) -> str:
        return f"no confirmation in time for the message with clientMsgId {self.client_msg_id}"


def rejected(data: dict[str, Any]) -> Rejected:
    """The server's refusal as an exception. Codes this client has never heard of are carried all the same."""
    extras = {key: value for key, value in data.items() if key not in ("code", "detail", "type", "title", "status", "self")}
    return Rejected(str(data.get("code", "internal")), str(data.get("detail", "")), **extras)


def retry_after_s(refusal: Rejected) -> float:
    """How long the server wants to be left alone, in s; 0 when it did not say."""
    wait_ms = refusal.extras.get("retryAfterMs", 0)
    return wait_ms / 1000 if isinstance(wait_ms, int | float) and wait_ms > 0 else 0.0
