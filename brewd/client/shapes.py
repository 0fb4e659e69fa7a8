"""What brewd's answers look like, as frozen structs. Unknown fields are ignored: a newer server may say more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A JSON object of the contract: snake_case here, camelCase on the wire."""


class Message(Shape, frozen=True, kw_only=True):
    """A message in a room. `seq` is its place in the café's one order; a deleted message keeps its place and loses its content."""

    id: str
    cafe_id: str
    seq: int
    user_id: str
    username: str
    content: str = ""
    created_at: datetime
    badge: str | None = None
    deleted: bool = False


class DirectMessage(Shape, frozen=True, kw_only=True):
    """What one of the two in a channel said. `seq` is its place in the channel; a deleted message keeps its place and loses its content."""

    id: str
    channel_id: str
    seq: int
    user_id: str
    username: str
    content: str = ""
    created_at: datetime
    deleted: bool = False


class Person(Shape, frozen=True, kw_only=True):
    """Somebody present in a room."""

    id: str
    username: str
    status: str = "online"
    badge: str | None = None


class Topic(Shape, frozen=True, kw_only=True):
    topic: str
    score: float


class User(Shape, frozen=True, kw_only=True):
    """A customer, as the customer sees it."""

    id: str
    username: str
    cafe_id: str
    badge_status: Any = None
    interests: tuple[str, ...] = ()
    poke_enabled: bool = True
    created_at: datetime | None = None
    expires_at: datetime | None = None


class Staff(Shape, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    cafe_id: str


class StaffLogin(Shape, frozen=True, kw_only=True):
    access_token: str
    expires_at: datetime
    staff: Staff


class Receipt(Shape, frozen=True, kw_only=True):
    """A throw-away name and the code that turns it into a session, once."""

    username: str
    join_token: str
    expires_at: datetime
    join_url: str = ""
    qr_svg: str = ""


class Grant(Shape, frozen=True, kw_only=True):
    """A customer's pair of tokens. The refresh token works once: keep the newest grant only."""

    access_token: str
    refresh_token: str
    user: User
    patron_key: str | None = None


class Page(Shape, frozen=True, kw_only=True):
    """Messages ascending by `seq`. `epoch` names the sequence they belong to."""

    messages: tuple[Message, ...]
    has_more: bool
    epoch: str


class Presence(Shape, frozen=True, kw_only=True):
    cafe_id: str
    user_count: int
    users: tuple[Person, ...]


class Topics(Shape, frozen=True, kw_only=True):
    cafe_id: str
    topics: tuple[Topic, ...]


class Health(Shape, frozen=True, kw_only=True):
    status: str
    version: str
    uptime_s: float
    checks: dict[str, Any]


class Posted(Shape, frozen=True, kw_only=True):
    """The place a message got."""

    id: str
    seq: int
    created_at: datetime


class Sent(Shape, frozen=True, kw_only=True):
    """The answer to `message:send`, after the message is committed. `duplicate`: an earlier attempt had already made it."""

    message: Posted
    duplicate: bool = False
    warnings: tuple[Any, ...] = ()
