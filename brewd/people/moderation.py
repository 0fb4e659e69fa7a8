"""What a moderator can order, and the log of it.

An order is checked, stored, and only then takes effect: in the room, where whatever is told after it finds it done, on the sockets
of whoever it is about, and on their tokens. A café that is not open reads it when it opens. One order at a time, so that they take
effect in the order in which they are stored; each takes one transaction.

Mutes and bans are about the person: they hold for every user of theirs, as far as their patron key shows it, and a ban for joins
with that key. An end of one is one for all of them. A kick is about a user.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe.events import DeleteAnswer, SendAnswer, SentMessage
from brewd.cafe.ref import CafeRef
from brewd.errors import Rejected, StoreError
from brewd.people.records import Queries, clean_text, invalid
from brewd.people.sessions import Sessions
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres
from brewd.store.records import Message

log = get_logger("moderation")

KICKED: Final = 4003
BANNED: Final = 4004
DURATION_MAX_S: Final = 31 * 86_400
MUTE_DEFAULT_S: Final = 86_400
BAN_DEFAULT_S: Final = DURATION_MAX_S
REASON_MAX_CHARS: Final = 200
LOG_MAX: Final = 100
TURN_S: Final = 2.0

SendAway = Callable[[str, int, str], int]
"""`fn(user_id, close_code, reason)`: close every socket of a user; how many there were. Must not block."""


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def order(self, cafe_id: str, command: c.Command) -> None: ...
    def ref(self, cafe_id: str) -> CafeRef: ...


class Moderator(Struct, frozen=True):
    """Who gives an order, and in which café. `staff_id` None: the operator, who has no account."""

    cafe_id: str
    name: str
    staff_id: str | None = None

    @classmethod
    def of(cls, identity: Identity) -> Moderator:
        """The moderator with this token. Whether they are one is for the caller to know."""
        return cls(identity.cafe_id, identity.username, identity.user_id)


class Action(Struct, frozen=True, kw_only=True):
    """An entry of the log: who (`staff_name`; None: brewd, by `rule`), whom, why, until when. Times are wall ms."""

    id: str
    action: str
    user_id: str
    username: str
    reason: str
    at_ms: int
    until_ms: int | None = None
    staff_id: str | None = None
    staff_name: str | None = None
    rule: str | None = None
    message_id: str | None = None
    changed: bool = True
    """Of an order that was just given: whether it made a difference. Nobody can be freed who is free."""


class InForce(Struct, frozen=True, kw_only=True):
    """A mute or a ban, and why. Wall ms."""

    until_ms: int
    reason: str


class LogPage(Struct, frozen=True):
    """Newest first. `has_more`: older ones follow; ask for those before the last one's id."""

    actions: tuple[Action, ...]
    has_more: bool


