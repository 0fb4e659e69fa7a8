"""A café as Redis shows it: who is seen there, the last hundred messages, the topics. And what a restarted room takes from there.

`touched` is called at the end of every turn, so it only leaves a mark; the keys are rendered when the mirror comes by.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from brewd.cafe.events import UserView
from brewd.cafe.mirrored_limits import LimitsMirror
from brewd.cafe.room import Room
from brewd.cafe.topics import HALF_LIFE_MS, KEPT_MAX
from brewd.errors import StoreError
from brewd.runtime.clock import Clock
from brewd.runtime.log import get_logger
from brewd.store.mirror import Mirror, Pipeline, RedisCommand

log = get_logger("mirror")

MESSAGES_MAX = 100
TTL_S = 86_400
KEPT_GAP_MS = 3_600_000
"""So often a list that grows is kept for another `TTL_S`."""

TOPICS_GAP_MS = 5000
"""Fifty members a café are the largest part of what is written, and all they are for is a warm start: a deletion alone makes them due at once."""

WARM_TIMEOUT_S = 0.25
"""A room does not wait longer for its topics: it can do without."""


_encode = msgspec.json.Encoder().encode


class CafeMirror:
    """The observer of every café actor."""

    def __init__(self, *, mirror: Mirror, redis: Pipeline, clock: Clock) -> None:
        self._mirror = mirror
        self._redis = redis
        self._clock = clock
        self._shown: dict[str, _Shown] = {}
        self.on_unsaid: list[Callable[[str], object]] = []
        """Told of a café where something was deleted, before anybody there is. Must not block."""

    def unsaid(self, cafe_id: str) -> None:
        for told in self.on_unsaid:
            told(cafe_id)

    def touched(self, room: Room) -> None:
        shown = self._shown.get(room.cafe_id)
        if shown is None:
            shown = self._shown[room.cafe_id] = _Shown(room, self._clock, self._mirror)
        if shown.room is not room:  # the actor was restarted: what its room counts, it counts anew
            shown.room = shown.limits.room = room
            shown.anew = True
        self._mirror.note(shown.key, shown.render)
        shown.limits.touched()

    def closed(self, cafe_id: str) -> None:
        """The café's actor has gone, with nobody in it."""
        shown = self._shown.pop(cafe_id, None)
        if shown is not None:
            self._mirror.forget(shown.key)
            self._mirror.forget(shown.limits.key)

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]:
        """The topic scores Redis has, decayed to now; nothing when it does not answer at once, or with something else."""
        key, now_ms = f"cafe:{cafe_id}:topics", self._clock.now_ms()
        if self._mirror.failures:
            return []  # a thousand cafés that open at once do not each find out anew that Redis does not answer
        try:
            at_ms, flat = await self._redis.pipeline([("GET", f"{key}:at"), ("ZREVRANGE", key, 0, KEPT_MAX - 1, "WITHSCORES")], timeout_s=WARM_TIMEOUT_S)
            return decayed(pairs(flat), now_ms - int(at_ms or now_ms))
        except StoreError:
            return []
        except Exception as error:  # somebody else wrote there; a café must not fail to open because of its mirror
            log.warning("topics_unreadable", cafe=cafe_id, error=str(error))
            return []


class _Shown:
    """One café as Redis has it, and what brings that up to date. `anew`: the next rendering starts from nothing."""

    __slots__ = ("_clock", "_kept_ms", "_listed", "_redactions", "_seq", "_topics_ms", "_users", "anew", "key", "limits", "room")

    def __init__(self, room: Room, clock: Clock, mirror: Mirror) -> None:
        self.key = f"cafe:{room.cafe_id}"
        self.room = room
        self.limits = LimitsMirror(room, clock, mirror)
        self.anew = True
        self._clock = clock
        self._seq = 0
        self._listed = 0
        self._kept_ms = 0
        self._redactions = 0
        self._topics_ms = 0
        self._users: dict[str, UserView] = {}

    def render(self, full: bool) -> list[RedisCommand]:
        full, self.anew = full or self.anew, False
        unsaid = self._redactions != self.room.history.redactions
        now_ms = self._clock.now_ms()
        due = full or unsaid or now_ms - self._topics_ms >= TOPICS_GAP_MS
        return self._messages(full, now_ms) + self._members(full) + (self._topics(now_ms) if due else [])

    def _messages(self, full: bool, now_ms: int) -> list[RedisCommand]:
        key, history = f"{self.key}:messages", self.room.history
        anew = full or self._redactions != history.redactions or history.last - self._seq > MESSAGES_MAX
        messages = history.tail(MESSAGES_MAX if anew else history.last - self._seq)
        self._seq, self._redactions = history.last, history.redactions
        commands: list[RedisCommand] = [("DEL", key)] if anew else []
        self._listed = 0 if anew else self._listed
        if not messages:
            return commands
        # A thousand cafés a second come by here. A list that is there grows by one command: LPUSHX does nothing to one that
        # somebody else removed, so none can come to be without an expiry.
        first = not self._listed
        commands.append(("LPUSH" if first else "LPUSHX", key, *(_encode(m) for m in messages)))
        self._listed += len(messages)
        if self._listed > MESSAGES_MAX:
            commands.append(("LTRIM", key, 0, MESSAGES_MAX - 1))
            self._listed = MESSAGES_MAX
        if first or now_ms - self._kept_ms >= KEPT_GAP_MS:
            commands.append(("EXPIRE", key, TTL_S))
            self._kept_ms = now_ms
        return commands

    def _members(self, full: bool) -> list[RedisCommand]:
        key, before = f"{self.key}:users", self._users
        members = {user_id: member for user_id, member in self.room.presence.members.items() if not member.hidden}
        self._users = {user_id: member.view for user_id, member in members.items()}
        went = before.keys() - members.keys()
        # A view is replaced when the status changes, so the same view is the same state.
        news = [member for user_id, member in members.items() if full or before.get(user_id) is not member.view]
        commands: list[RedisCommand] = [("DEL", key)] if full else []
        if went:
            commands += [("SREM", key, *went), ("DEL", *(f"user:{user_id}:presence" for user_id in went))]
        if news:
            commands += [("SADD", key, *(member.who.user_id for member in news)), ("EXPIRE", key, TTL_S)]
        for member in news:
            presence = f"user:{member.who.user_id}:presence"
            commands += [
                ("HSET", presence, "cafeId", self.room.cafe_id, "username", member.who.username, "status", member.status, "seenMs", member.seen_ms),
                ("EXPIRE", presence, TTL_S),
            ]
        return commands

    def _topics(self, now_ms: int) -> list[RedisCommand]:
        key, self._topics_ms = f"{self.key}:topics", now_ms
        top = self.room.topics.top(KEPT_MAX, now_ms)
        if not top:
            return [("DEL", key)]
        flat = [part for view in top for part in (view.score, view.topic)]
        return [("DEL", key), ("ZADD", key, *flat), ("EXPIRE", key, TTL_S), ("SET", f"{key}:at", now_ms, "EX", TTL_S)]


def pairs(flat: list[str | list[object]]) -> list[tuple[str, float]]:
    """`ZREVRANGE … WITHSCORES` as the protocol's second version answers: member, score, member, score."""
    return [(str(word), float(str(score))) for word, score in zip(flat[::2], flat[1::2], strict=True)]


def decayed(scores: list[tuple[str, float]], age_ms: int) -> list[tuple[str, float]]:
    """Scores as they stand `age_ms` later; the half-life is the topics' own."""
    factor = 2.0 ** (-max(age_ms, 0) / HALF_LIFE_MS)
    return [(word, score * factor) for word, score in scores]
