"""The room: everything a café knows while people are in it, and the one function that changes it.

`step(room, command, now_ms) -> effects` reads no clock, draws no chance and performs nothing. The rules it keeps:

- a message is told to nobody, its sender included, before `confirmed` says that it is stored;
- numbers are given in `depart` and free again after `taken_back`; at most one batch is out;
- a clientMsgId is answered with its first message, whether that is stored, out, or still waiting;
- a socket hears events from the moment its join is answered until the moment its leave is, and nothing before or after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Attach, Broadcast, Detach, Effect, Refuse, Reply, Wake
from brewd.cafe.history import History
from brewd.cafe.pending import WAITERS_MAX, Draft, Pending, Waiter
from brewd.cafe.presence import Member, Presence
from brewd.cafe.text import is_blank
from brewd.cafe.topics import KEPT_MAX, Topics
from brewd.runtime.quota import Quota
from brewd.store.records import Batch, Key, Line, Message, Recent

TOPICS_GAP_MS = 1000
TOPICS_LATEST_MS = 2000  # topics ride along with a message when one comes by; alone they go after this long
RESUME_CHARS_MAX = 200_000  # a resume that says more than this is answered with the latest messages instead


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
        "cafe_id",
        "epoch",
        "generation",
        "history",
        "new_id",
        "pending",
        "presence",
        "quota",
        "rules",
        "topics",
        "topics_dirty",
        "topics_told_ms",
        "typing",
    )

    def __init__(self, *, line: Line, recent: Recent, rules: Rules, quota: Quota, new_id: Callable[[], str], now_ms: int) -> None:
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

    @property
    def idle(self) -> bool:
        """Nobody is here, within their grace time, or waiting for an answer."""
        return not (self.presence.members or self.presence.watchers or len(self.pending))


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
            effects += _redacted(room, draft, redacted.get(draft.id))
            continue
        message = entry.message
        room.history.append(message, draft.key)
        room.topics_dirty |= room.topics.add(message.content, now_ms)
        effects.append(Broadcast(e.MessageNew(message, draft.client_msg_id) if draft.client_msg_id is not None else e.MessageNew(message)))
        effects += [_sent(waiter, message) for waiter in draft.waiters]
    room.pending.confirmed()
    room.quota.give(len(departed))
    if room.topics_dirty and now_ms - room.topics_told_ms >= TOPICS_GAP_MS:
        effects.append(_tell_topics(room, now_ms))
    return effects + _wake(room)


def taken_back(room: Room, generation: int, known: dict[Key, Message]) -> list[Effect]:
    """The batch that was out is not stored. `known`: clientMsgIds in it that were stored before."""
    room.generation = generation
    room.history.learn(known)
    duplicates, dropped = room.pending.taken_back(known)
    room.quota.give(len(duplicates) + dropped)
    return [_sent(waiter, message, duplicate=True) for draft, message in duplicates for waiter in draft.waiters] + _wake(room)


def fall_silent(room: Room) -> list[Effect]:
    """The room's actor ends: whoever was typing must not seem to type for ever."""
    return [effect for member in list(room.typing.values()) for effect in _stop_typing(room, member)]


def next_deadline_ms(room: Room) -> int | None:
    """When the room wants its next `Tick`, if nothing happens before."""
    due = [at for at in (room.presence.next_expiry_ms(), room.pending.earliest_ms) if at is not None]
    due += [member.typing_until_ms for member in room.typing.values()][:1]
    if room.topics_dirty:
        due.append(room.topics_told_ms + TOPICS_LATEST_MS)
    return min(due, default=None)


def _join(room: Room, command: c.Join, now_ms: int) -> list[Effect]:
    effects: list[Effect] = []
    arrived = room.presence.enter(command.to, command.who, now_ms)
    if arrived is not None:
        effects.append(_users_update(room, "join", arrived))
    missed = _missed(room, command)
    answer = e.JoinAnswer(
        cafe_id=room.cafe_id,
        epoch=room.epoch,
        seq=room.history.last,
        user_count=len(room.presence),
        users=room.presence.views(),
        topics=room.topics.top(KEPT_MAX, now_ms),
        messages=room.history.tail(room.rules.history) if missed is None else missed,
        recovered=missed is not None,
        deleted=room.history.deleted_upto(command.since) if command.since is not None else [],
    )
    return [*effects, Attach(command.to), Reply(command.to, command.ref, answer)]