class Moderation:
    """Every order raises `StoreError`, and then its outcome is not known: give it again, it does no harm twice.

    And `Rejected`: `not_found` when there is no such user in the moderator's café, `invalid_request` for a duration, a reason or an
    aim that makes no sense. Cancelling one leaves it stored or not, and then it may take effect only when the café opens anew.
    """

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, sessions: Sessions, rooms: Rooms, send_away: SendAway) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._sessions = sessions
        self._rooms = rooms
        self._send_away = send_away
        self._turn = trio.Lock()

    async def mute(self, by: Moderator, user_id: str, *, reason: str = "", duration_s: float | None = None) -> Action:
        """Nothing of this user is heard or seen until then (default 24 h, at most 31 days). A second mute replaces the first."""
        until_ms = self._until_ms(duration_s, MUTE_DEFAULT_S)
        async with self._in_turn():
            action = await self._store(by, "mute", user_id, reason, until_ms)
            for muted_id in await self._all_of(action):
                self._rooms.order(by.cafe_id, c.Mute(muted_id, until_ms, action.reason))
        return action

    async def unmute(self, by: Moderator, user_id: str, *, reason: str = "") -> Action:
        """Heard again from now on, and what led to it is forgiven, whether a moderator had muted them or the spam rules."""
        async with self._in_turn():
            action = await self._store(by, "unmute", user_id, reason)
            for muted_id in await self._all_of(action):
                self._rooms.order(by.cafe_id, c.Unmute(muted_id))
        return action

    async def kick(self, by: Moderator, user_id: str, *, reason: str = "") -> Action:
        """Out of the room at once, every socket closed (4003). Their token is still good: to keep them out, ban them."""
        async with self._in_turn():
            action = await self._store(by, "kick", user_id, reason)
            self._rooms.order(by.cafe_id, c.Remove(user_id))
            closed = self._send_away(user_id, KICKED, action.reason or "kicked by a moderator")
        return replace(action, changed=closed > 0)

    async def ban(self, by: Moderator, user_id: str, *, reason: str = "", duration_s: float | None = None) -> Action:
        """Out at once (4004), and until then (default and at most 31 days) no token of theirs counts and no join with their patron key."""
        until_ms = self._until_ms(duration_s, BAN_DEFAULT_S)
        async with self._in_turn():
            action = await self._store(by, "ban", user_id, reason, until_ms)
            for banned_id in await self._all_of(action):
                self._sessions.ban(banned_id, until_ms)
                self._rooms.order(by.cafe_id, c.Remove(banned_id))
                self._send_away(banned_id, BANNED, action.reason or "banned by a moderator")
        return action

    async def unban(self, by: Moderator, user_id: str, *, reason: str = "") -> Action:
        """Welcome again: with the tokens they have, if those are still good, or with a new receipt."""
        async with self._in_turn():
            action = await self._store(by, "unban", user_id, reason)
            for banned_id in await self._all_of(action):
                self._sessions.unban(banned_id)
        return action

    async def delete(self, by: Moderator, message_id: str) -> Message:
        """Take back anybody's message: gone for everyone when this returns. Raises `Rejected` as the room does: `not_found`, `cafe_unavailable`, …"""
        who = c.Who(by.staff_id or "", by.name, staff=True, moderator=True)
        answer: DeleteAnswer = await self._rooms.ref(by.cafe_id).ask(c.Delete(who, message_id))
        return answer.message

    async def announce(self, by: Moderator, name: str, text: str) -> SentMessage:
        """A message of the house, which is signed `name`: stored, and told to the room, when this returns. Raises `Rejected` as the room does."""
        who = c.Who(house_user_id(by.cafe_id), name)
        answer: SendAnswer = await self._rooms.ref(by.cafe_id).ask(c.Announce(who, text))
        log.info("announce", cafe=by.cafe_id, message=answer.message.id, by=by.name)
        return answer.message

    async def find(self, cafe_id: str, user: str) -> str:
        """The id of somebody in this café, given by id or by name, also when they are gone: of several with that name, whoever had it last.

        An id is taken as it is. Raises `Rejected` (`not_found`) for a name, and `StoreError`.
        """
        try:
            return str(UUID(user))
        except ValueError:
            found = None if "\0" in user else await self._pg.fetchval("moderated_user_named", cafe_id, user.strip())
        if found is None:
            raise Rejected("not_found", f"There is no user named {user!r} in this café.")
        return str(found)

    async def state(self, user_id: str) -> tuple[InForce | None, InForce | None]:
        """The mute and the ban that hold for this user now. Raises `StoreError`."""
        rows = await self._pg.fetch("moderation_state", user_id)
        return _in_force(rows, "mute", self._clock.now_ms()), _in_force(rows, "ban", self._clock.now_ms())

    async def log(self, cafe_id: str, *, user_id: str | None = None, limit: int = 50, before: str | None = None) -> LogPage:
        """What was done in a café, or to one user in it: the newest `limit`, or those before the entry with the id `before`. Raises `StoreError`."""
        limit = max(1, min(limit, LOG_MAX))
        rows = await self._pg.fetch("moderation_log", cafe_id, user_id, before, limit + 1)
        return LogPage(tuple(_action(row) for row in rows[:limit]), len(rows) > limit)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Orders wait for each other, but not in line for a Postgres that does not answer. Raises `StoreError`."""
        try:
            with trio.fail_after(TURN_S):
                await self._turn.acquire()
        except trio.TooSlowError:
            raise StoreError("earlier orders are still being stored") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _store(self, by: Moderator, action: str, user_id: str, reason: str, until_ms: int | None = None) -> Action:
        if user_id == by.staff_id:
            raise invalid("userId", "nobody moderates themselves")
        reason = clean_text("reason", reason, min_chars=0, max_chars=REASON_MAX_CHARS)
        order = Action(
            id=self._ids.uuid7(), action=action, user_id=user_id, username="", reason=reason, at_ms=self._clock.now_ms(), until_ms=until_ms,
            staff_id=by.staff_id, staff_name=by.name,
        )  # fmt: skip
        stored = await self._pg.transaction(_write, by.cafe_id, order)
        if stored is None:
            raise Rejected("not_found", "There is no such user in this café.")
        log.info(action, cafe=by.cafe_id, user=user_id, name=stored.username, reason=reason, by=by.name)
        return stored

    async def _all_of(self, order: Action) -> Sequence[str]:
        """The users that one person is at the moment, as far as their patron key shows it; the one of the order first. For the others the log says so."""
        rows = await self._pg.fetch("customer_alike", order.user_id, as_datetime(self._clock.now_ms()))
        others = [row["id"] for row in rows if row["id"] != order.user_id]
        for other_id in others:
            log.info(f"{order.action}_follows", user=other_id, same_person_as=order.user_id, name=order.username, by=order.staff_name)
        return [order.user_id, *others]

    def _until_ms(self, duration_s: float | None, default_s: int) -> int:
        duration_s = default_s if duration_s is None else duration_s
        if not 1 <= duration_s <= DURATION_MAX_S:
            raise invalid("durationS", f"must be between 1 and {DURATION_MAX_S:,} seconds, which are 31 days")
        return self._clock.now_ms() + round(duration_s * 1000)


def house_user_id(cafe_id: str) -> str:
    """Who a café's announcements are from: an id of its own in each café, which no customer has."""
    return str(uuid5(NAMESPACE_URL, f"brewd:house:{cafe_id}"))


