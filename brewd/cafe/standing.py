"""Where everybody stands when a room opens: what they have used and what was decided about them, as Postgres remembers it.

Nothing here comes from Redis. Message buckets are worked out anew from the messages themselves, which say exactly when each
token was taken; pokes, questions, resets, mutes and blocks are kept one by one. So a restart neither refills a bucket nor eats
from it, whatever became of the mirror.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from brewd.cafe.effects import Used
from brewd.cafe.history import HELD_MAX
from brewd.cafe.limits import Action, Terms
from brewd.cafe.moderation import Muting
from brewd.cafe.spam import Spam
from brewd.runtime.clock import from_rfc3339

if TYPE_CHECKING:
    from brewd.cafe.room import Room


class Sent(Struct, frozen=True):
    """The messages of one author that took a token: when, in the order of time, and with a badge or without."""

    user_id: str
    at_ms: list[int]
    badged: list[bool]


class Reset(Struct, frozen=True):
    """A moderator gave everything of one action, or of all (None), back."""

    user_id: str
    action: Action | None
    at_ms: int


class Act(Struct, frozen=True):
    """A mute, an unmute or a block."""

    action: str
    user_id: str
    at_ms: int
    until_ms: int | None = None
    reason: str = ""
    rule: str | None = None


class Standing(Struct, frozen=True):
    """Everything but `sent` is in the order of time; that has one for each author, and reaches back as far as `Limits.memory_ms`."""

    terms: Terms = Terms()
    sent: tuple[Sent, ...] = ()
    used: tuple[Used, ...] = ()
    resets: tuple[Reset, ...] = ()
    acts: tuple[Act, ...] = ()


def restore(room: Room, standing: Standing, now_ms: int) -> None:
    """Bring a room that is new up to where its people stand."""
    if room.buckets is not None:
        reset_ms = {(reset.user_id, reset.action): reset.at_ms for reset in standing.resets}
        for sent in standing.sent:
            since_ms = _last_reset_ms(reset_ms, sent.user_id, "message")
            room.buckets.charge_messages(sent.user_id, [(at_ms, badged) for at_ms, badged in zip(sent.at_ms, sent.badged, strict=True) if at_ms > since_ms])
        for used in standing.used:
            if used.at_ms > _last_reset_ms(reset_ms, used.user_id, used.action):
                room.buckets.take_rare(used.action, used.user_id, used.session_id, used.at_ms)
    if room.spam is not None:
        _restore_texts(room, room.spam, now_ms)
    for act in standing.acts:
        if act.action == "block" and room.spam is not None:
            room.spam.restore_block(act.user_id, act.rule, act.at_ms)
        elif act.action == "mute" and act.until_ms is not None and act.until_ms > now_ms:
            room.mutes.add(act.user_id, Muting(act.until_ms, act.reason))
        elif act.action == "mute":
            room.mutes.remove(act.user_id)  # a shorter one replaces a longer one
        elif act.action == "unmute":
            room.mutes.remove(act.user_id)
            if room.spam is not None:
                room.spam.forgive(act.user_id)


def _restore_texts(room: Room, spam: Spam, now_ms: int) -> None:
    """What was said within the time in which it may not be said again."""
    for message in room.history.tail(HELD_MAX):
        at_ms = from_rfc3339(message.created_at)
        if at_ms > now_ms - spam.rules.duplicate_ms and not message.deleted:
            spam.restore(message.user_id, message.content, at_ms)


def _last_reset_ms(reset_ms: dict[tuple[str, Action | None], int], user_id: str, action: Action) -> int:
    return max(reset_ms.get((user_id, action), 0), reset_ms.get((user_id, None), 0))
