"""A café as Redis shows it: who is there, the last hundred messages, the topics. And what a restarted room takes from there.

`touched` is called at the end of every turn, so it only leaves a mark; the keys are rendered when the mirror comes by.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from brewd.cafe.room import Room
from brewd.cafe.topics import HALF_LIFE_MS, KEPT_MAX
from brewd.errors import StoreError
from brewd.runtime.clock import Clock
from brewd.store.mirror import Mirror, Pipeline, RedisCommand

MESSAGES_MAX = 100
TTL_S = 86_400
WARM_TIMEOUT_S = 0.25
"""A room does not wait longer for its topics: it can do without."""


class Reachable(Pipeline, Protocol):
    """Redis for reading at the start."""


class _Written:
    """What Redis has of one café."""

    __slots__ = ("redactions", "room", "seq", "users")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.seq = 0
        self.redactions = 0
        self.users: set[str] = set()


class CafeMirror:
    """The observer of every café actor."""

    def __init__(self, *, mirror: Mirror, redis: Reachable, clock: Clock) -> None:
        self._mirror = mirror
        self._redis = redis
        self._clock = clock
        self._written: dict[str, _Written] = {}

    def touched(self, room: Room) -> None:
        written = self._written.get(room.cafe_id)
        if written is None:
            written = self._written[room.cafe_id] = _Written(room)
        written.room = room
        self._mirror.note(f"cafe:{room.cafe_id}", lambda full: self._render(written, full))

    def closed(self, cafe_id: str) -> None:
        """The café's actor has gone, with nobody in it."""
        self._written.pop(cafe_id, None)
        self._mirror.forget(f"cafe:{cafe_id}")

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]:
        """The topic scores Redis has, decayed to now; nothing when it does not answer at once."""
        try:
            at_ms, flat = await self._redis.pipeline(
                [("GET", f"cafe:{cafe_id}:topics:at"), ("ZREVRANGE", f"cafe:{cafe_id}:topics", 0, KEPT_MAX - 1, "WITHSCORES")], timeout_s=WARM_TIMEOUT_S
            )
        except StoreError:
            return []
        return decayed(pairs(flat), self._clock.now_ms() - int(at_ms or self._clock.now_ms()))

    def _render(self, written: _Written, full: bool) -> list[RedisCommand]:
        room = written.room
        return self._messages(written, room, full) + self._users(written, room, full) + self._topics(room)

    def _messages(self, written: _Written, room: Room, full: bool) -> list[RedisCommand]:
        key, history = f"cafe:{room.cafe_id}:messages", room.history
        anew = full or written.redactions != history.redactions or history.last - written.seq > MESSAGES_MAX
        messages = history.tail(MESSAGES_MAX if anew else history.last - written.seq)
        written.seq, written.redactions = history.last, history.redactions
        commands: list[RedisCommand] = [("DEL", key)] if anew else []
        if messages:
            commands += [("LPUSH", key, *(msgspec.json.encode(m) for m in messages)), ("LTRIM", key, 0, MESSAGES_MAX - 1), ("EXPIRE", key, TTL_S)]
        return commands

    def _users(self, written: _Written, room: Room, full: bool) -> list[RedisCommand]:
        key, members = f"cafe:{room.cafe_id}:users", room.presence.members
        now = set(members)
        came, went = (now, set()) if full else (now - written.users, written.users - now)
        written.users = now
        commands: list[RedisCommand] = [("DEL", key)] if full else []
        if went:
            commands += [("SREM", key, *went), ("DEL", *(f"user:{user_id}:presence" for user_id in went))]
        if came:
            commands += [("SADD", key, *came), ("EXPIRE", key, TTL_S)]
        for user_id in came:
            member = members[user_id]
            presence = f"user:{user_id}:presence"
            commands += [
                ("HSET", presence, "cafeId", room.cafe_id, "username", member.who.username, "status", member.status, "seenMs", member.seen_ms),
                ("EXPIRE", presence, TTL_S),
            ]
        return commands

    def _topics(self, room: Room) -> list[RedisCommand]:
        now_ms = self._clock.now_ms()
        top = room.topics.top(KEPT_MAX, now_ms)
        key = f"cafe:{room.cafe_id}:topics"
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
