"""The journal on the real Postgres: one commit for many cafés, and a definite end for every batch whatever happens to the connection."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge
from brewd.store.journal import Committed, Duplicates, Fenced, Journal, Poisoned, TakenBack
from brewd.store.messages import Messages
from brewd.store.pool import Tx
from brewd.store.postgres import Lane, Postgres
from brewd.store.records import Redaction
from tests.store.desk import ANN, BOB, START_MS, Desk, cafe_number, until


class Office:
    """The journal at work on a database with four cafés. `loses`: the next commit is done, and its answer lost; `usurped`: a café whose line somebody else takes over then."""

    def __init__(self, pg: Postgres, lane: Lane, bridge: Bridge) -> None:
        self.pg = pg
        self.lane = lane
        self.bridge = bridge
        self.loses = False
        self.usurped: str | None = None
        self.messages = Messages(lane=self, pool=pg, timeout_s=5.0)
        self.journal = Journal(store=self.messages, batch_max=1000)
        self.commits = 0

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        rows = await self.lane.fetch(name, *args, timeout_s=timeout_s)
        self.commits += name == "line_commit"
        if self.loses and name in ("line_commit", "line_redact"):
            self.loses = False
            if self.usurped is not None:
                await self.messages.open_line(self.usurped)
            raise StoreError("the answer was lost")
        return rows

    async def desk(self, n: int) -> Desk:
        """A café that has just taken over its line."""
        line = await self.messages.open_line(cafe_number(n))
        assert line is not None
        return Desk(self.journal, line.cafe_id, generation=line.generation, last_seq=line.last_seq)

    async def stored(self, desk: Desk) -> list[tuple[int, str]]:
        return [(m.seq, m.content) for m in await self.messages.after(desk.cafe_id, 0, 1000)]

    async def sql(self, script: str) -> None:
        await self.pg.transaction(lambda tx: tx.script(script))

    @asynccontextmanager
    async def locked(self, desk: Desk) -> AsyncIterator[None]:
        """Somebody else holds this café's line: a commit of it waits."""
        held, let_go = trio.Event(), asyncio.Event()
        token = trio.lowlevel.current_trio_token()

        async def hold(tx: Tx) -> None:
            await tx.script(f"SELECT 1 FROM cafe_line WHERE cafe_id = '{desk.cafe_id}' FOR UPDATE")
            token.run_sync_soon(held.set)
            await let_go.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pg.transaction, hold)
            await held.wait()
            try:
                yield
            finally:
                self.bridge.post(let_go.set)

    async def commit_waits(self) -> None:
        """Until Postgres says that a commit is waiting for a lock."""
        with trio.fail_after(5):
            while not await self.backends("wait_event_type = 'Lock'"):
                await trio.sleep(0.002)

    async def backends(self, which: str) -> list[int]:
        found: list[int] = []

        async def look(tx: Tx) -> None:
            rows = await tx._connection.fetch(f"SELECT pid FROM pg_stat_activity WHERE query LIKE '%UPDATE cafe_line%' AND pid <> pg_backend_pid() AND {which}")
            found.extend(row["pid"] for row in rows)

        await self.pg.transaction(look)
        return found


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """The log, kept aside."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def office(pg: Postgres, bridge: Bridge) -> AsyncIterator[Office]:
    async with pg.lane() as lane:
        office = Office(pg, lane, bridge)
        for n in range(4):
            await office.sql(
                f"INSERT INTO cafe (id, name, created_at) VALUES ('{cafe_number(n)}', 'C', now());"
                f"INSERT INTO cafe_line (cafe_id, epoch) VALUES ('{cafe_number(n)}', '{uuid.UUID(int=0xE)}')"
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.journal.run)
            yield office
            nursery.cancel_scope.cancel()


async def test_cafes_that_are_ready_together_share_one_commit(office: Office) -> None:
    desks = [await office.desk(n) for n in range(3)]
    for desk in desks:
        desk.say("one", "two")
    await until(lambda: all(desk.outcomes for desk in desks))
    assert [desk.outcomes for desk in desks] == [[Committed(1)]] * 3
    assert [await office.stored(desk) for desk in desks] == [[(1, "one"), (2, "two")]] * 3
    assert (office.commits, office.journal.commits, office.journal.rows) == (1, 1, 6)


async def test_what_gathers_during_a_commit_goes_out_with_the_next_and_no_cafe_is_in_two(office: Office) -> None:
    one, two = await office.desk(1), await office.desk(2)
    async with office.locked(one):
        one.say("first")
        await office.commit_waits()
        one.say("second")
        two.say("meanwhile")
        await trio.sleep(0.005)
        assert (len(one.departed_s), len(two.departed_s)) == (1, 0)
    await until(lambda: len(one.outcomes) == 2)
    assert await office.stored(one) == [(1, "first"), (2, "second")]
    assert await office.stored(two) == [(1, "meanwhile")]
    assert office.journal.commits == 2


async def test_a_resend_that_is_stored_already_is_told_so_and_the_rest_goes_in(office: Office) -> None:
    one, two = await office.desk(1), await office.desk(2)
    one.say("hello", key="k")
    await until(lambda: one.outcomes)
    one.say("hello", key="k").say("and more")
    two.say("bystander")
    await until(lambda: len(one.outcomes) == 3 and len(two.outcomes) == 2)
    (known,) = [outcome.known for outcome in one.outcomes if isinstance(outcome, Duplicates)]
    assert {key: message.seq for key, message in known.items()} == {(ANN, "k"): 1}
    assert two.outcomes == [TakenBack(1), Committed(1)]
    assert await office.stored(one) == [(1, "hello"), (2, "and more")]
    assert await office.stored(two) == [(1, "bystander")]


async def test_a_conflict_that_is_no_resend_ends_in_its_own_cafe(office: Office) -> None:
    """A row that should not be there: were it taken for a resend, the journal would try for ever and hold everybody up."""
    one, two = await office.desk(1), await office.desk(2)
    await office.sql(
        "INSERT INTO message (cafe_id, seq, id, user_id, username, content, created_at) "
        f"VALUES ('{one.cafe_id}', 1, '{uuid.uuid4()}', '{BOB}', 'bob', 'restored by hand', now())"
    )
    one.say("hello", key="k")
    two.say("bystander")
    await until(lambda: one.outcomes and two.outcomes)
    assert [type(outcome) for outcome in one.outcomes] == [Poisoned]
    assert two.outcomes == [Committed(1)]


async def test_what_postgres_cannot_hold_ends_in_its_own_cafe(office: Office) -> None:
    desks = [await office.desk(n) for n in range(3)]
    for desk, content in zip(desks, ("fine", "nul \0 nul", "fine too"), strict=True):
        desk.say(content)
    await until(lambda: all(desk.outcomes for desk in desks))
    assert [type(desk.outcomes[0]) for desk in desks] == [Committed, Poisoned, Committed]
    assert [await office.stored(desk) for desk in desks] == [[(1, "fine")], [], [(1, "fine too")]]


async def test_a_connection_killed_in_the_middle_of_a_commit_leaves_nothing_open(office: Office) -> None:
    one, two = await office.desk(1), await office.desk(2)
    async with office.locked(one):
        one.say("one")
        two.say("two")
        await office.commit_waits()
        for pid in await office.backends("wait_event_type = 'Lock'"):
            await office.sql(f"SELECT pg_terminate_backend({pid})")
        await until(lambda: office.journal.down_since_s is not None)
    await until(lambda: len(one.outcomes) == len(two.outcomes) == 2)
    assert one.outcomes == two.outcomes == [TakenBack(2), Committed(2)]
    assert (await office.stored(one), await office.stored(two)) == ([(1, "one")], [(1, "two")])
    assert office.journal.down_since_s is None


async def test_a_commit_whose_answer_is_lost_is_found_by_its_ids(office: Office) -> None:
    one, two = await office.desk(1), await office.desk(2)
    office.loses = True
    one.say("one", "more")
    two.say("two")
    await until(lambda: one.outcomes and two.outcomes)
    assert one.outcomes == two.outcomes == [Committed(2)]
    one.say("on and on")
    await until(lambda: len(one.outcomes) == 2)
    assert await office.stored(one) == [(1, "one"), (2, "more"), (3, "on and on")]


async def test_one_who_no_longer_holds_the_line_is_fenced_and_the_others_are_not(office: Office) -> None:
    old, other = await office.desk(1), await office.desk(2)
    new = await office.desk(1)
    old.say("too late")
    other.say("in time")
    await until(lambda: old.outcomes and other.outcomes)
    assert (old.outcomes, other.outcomes) == ([Fenced()], [Committed(1)])
    new.say("mine")
    await until(lambda: new.outcomes)
    assert await office.stored(new) == [(1, "mine")]


async def test_one_whose_line_is_taken_over_while_its_answer_is_lost_is_fenced_though_it_was_written(office: Office) -> None:
    old = await office.desk(1)
    office.loses, office.usurped = True, old.cafe_id
    old.say("written")
    await until(lambda: old.outcomes)
    assert old.outcomes == [Fenced()]
    assert await office.stored(old) == [(1, "written")]


async def test_a_line_that_stands_elsewhere_refuses_numbers_that_do_not_follow(office: Office) -> None:
    one = await office.desk(1)
    one.last_seq = 41
    one.say("a gap")
    await until(lambda: one.outcomes)
    assert one.outcomes == [Fenced()]
    assert await office.stored(one) == []


async def test_deletions_are_told_what_they_found_and_go_in_with_the_messages_of_others(office: Office) -> None:
    one, two = await office.desk(1), await office.desk(2)
    one.say("mine", "also mine")
    await until(lambda: one.outcomes)
    mine, also = [m.id for m in await office.messages.after(one.cafe_id, 0, 10)]
    one.delete(Redaction(mine, ANN, START_MS), Redaction(also, BOB, START_MS), Redaction(str(uuid.uuid4()), None, START_MS))
    two.say("bystander")
    await until(lambda: len(one.outcomes) == 2 and two.outcomes)
    deleted = one.outcomes[1]
    assert isinstance(deleted, Committed)
    assert [(id, message.deleted, message.content, message.seq) for id, message in deleted.redacted.items()] == [(mine, True, "", 1)]
    assert await office.stored(one) == [(1, ""), (2, "also mine")]
    assert await office.stored(two) == [(1, "bystander")]
    one.delete(Redaction(also, None, START_MS))
    await until(lambda: len(one.outcomes) == 3)
    assert await office.stored(one) == [(1, ""), (2, "")]


async def test_a_deletion_whose_answer_is_lost_is_done_again(office: Office) -> None:
    one = await office.desk(1)
    one.say("mine")
    await until(lambda: one.outcomes)
    (mine,) = await office.messages.after(one.cafe_id, 0, 10)
    office.loses = True
    one.delete(Redaction(mine.id, ANN, START_MS))
    await until(lambda: len(one.outcomes) == 3)
    assert [type(outcome) for outcome in one.outcomes] == [Committed, TakenBack, Committed]
    assert await office.stored(one) == [(1, "")]