async def _write(tx: Queries, cafe_id: str, order: Action) -> Action | None:
    """The order with the user's name; None when there is no such user. Whoever joins with the same patron key meanwhile waits for it."""
    row = await tx.fetchrow("moderated_user", cafe_id, order.user_id)
    if row is None:
        return None
    await tx.execute("patron_lock", order.user_id)
    if (ends := _ENDS.get(order.action)) is not None:
        order = replace(order, changed=_in_force(await tx.fetch("moderation_state", order.user_id), ends, order.at_ms) is not None)
    until = None if order.until_ms is None else as_datetime(order.until_ms)
    columns = (
        order.id, cafe_id, order.action, order.user_id, row["username"], order.staff_id, order.staff_name, None, order.reason,
        until, None, as_datetime(order.at_ms),
    )  # fmt: skip
    await tx.execute("moderation_add", *([value] for value in columns))
    return replace(order, username=row["username"])


_ENDS: Final = {"unmute": "mute", "unban": "ban"}


def _in_force(rows: Sequence[Mapping[str, Any]], action: str, now_ms: int) -> InForce | None:
    found = [InForce(until_ms=as_ms(row["until_at"]), reason=row["reason"]) for row in rows if row["action"] == action]
    return found[0] if found and found[0].until_ms > now_ms else None


def _action(row: Mapping[str, Any]) -> Action:
    until = row["until_at"]
    return Action(
        id=row["id"], action=row["action"], user_id=row["user_id"], username=row["username"], reason=row["reason"], at_ms=as_ms(row["created_at"]),
        until_ms=None if until is None else as_ms(until), staff_id=row["staff_id"], staff_name=row["staff_name"], rule=row["rule"],
        message_id=row["message_id"],
    )  # fmt: skip