def _missed(room: Room, command: c.Join) -> list[Message] | None:
    """Everything after the last message the client has; None when that cannot be told without a gap."""
    if command.since is None or command.epoch not in (None, room.epoch):
        return None
    # What the room holds of it is newer than what was read: a message may have been deleted since.
    earlier = [room.history.get(m.id) or m for m in command.earlier if isinstance(m, Message) and m.seq <= room.history.last]
    if [m.seq for m in earlier] != list(range(command.since + 1, command.since + 1 + len(earlier))):
        return None
    rest = room.history.after(earlier[-1].seq if earlier else command.since)
    if rest is None or sum(len(m.content) for m in earlier + rest) > RESUME_CHARS_MAX:
        return None
    return earlier + rest


def _rejoin(room: Room, command: c.Rejoin, now_ms: int) -> list[Effect]:
    room.presence.enter(command.to, command.who, now_ms)
    member = room.presence.devices.get(command.to)
    if member is not None:
        member.set_status(command.status)
    return []


def _leave(room: Room, command: c.Leave, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    effects: list[Effect] = [Detach(command.to)]
    gone = room.presence.leave(command.to)
    if member is not None and gone is not None:
        effects += [*_stop_typing(room, member), _users_update(room, "leave", gone)]
    return [*effects, Reply(command.to, command.ref, {})]


def _drop(room: Room, command: c.Drop, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    room.presence.drop(command.to, now_ms)
    effects: list[Effect] = [Detach(command.to)]
    if member is not None and not member.devices:
        effects += _stop_typing(room, member)
    return effects


def _remove(room: Room, command: c.Remove, now_ms: int) -> list[Effect]:
    gone = room.presence.remove(command.user_id)
    if gone is None:
        return []
    return [*(Detach(to) for to in gone.devices), *_stop_typing(room, gone), _users_update(room, "leave", gone)]


def _send(room: Room, command: c.Send, now_ms: int) -> list[Effect]:
    refusal = _unfit(room, command)
    if refusal is not None:
        return [refusal]
    waiter = Waiter(command.to, command.ref)
    if command.client_msg_id is not None:
        key = (command.who.user_id, command.client_msg_id)
        stored = room.history.sent_as(key)
        if stored is not None:
            return [_sent(waiter, stored, duplicate=True)]
        draft = room.pending.resent(key)
        if draft is not None:
            return _wait_too(room, draft, Waiter(command.to, command.ref, duplicate=True), now_ms)
    draft = Draft(
        id=room.new_id(), who=command.who, content=command.content, client_msg_id=command.client_msg_id, redaction=False,
        accepted_ms=now_ms, deadline_ms=now_ms + room.rules.reply_timeout_ms,
    )  # fmt: skip
    return [*_stop_typing(room, room.presence.devices[command.to]), *_accept(room, draft, waiter)]


def _unfit(room: Room, command: c.Send) -> Refuse | None:
    if command.to not in room.presence.devices:
        if command.to in room.presence.watchers:
            return Refuse(command.to, command.ref, "forbidden", "Staff watch the room; only guests speak in it.")
        return Refuse(command.to, command.ref, "not_in_cafe", "Send join:cafe first.")
    size, size_max = len(command.content), room.rules.message_max_chars
    if size > size_max:
        problem = f"{size} characters; at most {size_max} are allowed."
    elif is_blank(command.content):
        problem = "There is nothing in it to read."
    else:
        return None
    return Refuse(command.to, command.ref, "invalid_request", "The message was not accepted.", {"errors": [{"path": "data.content", "detail": problem}]})


def _accept(room: Room, draft: Draft, waiter: Waiter) -> list[Effect]:
    """Let a draft wait to be stored, and `waiter` for its outcome; refused when too many drafts wait already."""
    if not room.quota.take():
        return [_no_storage(waiter)]
    draft.waiters.append(waiter)
    room.pending.add(draft)
    return _wake(room)


def _wait_too(room: Room, draft: Draft, waiter: Waiter, now_ms: int) -> list[Effect]:
    if len(draft.waiters) >= WAITERS_MAX:
        return [_no_storage(waiter)]
    draft.waiters.append(waiter)
    draft.deadline_ms = now_ms + room.rules.reply_timeout_ms
    if room.pending.earliest_ms is None:
        room.pending.earliest_ms = draft.deadline_ms
    return []


def _delete(room: Room, command: c.Delete, now_ms: int) -> list[Effect]:
    held = room.history.get(command.message_id)
    if held is not None and held.user_id != command.who.user_id and not command.who.moderator:
        return [Refuse(command.to, command.ref, "forbidden", "Only its author or a moderator can delete a message.")]
    draft = Draft(
        id=command.message_id, who=command.who, content="", client_msg_id=None, redaction=True,
        accepted_ms=now_ms, deadline_ms=now_ms + room.rules.reply_timeout_ms,
    )  # fmt: skip
    return _accept(room, draft, Waiter(command.to, command.ref))


def _redacted(room: Room, draft: Draft, message: Message | None) -> list[Effect]:
    if message is None:
        return [Refuse(w.to, w.ref, "not_found", "There is no such message of yours.") for w in draft.waiters]
    known = room.history.get(message.id)
    if known is not None:
        room.topics_dirty |= room.topics.forget(known.content)
    room.history.redact(message)
    told: list[Effect] = [] if known is not None and known.deleted else [Broadcast(e.MessageDeleted(message.id, room.cafe_id, message.seq))]
    # A socket hears what was deleted by the event; whoever asked from outside (a negative address) gets it as the answer.
    return told + [Reply(w.to, w.ref, e.DeleteAnswer(message) if w.to < 0 else {}) for w in draft.waiters]


def _typing(room: Room, command: c.Typing, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    if member is None:
        return []
    if not command.on:
        return _stop_typing(room, member)
    already = room.typing.pop(member.who.user_id, None)
    member.typing_until_ms = now_ms + room.rules.typing_ms
    room.typing[member.who.user_id] = member
    return [] if already is not None else [_typing_indicator(room, member, on=True)]


def _stop_typing(room: Room, member: Member) -> list[Effect]:
    if room.typing.pop(member.who.user_id, None) is None:
        return []
    return [_typing_indicator(room, member, on=False)]


def _set_status(room: Room, command: c.SetStatus, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    if member is None:
        return [Refuse(command.to, command.ref, "not_in_cafe", "Send join:cafe first.")]
    changed = member.set_status(command.status)
    return [*([_users_update(room, "status", member)] if changed else []), Reply(command.to, command.ref, {})]


def _presence_query(room: Room, command: c.PresenceQuery, now_ms: int) -> list[Effect]:
    return [Reply(command.to, None, e.PresenceAnswer(room.cafe_id, len(room.presence), room.presence.seen_views(now_ms)))]


def _topics_query(room: Room, command: c.TopicsQuery, now_ms: int) -> list[Effect]:
    return [Reply(command.to, None, e.TopicsAnswer(room.cafe_id, room.topics.top(command.limit, now_ms)))]


def _tick(room: Room, command: c.Tick, now_ms: int) -> list[Effect]:
    effects: list[Effect] = []
    for member in room.presence.expire(now_ms):
        effects.append(_users_update(room, "leave", member))
    for member in list(room.typing.values()):
        if member.typing_until_ms > now_ms:
            break
        effects += _stop_typing(room, member)
    if room.topics_dirty and now_ms - room.topics_told_ms >= TOPICS_LATEST_MS:
        effects.append(_tell_topics(room, now_ms))
    if room.pending.earliest_ms is not None and room.pending.earliest_ms <= now_ms:
        late, given_up = room.pending.expire(now_ms)
        room.quota.give(given_up)
        effects += [_no_storage(waiter) for waiter in late]
    return effects


def _sent(waiter: Waiter, message: Message, *, duplicate: bool = False) -> Reply:
    sent = e.SentMessage(message.id, message.seq, message.created_at)
    return Reply(waiter.to, waiter.ref, e.SendAnswer(sent, duplicate or waiter.duplicate))


def _no_storage(waiter: Waiter) -> Refuse:
    detail = "Messages cannot be stored at the moment. Send it again with the same clientMsgId; it is never shown twice."
    return Refuse(waiter.to, waiter.ref, "storage_unavailable", detail, {"retryAfterMs": 1000})


def _users_update(room: Room, action: str, member: Member) -> Broadcast:
    return Broadcast(e.UsersUpdate(room.cafe_id, action, member.view, len(room.presence)))


def _typing_indicator(room: Room, member: Member, *, on: bool) -> Broadcast:
    return Broadcast(e.TypingIndicator(room.cafe_id, member.who.user_id, member.who.username, on), frozenset(member.devices))


def _tell_topics(room: Room, now_ms: int) -> Broadcast:
    room.topics_dirty = False
    room.topics_told_ms = now_ms
    return Broadcast(e.TopicsUpdate(room.cafe_id, room.topics.top(KEPT_MAX, now_ms)))


def _wake(room: Room) -> list[Effect]:
    """Ask for departure unless a batch is out: its settling asks again."""
    return [Wake()] if room.pending.waiting and room.pending.batch is None else []


_STEPS: dict[type[Any], Callable[[Room, Any, int], list[Effect]]] = {
    c.Join: _join,
    c.Rejoin: _rejoin,
    c.Leave: _leave,
    c.Drop: _drop,
    c.Remove: _remove,
    c.Send: _send,
    c.Delete: _delete,
    c.Typing: _typing,
    c.SetStatus: _set_status,
    c.PresenceQuery: _presence_query,
    c.TopicsQuery: _topics_query,
    c.Tick: _tick,
}
