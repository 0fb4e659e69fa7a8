"""Erasure: the one place that knows where a person is, and takes them out of there.

Which tables, stands in `store/erasure.sql`; which keys of Redis, in `USER_KEYS` and `SESSION_KEYS`; rooms have a command for it. In this order:
no token counts any more and every socket is closed; the room forgets, and what is on its way to Postgres arrives there; the rows go, a bounded
number in each transaction; the keys go; and the room is told once more, in case it opened meanwhile. Every step can be done again. A process
that dies half-way leaves the customer's row, marked as over, and the hourly job does the rest.

What they said stays for as long as messages are kept, as said by "guest", under an id that is made for it and is nowhere linked to anything.
What others said of them stays as it is. Messages in a backup of the database stay there until that is gone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import trio
from msgspec import Struct

from brewd.cafe import commands as c
from brewd.cafe.ref import CafeRef
from brewd.errors import Rejected, StoreError
from brewd.people.join import patron_hash
from brewd.people.sessions import CLOSE_EXPIRED, CLOSE_REVOKED, Sessions, erased_hash
from brewd.people.standings import Decisions
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.mirror import Mirror, Pipeline, RedisCommand
from brewd.store.postgres import Postgres

log = get_logger("erasure")

ROWS_MAX: Final = 500
"""Rows in one transaction, and people erased together."""

NAMES_AT_ONCE: Final = 50
"""People whose keys are in one command: Redis, and whoever waits for the interpreter, go on in between."""

OWED_MAX: Final = 100_000
"""People whose keys could not be removed, since Redis was away. Those of more expire by themselves, within a day."""

ARRIVE_S: Final = 5.0
ASK_S: Final = 2.0
"""A room that does not answer for so long is out of order, and must not keep everybody else from being erased: it forgets when it comes to it."""

USER_KEYS: Final = (
    "user:{id}",
    "user:{id}:presence",
    "user:{id}:refresh_token",
    "ratelimit:message:{id}",
    "ratelimit:message:{id}:last",
    "ratelimit:poke:{id}:count",
    "spam:duplicate:{id}",
    "spam:mute:{id}",
)
SESSION_KEYS: Final = ("session:{sid}", "ratelimit:agent:{id}:{sid}")
FORGOTTEN_KEY: Final = "agent:forgotten:{id}"
"""Of a café, for as long as an answer of its agent is kept: when somebody it may speak of was erased. Older answers are given to nobody."""

FORGOTTEN_MS: Final = 3_600_000
BACKUPS: Final = "not included: a copy of the database made before still has it, until that copy is gone"

SendAway = Callable[[str, int, str], object]
"""`fn(user_id, close_code, reason)`: close every socket of a user. Must not block."""


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def is_open(self, cafe_id: str) -> bool: ...
    def order(self, cafe_id: str, command: c.Command) -> None: ...
    def ref(self, cafe_id: str) -> CafeRef: ...


class Questions(Protocol):
    """Where what the agent is asked is written down (the row writer)."""

    async def settled(self, cafe_id: str) -> None:
        """Return when no write of this café that was under way is any more. Raises `StoreError`, within its own deadline."""


class Receipt(Struct, frozen=True):
    """What was removed, or made nobody's, where: rows by table, keys by pattern. `keys` None: Redis did not answer, and it is made up for."""

    tables: dict[str, int]
    keys: dict[str, int] | None
    backups: str = BACKUPS


class Gone(Struct, frozen=True):
    """Somebody to be erased, and the id that what they said stays under. Their tokens would be good until then."""

    id: str
    cafe_id: str
    expires_ms: int
    alias: str


class Close(Struct, frozen=True):
    code: int
    reason: str


EXPIRED: Final = Close(CLOSE_EXPIRED, "your time here is over")
ERASED: Final = Close(CLOSE_REVOKED, "everything about you was erased")
Logins = Mapping[str, Sequence[str]]


