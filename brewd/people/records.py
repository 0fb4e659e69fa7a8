"""The people and places brewd knows, as frozen structs; and how each is read from its row. Times are wall ms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from brewd.errors import Rejected
from brewd.people.network import JoinPolicy, Policy
from brewd.runtime.clock import as_ms

Role = Literal["barista", "moderator"]


class Queries(Protocol):
    """Named queries inside one transaction, on the far side of the bridge."""

    async def fetch(self, name: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, name: str, *args: Any) -> Any: ...
    async def execute(self, name: str, *args: Any) -> None: ...


class Cafe(Struct, frozen=True, kw_only=True):
    """A café as its operator configured it."""

    id: str
    name: str
    created_ms: int
    address: str = ""
    wifi_ssid: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    radius_meters: int = 100
    cidrs: tuple[str, ...] = ()
    join_policy: JoinPolicy = "any"
    timezone: str = "UTC"
    limits_profile: str | None = None
    limits_overrides: dict[str, dict[str, Any]] = {}
    menu: tuple[Any, ...] = ()
    retention_days: int | None = None

    def policy(self) -> Policy:
        """What a join here has to prove."""
        return Policy(
            wifi_ssid=self.wifi_ssid,
            latitude=self.latitude,
            longitude=self.longitude,
            radius_meters=self.radius_meters,
            cidrs=self.cidrs,
            rule=self.join_policy,
        )


class StaffMember(Struct, frozen=True, kw_only=True):
    id: str
    cafe_id: str
    name: str
    role: Role
    created_ms: int
    disabled_ms: int | None = None


class User(Struct, frozen=True, kw_only=True):
    """A customer. `ended_ms` is set when their time ended early, or when somebody noticed that it had run out."""

    id: str
    cafe_id: str
    username: str
    badge_status: str
    interests: tuple[str, ...]
    poke_enabled: bool
    created_ms: int
    expires_ms: int
    ended_ms: int | None = None

    @property
    def badge(self) -> str | None:
        """What messages show."""
        return None if self.badge_status == "none" else self.badge_status

    def is_live(self, now_ms: int) -> bool:
        return self.ended_ms is None and self.expires_ms > now_ms


def cafe_from(row: Mapping[str, Any]) -> Cafe:
    return Cafe(
        id=row["id"],
        name=row["name"],
        created_ms=as_ms(row["created_at"]),
        address=row["address"],
        wifi_ssid=row["wifi_ssid"],
        latitude=row["latitude"],
        longitude=row["longitude"],
        radius_meters=row["radius_meters"],
        cidrs=tuple(row["cidrs"]),
        join_policy=row["join_policy"],
        timezone=row["timezone"],
        limits_profile=row["limits_profile"],
        limits_overrides=msgspec.json.decode(row["limits_overrides"]),
        menu=tuple(msgspec.json.decode(row["menu"])),
        retention_days=row["retention_days"],
    )


def staff_from(row: Mapping[str, Any]) -> StaffMember:
    disabled_at = row["disabled_at"]
    return StaffMember(
        id=row["id"],
        cafe_id=row["cafe_id"],
        name=row["name"],
        role=row["role"],
        created_ms=as_ms(row["created_at"]),
        disabled_ms=None if disabled_at is None else as_ms(disabled_at),
    )


def user_from(row: Mapping[str, Any]) -> User:
    ended_at = row["ended_at"]
    return User(
        id=row["id"],
        cafe_id=row["cafe_id"],
        username=row["username"],
        badge_status=row["badge_status"],
        interests=tuple(row["interests"]),
        poke_enabled=row["poke_enabled"],
        created_ms=as_ms(row["created_at"]),
        expires_ms=as_ms(row["expires_at"]),
        ended_ms=None if ended_at is None else as_ms(ended_at),
    )


def invalid(path: str, detail: str) -> Rejected:
    """One field is wrong."""
    return Rejected("invalid_request", f"{path}: {detail}", errors=[{"path": path, "detail": detail}])


def clean_text(path: str, text: str, *, max_chars: int, min_chars: int = 1) -> str:
    """Text without surrounding spaces, free of control characters, of a length people can read. Raises `Rejected`."""
    text = text.strip()
    if not min_chars <= len(text) <= max_chars:
        raise invalid(path, f"must have {min_chars} to {max_chars} characters")
    if not text.isprintable():
        raise invalid(path, "must not have control characters")
    return text
