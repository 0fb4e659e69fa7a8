"""The room: everything a café knows while people are in it, and the one function that changes it.

`step(room, command, now_ms) -> effects` reads no clock, draws no chance and performs nothing. The rules it keeps:

- a message is told to nobody, its sender included, before `confirmed` says that it is stored;
- numbers are given in `depart` and free again after `taken_back`; at most one batch is out;
- a clientMsgId is answered with its first message, whether that is stored, out, or still waiting;
- a socket hears events from the moment its join is answered until the moment its leave is, and nothing before or after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe import company, forgetting, moderation, speaking, whispers
from brewd.cafe import events as e
from brewd.cafe.buckets import Buckets
from brewd.cafe.effects import Broadcast, Effect
from brewd.cafe.history import History
from brewd.cafe.limits import Terms
from brewd.cafe.moderation import Mutes, Refused
from brewd.cafe.pending import Pending
from brewd.cafe.presence import Member, Presence
from brewd.cafe.signs import Signs
from brewd.cafe.spam import Spam
from brewd.cafe.standing import Standing, restore
from brewd.cafe.topics import KEPT_MAX, Topics
from brewd.cafe.whispers import Whispers
from brewd.runtime.quota import Quota
from brewd.store.records import Batch, Key, Line, Message, Recent

TOPICS_GAP_MS = 1000
TOPICS_LATEST_MS = 2000  # topics ride along with a message when one comes by; alone they go after this long


class Rules(Struct, frozen=True):
    """The café's bounds. Times in ms."""

    message_max_chars: int = 1000
    history: int = 50
    presence_grace_ms: int = 30_000
    typing_ms: int = 3000
    reply_timeout_ms: int = 5000


class Room:
    """State only; see `step`. `quota` bounds drafts over all rooms, `new_id` makes message ids."""

    __slots__ = (
        "buckets",
        "cafe_id",
        "checks",
        "epoch",
        "generation",
        "history",
        "mutes",
        "new_id",
        "pending",
        "presence",
        "quota",
        "refused",
        "rules",
        "signs",
        "spam",
        "topics",
        "topics_dirty",
        "topics_told_ms",
        "typing",
        "whispers",
    )

    def __init__(
        self,
        *,
        line: Line,
        recent: Recent,
        rules: Rules,
        quota: Quota,
        new_id: Callable[[], str],
        now_ms: int,
        standing: Standing | None = None,
    ) -> None:
        self.cafe_id = line.cafe_id
        self.epoch = line.epoch
        self.generation = line.generation
        self.rules = rules
        self.quota = quota
        self.new_id = new_id
        self.history = History(line.last_seq, recent.messages, recent.keys)
        self.pending = Pending()
        self.presence = Presence(rules.presence_grace_ms)
        self.typing: dict[str, Member] = {}  # in the order of their deadlines
        self.topics = Topics(now_ms)
        self.topics_dirty = False
        self.topics_told_ms = now_ms - TOPICS_GAP_MS
        self.buckets: Buckets | None = None
        self.spam: Spam | None = None
        self.mutes = Mutes()
        self.refused = Refused()
        self.signs = Signs()
        self.whispers = Whispers()
        self.checks = Signs()  # of texts that are not sent: as often as signs
        if standing is not None:
            self.set_terms(standing.terms)
            restore(self, standing, now_ms)

    def set_terms(self, terms: Terms) -> None:
        """Judge by these from now on. What people have used, and what they said, is kept."""
        if self.buckets is not None and terms.limits is not None:
            self.buckets.limits = terms.limits
        else:
            self.buckets = None if terms.limits is None else Buckets(terms.limits)
        if self.spam is not None and terms.spam is not None:
            self.spam.rules = terms.spam
        else:
            self.spam = None if terms.spam is None else Spam(terms.spam)

    @property
    def idle(self) -> bool:
        """Nobody is here, within their grace time, waiting for an answer, or typing to another."""
        return not (self.presence.members or self.presence.watchers or len(self.pending) or self.whispers.typing)


def step(room: Room, command: c.Command, now_ms: int) -> list[Effect]:
    """What `command` leads to. The only way in for anything from outside."""
    return _STEPS[type(command)](room, command, now_ms)


def depart(room: Room, rows_max: int) -> Batch | None:
    """The room's next batch, numbered; None when one is out already or nothing waits."""
    return room.pending.depart(room.cafe_id, room.generation, room.history.last + 1, rows_max)


