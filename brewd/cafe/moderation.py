"""Who may not speak, and why: mutes, what spam leads to, and the limits as they are asked about and changed.

Steps of the room (see `room`). Every decision names its rule, and is an effect to be kept besides what is said about it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.company import stop_typing, users_update
from brewd.cafe.effects import Effect, Record, Refuse, Reply, Tell, Used
from brewd.cafe.limits import ACTIONS, Action
from brewd.cafe.spam import BLOCKS
from brewd.runtime.clock import rfc3339
from brewd.store.records import Key

if TYPE_CHECKING:
    from brewd.cafe.room import Room
    from brewd.cafe.spam import Verdict


REFUSED_MAX: Final = 1000
RESENT_MS: Final = 600_000
"""By then a client has its answer, or has given up."""


class Muting(Struct, frozen=True):
    until_ms: int
    reason: str

    @property
    def event(self) -> e.Muted:
        """What the one who is muted is told."""
        return e.Muted(rfc3339(self.until_ms), self.reason)


class Mutes:
    """Who is muted in one room. `next_ms`: no one of them is free before. `changed`: those whose mirror is out of date."""

    __slots__ = ("_by_user", "changed", "next_ms")

    def __init__(self) -> None:
        self._by_user: dict[str, Muting] = {}
        self.changed: set[str] = set()
        self.next_ms: float = math.inf

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._by_user

    def get(self, user_id: str, now_ms: int) -> Muting | None:
        muting = self._by_user.get(user_id)
        return muting if muting is not None and muting.until_ms > now_ms else None

    def users(self) -> list[str]:
        return list(self._by_user)

    def add(self, user_id: str, muting: Muting) -> None:
        self._by_user[user_id] = muting
        self.changed.add(user_id)
        self.next_ms = min(self.next_ms, muting.until_ms)

    def remove(self, user_id: str) -> bool:
        """Whether they were muted."""
        self.changed.add(user_id)
        return self._by_user.pop(user_id, None) is not None

    def forget(self, user_id: str) -> None:
        """As if they had never been muted; of those who are gone the mirror is cleared by whoever erases them."""
        self._by_user.pop(user_id, None)
        self.changed.discard(user_id)

    def over(self, now_ms: int) -> list[str]:
        """Those whose time has come, and who are to be freed now."""
        over = [user_id for user_id, muting in self._by_user.items() if muting.until_ms <= now_ms]
        self.next_ms = min((muting.until_ms for muting in self._by_user.values() if muting.until_ms > now_ms), default=math.inf)
        return over


class Refused:
    """What was sent with a clientMsgId and refused as spam, so that sending it again is answered and not counted again."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Key, tuple[str, int, Refuse]] = {}

    def get(self, key: Key, command: c.Send, now_ms: int) -> Refuse | None:
        """The same refusal once more, for the same text not long after."""
        content, at_ms, refuse = self._held.get(key) or ("", 0, None)
        if refuse is None or content != command.content or now_ms - at_ms >= RESENT_MS:
            return None
        return Refuse(command.to, command.ref, refuse.code, refuse.detail, refuse.extras)

    def keep(self, key: Key, content: str, refuse: Refuse, now_ms: int) -> None:
        self._held.pop(key, None)
        self._held[key] = content, now_ms, refuse
        if len(self._held) > REFUSED_MAX:
            del self._held[next(iter(self._held))]

    def forgive(self, user_id: str) -> None:
        for key in [key for key in self._held if key[0] == user_id]:
            del self._held[key]

    def clear(self) -> None:
        self._held.clear()


def mute(room: Room, command: c.Mute, now_ms: int) -> list[Effect]:
    return [*silence(room, command.user_id, Muting(command.until_ms, command.reason)), Reply(command.to, None, {})]


def unmute(room: Room, command: c.Unmute, now_ms: int) -> list[Effect]:
    """By a person: what led to it is forgiven."""
    if room.spam is not None:
        room.spam.forgive(command.user_id)
    room.refused.forgive(command.user_id)
    return [*free(room, command.user_id), Reply(command.to, None, {})]


def mute_query(room: Room, command: c.MuteQuery, now_ms: int) -> list[Effect]:
    muting = room.mutes.get(command.user_id, now_ms)
    answer = e.MuteAnswer(False) if muting is None else e.MuteAnswer(True, rfc3339(muting.until_ms), muting.reason)
    return [Reply(command.to, None, answer)]


def silence(room: Room, user_id: str, muting: Muting) -> list[Effect]:
    """Mute, or mute for longer or shorter: to the others it is as if they had left."""
    room.mutes.add(user_id, muting)
    member = room.presence.members.get(user_id)
    if member is None:
        return []
    effects = stop_typing(room, member)
    if not member.hidden:
        room.presence.hide(member, True)
        effects += users_update(room, "leave", member, hidden=False)
    return effects + [Tell(to, muting.event) for to in sorted(member.devices)]


def free(room: Room, user_id: str) -> list[Effect]:
    """The mute is over."""
    member = room.presence.members.get(user_id)
    if not room.mutes.remove(user_id) or member is None:
        return []
    room.presence.hide(member, False)
    return [*users_update(room, "join", member), *(Tell(to, e.Unmuted()) for to in sorted(member.devices))]


