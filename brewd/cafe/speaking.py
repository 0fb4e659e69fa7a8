"""Speaking in a room: what happens to a message from the moment it is sent until its number is told, and how one is taken back.

Steps of the room (see `room`). In this order: is there something to say it in and something to read; was it sent before; may its
author speak, is it spam, is there a token; is there a place to wait for the store. What is refused has cost its author nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe import moderation
from brewd.cafe.company import stop_typing
from brewd.cafe.effects import Broadcast, Effect, Record, Refuse, Reply, Tell, Wake
from brewd.cafe.pending import WAITERS_MAX, Draft, Waiter
from brewd.cafe.text import is_blank
from brewd.runtime.bucket import unpacked
from brewd.store.records import Message

if TYPE_CHECKING:
    from brewd.cafe.buckets import Buckets
    from brewd.cafe.room import Room
    from brewd.cafe.spam import Violation


def send(room: Room, command: c.Send, now_ms: int) -> list[Effect]:
    refusal = _unfit(room, command)
    if refusal is not None:
        return [refusal]
    who = command.who
    if command.client_msg_id is not None:
        key = (who.user_id, command.client_msg_id)
        stored = room.history.sent_as(key)
        if stored is not None:
            return [_sent(Waiter(command.to, command.ref), stored, duplicate=True)]
        resent = room.pending.resent(key)
        if resent is not None:
            return _wait_too(room, resent, Waiter(command.to, command.ref, duplicate=True), now_ms)
        refused = room.refused.get(key, command, now_ms)
        if refused is not None:
            return [refused]
    muting = room.mutes.get(who.user_id, now_ms)
    if muting is not None:
        return [moderation.muted(command.to, command.ref, muting, now_ms)]
    spam, text = room.spam, None
    warnings: tuple[Violation, ...] = ()
    if spam is not None and (text := spam.glance(command.content)) is None:
        verdict = spam.judge(who.user_id, command.content, now_ms)
        if verdict.action in ("block", "mute"):
            return moderation.blocked(room, command, verdict, now_ms)
        text, warnings = verdict.text, verdict.violations
    buckets, before = room.buckets, None
    if buckets is not None:
        before = buckets.messages.get(who.user_id)
        if not buckets.take_message(who.user_id, before, who.badge, now_ms):
            return [moderation.rate_limited(command.to, command.ref, "message", buckets.message_wait_ms(who.user_id, who.badge, now_ms))]
    if not room.quota.take():
        if buckets is not None:
            buckets.put(who.user_id, before)
        return [no_storage(Waiter(command.to, command.ref))]
    draft = _draft(room, command.who, room.new_id(), command.content, now_ms, client_msg_id=command.client_msg_id)
    draft.charged, draft.before = buckets is not None, before
    member = room.presence.devices[command.to]
    effects = stop_typing(room, member)
    if spam is not None and text is not None:
        spam.accepted(who.user_id, text, now_ms, warned=bool(warnings))
    if warnings:
        draft.warnings = warnings
        effects += [Tell(to, e.Warned(warnings)) for to in member.devices]
    return effects + _put(room, draft, Waiter(command.to, command.ref))


def delete(room: Room, command: c.Delete, now_ms: int) -> list[Effect]:
    held = room.history.get(command.message_id)
    if held is not None and held.user_id != command.who.user_id and not command.who.moderator:
        return [Refuse(command.to, command.ref, "forbidden", "Only its author or a moderator can delete a message.")]
    if held is not None and held.deleted:  # as often as one likes, but not at the cost of the store
        return [Reply(command.to, command.ref, e.DeleteAnswer(held) if command.to < 0 else {})]
    if not room.quota.take():
        return [no_storage(Waiter(command.to, command.ref))]
    return _put(room, _draft(room, command.who, command.message_id, None, now_ms), Waiter(command.to, command.ref))


def told(room: Room, draft: Draft, message: Message) -> list[Effect]:
    """The message is stored: everybody hears it, and those who waited are answered."""
    event = e.MessageNew(message, draft.client_msg_id) if draft.client_msg_id is not None else e.MessageNew(message)
    return [Broadcast(event), *(_sent(waiter, message, warnings=draft) for waiter in draft.waiters)]


def redacted(room: Room, draft: Draft, message: Message | None, now_ms: int) -> list[Effect]:
    """A deletion is stored; with None there was no such message of this author."""
    if message is None:
        detail = "There is no such message." if draft.who.moderator else "There is no such message of yours."
        return [Refuse(w.to, w.ref, "not_found", detail) for w in draft.waiters]
    known = room.history.get(message.id)
    if known is not None:
        room.topics_dirty |= room.topics.forget(known.content)
    room.history.redact(message)
    effects: list[Effect] = []
    if known is None or not known.deleted:
        effects.append(Broadcast(e.MessageDeleted(message.id, room.cafe_id, message.seq)))
        if draft.who.moderator:
            by = draft.who
            effects.append(Record("delete", message.user_id, message.username, now_ms, by=by.user_id or None, by_name=by.username, message_id=message.id))
    # A socket hears what was deleted by the event; whoever asked from outside (a negative address) gets it as the answer.
    return effects + [Reply(w.to, w.ref, e.DeleteAnswer(message) if w.to < 0 else {}) for w in draft.waiters]


def told_before(room: Room, draft: Draft, message: Message) -> list[Effect]:
    """The draft turned out to be a resend of a stored message."""
    return [_sent(waiter, message, duplicate=True) for waiter in draft.waiters]


def forgo(room: Room, drafts: list[Draft]) -> None:
    """These are no longer pending and will never be stored: they have cost nothing, and sending one again is no repetition."""
    room.quota.give(len(drafts))
    if room.spam is not None:
        for draft in drafts:
            if not draft.redaction:
                room.spam.withdrawn(draft.who.user_id, draft.content, warned=bool(draft.warnings))
    if room.buckets is not None:
        _uncharge(room, room.buckets, [draft for draft in drafts if draft.charged])


def _uncharge(room: Room, buckets: Buckets, gone: list[Draft]) -> None:
    """Work out anew what their authors have used: from before the first of what was pending, with what still is.

    Whatever an author was charged for since is pending too, for it is stored in the order in which it was accepted.
    """
    firsts = {draft.who.user_id: draft for draft in sorted(gone, key=_accepted, reverse=True)}
    kept: dict[str, list[Draft]] = {user_id: [] for user_id in firsts}
    for draft in room.pending if firsts else ():
        if draft.charged and draft.who.user_id in kept:
            kept[draft.who.user_id].append(draft)
    for user_id, first in firsts.items():
        still = kept[user_id]
        buckets.put(user_id, min([first, *still[:1]], key=_accepted).before)
        for draft in still:
            draft.before = buckets.messages.get(user_id)
            buckets.charge_messages(user_id, [(draft.accepted_ms, draft.who.badge is not None)])


def _accepted(draft: Draft) -> tuple[int, ...]:
    """Sorts drafts of one author as they were accepted: of two in the same millisecond, the later one found more used."""
    used, at_ms = unpacked(draft.before) or (0, 0)
    return draft.accepted_ms, at_ms, used


def no_storage(waiter: Waiter) -> Refuse:
    detail = "Messages cannot be stored at the moment. Send it again with the same clientMsgId; it is never shown twice."
    return Refuse(waiter.to, waiter.ref, "storage_unavailable", detail, {"retryAfterMs": 1000})


def wake(room: Room) -> list[Effect]:
    """Ask for departure unless a batch is out: its settling asks again."""
    return [Wake()] if room.pending.waiting and room.pending.batch is None else []


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


def _draft(room: Room, who: c.Who, id: str, content: str | None, now_ms: int, *, client_msg_id: str | None = None) -> Draft:
    """`content` None: the deletion of the message `id`."""
    return Draft(
        id=id, who=who, content=content or "", client_msg_id=client_msg_id, redaction=content is None,
        accepted_ms=now_ms, deadline_ms=now_ms + room.rules.reply_timeout_ms,
    )  # fmt: skip


def _put(room: Room, draft: Draft, waiter: Waiter) -> list[Effect]:
    """Let a draft, which has its place, wait to be stored, and `waiter` for its outcome."""
    draft.waiters.append(waiter)
    room.pending.add(draft)
    return wake(room)


def _wait_too(room: Room, draft: Draft, waiter: Waiter, now_ms: int) -> list[Effect]:
    if len(draft.waiters) >= WAITERS_MAX:
        return [no_storage(waiter)]
    draft.waiters.append(waiter)
    draft.deadline_ms = now_ms + room.rules.reply_timeout_ms
    if room.pending.earliest_ms is None:
        room.pending.earliest_ms = draft.deadline_ms
    return []


def _sent(waiter: Waiter, message: Message, *, duplicate: bool = False, warnings: Draft | None = None) -> Reply:
    sent = e.SentMessage(message.id, message.seq, message.created_at)
    return Reply(waiter.to, waiter.ref, e.SendAnswer(sent, duplicate or waiter.duplicate, () if warnings is None else warnings.warnings))
