"""An erasure beside the writes of what is asked: what is just being written has seen its asker, and must be nobody's all the same."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio

from brewd.agent.row_writer import RowWriter
from brewd.agent.rows import Entry, put_rows
from brewd.people.erasure import Erasure
from brewd.runtime.clock import as_datetime
from brewd.store.mirror import Mirror
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres
from tests.patience import PATIENCE
from tests.people.world import AllWritten, NoRedis, World
from tests.traces import in_postgres

WAIT_S = 10 * PATIENCE


class Watched(RowWriter):
    """Tells when somebody waits for what it has under way."""

    def __init__(self, pg: Postgres) -> None:
        super().__init__(put=partial(put_rows, pg), give_way=trio.lowlevel.checkpoint)
        self.waited_for = trio.Event()

    async def settled(self, cafe_id: str) -> None:
        self.waited_for.set()
        await super().settled(cafe_id)


@pytest.fixture
def questions(world: World) -> Watched:
    return Watched(world.pg)


@pytest.fixture
def erasure(world: World, questions: Watched) -> Erasure:
    return Erasure(
        pg=world.pg, redis=NoRedis(), mirror=Mirror(redis=NoRedis(), name="x"), clock=world.clock, ids=world.ids, sessions=world.sessions,
        rooms=world.rooms, decisions=AllWritten(), questions=questions, send_away=world.rooms.send_away,
    )  # fmt: skip


async def test_a_question_that_is_just_being_written_is_nobodys_either(world: World, erasure: Erasure, questions: Watched) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    question = Entry(
        id=world.ids.uuid7(), cafe_id=cafe.id, user_id=ann.user.id, session_id=world.ids.uuid7(), staff=False, query="who likes tea?",
        persona="bartender", model="m", at_ms=world.clock.now_ms(), outcome="answered",
    )  # fmt: skip
    held, let_go = threading.Event(), threading.Event()

    async def hold_up(tx: Tx) -> None:
        """Whoever writes has seen then who is a customer, and waits."""
        await tx._connection.execute("SELECT FROM cafe WHERE id = $1 FOR UPDATE", cafe.id)
        held.set()
        while not let_go.is_set():
            await tx._connection.execute("SELECT pg_sleep(0.001)")

    async def waits(tx: Tx) -> bool:
        found: bool = await tx._connection.fetchval("SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return found

    async def erase() -> None:
        await erasure.user(ann.user.id, cafe.id)
        questions.waited_for.set()

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(world.pg.transaction, hold_up, timeout_s=WAIT_S))
            while not held.is_set():
                await trio.sleep(0.001)
            nursery.start_soon(questions.run)
            questions.end(question)
            while not await world.pg.transaction(waits):
                await trio.sleep(0.001)
            async with trio.open_nursery() as erasing:
                erasing.start_soon(erase)
                await questions.waited_for.wait()
                let_go.set()
            await questions.flush(WAIT_S)
            nursery.cancel_scope.cancel()
    assert await in_postgres(world.pg, ann.user.id, "who likes tea?") == {}
    (totals,) = await world.pg.fetch("agent_query_totals", cafe.id, as_datetime(0), as_datetime(0))
    assert totals["queries_month"] == 1
