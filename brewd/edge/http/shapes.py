"""JSON shapes that several routes share, and how each is made from what brewd knows."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from brewd.people.records import User
from brewd.runtime.clock import rfc3339

Time = Annotated[str, Meta(description="RFC 3339, UTC, with milliseconds", extra_json_schema={"format": "date-time"})]
Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


class UserShape(Struct, frozen=True, rename="camel"):
    """A customer, to themselves."""

    id: Id
    cafe_id: Id
    username: str
    badge_status: str
    interests: tuple[str, ...]
    poke_enabled: bool
    created_at: Time
    expires_at: Time


class UserAnswer(Struct, frozen=True):
    user: UserShape


class StaffShape(Struct, frozen=True, rename="camel"):
    id: Id
    name: str
    role: Literal["barista", "moderator"]
    cafe_id: Id


def user_shape(user: User) -> UserShape:
    return UserShape(
        user.id,
        user.cafe_id,
        user.username,
        user.badge_status,
        user.interests,
        user.poke_enabled,
        rfc3339(user.created_ms),
        rfc3339(user.expires_ms),
    )
