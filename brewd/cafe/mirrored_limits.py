"""What people have used, as Redis shows it: buckets, the newest text of each, mutes. Only what changed, seldom, and a little at a time.

Nobody starts from these keys: a room that opens asks Postgres (`standing`). They are for others to read, and all of them expire
when what they say is over.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from brewd.cafe.buckets import Buckets
from brewd.cafe.limits import DAY_MS, Action
from brewd.cafe.room import Room
from brewd.runtime import bucket
from brewd.runtime.clock import Clock
from brewd.store.mirror import Mirror, RedisCommand

GAP_MS = 5000
AT_ONCE = 100
"""Users of one room in one trip. Those that are left follow with the next."""


class LimitsMirror:
    """One café's source of the mirror, under `key`. It asks to come by when there is something to show, and again until it is shown."""

    __slots__ = ("_asked", "_clock", "_mirror", "_shown_ms", "key", "room")

    def __init__(self, room: Room, clock: Clock, mirror: Mirror) -> None:
        self.key = f"cafe:{room.cafe_id}:limits"
        self.room = room
        self._clock = clock
        self._mirror = mirror
        self._asked = False
        self._shown_ms = 0

    def touched(self) -> None:
        """Something may have changed. Called at the end of every turn."""
        if not self._asked and self._is_stale():
            self._ask()

    def _ask(self) -> None:
        self._asked = True
        self._mirror.note(self.key, self.render)

    def _is_stale(self) -> bool:
        room = self.room
        return bool(
            room.mutes.changed
            or (room.buckets is not None and (room.buckets.changed or room.buckets.changed_rare))
            or (room.spam is not None and room.spam.latest)
        )

    def render(self, full: bool) -> list[RedisCommand]:
        now_ms, self._asked = self._clock.now_ms(), False
        if full:
            self._mark_all()
        elif now_ms - self._shown_ms < GAP_MS:
            self._ask()
            return []
        commands = self._mutes(now_ms) + self._texts()
        if self.room.buckets is not None:
            commands += self._buckets(self.room.buckets, now_ms)
        if self._is_stale():
            self._ask()
        else:
            self._shown_ms = now_ms
        return commands

    def _mark_all(self) -> None:
        room = self.room
        room.mutes.changed.update(room.mutes.users())
        if room.buckets is not None:
            room.buckets.changed_rare.update(room.buckets.rare)
            room.buckets.changed.update(room.buckets.messages)

    def _mutes(self, now_ms: int) -> list[RedisCommand]:
        mutes, commands = self.room.mutes, list[RedisCommand]()
        for user_id in list(islice(mutes.changed, AT_ONCE)):
            mutes.changed.discard(user_id)
            key, muting = f"spam:mute:{user_id}", mutes.get(user_id, now_ms)
            if muting is None:
                commands.append(("DEL", key))
            else:
                commands.append(("SET", key, msgspec.json.encode(muting.event), "PX", muting.until_ms - now_ms))
        return commands

    def _texts(self) -> list[RedisCommand]:
        """What must not be said again, as the number it is remembered by."""
        spam = self.room.spam
        if spam is None:
            return []
        users = list(islice(spam.latest, AT_ONCE))
        return [("SET", f"spam:duplicate:{user_id}", f"{spam.latest.pop(user_id) & (1 << 64) - 1:016x}", "PX", spam.rules.duplicate_ms) for user_id in users]

    def _buckets(self, buckets: Buckets, now_ms: int) -> list[RedisCommand]:
        commands: list[RedisCommand] = []
        for user_id in list(islice(buckets.changed, AT_ONCE)):
            buckets.changed.discard(user_id)
            commands += self._messages(buckets, user_id, now_ms)
        for action, key in list(islice(buckets.changed_rare, AT_ONCE)):
            buckets.changed_rare.discard((action, key))
            commands += self._rare(buckets, action, key, now_ms)
        return commands

    def _messages(self, buckets: Buckets, user_id: str, now_ms: int) -> list[RedisCommand]:
        member, uses, key = self.room.presence.members.get(user_id), bucket.unpacked(buckets.messages.get(user_id)), f"ratelimit:message:{user_id}"
        rate = buckets.limits.of(None if member is None else member.who.badge).message
        full_in_ms = bucket.full_in_ms(uses, rate, now_ms)
        if uses is None or not full_in_ms:
            return [("DEL", key, f"{key}:last")]
        left = bucket.remaining(uses, rate, now_ms)
        return [("SET", key, left, "PX", full_in_ms), ("SET", f"{key}:last", uses[1], "PX", full_in_ms)]

    def _rare(self, buckets: Buckets, action: Action, key: str, now_ms: int) -> list[RedisCommand]:
        times_ms = buckets.rare.get((action, key), ())
        name = f"ratelimit:poke:{key}:count" if action == "poke" else f"ratelimit:agent:{key}"
        if not times_ms:
            return [("DEL", name)]
        commands: list[RedisCommand] = [("SET", name, len(times_ms), "PX", max(1, times_ms[-1] + DAY_MS - now_ms))]
        gap_ms = max(buckets.limits.plain.agent_gap_ms, buckets.limits.badge.agent_gap_ms)
        if action == "agent" and buckets.agent_ms is not None and buckets.agent_ms + gap_ms > now_ms:
            commands.append(("SET", f"ratelimit:agent:{self.room.cafe_id}:global", buckets.agent_ms, "PX", buckets.agent_ms + gap_ms - now_ms))
        return commands
