"""Who has used how much of what they may do in one room. All in memory; nothing else is asked before a message.

A guest who has not done anything for a while has a full bucket, which is the same as none: those are dropped as others are
used, so the room remembers those who matter. One number holds a message bucket, since there can be a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from brewd.cafe.limits import Action, Limits
from brewd.runtime import bucket
from brewd.runtime.bucket import Packed, packed, unpacked
from brewd.runtime.clock import rfc3339

_SWEEP_FIRST = 1024
RARE_MAX = 100_000
"""Guests whose pokes, and sessions whose questions, are remembered; with more, those who began first are forgotten first."""


class LimitView(Struct, frozen=True, rename="camel"):
    """One limit as its user sees it.

    `limit`: how many at most at once; `reset_at`: when all of them are back, None for never; `retry_after_ms`: until the next
    one may be, 0 for now, None for never; `cooldown_ms`: what has to lie between two.
    """

    limit: int
    remaining: int
    reset_at: str | None
    retry_after_ms: int | None
    cooldown_ms: int


class Buckets:
    """The buckets of one room. Messages are counted by user, `rare` by action and key: pokes by user, questions by `user:session`.

    `changed` and `changed_rare` are the keys whose mirror is out of date.
    """

    __slots__ = ("_sweep_at", "agent_ms", "changed", "changed_rare", "limits", "messages", "rare")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.messages: dict[str, Packed] = {}
        self.rare: dict[tuple[Action, str], tuple[int, ...]] = {}
        self.agent_ms: int | None = None
        self.changed: set[str] = set()
        self.changed_rare: set[tuple[Action, str]] = set()
        self._sweep_at = _SWEEP_FIRST

    def message_wait_ms(self, user_id: str, badge: str | None, now_ms: int) -> int | None:
        """0: a message may be sent now. None: never."""
        return bucket.wait_ms(unpacked(self.messages.get(user_id)), self.limits.of(badge).message, now_ms)

    def take_message(self, user_id: str, before: Packed | None, badge: str | None, now_ms: int) -> bool:
        """Take a token for a message, if there is one. `before`: what `messages` has of this user."""
        limits, messages = self.limits, self.messages
        after = bucket.drawn(before, limits.plain.message if badge is None else limits.badge.message, now_ms)
        if after is None:
            return False
        messages[user_id] = after
        self.changed.add(user_id)
        if len(messages) >= self._sweep_at:
            self._sweep(now_ms)
        return True

    def charge_messages(self, user_id: str, sent: Iterable[tuple[int, bool]]) -> None:
        """The same for some that were sent (when, and with a badge or without), whatever there is now."""
        uses = unpacked(self.messages.get(user_id))
        plain, badge = self.limits.plain.message, self.limits.badge.message
        for at_ms, badged in sent:
            uses = bucket.take(uses, badge if badged else plain, at_ms)
        self.put(user_id, None if uses is None else packed(uses))

    def put(self, user_id: str, before: Packed | None) -> None:
        """Go back to what was before."""
        if before is None:
            self.messages.pop(user_id, None)
        else:
            self.messages[user_id] = before
        self.changed.add(user_id)

    def wait_ms(self, action: Action, user_id: str, session_id: str, badge: str | None, now_ms: int) -> int | None:
        """The same for any action."""
        tier = self.limits.of(badge)
        if action == "message":
            return self.message_wait_ms(user_id, badge, now_ms)
        times_ms = self.rare.get(_key(action, user_id, session_id), ())
        if action == "poke":
            return tier.poke.wait_ms(times_ms, now_ms)
        own_ms = tier.agent.wait_ms(times_ms, now_ms)
        return None if own_ms is None else max(own_ms, self._agent_gap_wait_ms(tier.agent_gap_ms, now_ms))

    def take_rare(self, action: Action, user_id: str, session_id: str, now_ms: int) -> None:
        """One poke or question more; whether it is allowed is for the caller to ask first."""
        key = _key(action, user_id, session_id)
        times_ms = self.rare.pop(key, ())
        if action == "poke":
            times_ms = self.limits.badge.poke.recent(times_ms, now_ms)
        else:
            self.agent_ms = now_ms
        self.rare[key] = (*times_ms, now_ms)
        self.changed_rare.add(key)
        if len(self.rare) > RARE_MAX:
            del self.rare[next(iter(self.rare))]

    def view(self, action: Action, user_id: str, session_id: str, badge: str | None, now_ms: int) -> LimitView:
        tier = self.limits.of(badge)
        wait_ms = self.wait_ms(action, user_id, session_id, badge, now_ms)
        if action == "message":
            uses, rate = unpacked(self.messages.get(user_id)), tier.message
            full_in_ms = bucket.full_in_ms(uses, rate, now_ms)
            reset_at = None if full_in_ms is None else rfc3339(now_ms + full_in_ms)
            return LimitView(rate.burst, bucket.remaining(uses, rate, now_ms), reset_at, wait_ms, rate.gap_ms)
        window = tier.poke if action == "poke" else tier.agent
        times_ms = window.recent(self.rare.get(_key(action, user_id, session_id), ()), now_ms)
        reset_ms = now_ms if not times_ms else None if window.period_ms is None else times_ms[-1] + window.period_ms
        reset_at = None if reset_ms is None else rfc3339(reset_ms)
        return LimitView(window.limit, max(0, window.limit - len(times_ms)), reset_at, wait_ms, 0 if action == "poke" else tier.agent_gap_ms)

    def shown_anew(self, user_id: str) -> None:
        """Others limits hold for this user: what is left of them is another number."""
        if user_id in self.messages:
            self.changed.add(user_id)

    def reset(self, user_id: str, action: Action | None = None) -> None:
        """Everything back for one user: of one action, or of all."""
        if action in (None, "message") and self.messages.pop(user_id, None) is not None:
            self.changed.add(user_id)
        for key in [key for key in self.rare if action in (None, key[0]) and key[1].partition(":")[0] == user_id]:
            del self.rare[key]
            self.changed_rare.add(key)

    def forget(self, users: Collection[str]) -> None:
        """Nothing is known of these users any more. The mirror is cleared by whoever erases them."""
        for user_id in users:
            self.messages.pop(user_id, None)
            self.changed.discard(user_id)
        for held in (self.rare, self.changed_rare):
            for key in [key for key in held if key[1].partition(":")[0] in users]:
                self.rare.pop(key, None)
                self.changed_rare.discard(key)

    def _agent_gap_wait_ms(self, gap_ms: int, now_ms: int) -> int:
        return 0 if self.agent_ms is None else min(gap_ms, max(0, self.agent_ms + gap_ms - now_ms))

    def _sweep(self, now_ms: int) -> None:
        """Drop full buckets. Done again when twice as many are held, so it costs each message a constant."""
        rates = (self.limits.plain.message, self.limits.badge.message)
        full = [user_id for user_id, held in self.messages.items() if all(bucket.full_in_ms(unpacked(held), rate, now_ms) == 0 for rate in rates)]
        for user_id in full:
            del self.messages[user_id]
            self.changed.discard(user_id)  # what the mirror has of it has expired
        self._sweep_at = max(_SWEEP_FIRST, 2 * len(self.messages))


def _key(action: Action, user_id: str, session_id: str) -> tuple[Action, str]:
    return action, user_id if action == "poke" else f"{user_id}:{session_id}"
