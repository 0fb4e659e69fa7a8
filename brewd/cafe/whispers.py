"""Whispers: what one guest says to one other. A room judges it, so that a mute and the spam rules hold for it too, and tells who types.

Steps of the room (see `room`). The text goes no further than this: it is not stored here, nor held, nor mirrored, nor told; what is
kept of one that is stopped is the rule. It is judged beside the author's own words in that channel alone. Were it held beside what
others say, a message to all that is turned away as a copy would tell its author what somebody whispers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe import moderation
from brewd.cafe.effects import Effect, Refuse, Reply, TellUser
from brewd.cafe.folding import skeleton
from brewd.cafe.signs import Signs

if TYPE_CHECKING:
    from brewd.cafe.room import Room
    from brewd.cafe.spam import Verdict

SAID_MAX: Final = 4096
"""Texts remembered in a room; with more, those said longest ago are forgotten first."""

_WITHOUT_THE_WORD: Final = "There was a word in it that is not wanted here."


class _Typist(Struct, frozen=True):
    other_id: str
    until_ms: int


class Whispers:
    """Of one room. `rate`: how many each may send; `typing`: who types where, in the order of their deadlines. Gone with a restart."""

    __slots__ = ("_said", "rate", "typing")

    def __init__(self) -> None:
        self.rate = Signs()
        self.typing: dict[tuple[str, str], _Typist] = {}
        self._said: dict[int, int] = {}

    def said_ms(self, text: int) -> int | None:
        """When this was said last."""
        return self._said.get(text)

    def remember(self, text: int, now_ms: int) -> None:
        self._said.pop(text, None)
        self._said[text] = now_ms
        if len(self._said) > SAID_MAX:
            del self._said[next(iter(self._said))]

    def forget(self, text: int) -> None:
        self._said.pop(text, None)

    def deadlines_ms(self) -> list[int]:
        """The first, if there is one."""
        return [typist.until_ms for typist in self.typing.values()][:1]


def whisper(room: Room, command: c.Whisper, now_ms: int) -> list[Effect]:
    """In the order in which a message to all is judged; what is refused has cost its author nothing."""
    who, whispers, spam = command.who, room.whispers, room.spam
    muting = room.mutes.get(who.user_id, now_ms)
    if muting is not None:
        return [moderation.muted(command.to, None, muting, now_ms)]
    text = _text(who.user_id, command.channel_id, command.content)
    verdict = None if spam is None else spam.judge_aside(who.user_id, command.content, whispers.said_ms(text), now_ms)
    if spam is not None and verdict is not None and verdict.action not in ("allow", "warn"):
        whispers.remember(text, now_ms)
        spam.stopped(who.user_id, verdict.rule, now_ms)
        return moderation.stopped(room, who, (command.to, None), verdict, now_ms, reason=_kept(verdict))
    wait_ms = 0 if room.buckets is None else whispers.rate.take(who.user_id, now_ms)
    if wait_ms:
        detail = f"The next direct message may go in {-(-wait_ms // 1000)} s."
        return [Refuse(command.to, None, "rate_limited", detail, {"retryAfterMs": wait_ms, "limit": "dm"})]
    effects = _stop(room, (who.user_id, command.channel_id))
    violations = () if verdict is None else verdict.violations
    if spam is not None:
        whispers.remember(text, now_ms)
    if spam is not None and violations:
        spam.warned(who.user_id, now_ms)
        effects.append(TellUser(who.user_id, e.Warned(violations)))
    return [*effects, Reply(command.to, None, violations)]


def unsay(room: Room, command: c.Unsay, now_ms: int) -> list[Effect]:
    """To say it again is no repetition, and what was warned of did not happen."""
    room.whispers.forget(_text(command.user_id, command.channel_id, command.content))
    if command.warned and room.spam is not None:
        room.spam.unwarned(command.user_id)
    return []


def typing(room: Room, command: c.WhisperTyping, now_ms: int) -> list[Effect]:
    """Of one who is muted nothing is told, nor more often of anybody than there are signs."""
    key = (command.user_id, command.channel_id)
    if not command.on:
        return _stop(room, key)
    if command.user_id in room.mutes:
        return []
    already = room.whispers.typing.pop(key, None)
    if already is None and room.buckets is not None and room.signs.take(command.user_id, now_ms):
        return []
    room.whispers.typing[key] = _Typist(command.other_id, now_ms + room.rules.typing_ms)
    return [] if already is not None else [_told(command.other_id, command.channel_id, on=True)]


def expire(room: Room, now_ms: int) -> list[Effect]:
    """Those who have not typed for a while have stopped."""
    over = [key for key, typist in room.whispers.typing.items() if typist.until_ms <= now_ms]
    return [effect for key in over for effect in _stop(room, key)]


def fall_silent(room: Room) -> list[Effect]:
    """Whoever was typing must not seem to type for ever."""
    return [effect for key in list(room.whispers.typing) for effect in _stop(room, key)]


def _stop(room: Room, key: tuple[str, str]) -> list[Effect]:
    typist = room.whispers.typing.pop(key, None)
    return [] if typist is None else [_told(typist.other_id, key[1], on=False)]


def _told(user_id: str, channel_id: str, *, on: bool) -> TellUser:
    return TellUser(user_id, e.DmTyping(channel_id, on))


def _text(user_id: str, channel_id: str, content: str) -> int:
    return hash((user_id, channel_id, skeleton(content)))


def _kept(verdict: Verdict) -> str:
    """What the log and the moderators may know of it: nothing that was in it."""
    return _WITHOUT_THE_WORD if verdict.rule == "words" else verdict.detail
