"""What a café allows its guests: shown, changed at once, tried on the last hour, and given back.

The numbers are a profile of the config with single values of the café's own on top. A change is stored first and then told to the
room, if it is open; what people have used they have used.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import trio
from msgspec import UNSET, Struct, UnsetType

from brewd.cafe import commands as c
from brewd.cafe.limits import ACTIONS, HOUR_MS, Action, Limits, Overrides, limits_of, overridden
from brewd.config import Profile
from brewd.errors import Rejected
from brewd.people.cafes import Cafes
from brewd.people.moderation import Moderator, Rooms
from brewd.people.records import Cafe, invalid
from brewd.runtime import bucket
from brewd.runtime.bucket import Packed
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

TRIED_MAX: Final = 20_000
"""Messages a trial looks at, the newest: it says when there were more."""


class LimitChange(Struct, frozen=True):
    """A value that is another one now. `name` is like `message.per_hour`."""

    name: str
    old: float
    new: float


class Sender(Struct, frozen=True, rename="camel"):
    """Somebody whose sends would have been refused, with how many of how many."""

    user_id: str
    username: str
    sends: int
    refused: int


class Trial(Struct, frozen=True, rename="camel"):
    """The last hour under other limits. `senders`: those who would have been refused, most refused first. `complete`: nothing was left out."""

    since_ms: int
    sends: int
    refused: int
    senders: tuple[Sender, ...]
    complete: bool


class Allowances:
    """Raises `StoreError`, and `Rejected`: `not_found` (the café, the user) and `invalid_request`, which names the value that makes no sense."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, cafes: Cafes, rooms: Rooms) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._cafes = cafes
        self._rooms = rooms

    async def show(self, cafe_id: str) -> Profile:
        """Every value as it is for this café."""
        return self._cafes.profile(await self._cafes.get(cafe_id))

    async def set(self, cafe_id: str, changes: Overrides, *, profile: str | UnsetType | None = UNSET) -> tuple[LimitChange, ...]:
        """Other limits from now on, also for those who are in the room. Returns what is different now; nothing, when nothing is.

        A value of None in `changes` takes the café's own value away: the profile's counts again. `profile`: another one from the config, or None for the default one; the café's own values stay on top.
        """
        before, after = await self._cafes.change(cafe_id, lambda cafe: _fields(cafe, changes, profile))
        self._rooms.order(cafe_id, c.SetTerms(await self._cafes.terms(cafe_id)))
        return _differences(self._cafes.profile(before), self._cafes.profile(after))

    async def attempt(self, cafe_id: str, changes: Overrides, *, profile: str | UnsetType | None = UNSET) -> Trial:
        """How the last hour's sends would have fared after `set` with the same arguments. Changes nothing.

        It knows the messages that were sent, deleted ones included, and not what was refused at the time: so it tells exactly what
        stricter limits would have stopped, and of looser ones only that they would have stopped none of these.
        """
        cafe = await self._cafes.get(cafe_id)
        limits = limits_of(self._cafes.profile(self._cafes.changed(cafe, _fields(cafe, changes, profile))))
        since_ms = self._clock.now_ms() - HOUR_MS
        earlier = as_datetime(max(0, since_ms - limits.memory_ms))
        rows = await self._pg.fetch("message_sent", cafe_id, TRIED_MAX, earlier)
        senders, sends = list[Sender](), 0
        for row in rows:
            await trio.lowlevel.checkpoint()
            sent = list(zip(row["at_ms"], row["badged"], strict=True))
            counted = sum(at_ms > since_ms for at_ms, _ in sent)
            senders.append(Sender(row["user_id"], row["username"], counted, _refused(limits, sent, since_ms)))
            sends += counted
        senders = sorted((sender for sender in senders if sender.refused), key=lambda sender: (-sender.refused, sender.username))
        complete = sum(len(row["at_ms"]) for row in rows) < TRIED_MAX or min(row["at_ms"][0] for row in rows) <= since_ms
        return Trial(since_ms, sends, sum(sender.refused for sender in senders), tuple(senders), complete)

    async def reset(self, by: Moderator, user_id: str, action: str | None = None) -> None:
        """Give a user of the moderator's café everything back: of one action, or of all."""
        chosen = _action(action)
        if await self._pg.fetchrow("moderated_user", by.cafe_id, user_id) is None:
            raise Rejected("not_found", "There is no such user in this café.")
        row = (self._ids.uuid7(), by.cafe_id, user_id, chosen, None, True, as_datetime(self._clock.now_ms()))
        await self._pg.execute("limit_use_add", *([value] for value in row))
        self._rooms.order(by.cafe_id, c.ResetLimits(user_id, chosen))


def _action(name: str | None) -> Action | None:
    for action in ACTIONS:
        if name == action:
            return action
    if name is not None:
        raise invalid("action", f"there is no action {name!r}; there are {', '.join(ACTIONS)}")
    return None


def _refused(limits: Limits, sent: list[tuple[int, bool]], since_ms: int) -> int:
    """How many of one user's sends after `since_ms` would have been refused; what is refused takes no token."""
    held: Packed | None = None
    refused = 0
    for at_ms, badged in sent:
        after = bucket.drawn(held, (limits.badge if badged else limits.plain).message, at_ms)
        if after is not None:
            held = after
        elif at_ms > since_ms:
            refused += 1
    return refused


def _fields(cafe: Cafe, changes: Overrides, profile: str | UnsetType | None) -> dict[str, Any]:
    """What the changes make of the café's own values."""
    overridden(Profile(), changes)
    merged = {name: {**cafe.limits_overrides.get(name, {}), **changes.get(name, {})} for name in (*cafe.limits_overrides, *changes)}
    own = {name: {key: value for key, value in values.items() if value is not None} for name, values in merged.items()}
    fields = {"limits_overrides": {name: values for name, values in own.items() if values}}
    return fields if profile is UNSET else {**fields, "limits_profile": profile}


def _differences(old: Profile, new: Profile) -> tuple[LimitChange, ...]:
    before, after = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return tuple(
        LimitChange(f"{name}.{key}", before[name][key], value) for name, values in after.items() for key, value in values.items() if value != before[name][key]
    )
