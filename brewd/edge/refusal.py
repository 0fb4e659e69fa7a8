"""What every refusal over HTTP says, whoever writes the bytes: an RFC 9457 problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MEDIA_TYPE: Final = "application/problem+json"
_WAIT_DEFAULT_MS: Final = 1000


def title_of(code: str) -> str:
    return code.replace("_", " ").capitalize()


def problem_body(code: str, detail: str, extras: Mapping[str, Any], status: int) -> dict[str, Any]:
    """429 and 503 always say when to come back."""
    body: dict[str, Any] = {"type": f"/docs#{code}", "title": title_of(code), "status": status, "detail": detail, "code": code}
    body |= {name: value for name, value in extras.items() if name not in body}
    if status in (429, 503):
        body.setdefault("retryAfterMs", _WAIT_DEFAULT_MS)
    return body