def confirmed(room: Room, generation: int, redacted: dict[str, Message], now_ms: int) -> list[Effect]:
    """The batch that is out is stored: tell everyone, and those who waited."""
    room.generation = generation
    effects: list[Effect] = []
    departed = room.pending.departed()
    for draft, entry in departed:
        if entry is None:
            effects += speaking.redacted(room, draft, redacted.get(draft.id), now_ms)
            continue
        message = entry.message
        room.history.append(message, draft.key)
        room.topics_dirty |= room.topics.add(message.content, now_ms)
        effects += speaking.told(room, draft, message)
        effects += company.seen(room, message.user_id, now_ms)
    room.pending.confirmed()
    room.quota.give(len(departed))
    if room.topics_dirty and now_ms - room.topics_told_ms >= TOPICS_GAP_MS:
        effects.append(_tell_topics(room, now_ms))
    return effects + speaking.wake(room)


def taken_back(room: Room, generation: int, known: dict[Key, Message]) -> list[Effect]:
    """The batch that was out is not stored. `known`: clientMsgIds in it that were stored before."""
    room.generation = generation
    room.history.learn(known)
    duplicates, dropped = room.pending.taken_back(known)
    speaking.forgo(room, [*(draft for draft, _ in duplicates), *dropped])
    return [effect for draft, message in duplicates for effect in speaking.told_before(room, draft, message)] + speaking.wake(room)


def fall_silent(room: Room) -> list[Effect]:
    """The room's actor ends: whoever was typing must not seem to type for ever."""
    silent = [effect for member in list(room.typing.values()) for effect in company.stop_typing(room, member)]
    return silent + whispers.fall_silent(room)


def next_deadline_ms(room: Room) -> int | None:
    """When the room wants its next `Tick`, if nothing happens before."""
    due = [at for at in (room.presence.next_expiry_ms(), room.pending.earliest_ms) if at is not None]
    due += [member.typing_until_ms for member in room.typing.values()][:1] + room.whispers.deadlines_ms()
    if room.topics_dirty:
        due.append(room.topics_told_ms + TOPICS_LATEST_MS)
    if room.mutes.next_ms != math.inf:
        due.append(int(room.mutes.next_ms))
    return min(due, default=None)


def _tick(room: Room, command: c.Tick, now_ms: int) -> list[Effect]:
    effects: list[Effect] = []
    for member in room.presence.expire(now_ms):
        effects += company.users_update(room, "leave", member)
    for member in list(room.typing.values()):
        if member.typing_until_ms > now_ms:
            break
        effects += company.stop_typing(room, member)
    effects += whispers.expire(room, now_ms)
    if room.topics_dirty and now_ms - room.topics_told_ms >= TOPICS_LATEST_MS:
        effects.append(_tell_topics(room, now_ms))
    if room.pending.earliest_ms is not None and room.pending.earliest_ms <= now_ms:
        late, given_up = room.pending.expire(now_ms)
        speaking.forgo(room, given_up)
        effects += [speaking.no_storage(waiter) for waiter in late]
    return effects + moderation.expire(room, now_ms)


def _tell_topics(room: Room, now_ms: int) -> Broadcast:
    room.topics_dirty = False
    room.topics_told_ms = now_ms
    return Broadcast(e.TopicsUpdate(room.cafe_id, room.topics.top(KEPT_MAX, now_ms)))


_STEPS: dict[type[Any], Callable[[Room, Any, int], list[Effect]]] = {
    c.Join: company.join,
    c.Rejoin: company.rejoin,
    c.Leave: company.leave,
    c.Drop: company.drop,
    c.Remove: company.remove,
    c.Notify: company.notify,
    c.SetBadge: company.set_badge,
    c.Typing: company.typing,
    c.SetStatus: company.set_status,
    c.PresenceQuery: company.presence_query,
    c.TopicsQuery: company.topics_query,
    c.TalkQuery: company.talk_query,
    c.CompanyQuery: company.company_query,
    c.Send: speaking.send,
    c.Announce: speaking.announce,
    c.Delete: speaking.delete,
    c.Mute: moderation.mute,
    c.Unmute: moderation.unmute,
    c.MuteQuery: moderation.mute_query,
    c.SpamQuery: moderation.spam_query,
    c.SetTerms: moderation.set_terms,
    c.LimitsQuery: moderation.limits_query,
    c.Take: moderation.take,
    c.ResetLimits: moderation.reset_limits,
    c.Whisper: whispers.whisper,
    c.Unsay: whispers.unsay,
    c.WhisperTyping: whispers.typing,
    c.Forget: forgetting.forget,
    c.Discard: forgetting.discard,
    c.Tick: _tick,
}