class Erasure:
    """See the module. `send_away` closes sockets. Everything raises `StoreError` when Postgres does not answer, and can then be done again."""

    def __init__(
        self, *, pg: Postgres, redis: Pipeline, mirror: Mirror, clock: Clock, ids: Ids, sessions: Sessions, rooms: Rooms, decisions: Decisions,
        questions: Questions, send_away: SendAway,
    ) -> None:  # fmt: skip
        self._pg = pg
        self._redis = redis
        self._mirror = mirror
        self._clock = clock
        self._ids = ids
        self._sessions = sessions
        self._rooms = rooms
        self._decisions = decisions
        self._questions = questions
        self._send_away = send_away
        self._of_user = _statements(pg.queries, "user")
        self._of_patron = _statements(pg.queries, "patron")
        self.on_patrons: list[Callable[[], object]] = []
        """Told when patrons were erased, and what they had with them. Must not block."""
        self.on_people: list[Callable[[str, Collection[str]], object]] = []
        """Told of a café, and its customers who are erased, before their rows go and after: meanwhile somebody may have read them. Once for all of them:
        memory is looked through once. Must not block."""
        self._owed: dict[str, tuple[Gone, Sequence[str]]] = {}

    async def user(self, user_id: str, cafe_id: str) -> Receipt:
        """Erase a customer of this café, or what is left of one, at once. Cancelling it does not stop it; every step has its deadline.

        Raises `Rejected` (`not_found`) when nothing is known of such a one here.
        """
        with trio.CancelScope(shield=True):
            row = await self._pg.fetchrow("customer_by_id", user_id)
            if row is not None and row["cafe_id"] != cafe_id:
                raise _nobody()
            await self._pg.execute("customer_end", user_id, as_datetime(self._clock.now_ms()))
            gone = self._gone(user_id, cafe_id, self._clock.now_ms() if row is None else as_ms(row["expires_at"]))
            receipt = await self.people([gone], close=ERASED)
        if row is None and not sum(receipt.tables.values()):
            raise _nobody()
        log.info("erased", cafe=cafe_id, tables=receipt.tables, keys=receipt.keys)
        return receipt

    async def over(self, limit: int = ROWS_MAX) -> Sequence[Gone]:
        """Customers whose time is over, at most `limit`: those who have waited longest."""
        rows = await self._pg.fetch("customer_over", as_datetime(self._clock.now_ms()), limit)
        return [self._gone(row["id"], row["cafe_id"], as_ms(row["expires_at"])) for row in rows]

    async def people(self, people: Sequence[Gone], *, close: Close, spared: frozenset[str] = frozenset(), rest_s: float = 0.0) -> Receipt:
        """Erase these customers, at most `ROWS_MAX`. `spared`: tables that are left as they are; `rest_s`: a pause after each transaction."""
        await self._end(people, close)
        rooms = _by_cafe(people)
        await self._forgotten(rooms)
        logins: defaultdict[str, list[str]] = defaultdict(list)
        for row in await self._pg.fetch("session_of_users", [gone.id for gone in people]):
            logins[row["user_id"]].append(row["id"])
        tables: Counter[str] = Counter()
        for table, name, arity in self._of_user:
            if table not in spared:
                tables[table] += await self._in_batches(name, arity, people, rest_s)
        self._tell(rooms)
        await self._redone(rooms, wrote=tables["message"] > 0)
        keys = await self._unwritten([(gone, logins.get(gone.id, ())) for gone in people])
        return Receipt(dict(tables), keys)

    async def log_of(self, user_ids: Sequence[str], rest_s: float = 0.0) -> int:
        """Take these users, who are gone, out of the log of moderation; how many entries there were."""
        people = [self._gone(user_id, "", 0) for user_id in user_ids]
        ((_, name, arity),) = [one for one in self._of_user if one[0] == "moderation_actions"]
        return await self._in_batches(name, arity, people, rest_s)

    async def patron(self, cafe_id: str, key: str) -> Receipt:
        """Erase whom a patron key stands for: badges, and what links their visits. The customer they may be at the moment stays one until they expire.

        Raises `Rejected` (`not_found`) when the café knows no such key.
        """
        patron_id = await self._pg.fetchval("patron_by_key", cafe_id, patron_hash(cafe_id, key))
        if patron_id is None:
            raise Rejected("not_found", "This café knows no such patron key.")
        receipt = Receipt(await self.patrons([patron_id]), {})
        log.info("patron_erased", cafe=cafe_id, tables=receipt.tables)
        return receipt

    async def patrons(self, patron_ids: Sequence[str], rest_s: float = 0.0) -> dict[str, int]:
        """Erase these patrons, at most `ROWS_MAX`; rows by table."""
        people = [Gone(patron_id, "", 0, patron_id) for patron_id in patron_ids]
        tables = {table: await self._in_batches(name, arity, people, rest_s) for table, name, arity in self._of_patron}
        for told in self.on_patrons if people else ():
            told()
        return tables

    async def pay(self) -> None:
        """Remove the keys of those who were erased while Redis was away, if it is back."""
        while self._owed:
            batch = [self._owed[user_id] for user_id in list(self._owed)[:ROWS_MAX]]
            if await self._unwritten(batch) is None:
                return
            for gone, _ in batch:
                self._owed.pop(gone.id, None)

    def _gone(self, user_id: str, cafe_id: str, expires_ms: int) -> Gone:
        return Gone(user_id, cafe_id, expires_ms, self._ids.uuid4())

    async def _end(self, people: Sequence[Gone], close: Close) -> None:
        """No token of theirs counts, here or after a restart, and they are sent away."""
        now_ms = self._clock.now_ms()
        early = [gone for gone in people if gone.expires_ms > now_ms]
        if early:
            await self._pg.execute("erased_add", [erased_hash(gone.id) for gone in early], [as_datetime(gone.expires_ms) for gone in early])
        for gone in people:
            self._sessions.end(gone.id, gone.expires_ms)
            self._send_away(gone.id, close.code, close.reason)
        self._tell(_by_cafe(people))

    def _tell(self, rooms: Mapping[str, c.Forget]) -> None:
        for cafe_id, command in rooms.items():
            user_ids = frozenset(user_id for user_id, _ in command.people)
            for told in self.on_people:
                told(cafe_id, user_ids)

    async def _forgotten(self, rooms: Mapping[str, c.Forget]) -> None:
        """Return when no open room knows them, and nothing they said or asked, or that was decided about them, is on its way any more.

        Raises `StoreError` when that takes too long.
        """
        for cafe_id, command in rooms.items():
            with trio.move_on_after(ARRIVE_S) as scope:
                while self._rooms.is_open(cafe_id) and await self._on_the_way(cafe_id, command):
                    await trio.sleep(0.02)
            if scope.cancelled_caught:
                raise StoreError("what somebody said is still on its way to Postgres")
            await self._decisions.settled(cafe_id)
            await self._questions.settled(cafe_id)

    async def _on_the_way(self, cafe_id: str, command: c.Forget) -> int:
        try:
            answer = await self._rooms.ref(cafe_id).ask(command, ASK_S)
        except Rejected as refused:
            if refused.code == "cafe_unavailable":  # it crashed, or is out of order
                return 0
            return 1
        return int(answer.out)

    async def _redone(self, rooms: Mapping[str, c.Forget], *, wrote: bool) -> None:
        """A room that began to open before the rows were gone may have read them. What a closed one shows in Redis is shown anew when it opens."""
        closed = [cafe_id for cafe_id in rooms if wrote and not self._rooms.is_open(cafe_id)]
        for cafe_id, command in rooms.items():
            self._rooms.order(cafe_id, command)
        commands: list[RedisCommand] = [("DEL", *(f"cafe:{cafe_id}:messages" for cafe_id in closed))] if closed else []
        for cafe_id, command in rooms.items():
            commands.append(("SREM", f"cafe:{cafe_id}:users", *(user_id for user_id, _ in command.people)))
        try:
            await self._redis.pipeline(commands)
        except StoreError:
            log.warning("redis_unavailable", hint="what a café showed there expires within a day")

    async def _in_batches(self, name: str, arity: int, people: Sequence[Gone], rest_s: float) -> int:
        """One statement over all of them, again and again until it finds no more than it may touch at once."""
        arguments: tuple[Any, ...] = ([gone.id for gone in people], ROWS_MAX, [gone.alias for gone in people])
        total = 0
        while True:
            touched = await self._pg.count(name, *arguments[:arity])
            total += touched
            if touched:
                await trio.sleep(rest_s)
            if touched < ROWS_MAX or arity < 2:  # what has no bound of its own is bounded by the people
                return total

    async def _unwritten(self, people: Sequence[tuple[Gone, Sequence[str]]]) -> dict[str, int] | None:
        """Remove their keys, and mark their cafés for the agent; how many keys there were of each pattern. None when Redis does not answer: then it is owed."""
        removed: Counter[str] = Counter()
        for at in range(0, len(people), NAMES_AT_ONCE):
            names = _keys(people[at : at + NAMES_AT_ONCE])
            cafes = sorted({gone.cafe_id for gone, _ in people[at : at + NAMES_AT_ONCE]})
            commands: list[RedisCommand] = [("DEL", *keys) for keys in names.values()]
            commands += [("SET", FORGOTTEN_KEY.replace("{id}", cafe), self._clock.now_ms(), "PX", FORGOTTEN_MS) for cafe in cafes]
            # Once more behind whatever the mirror is writing at the moment.
            self._mirror.write(f"erased:{people[at][0].alias}", commands)
            try:
                counts = await self._redis.pipeline(commands)
            except StoreError as error:
                log.warning("redis_unavailable", error=str(error))
                for gone, sessions in people[: OWED_MAX - len(self._owed)]:
                    self._owed[gone.id] = (gone, sessions)
                return None
            removed.update(dict(zip(names, map(int, counts[: len(names)]), strict=True)))
        return dict(removed)


