"""What was taken back, deleted or erased, is in no answer that anybody gets who asks after that, whenever it was taken back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from brewd.agent.answers import Asked
from brewd.cafe import commands as c
from brewd.cafe.commands import Who
from brewd.people.records import Cafe
from brewd.store.postgres import Postgres
from tests.agent.conftest import Open
from tests.agent.table import Table, hear, until
from tests.agent.upstream import ANSWER, Script

ANNA, BEN = Who("00000000-0000-4000-8000-00000000000a", "Anna"), Who("00000000-0000-4000-8000-00000000000b", "Ben")
TakeBack = Callable[[Table, Cafe], None]


def erased(table: Table, cafe: Cafe) -> None:
    table.agent.forget(cafe.id, {"somebody"})


def deleted(table: Table, cafe: Cafe) -> None:
    table.agent.unsaid(cafe.id)


TAKEN_BACK = pytest.mark.parametrize("take_back", [erased, deleted])


@TAKEN_BACK
async def test_what_was_answered_before_is_not_answered_again(table: Table, take_back: TakeBack) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    for one in (cafe, other):
        await table.heard(one)
    take_back(table, cafe)
    assert not (await table.ask(cafe)).cached
    assert (await table.ask(other)).cached


@TAKEN_BACK
async def test_nor_is_it_by_a_process_that_starts_then(opened: Open, take_back: TakeBack) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        await table.heard(cafe)
        await table.mirror.flush()
    async with opened() as table:  # which does not know that answer
        await table.mirror.flush()
        take_back(table, cafe)
        await table.mirror.flush()
    async with opened() as table:
        assert not (await table.ask(cafe)).cached


@TAKEN_BACK
async def test_an_answer_under_way_is_for_those_who_have_asked_already(table: Table, take_back: TakeBack) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    first = await table.ask(cafe, who=ANNA)
    await until(lambda: table.upstream.streaming)
    take_back(table, cafe)
    second = await table.ask(cafe, who=BEN)
    await until(lambda: table.upstream.streaming == 2)
    assert first.answer is not second.answer
    table.upstream.let(2 * len(ANSWER))
    for asked in (first, second):
        assert (await hear(asked))[0] == "".join(ANSWER)
    assert (await table.ask(cafe)).answer.end is not None  # the second is kept


@TAKEN_BACK
async def test_so_is_one_whose_question_was_put_together_but_not_yet_asked(table: Table, monkeypatch: pytest.MonkeyPatch, take_back: TakeBack) -> None:
    cafe = await table.cafe()
    room = table.rooms.ref(cafe.id)
    taking, go_on = trio.Event(), trio.Event()
    ask: Callable[[Any], Awaitable[Any]] = room.ask

    async def slow(question: c.Question) -> Any:
        if isinstance(question, c.Take):
            taking.set()
            await go_on.wait()
        return await ask(question)

    monkeypatch.setattr(room, "ask", slow)
    answers: list[Asked] = []

    async def one() -> None:
        answers.append(await table.ask(cafe))
        await hear(answers[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await taking.wait()
        take_back(table, cafe)
        go_on.set()
    assert not (await table.ask(cafe)).cached
    assert len(table.upstream.requests) == 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statistics that were read, by their query."""
    fetch, names = Postgres.fetch, list[str]()

    async def noting(pg: Postgres, name: str, *args: Any, **more: Any) -> Any:
        rows = await fetch(pg, name, *args, **more)
        if name in ("agent_popular_items", "agent_top_interests", "agent_peak_hours"):
            names.append(name)
        return rows

    monkeypatch.setattr(Postgres, "fetch", noting)
    return names


async def test_statistics_that_are_read_while_somebody_is_erased_are_read_anew(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    cafe = await table.cafe()
    guests = [await table.guest(cafe, interests=("jazz",)) for _ in range(3)]
    fetch = Postgres.fetch

    async def erasing(pg: Postgres, name: str, *args: Any, **more: Any) -> Any:
        rows = await fetch(pg, name, *args, **more)
        if name == "agent_top_interests" and rows:
            await table.row("DELETE FROM customer WHERE id = $1", guests[0].user_id)
            table.agent.forget(cafe.id, {guests[0].user_id})
        return rows

    monkeypatch.setattr(Postgres, "fetch", erasing)
    await table.heard(cafe, "who is here?")
    await table.heard(cafe, "and who likes jazz?")
    assert ["jazz" in str(request.body["system"]) for request in table.upstream.requests] == [False, False]


async def test_of_many_who_come_at_once_one_reads_the_statistics(table: Table, reads: list[str]) -> None:
    cafe = await table.cafe()
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(table.ask, cafe, f"question {number % 3}")
    assert sorted(reads) == ["agent_peak_hours", "agent_popular_items", "agent_top_interests"]


async def test_who_waited_for_one_that_failed_reads_for_themselves(table: Table, monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    cafe = await table.cafe()
    fetch, begun = Postgres.fetch, trio.Event()

    async def slow_once(pg: Postgres, name: str, *args: Any, **more: Any) -> Any:
        if name == "agent_popular_items" and not begun.is_set():
            begun.set()
            await trio.sleep_forever()
        return await fetch(pg, name, *args, **more)

    monkeypatch.setattr(Postgres, "fetch", slow_once)
    async with trio.open_nursery() as nursery:
        gave_up = trio.CancelScope()

        async def first() -> None:
            with gave_up:
                await table.ask(cafe)

        nursery.start_soon(first)
        await begun.wait()
        nursery.start_soon(table.ask, cafe)
        await trio.testing.wait_all_tasks_blocked(0.02)
        gave_up.cancel()
    assert len(reads) == 3
