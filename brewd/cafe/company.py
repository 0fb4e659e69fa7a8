"""The company in a room: coming and going, statuses, typing, and what is told of them.

Steps of the room (see `room`). A muted guest hears everything and the others see nothing of them: neither coming nor going, nor
a status, nor that they type. Of nobody are they told more than `signs` lets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Attach, Broadcast, Detach, Effect, Refuse, Reply, Seen, Tell, TellUser
from brewd.cafe.presence import Member
from brewd.cafe.topics import KEPT_MAX
from brewd.store.records import Message

if TYPE_CHECKING:
    from brewd.cafe.room import Room

QUARTER_MS = 900_000
"""How often a guest is said to be here: no time zone's hour begins within a quarter of one."""

RESUME_CHARS_MAX = 200_000  # a resume that says more than this is answered with the latest messages instead


def join(room: Room, command: c.Join, now_ms: int) -> list[Effect]:
    muting = room.mutes.get(command.who.user_id, now_ms)
    effects: list[Effect] = []
    if not command.who.staff and command.who.user_id not in room.presence.members:
        wait_ms = _sign_wait_ms(room, command.who.user_id, now_ms)
        if wait_ms:
            return [_slower(command.to, command.ref, wait_ms)]
    arrived = room.presence.enter(command.to, command.who, now_ms)
    if arrived is not None:
        room.presence.hide(arrived, command.who.user_id in room.mutes)
        effects += users_update(room, "join", arrived)
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
    effects += [Attach(command.to), Reply(command.to, command.ref, answer), *seen(room, command.who.user_id, now_ms)]
    return effects if muting is None else [*effects, Tell(command.to, muting.event)]


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


def rejoin(room: Room, command: c.Rejoin, now_ms: int) -> list[Effect]:
    room.presence.enter(command.to, command.who, now_ms)
    member = room.presence.devices.get(command.to)
    if member is not None:
        member.set_status(command.status)
        room.presence.hide(member, command.who.user_id in room.mutes)
    return []


def leave(room: Room, command: c.Leave, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    effects: list[Effect] = [Detach(command.to)]
    gone = room.presence.leave(command.to)
    if member is not None and gone is not None:
        effects += [*stop_typing(room, member), *users_update(room, "leave", gone)]
    return [*effects, Reply(command.to, command.ref, {})]


def drop(room: Room, command: c.Drop, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    room.presence.drop(command.to, now_ms)
    effects: list[Effect] = [Detach(command.to)]
    if member is not None and not member.devices:
        effects += stop_typing(room, member)
    return effects


def remove(room: Room, command: c.Remove, now_ms: int) -> list[Effect]:
    gone = room.presence.remove(command.user_id)
    if gone is None:
        return []
    return [*(Detach(to) for to in gone.devices), *stop_typing(room, gone), *users_update(room, "leave", gone)]


def notify(room: Room, command: c.Notify, now_ms: int) -> list[Effect]:
    return [TellUser(command.user_id, command.event)]


def set_badge(room: Room, command: c.SetBadge, now_ms: int) -> list[Effect]:
    """Other limits from here on; what they have used, they have used."""
    member = room.presence.members.get(command.user_id)
    if room.buckets is not None:
        room.buckets.shown_anew(command.user_id)
    return [] if member is None or not member.set_badge(command.badge) else users_update(room, "status", member)


def seen(room: Room, user_id: str, now_ms: int) -> list[Effect]:
    """They are here now; nothing when that was said in this quarter of an hour."""
    member, quarter = room.presence.members.get(user_id), now_ms // QUARTER_MS
    if member is None or member.quarter == quarter:
        return []
    member.quarter = quarter
    return [Seen(user_id, now_ms)]


def typing(room: Room, command: c.Typing, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    if member is None or member.hidden:
        return []
    if not command.on:
        return stop_typing(room, member)
    user_id = member.who.user_id
    if user_id not in room.typing and _sign_wait_ms(room, user_id, now_ms):
        return []
    already = room.typing.pop(user_id, None)
    member.typing_until_ms = now_ms + room.rules.typing_ms
    room.typing[user_id] = member
    return [] if already is not None else [_typing_indicator(room, member, on=True)]


def stop_typing(room: Room, member: Member) -> list[Effect]:
    if room.typing.pop(member.who.user_id, None) is None:
        return []
    return [_typing_indicator(room, member, on=False)]


def set_status(room: Room, command: c.SetStatus, now_ms: int) -> list[Effect]:
    member = room.presence.devices.get(command.to)
    if member is None:
        return [Refuse(command.to, command.ref, "not_in_cafe", "Send join:cafe first.")]
    if command.status != member.status and not member.hidden:
        wait_ms = _sign_wait_ms(room, member.who.user_id, now_ms)
        if wait_ms:
            return [_slower(command.to, command.ref, wait_ms)]
    changed = member.set_status(command.status)
    return [*(users_update(room, "status", member) if changed else []), Reply(command.to, command.ref, {})]


def presence_query(room: Room, command: c.PresenceQuery, now_ms: int) -> list[Effect]:
    return [Reply(command.to, None, e.PresenceAnswer(room.cafe_id, len(room.presence), room.presence.seen_views(now_ms)))]


def topics_query(room: Room, command: c.TopicsQuery, now_ms: int) -> list[Effect]:
    return [Reply(command.to, None, e.TopicsAnswer(room.cafe_id, room.topics.top(command.limit, now_ms)))]


def talk_query(room: Room, command: c.TalkQuery, now_ms: int) -> list[Effect]:
    return [Reply(command.to, None, e.TalkAnswer(room.history.tail(command.messages), room.topics.top(command.topics, now_ms)))]


def company_query(room: Room, command: c.CompanyQuery, now_ms: int) -> list[Effect]:
    muted = frozenset(user_id for user_id in room.mutes.users() if room.mutes.get(user_id, now_ms) is not None)
    return [Reply(command.to, None, e.CompanyAnswer(frozenset(room.presence.seen()), muted))]


def users_update(room: Room, action: str, member: Member, *, hidden: bool | None = None) -> list[Effect]:
    """What the others are told of a member; `hidden`: as the others saw them before."""
    return [] if (member.hidden if hidden is None else hidden) else [Broadcast(e.UsersUpdate(room.cafe_id, action, member.view, len(room.presence)))]


def _sign_wait_ms(room: Room, user_id: str, now_ms: int) -> int:
    """0: the others may be told one thing more of this guest."""
    return 0 if room.buckets is None else room.signs.take(user_id, now_ms)


def _slower(to: int, ref: c.Ref, wait_ms: int) -> Refuse:
    detail = f"You came, went, typed or changed your status too often. Again in {-(-wait_ms // 1000)} s."
    return Refuse(to, ref, "rate_limited", detail, {"retryAfterMs": wait_ms, "limit": "signs"})


def _typing_indicator(room: Room, member: Member, *, on: bool) -> Broadcast:
    return Broadcast(e.TypingIndicator(room.cafe_id, member.who.user_id, member.who.username, on), frozenset(member.devices))
