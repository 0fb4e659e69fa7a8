"""Rows on their way to Postgres: how many at once, how often, and who hears what of it. Time is the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.agent import row_writer
from brewd.agent.row_writer import BEGIN_S, GATHER_S, ROWS_MAX, SETTLE_S, RowWriter
from brewd.agent.rows import Entry, RowsRefused
from brewd.errors import StoreError

GAP_S = 0.1


class Store:
    """Where rows are put. `writes`: which, and when; `away`, `hangs`: it fails, or never answers; `wrong`: an id it refuses; `locked`: one that hangs;
    `crowd_max`: more at once it refuses; `broken`: a bug."""

    def __init__(self) -> None:
        self.writes: list[tuple[float, list[str]]] = []
        self.away = self.hangs = self.broken = False
        self.wrong = self.locked = ""
        self.crowd_max = ROWS_MAX

    async def put(self, rows: bytes) -> None:
        ids = [row["id"] for row in msgspec.json.decode(rows)]
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise RuntimeError("a bug")
        if self.hangs or self.locked in ids:
            await trio.sleep_forever()
        if self.away:
            raise StoreError("away")
        if self.wrong in ids or len(ids) > self.crowd_max:
            raise RowsRefused("CheckViolationError")
        self.writes.append((round(trio.current_time(), 3), ids))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RowWriter]:
    monkeypatch.setattr(row_writer, "BEGIN_GAP_S", GAP_S)
    writer = RowWriter(put=store.put, give_way=trio.lowlevel.checkpoint)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await wait_all_tasks_blocked()
        yield writer
        nursery.cancel_scope.cancel()


def entry(id_: str, outcome: str = "started") -> Entry:
    return Entry(
        id=id_, cafe_id="c", user_id="u", session_id=None, staff=False, query="?", persona="bartender", model="m", at_ms=1, outcome=outcome
    )  # fmt: skip


async def begin_all(writer: RowWriter, *ids: str) -> dict[str, Exception]:
    """Who was not written, and why."""
    failed: dict[str, Exception] = {}

    async def one(id_: str) -> None:
        try:
            await writer.begin(entry(id_))
        except (StoreError, RowsRefused) as error:
            failed[id_] = error

    async with trio.open_nursery() as nursery:
        for id_ in ids:
            nursery.start_soon(one, id_)
    return failed


async def test_a_beginning_that_comes_alone_is_written_at_once_and_more_go_together(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    await writer.begin(entry("a"))
    assert trio.current_time() == began_s
    async with trio.open_nursery() as nursery:
        for id_ in "bcd":
            nursery.start_soon(writer.begin, entry(id_))
            await trio.sleep(GAP_S / 5)
    assert [(round(at_s - began_s, 3), sorted(ids)) for at_s, ids in store.writes] == [(0, ["a"]), (GAP_S, ["b", "c", "d"])]
    await trio.sleep(1)
    again_s = trio.current_time()
    await writer.begin(entry("e"))
    assert trio.current_time() == again_s


async def test_everybody_hears_that_the_store_is_away(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.away = True
    failed = await begin_all(writer, "a", "b", "c")
    assert {id_: str(error) for id_, error in failed.items()} == {"a": "away", "b": "away", "c": "away"}
    assert len(set(map(id, failed.values()))) == 3  # each with a traceback of its own
    store.away = False
    assert await begin_all(writer, "a", "b", "c") == {}


async def test_only_whose_row_is_wrong_hears_of_it(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.wrong = "b"
    assert {id_: type(error) for id_, error in (await begin_all(writer, "a", "b", "c")).items()} == {"b": RowsRefused}
    assert sorted(id_ for _, ids in store.writes for id_ in ids) == ["a", "c"]


async def test_who_does_not_wait_any_more_is_not_written(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    await writer.begin(entry("a"))
    with trio.move_on_after(GAP_S / 2):
        await writer.begin(entry("b"))
    await writer.begin(entry("c"))
    assert [ids for _, ids in store.writes] == [["a"], ["c"]]


async def test_who_is_gone_before_anybody_was_written_leaves_nothing_to_write(store: Store, autojump_clock: MockClock) -> None:
    way = trio.Event()
    writer = RowWriter(put=store.put, give_way=way.wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        with trio.move_on_after(1):
            await writer.begin(entry("a"))
        way.set()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert store.writes == []


async def test_a_write_that_hangs_holds_up_none_of_the_next(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.locked = "a"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin_all, writer, "a")
        await wait_all_tasks_blocked()
        assert await begin_all(writer, "b", "c") == {}
        nursery.cancel_scope.cancel()


async def test_more_than_go_into_one_write_go_into_several_at_once(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    assert await begin_all(writer, *(f"{number:03}" for number in range(3 * ROWS_MAX))) == {}
    assert [len(ids) for _, ids in store.writes] == [ROWS_MAX] * 3
    assert len({at_s for at_s, _ in store.writes}) <= 2


async def test_who_waits_for_a_writer_that_crashes_hears_of_it_at_once(store: Store, autojump_clock: MockClock) -> None:
    writer = RowWriter(put=store.put, give_way=trio.lowlevel.checkpoint)
    store.broken = True
    failed: dict[str, Exception] = {}
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            with trio.CancelScope(shield=True):
                failed = await begin_all(writer, "a", "b")
            await trio.sleep_forever()
    assert {id_: type(error) for id_, error in failed.items()} == {"a": StoreError, "b": StoreError}
    store.broken = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        assert await begin_all(writer, "c") == {}
        nursery.cancel_scope.cancel()


async def test_a_store_that_never_answers_is_not_waited_for(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.hangs = True
    began_s = trio.current_time()
    assert set(await begin_all(writer, "a", "b")) == {"a", "b"}
    assert trio.current_time() - began_s == pytest.approx(BEGIN_S)


async def test_ends_are_written_in_small_pieces_and_beginnings_do_not_wait_for_them(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    writer.end(entry("first", "shared"))
    await wait_all_tasks_blocked()
    ids = [f"{number:03}" for number in range(2 * ROWS_MAX + 1)]
    for id_ in ids:
        writer.end(entry(id_, "shared"))
    await writer.begin(entry("begun"))
    assert [ids for _, ids in store.writes] == [["first"], ["begun"]]
    await trio.sleep(3 * GATHER_S)
    assert [ids for _, ids in store.writes[2:]] == [ids[:ROWS_MAX], ids[ROWS_MAX:-1], ids[-1:]]
    assert not writer.pending


async def test_ends_wait_for_a_store_that_is_away_and_a_wrong_one_for_nothing(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.away, store.wrong = True, "b"
    for id_ in "abc":
        writer.end(entry(id_, "answered"))
    await trio.sleep(5)
    assert (writer.pending, store.writes) == (3, [])
    store.away = False
    await writer.flush(5)
    assert (writer.pending, [ids for _, ids in store.writes]) == (0, [["a"], ["c"]])


async def test_a_batch_that_was_refused_as_a_whole_does_not_have_all_later_ones_written_one_by_one(
    writer: RowWriter, store: Store, autojump_clock: MockClock
) -> None:
    store.crowd_max = 2
    for id_ in "abc":
        writer.end(entry(id_, "answered"))
    await wait_all_tasks_blocked()
    for id_ in "def":  # they come faster than one in `GATHER_S`
        await trio.sleep(GATHER_S / 2)
        writer.end(entry(id_, "answered"))
    await trio.sleep(5 * GATHER_S)
    store.crowd_max = ROWS_MAX
    for id_ in "ghi":
        writer.end(entry(id_, "answered"))
    await trio.sleep(5 * GATHER_S)
    assert not writer.pending
    assert [ids for _, ids in store.writes if len(ids) == 3] == [["g", "h", "i"]]


async def test_what_is_under_way_is_waited_for_and_not_for_ever(writer: RowWriter, store: Store, autojump_clock: MockClock) -> None:
    store.locked = "a"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin_all, writer, "a")
        await wait_all_tasks_blocked()
        began_s = trio.current_time()
        await writer.settled("another")
        assert trio.current_time() == began_s
        with pytest.raises(StoreError, match="on its way"):
            await writer.settled("c")
        assert trio.current_time() - began_s == pytest.approx(SETTLE_S)
        nursery.cancel_scope.cancel()
