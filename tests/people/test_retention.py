"""Messages that are older than their café keeps them, over a real Postgres."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from brewd.cafe.commands import Discard
from brewd.errors import Rejected
from brewd.people.records import Cafe
from brewd.people.retention import Numbers, Retention
from brewd.runtime.clock import as_datetime, rfc3339
from brewd.store.pool import Tx
from tests.conftest import START_MS
from tests.people.world import World
from tests.social.crowd import explain

DAY_MS = 86_400_000


@pytest.fixture
def retention(world: World) -> Retention:
    return Retention(pg=world.pg, clock=world.clock, rooms=world.rooms, days=7, rest_s=0)


async def said(world: World, cafe: Cafe, *ages_days: float) -> None:
    """Messages that are so old, numbered from 1."""

    now_ms = world.clock.now_ms()

    async def work(tx: Tx) -> None:
        await tx._connection.executemany(
            "INSERT INTO message (cafe_id, seq, id, user_id, username, content, created_at) VALUES ($1, $2, gen_random_uuid(), $1, 'x', 'y', $3)",
            [(cafe.id, seq, as_datetime(now_ms - int(age * DAY_MS))) for seq, age in enumerate(ages_days, 1)],
        )

    await world.pg.transaction(work)


async def left(world: World, cafe: Cafe) -> list[int]:
    return [row["seq"] for row in await world.pg.fetch("message_after", cafe.id, 0, 5000)]


async def test_each_cafe_keeps_its_messages_for_as_long_as_it_says(world: World, retention: Retention, mock_clock: MockClock) -> None:
    usual, short, long = await world.cafe(), await world.cafe(retention_days=1), await world.cafe(retention_days=30)
    for cafe in (usual, short, long):
        await said(world, cafe, 40, 8, 7.001, 6.9, 2, 0.5)
    done = await retention.run()
    assert done == {"cafes": 3, "messages": 3 + 5 + 1}
    assert [await left(world, cafe) for cafe in (usual, short, long)] == [[4, 5, 6], [6], [2, 3, 4, 5, 6]]
    assert {cafe_id for cafe_id, _ in world.rooms.orders} == {usual.id, short.id, long.id}
    assert await retention.run() == {"cafes": 0, "messages": 0}


async def test_an_open_room_is_told(world: World, retention: Retention, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    await said(world, cafe, 8)
    await retention.run()
    assert world.rooms.orders == [(cafe.id, Discard(rfc3339(START_MS - 7 * DAY_MS)))]


async def test_many_go_in_batches_and_no_gap_is_left_among_the_rest(world: World, retention: Retention, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    await said(world, cafe, *[9] * 1100, 1, 9, 1)  # a clock that ran backwards
    assert await retention.run() == {"cafes": 1, "messages": 1100}
    assert await left(world, cafe) == [1101, 1102, 1103]


@pytest.mark.parametrize("days", [0, -1, 3651])
async def test_a_time_that_makes_no_sense_is_refused(world: World, days: int) -> None:
    cafe = await world.cafe()
    with pytest.raises(Rejected, match="retention_days: must be between 1 and 3,650"):
        await world.cafes.set(cafe.id, retention_days=days)
    assert (await world.cafes.set(cafe.id, retention_days=3650)).retention_days == 3650
    assert (await world.cafes.set(cafe.id, retention_days=None)).retention_days is None


async def counted(world: World, cafe: Cafe, *ages_days: float, many: int = 1) -> None:
    """Hours and questions that are so old; `many` questions in each."""
    now_ms = world.clock.now_ms()

    async def work(tx: Tx) -> None:
        for age in ages_days:
            at = as_datetime(now_ms - int(age * DAY_MS))
            await tx._connection.execute("INSERT INTO cafe_analytics (cafe_id, hour, messages) VALUES ($1, $2, 1)", cafe.id, at)
            await tx._connection.execute(
                "INSERT INTO agent_queries (id, cafe_id, persona, model, outcome, cached, at, expires_at)"
                " SELECT gen_random_uuid(), $1, 'bartender', 'm', 'ok', false, $2, $2 FROM generate_series(1, $3)",
                cafe.id, at, many,
            )  # fmt: skip

    await world.pg.transaction(work)


async def kept(world: World, table: str, column: str) -> list[int]:
    """How old what is left is, in days, the newest first."""
    now_ms = world.clock.now_ms()

    async def work(tx: Tx) -> list[int]:
        rows = await tx._connection.fetch(f"SELECT {column} AS at FROM {table} ORDER BY 1 DESC")
        return [round((now_ms - row["at"].timestamp() * 1000) / DAY_MS) for row in rows]

    return await world.pg.transaction(work)


async def test_hours_and_questions_are_kept_for_so_long_and_no_longer(world: World, mock_clock: MockClock) -> None:
    one, other = await world.cafe(), await world.cafe()
    await counted(world, one, 0, 61, 399, 401, 900)
    await counted(world, other, 400.01, 402)
    numbers = Numbers(pg=world.pg, clock=world.clock, days=400, rest_s=0)
    assert await numbers.run() == {"hours": 4, "queries": 4}
    assert await kept(world, "cafe_analytics", "hour") == await kept(world, "agent_queries", "at") == [0, 61, 399]
    assert await numbers.run() == {"hours": 0, "queries": 0}


async def test_old_questions_go_in_batches_and_are_found_by_an_index(world: World, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    await counted(world, cafe, *range(1, 400, 4), many=60)
    await counted(world, cafe, 401, many=1100)
    before = as_datetime(world.clock.now_ms() - 400 * DAY_MS)
    assert await world.pg.count("purge_agent_queries", before, 500) == 500
    assert "agent_queries_at_idx" in await explain(world.pg, "purge_agent_queries", before, 5, generic=True)
    assert "cafe_analytics_hour_idx" in await explain(world.pg, "purge_cafe_analytics", before, 500, generic=True)
    assert await Numbers(pg=world.pg, clock=world.clock, days=400, rest_s=0).run() == {"hours": 0, "queries": 595}