def _keys(people: Sequence[tuple[Gone, Sequence[str]]]) -> dict[str, list[str]]:
    """The names of their keys, by pattern."""
    keys = {pattern: [pattern.replace("{id}", gone.id) for gone, _ in people] for pattern in USER_KEYS}
    for pattern in SESSION_KEYS:
        names = [pattern.replace("{id}", gone.id).replace("{sid}", sid) for gone, sids in people for sid in sids]
        if names:
            keys[pattern] = names
    return keys


def _by_cafe(people: Sequence[Gone]) -> dict[str, c.Forget]:
    pairs: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for gone in people:
        pairs[gone.cafe_id].append((gone.id, gone.alias))
    return {cafe_id: c.Forget(tuple(found)) for cafe_id, found in pairs.items()}


def _statements(queries: Mapping[str, str], whom: str) -> Sequence[tuple[str, str, int]]:
    """Table, query and how many arguments it takes, in the order of the file."""
    prefix = f"erase_{whom}_"
    arities = {name: max(int(number) for number in re.findall(r"\$(\d)", sql)) for name, sql in queries.items() if name.startswith(prefix)}
    return [(name.removeprefix(prefix), name, arity) for name, arity in arities.items()]


def _nobody() -> Rejected:
    return Rejected("not_found", "There is no such user in this café.")
