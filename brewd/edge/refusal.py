"""What every refusal says, whoever writes the bytes: over HTTP an RFC 9457 problem; and what is said of a bug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brewd.errors import Rejected

MEDIA_TYPE: Final = "application/problem+json"
_WAIT_DEFAULT_MS: Final = 1000


def title_of(code: str) -> str:
    return code.replace("_", " ").capitalize()


def internal(incident: str) -> Rejected:
    """For a bug, which is in the log as `incident`."""
    return Rejected("internal", "Something went wrong here; it is in the log under this incident id.", incident=incident)


def problem_body(code: str, detail: str, extras: Mapping[str, Any], status: int) -> dict[str, Any]:
    """429 and 503 always say when to come back."""
    body: dict[str, Any] = {"type": f"/docs#{code}", "title": title_of(code), "status": status, "detail": detail, "code": code}
    body |= {name: value for name, value in extras.items() if name not in body}
    if status in (429, 503):
        body.setdefault("retryAfterMs", _WAIT_DEFAULT_MS)
    return body