def expire(room: Room, now_ms: int) -> list[Effect]:
    """Free those whose time has come."""
    if now_ms < room.mutes.next_ms:
        return []
    return [effect for user_id in room.mutes.over(now_ms) for effect in free(room, user_id)]


def blocked(room: Room, command: c.Send, verdict: Verdict, now_ms: int) -> list[Effect]:
    """Spam: refused, counted, and, when it has happened too often, the end of speaking for a while."""
    assert room.spam is not None
    room.spam.blocked(command.who.user_id, verdict, now_ms)
    effects = stopped(room, command.who, (command.to, command.ref), verdict, now_ms, reason=verdict.detail)
    refuse = effects[-1]
    if command.client_msg_id is not None and isinstance(refuse, Refuse):
        room.refused.keep((command.who.user_id, command.client_msg_id), command.content, refuse, now_ms)
    return effects


def stopped(room: Room, who: c.Who, asker: tuple[int, c.Ref], verdict: Verdict, now_ms: int, *, reason: str) -> list[Effect]:
    """What follows when spam is not sent; the refusal comes last. `reason` is what is kept of it, which others read: its author is told all."""
    assert room.spam is not None
    extras = {"rule": verdict.rule, "violations": verdict.violations}
    effects: list[Effect] = [Record("block", who.user_id, who.username, now_ms, rule=verdict.rule, reason=reason)]
    if verdict.action == "mute":
        muting = Muting(now_ms + room.spam.rules.mute_ms, f"Too much spam. {reason}")
        extras["mutedUntil"] = rfc3339(muting.until_ms)
        effects.append(Record("mute", who.user_id, who.username, now_ms, rule=BLOCKS, reason=muting.reason, until_ms=muting.until_ms))
        effects += silence(room, who.user_id, muting)
    return [*effects, Refuse(*asker, "spam_blocked", verdict.detail, extras)]


def spam_query(room: Room, command: c.SpamQuery, now_ms: int) -> list[Effect]:
    wait_ms = 0 if room.buckets is None else room.checks.take(command.user_id, now_ms)
    if wait_ms:
        detail = f"So many texts cannot be looked at. Again in {-(-wait_ms // 1000)} s."
        return [Refuse(command.to, None, "rate_limited", detail, {"retryAfterMs": wait_ms, "limit": "spam-checks"})]
    if room.spam is None:
        return [Reply(command.to, None, e.SpamAnswer(False, "allow", ()))]
    verdict = room.spam.judge(command.user_id, command.content, now_ms)
    return [Reply(command.to, None, e.SpamAnswer(verdict.action != "allow", verdict.action, verdict.violations))]


def set_terms(room: Room, command: c.SetTerms, now_ms: int) -> list[Effect]:
    room.set_terms(command.terms)
    room.refused.clear()
    return [Reply(command.to, None, {})]


def limits_query(room: Room, command: c.LimitsQuery, now_ms: int) -> list[Effect]:
    if room.buckets is None:
        return [Reply(command.to, None, e.LimitsAnswer({}))]
    who = command.who
    views = {action: room.buckets.view(action, who.user_id, command.session_id, who.badge, now_ms) for action in ACTIONS}
    return [Reply(command.to, None, e.LimitsAnswer(views))]


def take(room: Room, command: c.Take, now_ms: int) -> list[Effect]:
    who = command.who
    muting = room.mutes.get(who.user_id, now_ms)
    if muting is not None:
        return [muted(command.to, None, muting, now_ms)]
    if room.buckets is None:
        return [Reply(command.to, None, {})]
    wait_ms = room.buckets.wait_ms(command.action, who.user_id, command.session_id, who.badge, now_ms)
    if wait_ms != 0:
        return [rate_limited(command.to, None, command.action, wait_ms)]
    room.buckets.take_rare(command.action, who.user_id, command.session_id, now_ms)
    return [Used(command.action, who.user_id, command.session_id, now_ms), Reply(command.to, None, {})]


def reset_limits(room: Room, command: c.ResetLimits, now_ms: int) -> list[Effect]:
    if room.buckets is not None:
        room.buckets.reset(command.user_id, command.action)
        for draft in room.pending:
            if draft.who.user_id == command.user_id and command.action in (None, "message"):
                draft.charged = False  # what it took was given back
    return [Reply(command.to, None, {})]


def muted(to: int, ref: c.Ref, muting: Muting, now_ms: int) -> Refuse:
    until = rfc3339(muting.until_ms)
    extras = {"until": until, "reason": muting.reason, "retryAfterMs": muting.until_ms - now_ms}
    return Refuse(to, ref, "muted", f"You are muted until {until}.", extras)


def rate_limited(to: int, ref: c.Ref, action: Action, wait_ms: int | None) -> Refuse:
    if wait_ms is None:
        return Refuse(to, ref, "rate_limited", f"You have no {_ONE[action]} left for this stay.", {"action": action})
    wait_s = -(-wait_ms // 1000)
    detail = f"The agent takes the next question of this café in {wait_s} s." if action == "agent" else f"The next {_ONE[action]} may go in {wait_s} s."
    return Refuse(to, ref, "rate_limited", detail, {"action": action, "retryAfterMs": wait_ms})


_ONE = {"message": "message", "poke": "poke", "agent": "question"}
