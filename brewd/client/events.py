"""Everything `async for event in room` can yield, and the decoding of frames into it.

Most events come from the server. `Joined`, `Disconnected`, `Missed` and `LineBroken` are the client's own: they tell what became of the
connection, and nobody has to handle them. An event this client does not know arrives as `Unknown`, never as an error.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from brewd.client.shapes import DirectMessage, Message, Person, Shape, Topic


class Event(Shape, frozen=True, kw_only=True):
    """Base of all events."""


class Connected(Event, frozen=True, kw_only=True):
    """The server's greeting. Handled by the room; it reaches nobody else."""

    user_id: str
    cafe_id: str
    session_id: str = ""
    server_time: datetime
    heartbeat_ms: int = 25_000
    protocol: str | int = ""


class Joined(Event, frozen=True, kw_only=True):
    """In the room, for the first time or again. `messages` holds the history at the first time; afterwards what was missed follows as `MessageNew`."""

    cafe_id: str
    epoch: str
    seq: int
    user_count: int = 0
    users: tuple[Person, ...] = ()
    topics: tuple[Topic, ...] = ()
    messages: tuple[Message, ...] = ()
    recovered: bool = False


class Disconnected(Event, frozen=True, kw_only=True):
    """The connection is gone; the room comes back by itself in `retry_in_s`."""

    code: int
    reason: str
    retry_in_s: float


class Missed(Event, frozen=True, kw_only=True):
    """Messages `first_seq` to `last_seq` are past recovery: deleted for good meanwhile, or more than the client is told to fetch."""

    first_seq: int
    last_seq: int


class LineBroken(Event, frozen=True, kw_only=True):
    """The café's sequence started anew, as after a restore from backup: `seq` numbers before and after do not compare."""

    epoch: str


class MessageNew(Event, frozen=True, kw_only=True):
    message: Message
    client_msg_id: str | None = None


class MessageDeleted(Event, frozen=True, kw_only=True):
    message_id: str
    cafe_id: str
    seq: int


class UsersUpdate(Event, frozen=True, kw_only=True):
    cafe_id: str
    action: str
    user: Person
    user_count: int


class TypingIndicator(Event, frozen=True, kw_only=True):
    cafe_id: str
    user_id: str
    username: str
    is_typing: bool


class TopicsUpdate(Event, frozen=True, kw_only=True):
    cafe_id: str
    topics: tuple[Topic, ...]


class Lagged(Event, frozen=True, kw_only=True):
    """This socket was too slow and droppable events were dropped. The room catches up; a `Joined` with the present state follows."""

    first: int = msgspec.field(name="from", default=0)
    last: int = msgspec.field(name="to", default=0)


class PokeReceived(Event, frozen=True, kw_only=True):
    poke_id: str
    shared_interest: str


class Match(Shape, frozen=True, kw_only=True):
    id: str
    username: str


class PokeMatched(Event, frozen=True, kw_only=True):
    matched_user: Match
    channel_id: str
    shared_interest: str


class DmMessage(Event, frozen=True, kw_only=True):
    """In `seq` order, one's own too; `client_msg_id` when one sent it under that name."""

    channel_id: str
    message: DirectMessage
    client_msg_id: str | None = None


class DmDeleted(Event, frozen=True, kw_only=True):
    channel_id: str
    message_id: str


class DmRead(Event, frozen=True, kw_only=True):
    """Somebody with this very account, perhaps on another device, has read up to `seq`."""

    channel_id: str
    seq: int
    unread: int = 0


class DmTyping(Event, frozen=True, kw_only=True):
    channel_id: str
    is_typing: bool


class BadgeAwarded(Event, frozen=True, kw_only=True):
    badge: dict[str, Any]


class ModerationWarning(Event, frozen=True, kw_only=True):
    violations: tuple[Any, ...]


class ModerationMuted(Event, frozen=True, kw_only=True):
    until: datetime | None = None
    reason: str | None = None


class ModerationUnmuted(Event, frozen=True, kw_only=True):
    pass


class ServerDraining(Event, frozen=True, kw_only=True):
    """The server is about to restart. The room comes back by itself after `reconnect_in_ms`."""

    reconnect_in_ms: int = 0


class ServerError(Event, frozen=True, kw_only=True):
    """A refusal that answers no request of this client."""

    code: str
    detail: str = ""


class Unknown(Event, frozen=True, kw_only=True):
    """An event of a newer server, or one whose data is not what this client knows: the name and the data as they came."""

    event: str
    data: Any


class Reply(msgspec.Struct, frozen=True):
    """The answer to the request that carried `ref`: `data` when it was granted, `refusal` (code, detail, …) when not."""

    ref: str
    data: msgspec.Raw
    refusal: dict[str, Any] | None = None


class _Envelope(msgspec.Struct, frozen=True):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    ref: str | None = None


_KNOWN: Final[dict[str, type[Event]]] = {
    "connected": Connected,
    "message:new": MessageNew,
    "message:deleted": MessageDeleted,
    "users:update": UsersUpdate,
    "typing:indicator": TypingIndicator,
    "topics:update": TopicsUpdate,
    "lagged": Lagged,
    "poke_received": PokeReceived,
    "poke_matched": PokeMatched,
    "dm_message": DmMessage,
    "dm_deleted": DmDeleted,
    "dm:read": DmRead,
    "dm:typing": DmTyping,
    "badge:awarded": BadgeAwarded,
    "moderation:warning": ModerationWarning,
    "moderation:muted": ModerationMuted,
    "moderation:unmuted": ModerationUnmuted,
    "server:draining": ServerDraining,
    "error": ServerError,
}
_DECODERS: Final = {name: msgspec.json.Decoder(shape) for name, shape in _KNOWN.items()}
_ENVELOPES: Final = msgspec.json.Decoder(_Envelope)


def decode(frame: str | bytes) -> Event | Reply:
    """One frame from the server. Never raises: what cannot be read comes back as `Unknown`."""
    try:
        envelope = _ENVELOPES.decode(frame)
    except (msgspec.DecodeError, ValueError):
        return Unknown(event="", data=frame)
    if envelope.ref is not None and envelope.event == "reply":
        return Reply(envelope.ref, envelope.data)
    if envelope.ref is not None and envelope.event == "error":
        return Reply(envelope.ref, envelope.data, _refusal(envelope.data))
    decoder = _DECODERS.get(envelope.event)
    try:
        return decoder.decode(envelope.data) if decoder else Unknown(event=envelope.event, data=msgspec.json.decode(envelope.data))
    except msgspec.DecodeError:
        return Unknown(event=envelope.event, data=bytes(envelope.data))


def _refusal(data: msgspec.Raw) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
