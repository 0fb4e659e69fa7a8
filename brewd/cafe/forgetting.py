"""Forgetting: people whose time is over, and messages that are too old, leave the room's memory too.

Steps of the room (see `room`). What somebody said stays, under a name that is nobody's and an id that leads nowhere; everything else a
room knows of them goes: that they are there, what they have used, what was decided about them.

A message of theirs that is on its way to be stored still carries their name. The answer says how many such there are: whoever erases them
asks again until there is none, and then looks into Postgres.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.company import remove
from brewd.cafe.effects import Effect, Reply

if TYPE_CHECKING:
    from brewd.cafe.room import Room
    from brewd.store.records import Message

NOBODY: Final = "guest"
"""The name of everyone who is gone."""


def forget(room: Room, command: c.Forget, now_ms: int) -> list[Effect]:
    aliases = dict(command.people)
    effects: list[Effect] = []
    for user_id in aliases:
        effects += remove(room, c.Remove(user_id), now_ms)
        room.mutes.forget(user_id)
        room.refused.forgive(user_id)
        for rate in (room.signs, room.checks, room.whispers.rate):
            rate.forget(user_id)
    if room.buckets is not None:
        room.buckets.forget(aliases)
    if room.spam is not None:
        room.spam.forget(aliases)
    room.history.disown(lambda message: disowned(message, aliases), aliases)
    out = _disown_pending(room, aliases)
    return [*effects, Reply(command.to, None, e.ForgetAnswer(out))]


def discard(room: Room, command: c.Discard, now_ms: int) -> list[Effect]:
    """By now it is gone from Postgres."""
    room.history.discard(command.before)
    return [Reply(command.to, None, {})]


def disowned(message: Message, aliases: Mapping[str, str]) -> Message:
    """The message itself, or, of one of these people, as nobody's."""
    alias = aliases.get(message.user_id)
    return message if alias is None else replace(message, user_id=alias, username=NOBODY, badge=None)


def _disown_pending(room: Room, aliases: Mapping[str, str]) -> int:
    """What waits is stored as nobody's. How many are out already, as they were."""
    for draft in room.pending.waiting:
        alias = aliases.get(draft.who.user_id)
        if alias is not None:
            room.pending.disown(draft, c.Who(alias, NOBODY))
    return sum(draft.who.user_id in aliases for draft in room.pending.out)
