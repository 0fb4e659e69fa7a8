"""What happened in cafés, counted by the hour from real rows: each hour once, when it is over, whoever was erased meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from brewd.errors import Rejected
from brewd.people.analytics import HOUR_MS, Analytics
from brewd.people.records import Cafe
from brewd.runtime.bridge import Bridge
from brewd.runtime.clock import as_datetime
from brewd.store.pool import Tx
from brewd.store.postgres import open_postgres
from tests.conftest import START_MS, Databases
from tests.people.world import World

TEN_MS = START_MS


async def said(world: World, cafe: Cafe, first: int, *said: tuple[int, str]) -> None:
    """Messages as (when, by whom), numbered from `first` on."""

    async def work(tx: Tx) -> None:
        for seq, (at_ms, user_id) in enumerate(said, first):
            await tx._connection.execute(
                "INSERT INTO message (cafe_id, seq, id, user_id, username, content, created_at) VALUES ($1, $2, gen_random_uuid(), $3, 'x', 'y', $4)",
                cafe.id, seq, user_id, as_datetime(at_ms),
            )  # fmt: skip

    await world.pg.transaction(work)


async def rows(world: World, cafe: Cafe) -> list[tuple[int, int, int, int]]:
    found = await world.analytics.rows(cafe.id, TEN_MS - 24 * HOUR_MS, TEN_MS + 24 * HOUR_MS)
    return [((hour.at_ms - TEN_MS) // HOUR_MS, hour.messages, hour.authors, hour.joins) for hour in found]


async def test_an_hour_is_counted_once_it_is_over(world: World, mock_clock: MockClock) -> None:
    cafe, other = await world.cafe(), await world.cafe()
    ann, bob = world.ids.uuid7(), world.ids.uuid7()
    await world.join(cafe, "r-1")
    await said(world, cafe, 1, (TEN_MS, ann), (TEN_MS + HOUR_MS - 1, bob), (TEN_MS + HOUR_MS, ann), (TEN_MS + HOUR_MS + 1, ann))
    await said(world, other, 1, (TEN_MS + 5, bob))
    assert await world.analytics.run() == {"hours": 0}
    mock_clock.jump(3600)
    assert await world.analytics.run() == {"hours": 0}  # what was said last may not be stored yet
    mock_clock.jump(60)
    assert await world.analytics.run() == {"hours": 2}
    assert (await rows(world, cafe), await rows(world, other)) == ([(0, 2, 2, 1)], [(0, 1, 1, 0)])
    assert await world.analytics.run() == {"hours": 0}
    mock_clock.jump(3600)
    assert await world.analytics.run() == {"hours": 1}
    assert await rows(world, cafe) == [(0, 2, 2, 1), (1, 2, 1, 0)]


async def test_hours_that_were_missed_are_counted_later_each_for_itself(world: World, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    ann = world.ids.uuid7()
    mock_clock.jump(7200)
    await world.join(cafe, "r-1")
    await said(world, cafe, 1, *((TEN_MS + hour * HOUR_MS, ann) for hour in (0, 0, 3, 5)))
    mock_clock.jump(5 * 3600)
    assert await world.analytics.run() == {"hours": 4}
    assert await rows(world, cafe) == [(0, 2, 1, 0), (2, 0, 0, 1), (3, 1, 1, 0), (5, 1, 1, 0)]


async def test_who_is_erased_has_been_there(world: World, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe, "r-1")
    await said(world, cafe, 1, (TEN_MS, ann.user.id), (TEN_MS, ann.user.id))
    await world.erasure.user(ann.user.id, cafe.id)
    mock_clock.jump(3660)
    await world.analytics.run()
    assert await rows(world, cafe) == [(0, 2, 1, 1)]


async def test_more_cafes_than_fit_into_one_statement(world: World, mock_clock: MockClock) -> None:
    cafes = [await world.cafe() for _ in range(53)]
    for cafe in cafes:
        await said(world, cafe, 1, (TEN_MS, cafe.id))
    mock_clock.jump(3660)
    assert await world.analytics.run() == {"hours": 53}
    assert await rows(world, cafes[-1]) == [(0, 1, 1, 0)]


async def test_it_is_read_from_the_replica_and_from_the_first_when_that_is_away(
    world: World, bridge: Bridge, databases: Databases, mock_clock: MockClock
) -> None:
    cafe = await world.cafe()
    await said(world, cafe, 1, (TEN_MS, cafe.id))
    mock_clock.jump(3660)
    await world.analytics.run()
    with databases.fresh() as dsn:
        async with open_postgres(bridge, dsn=dsn, pool_max=1) as replica:
            analytics = Analytics(pg=world.pg, replica=replica, clock=world.clock)
            assert await analytics.rows(cafe.id) == []  # the replica lags
    async with open_postgres(bridge, dsn="postgresql://127.0.0.1:1/none", pool_max=1) as nobody:
        analytics = Analytics(pg=world.pg, replica=nobody, clock=world.clock)
        assert len(await analytics.rows(cafe.id)) == 1


@pytest.mark.parametrize(
    ("span", "problem"),
    [({"from_ms": 10, "to_ms": 10}, "to: must be later"), ({"from_ms": 0, "to_ms": 32 * 86_400_000}, "at most 31 days"), ({"to_ms": 0}, "to: must be later")],
)
async def test_a_span_that_is_none_or_too_long_is_refused(world: World, span: Any, problem: str) -> None:
    cafe = await world.cafe()
    with pytest.raises(Rejected, match=problem):
        await world.analytics.rows(cafe.id, **span)
    await world.analytics.rows(cafe.id, 0, 31 * 86_400_000)
