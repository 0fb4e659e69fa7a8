"""Is it well, is it alive, does it take requests."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from brewd.edge.http.endpoint import Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.errors import Rejected


class HealthChecks(Struct, frozen=True):
    postgres: str
    redis: str
    agent: str


class HealthAnswer(Struct, frozen=True, rename="camel"):
    status: Literal["ok", "degraded"]
    version: str
    uptime_s: float
    checks: HealthChecks


class ProbeAnswer(Struct, frozen=True):
    status: Literal["ok"] = "ok"


async def health(parts: HttpParts, call: Call[Any, NoQuery]) -> dict[str, Any]:
    return await parts.health()


async def live(parts: HttpParts, call: Call[Any, NoQuery]) -> ProbeAnswer:
    if not await parts.live():
        raise Rejected("cafe_unavailable", "This process is not well.")
    return ProbeAnswer()


async def ready(parts: HttpParts, call: Call[Any, NoQuery]) -> ProbeAnswer:
    if not await parts.ready():
        raise Rejected("cafe_unavailable", "Starting or draining.")
    return ProbeAnswer()


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/health",
        handler=health,
        tag="health",
        summary="How brewd and what it stands on are",
        strangers="free",
        answer=HealthAnswer,
    ),
    Endpoint(
        method="GET",
        path="/api/health/live",
        handler=live,
        tag="health",
        summary="Whether the process is alive",
        strangers="free",
        answer=ProbeAnswer,
        codes=("cafe_unavailable",),
    ),
    Endpoint(
        method="GET",
        path="/api/health/ready",
        handler=ready,
        tag="health",
        summary="Whether it takes requests: 503 while starting or draining",
        strangers="free",
        answer=ProbeAnswer,
        codes=("cafe_unavailable",),
    ),
)
