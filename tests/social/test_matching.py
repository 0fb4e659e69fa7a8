"""Discovery: who is found, in which order, and that pages fit together while people come and go."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from brewd.errors import Rejected
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.runtime.clock import as_datetime
from brewd.social.matching import KEPT_MS, ORDER_COST, Found, Matching
from brewd.store.postgres import Postgres
from tests.social.crowd import INTERESTS, explain, fill
from tests.social.world import World


@pytest.fixture
async def ann(world: World, cafe: Cafe) -> Identity:
    return await world.guest(cafe, "tea", "jazz", "go")


async def found(world: World, who: Identity, *, limit: int = 100, offset: int = 0) -> list[Found]:
    return list((await world.matching.discover(who, limit=limit, offset=offset)).found)


async def test_most_shared_first_then_who_is_here_then_by_name(world: World, cafe: Cafe, ann: Identity) -> None:
    two = list(await world.guests(cafe, 4, "jazz", "tea", "golf"))
    one = list(await world.guests(cafe, 4, "go", "cake"))
    await world.guests(cafe, 2, "cake")
    await world.guests(cafe, 2)
    world.rooms.present = {two[0].user_id, two[2].user_id, one[3].user_id}

    def in_order(people: list[Identity]) -> list[str]:
        return [one.user_id for one in sorted(people, key=lambda one: (one.user_id not in world.rooms.present, one.username.lower()))]

    page = await world.matching.discover(ann, limit=100)
    assert [match.user_id for match in page.found] == in_order(two) + in_order(one)
    assert page.count == 8
    assert [match.shared for match in page.found] == [("jazz", "tea")] * 4 + [("go",)] * 4
    assert {match.user_id for match in page.found if match.online} == world.rooms.present
    assert {match.username for match in page.found} == {person.username for person in two + one}


async def test_whom_nobody_is_to_find(world: World, cafe: Cafe, ann: Identity, mock_clock: MockClock) -> None:
    people = await world.guests(cafe, 6, "tea")
    await world.guest(await world.people.cafe(), "tea")
    off, over, muted, banned, declined, here = people
    await world.interests.enable_pokes(off.user_id, False)
    await world.people.users.expire(over.user_id)
    world.rooms.present = {person.user_id for person in people}
    world.people.sessions.ban(banned.user_id, 2**60)
    poke = await world.pokes.send(ann, declined.user_id, "tea")
    mock_clock.jump(3)
    await world.pokes.respond(declined, poke.id, "decline")
    world.rooms.present.remove(muted.user_id)
    world.rooms.muted.add(muted.user_id)
    assert [match.user_id for match in await found(world, ann)] == [here.user_id]
    assert {match.user_id for match in await found(world, declined)} == {ann.user_id, here.user_id}, "who declined learns nothing by it"


async def test_whom_one_has_poked_is_gone_from_there_whatever_they_do(world: World, cafe: Cafe, ann: Identity, mock_clock: MockClock) -> None:
    silent, declines, accepts = await world.guests(cafe, 3, "tea")
    pokes = [await world.pokes.send(ann, one.user_id, "tea") for one in (silent, declines, accepts)]
    mock_clock.jump(3)
    assert await found(world, ann) == []
    await world.pokes.respond(declines, pokes[1].id, "decline")
    await world.pokes.respond(accepts, pokes[2].id, "accept")
    assert await found(world, ann) == []
    assert ann.user_id in [match.user_id for match in await found(world, silent)]
    assert ann.user_id in [match.user_id for match in await found(world, declines)]
    assert ann.user_id not in [match.user_id for match in await found(world, accepts)]


async def test_pages_fit_together_while_people_come_and_go(world: World, cafe: Cafe, ann: Identity, mock_clock: MockClock) -> None:
    people = {person.user_id: person for person in await world.guests(cafe, 30, "tea")}
    order = [match.user_id for match in await found(world, ann)]
    first = [match.user_id for match in await found(world, ann, limit=10)]
    assert first == order[:10]
    newcomers = await world.guests(cafe, 5, "tea", "jazz", "go")  # they would be on top
    world.rooms.present = {order[25], order[12]}
    await world.people.users.expire(order[3])
    await world.people.users.expire(order[15])
    await world.interests.set(order[16], ["cake"])
    second = await found(world, ann, limit=10, offset=10)
    assert [match.user_id for match in second] == [id for id in order[10:20] if id not in (order[15], order[16])]
    assert [match.user_id for match in second if match.online] == [order[12]]
    assert [match.user_id for match in await found(world, ann, limit=10, offset=20)] == order[20:]
    page = await world.matching.discover(ann, limit=10, offset=30)
    assert (page.found, page.count) == ((), 30)
    assert {match.user_id for match in await found(world, ann, limit=5)} == {one.user_id for one in newcomers}
    other = people[order[0]]
    assert len(await found(world, other, limit=10, offset=10)) == 10, "everybody has an order of their own"
    mock_clock.jump(KEPT_MS / 1000)
    assert len(await found(world, ann, limit=50, offset=5)) == 27


async def test_orders_are_bounded(world: World, cafe: Cafe, pg: Postgres) -> None:
    matching = Matching(pg=pg, clock=world.clock, rooms=world.rooms, bans=world.people.sessions, kept_max=2 * (10 + ORDER_COST) + 5)
    people = await world.guests(cafe, 11, "tea")
    for person in people:
        assert (await matching.discover(person, limit=1)).count == 10
    assert len(matching._orders) == 2
    assert matching._kept == 2 * (10 + ORDER_COST)
    assert len((await matching.discover(people[0], limit=5, offset=5)).found) == 5, "worked out anew"


async def test_without_interests_there_is_nobody(world: World, cafe: Cafe, ann: Identity) -> None:
    assert await found(world, await world.guest(cafe)) == []
    await world.people.users.expire(ann.user_id)
    with pytest.raises(Rejected) as refused:
        await found(world, ann)
    assert refused.value.code == "user_expired"


async def test_the_plans_use_the_index(world: World, cafe: Cafe, pg: Postgres) -> None:
    """Among ten cafés with 2,000 guests each; also the plan that is made without looking at the arguments, which is what a prepared statement ends up with."""
    await fill(pg, cafe.id, 2000, cafes=9)
    ann = await world.guest(cafe, *INTERESTS[:10])
    page = await world.matching.discover(ann, limit=20)
    assert page.count == 1500
    ids, now = [match.user_id for match in page.found], as_datetime(world.clock.now_ms())
    for generic in (False, True):
        order = await explain(pg, "discover_order", cafe.id, ann.user_id, INTERESTS[:10], now, generic=generic)
        assert "Index Scan on customer_discover_idx (actual rows=20" in order
        details = await explain(pg, "discover_page", cafe.id, ann.user_id, ids, now, INTERESTS[:10], [], generic=generic)
        assert "Index Scan using customer_pkey on customer c (actual rows=1" in details
        crowd = await explain(pg, "poke_pending", ann.user_id, now, now, [], 3, 100, generic=generic)
        for plan in (order, details, crowd):
            assert "Seq Scan" not in plan
