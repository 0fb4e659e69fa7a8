"""What is remembered of a café is what was made of it last."""

from __future__ import annotations

import trio

from tests.late import Late
from tests.people.world import World


async def test_of_two_changes_that_overlap_the_later_stays_whoever_hears_of_it_first(world: World) -> None:
    cafe = await world.cafe()
    late = Late(world.pg)
    world.cafes._pg = late  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.cafes.set(cafe.id, name="New"))
        await late.done.wait()
        later = await world.cafes.set(cafe.id, address="Main Street 1")
        late.told.set()
    assert await world.cafes.get(cafe.id) == later
    assert (later.name, later.address) == ("New", "Main Street 1")


async def test_a_change_that_is_given_up_when_it_was_made_already_holds(world: World) -> None:
    cafe = await world.cafe()
    late = Late(world.pg)
    world.cafes._pg = late  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: world.cafes.set(cafe.id, name="New"))
        await late.done.wait()
        nursery.cancel_scope.cancel()
    assert (await world.cafes.get(cafe.id)).name == "New"
