"""Two people poke, answer and wait in any order, also at the same instant, over the real Postgres: at most one channel, and nobody sees it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from brewd.cafe.events import PokeMatched
from brewd.errors import Rejected
from brewd.people.tokens import Identity
from brewd.runtime.bridge import open_bridge
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.pokes import expire_pokes
from brewd.store.postgres import Postgres, open_postgres
from tests.conftest import START_MS
from tests.social.world import World, make_social

Step = tuple[str, int]
"""What is done, and by whom of the two (or for how many minutes)."""

acts = st.tuples(st.sampled_from(["poke", "poke", "accept", "decline"]), st.integers(0, 1))
moments = st.one_of(
    st.lists(acts, min_size=1, max_size=3),  # all at once
    st.tuples(st.just("wait"), st.sampled_from([1, 90, 23 * 60, 24 * 60])).map(lambda step: [step]),
    st.just([("expire", 0)]),
)


class Pair:
    """Both, and what they know of it."""

    def __init__(self, world: World, pg: Postgres, both: Sequence[Identity]) -> None:
        self.world = world
        self.pg = pg
        self.both = both
        self.opened: set[str] = set()

    async def act(self, what: str, n: int) -> None:
        pokes, who, other = self.world.pokes, self.both[n], self.both[1 - n]
        try:
            if what == "poke":
                outcome = await pokes.send(who, other.user_id, "tea")
                if outcome.channel_id is not None:
                    self.opened.add(outcome.channel_id)
                assert outcome.matched == (outcome.channel_id is not None)
            elif what == "expire":
                await expire_pokes(self.pg, self.world.clock.now_ms(), batch=1)
            else:
                for poke in await pokes.pending(who):
                    answer = await pokes.respond(who, poke.id, "accept" if what == "accept" else "decline")
                    if answer.channel_id is not None:
                        self.opened.add(answer.channel_id)
        except Rejected as rejected:
            if rejected.code not in ("not_found", "conflict"):  # another socket of theirs was faster
                raise

    async def check(self) -> None:
        world = self.world
        told = [[event for event in world.heard(who) if isinstance(event, PokeMatched)] for who in self.both]
        sent = [list(await world.pokes.sent(who)) for who in self.both]
        assert len(self.opened) <= 1
        assert {event.channel_id for events in told for event in events} == self.opened
        assert {poke.channel_id for pokes in sent for poke in pokes if poke.status == "matched"} <= self.opened
        if self.opened:
            assert [len(events) for events in told] == [1, 1]
            assert any(poke.status == "matched" for pokes in sent for poke in pokes)
            for who in self.both:
                assert list(await world.pokes.pending(who)) == [], "what has matched is open on no side"
            assert all(poke.status != "pending" for pokes in sent for poke in pokes)
        else:
            both_open = [any(poke.status == "pending" for poke in pokes) for pokes in sent]
            declined = await self.pg.fetch("poke_between", self.both[0].user_id, self.both[1].user_id)
            assert both_open != [True, True] or any(row["status"] == "declined" for row in declined), "two who have poked each other have matched"


async def _live(dsn: str, clock: MockClock, moments: Sequence[Sequence[Step]]) -> int:
    """How many channels there are in the end."""
    async with open_bridge() as bridge, open_postgres(bridge, dsn=dsn, pool_max=3) as pg:
        wall = Clock(START_MS)
        world = make_social(pg, wall, Ids(wall))
        people = await world.guests(await world.people.cafe(), 2, "tea")
        pair = Pair(world, pg, people)
        await pg.transaction(_long_lives)
        for moment in moments:
            if moment[0][0] == "wait":
                clock.jump(moment[0][1] * 60)
                continue
            async with trio.open_nursery() as nursery:
                for what, n in moment:
                    nursery.start_soon(pair.act, what, n)
            await pair.check()
        return await pg.transaction(_channels, people[0].user_id)


async def _long_lives(tx: Any) -> None:
    await tx.script("UPDATE customer SET expires_at = expires_at + interval '90 days'")


async def _channels(tx: Any, user_id: str) -> int:
    return int(await tx._connection.fetchval("SELECT count(*) FROM dm_channel WHERE user_a = $1 OR user_b = $1", user_id))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(moments, min_size=1, max_size=8))
@example([[("poke", 0), ("poke", 1)]])
@example([[("poke", 0)], [("wait", 1)], [("accept", 1), ("poke", 1)]])
@example([[("poke", 0)], [("wait", 1)], [("decline", 1)], [("poke", 1)], [("poke", 0)]])
@example([[("poke", 0)], [("wait", 24 * 60)], [("expire", 0), ("poke", 0), ("poke", 1)]])
def test_in_any_order_there_is_at_most_one_channel_and_both_know(postgres_dsn: str, moments: Sequence[Sequence[Step]]) -> None:
    clock = MockClock()
    assert trio.run(_live, postgres_dsn, clock, moments, clock=clock) <= 1


@pytest.mark.parametrize("_", range(3))
def test_at_the_same_instant_there_is_always_one(postgres_dsn: str, _: int) -> None:
    clock = MockClock()
    assert trio.run(_live, postgres_dsn, clock, [[("poke", 0), ("poke", 1), ("poke", 0), ("poke", 1)]], clock=clock) == 1
