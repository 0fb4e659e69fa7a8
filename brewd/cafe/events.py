"""What members are told. Each event is encoded once, however many hear it.

`event` in the tag is the name on the wire. A `droppable` event may be withheld from a socket that is too slow for it: whatever
it said is superseded by the next of its kind or told anew when the client catches up. Messages are never droppable.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, Struct, UnsetType

from brewd.cafe.buckets import LimitView
from brewd.cafe.limits import Action
from brewd.cafe.spam import Violation
from brewd.store.records import DirectMessage, Message


class UserView(Struct, frozen=True, gc=False, rename="camel"):
    """A member as the others see it. `last_seen` is told over HTTP only."""

    id: str
    username: str
    status: str
    badge: str | None
    last_seen: str | UnsetType = UNSET


class TopicView(Struct, frozen=True):
    topic: str
    score: float


class Event(Struct, frozen=True, gc=False, rename="camel"):
    name: ClassVar[str]
    droppable: ClassVar[bool] = False


class MessageNew(Event, frozen=True, rename="camel"):
    name: ClassVar[str] = "message:new"
    message: Message
    client_msg_id: str | UnsetType = UNSET


class MessageDeleted(Event, frozen=True, rename="camel"):
    name: ClassVar[str] = "message:deleted"
    message_id: str
    cafe_id: str
    seq: int


class UsersUpdate(Event, frozen=True, rename="camel"):
    name: ClassVar[str] = "users:update"
    droppable: ClassVar[bool] = True
    cafe_id: str
    action: str
    user: UserView
    user_count: int


class TypingIndicator(Event, frozen=True, rename="camel"):
    name: ClassVar[str] = "typing:indicator"
    droppable: ClassVar[bool] = True
    cafe_id: str
    user_id: str
    username: str
    is_typing: bool


class TopicsUpdate(Event, frozen=True, rename="camel"):
    name: ClassVar[str] = "topics:update"
    droppable: ClassVar[bool] = True
    cafe_id: str
    topics: list[TopicView]


class Lagged(Event, frozen=True, rename={"first": "from", "last": "to"}):
    """To one slow socket: droppable events between these two `seq` were withheld from it."""

    name: ClassVar[str] = "lagged"
    first: int
    last: int


class JoinAnswer(Struct, frozen=True, rename="camel"):
    """The reply to `join:cafe`. `recovered`: `messages` is everything after `since`, without a gap. `deleted`: ids deleted among what came before."""

    cafe_id: str
    epoch: str
    seq: int
    user_count: int
    users: list[UserView]
    topics: list[TopicView]
    messages: list[Message]
    recovered: bool
    deleted: list[str]


class SentMessage(Struct, frozen=True, gc=False, rename="camel"):
    id: str
    seq: int
    created_at: str


class SendAnswer(Struct, frozen=True, gc=False):
    message: SentMessage
    duplicate: bool
    warnings: tuple[Violation, ...] = ()


class DeleteAnswer(Struct, frozen=True):
    message: Message


class PresenceAnswer(Struct, frozen=True, rename="camel"):
    cafe_id: str
    user_count: int
    users: list[UserView]


class TopicsAnswer(Struct, frozen=True, rename="camel"):
    cafe_id: str
    topics: list[TopicView]


class TalkAnswer(Struct, frozen=True):
    """`messages`: the newest that are held, oldest first, the deleted among them."""

    messages: list[Message]
    topics: list[TopicView]


class CompanyAnswer(Struct, frozen=True):
    """Ids of users: those the others see in the room, and those who are muted, in it or not."""

    present: frozenset[str]
    muted: frozenset[str]


class MuteAnswer(Struct, frozen=True):
    """Whether somebody is muted. `reason` is as the moderator, or the rule, gave it."""

    muted: bool
    until: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class ForgetAnswer(Struct, frozen=True):
    """How many messages of those people are on their way to be stored, under their names."""

    out: int


class LimitsAnswer(Struct, frozen=True):
    """By action: message, poke, agent."""

    limits: dict[Action, LimitView]


class SpamAnswer(Struct, frozen=True, rename="camel"):
    is_spam: bool
    action: str
    violations: tuple[Violation, ...]


class Warned(Event, frozen=True):
    """To the sender: the message went out, and the next of its kind may not."""

    name: ClassVar[str] = "moderation:warning"
    violations: tuple[Violation, ...]


class Muted(Event, frozen=True):
    name: ClassVar[str] = "moderation:muted"
    until: str
    reason: str


class Unmuted(Event, frozen=True):
    name: ClassVar[str] = "moderation:unmuted"


class BadgeView(Struct, frozen=True, rename="camel"):
    """A badge, to whom it belongs. `type`: regular, early_bird, night_owl, social_butterfly or frequent_visitor."""

    type: str
    awarded_at: str
    expires_at: str


class BadgeAwarded(Event, frozen=True):
    """To the one who has it from now on; one that is prolonged is not told again."""

    name: ClassVar[str] = "badge:awarded"
    badge: BadgeView


class DmMessage(Event, frozen=True, rename="camel"):
    """To both, on every socket, in `seq` order. `client_msg_id`: only to whoever sent it under that name."""

    name: ClassVar[str] = "dm_message"
    channel_id: str
    message: DirectMessage
    client_msg_id: str | UnsetType = UNSET


class DmDeleted(Event, frozen=True, rename="camel"):
    """To both, on every socket."""

    name: ClassVar[str] = "dm_deleted"
    channel_id: str
    message_id: str


class DmRead(Event, frozen=True, rename="camel"):
    """To every socket of whoever has read up to `seq`, and to nobody else. `unread`: what is left."""

    name: ClassVar[str] = "dm:read"
    channel_id: str
    seq: int
    unread: int


class DmTyping(Event, frozen=True, rename="camel"):
    """The other one of the channel types to you. It ends by itself."""

    name: ClassVar[str] = "dm:typing"
    droppable: ClassVar[bool] = True
    channel_id: str
    is_typing: bool


class PokeReceived(Event, frozen=True, rename="camel"):
    """Somebody pokes you. Nothing in it says who: it comes up to 3 s late, and names the interest only where at least two others share it."""

    name: ClassVar[str] = "poke_received"
    poke_id: str
    shared_interest: str


class MatchedUser(Struct, frozen=True):
    id: str
    username: str


class PokeMatched(Event, frozen=True, rename="camel"):
    """Both have poked, or one has accepted: from here on they know each other, and have a channel."""

    name: ClassVar[str] = "poke_matched"
    matched_user: MatchedUser
    channel_id: str
    shared_interest: str


class Draining(Event, frozen=True, rename="camel"):
    """The server is about to restart: connect again after `reconnect_in_ms`, which is different for everyone."""

    name: ClassVar[str] = "server:draining"
    reconnect_in_ms: int
