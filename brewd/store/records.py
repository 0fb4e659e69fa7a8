"""What the message store keeps and hands over: frozen structs, no behaviour, no I/O."""

from __future__ import annotations

from msgspec import Struct

Key = tuple[str, str]
"""(user id, clientMsgId): what makes a resend recognisable."""


class Message(Struct, frozen=True, gc=False, rename="camel"):
    """A message as every client sees it. `created_at` is RFC 3339; `seq` counts from 1 without a gap within a café's epoch."""

    id: str
    cafe_id: str
    seq: int
    user_id: str
    username: str
    badge: str | None
    content: str
    created_at: str
    deleted: bool = False


class DirectMessage(Struct, frozen=True, gc=False, rename="camel"):
    """A message as the two in its channel see it. `seq` counts from 1 without a gap within the channel."""

    id: str
    channel_id: str
    seq: int
    user_id: str
    username: str
    content: str
    created_at: str
    deleted: bool = False


class Entry(Struct, frozen=True, gc=False):
    """A message about to be committed, with what only the store needs."""

    message: Message
    client_msg_id: str | None
    created_ms: int


class Redaction(Struct, frozen=True):
    """A soft delete about to be committed: by the author, or by anyone when `user_id` is None (a moderator)."""

    message_id: str
    user_id: str | None
    at_ms: int


class Batch(Struct, frozen=True, gc=False):
    """What one café commits at once. Numbers run from `first_seq` without a gap; `generation` is the writer's."""

    cafe_id: str
    generation: int
    first_seq: int
    entries: tuple[Entry, ...]
    redactions: tuple[Redaction, ...] = ()

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.entries) - 1

    @property
    def rows(self) -> int:
        return len(self.entries) + len(self.redactions)


class Commit(Struct, frozen=True):
    """What a commit did: the cafés whose batch is in (the others were fenced), and the messages it redacted."""

    cafe_ids: frozenset[str]
    redacted: dict[str, Message] = {}


class Settled(Struct, frozen=True):
    """What became of a batch whose commit got no answer. `generation` is the café's new one, or None if somebody else holds the line."""

    cafe_id: str
    generation: int | None
    committed: bool


class Line(Struct, frozen=True):
    """A café's sequence line as its new writer takes it over."""

    cafe_id: str
    epoch: str
    generation: int
    last_seq: int


class Recent(Struct, frozen=True):
    """The newest messages of a café in `seq` order, and the clientMsgIds in them."""

    messages: list[Message]
    keys: dict[Key, Message]
