"""What sockets leave behind is gone at once: to look for it in cycles would stop all rooms meanwhile."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from brewd.config import Config
from brewd.people.records import Cafe
from tests.agent.upstream import Script, Upstream, open_upstream
from tests.edge.ws.agent.queries import ask, completed, connect, unlimited, until
from tests.edge.ws.house import House, open_house

ROUNDS = 5


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@pytest.fixture
async def house(config: Config, upstream: Upstream, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(unlimited(config, upstream, tmp_path)) as house:
        yield house


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@contextmanager
def kept_for_the_collector() -> Iterator[Counter[str]]:
    """Types of ours, and how many of each only the collector found to be gone when the block is over."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("brewd."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_questions_leave_nothing_to_collect(house: House, cafe: Cafe, upstream: Upstream) -> None:
    ann, bob = await house.guests(cafe, 2)
    wire, other = await connect(house, ann), await connect(house, bob)
    await completed(wire, await ask(wire, ann, "What comes first?"))  # what is made once is made
    with kept_for_the_collector() as found:
        for number in range(ROUNDS):
            await completed(wire, await ask(wire, ann, f"New, number {number}?"))
            await completed(other, await ask(other, bob, f"new, number {number}"))  # from memory
            upstream.script = Script(held=True)
            query_id = await ask(wire, ann, f"Cancelled, number {number}?")
            await wire.ask("query:cancel", {"queryId": query_id})
            await until(lambda: not upstream.streaming)
            upstream.script = Script()
            assert (await wire.refused("query:stream", {"cafeId": cafe.id, "query": "Who?", "personality": "nobody"}))["code"] == "invalid_request"
        await wire.settle(), await other.settle()
    assert not found


@pytest.mark.parametrize("path", ["/ws", "/ws/agent"])
async def test_a_socket_that_is_gone_leaves_nothing_to_collect(house: House, cafe: Cafe, path: str) -> None:
    people = await house.guests(cafe, ROUNDS)
    wire = await house.open(path, authorization=f"Bearer {people[0].token}")
    await wire.aclose()
    await until(lambda: not len(house.parts.sockets))
    with kept_for_the_collector() as found:
        for person in people:
            wire = await house.open(path, authorization=f"Bearer {person.token}")
            await wire.heard("connected")
            await wire.aclose()
        await until(lambda: not len(house.parts.sockets))
        await trio.testing.wait_all_tasks_blocked(0.01)
        del wire
    assert not found
