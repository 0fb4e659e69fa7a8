"""The journal's rules, on a store that does as it is told and a clock that moves when it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.errors import StoreConflict, StoreError
from brewd.store.journal import GAP_S, GIVE_WAY_S, RETRY_MAX_S, Committed, Duplicates, Journal, Poisoned, TakenBack
from brewd.store.records import Batch, Commit, Key, Message, Settled
from tests.store.desk import ANN, Desk, cafe_number


class Shelf:
    """A `Store`: takes everything, unless `answer` raises; counts what it is asked."""

    def __init__(self) -> None:
        self.commits: list[list[Batch]] = []
        self.commit_s: list[float] = []
        self.settles = 0
        self.takes_s = 0.0
        self.answer: Callable[[Sequence[Batch]], None] = lambda batches: None
        self.settle_error: Exception | None = None
        self.keys: dict[Key, Message] = {}

    async def commit(self, batches: Sequence[Batch]) -> Commit:
        self.commits.append(list(batches))
        self.commit_s.append(trio.current_time())
        await trio.sleep(self.takes_s)
        self.answer(batches)
        return Commit(frozenset(batch.cafe_id for batch in batches))

    async def settle(self, batches: Sequence[Batch]) -> list[Settled]:
        self.settles += 1
        await trio.lowlevel.checkpoint()
        if self.settle_error is not None:
            raise self.settle_error
        return [Settled(batch.cafe_id, batch.generation + 1, committed=False) for batch in batches]

    async def known(self, keys: Sequence[Key]) -> dict[Key, Message]:
        await trio.lowlevel.checkpoint()
        return {key: self.keys[key] for key in keys if key in self.keys}

    def rows(self) -> list[int]:
        return [sum(batch.rows for batch in batches) for batches in self.commits]


class Room:
    """A shelf, a journal, and cafés 0…n-1 that write to it."""

    def __init__(self, batch_max: int = 1000) -> None:
        self.shelf = Shelf()
        self.journal = Journal(store=self.shelf, batch_max=batch_max)
        self.desks = [Desk(self.journal, cafe_number(n)) for n in range(8)]

    def refuse(self, error: Exception, *, times: int = 1) -> None:
        """The next commits raise this."""
        left = [error] * times

        def answer(batches: Sequence[Batch]) -> None:
            if left:
                raise left.pop()

        self.shelf.answer = answer


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def room() -> Room:
    return Room()


async def test_everything_that_is_ready_departs_together(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(room.journal.run)
    await wait_all_tasks_blocked()
    for desk in room.desks:
        desk.say("hi")
    await trio.sleep(1)
    assert room.shelf.rows() == [8]
    assert all(desk.outcomes == [Committed(1)] for desk in room.desks)


async def test_a_single_word_departs_at_once_and_so_does_what_follows_it(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    room.desks[0].say("first")
    await trio.sleep(GAP_S / 4)
    room.desks[1].say("second")
    await trio.sleep(1)
    assert room.shelf.commit_s == pytest.approx([1.0, 1.0 + GAP_S / 4])


async def test_after_a_commit_that_cafes_shared_more_may_gather_for_a_moment(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    for desk in room.desks[:2]:
        desk.say("first")
    await trio.sleep(GAP_S / 4)
    room.desks[2].say("second")
    await trio.sleep(GAP_S / 4)
    room.desks[3].say("third")
    await trio.sleep(1)
    assert room.shelf.commit_s == pytest.approx([1.0, 1.0 + GAP_S])
    assert room.shelf.rows() == [2, 2]


async def test_who_gives_way_waits_for_what_is_under_way_and_for_nothing_else(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    await room.journal.give_way()
    assert trio.current_time() == 1.0
    room.shelf.takes_s = GIVE_WAY_S / 2
    room.desks[0].say("hi")
    await room.journal.give_way()
    assert room.desks[0].outcomes
    assert trio.current_time() < 1.0 + GIVE_WAY_S


async def test_who_gives_way_does_so_for_a_moment_only(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    room.shelf.takes_s = 60
    room.desks[0].say("hi")
    await room.journal.give_way()
    assert trio.current_time() == pytest.approx(1.0 + GIVE_WAY_S, abs=0.0011)
    assert not room.desks[0].outcomes


async def test_no_commit_is_larger_than_its_bound_and_the_rest_goes_next_in_turn(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room = Room(batch_max=10)
    nursery.start_soon(room.journal.run)
    await wait_all_tasks_blocked()
    for desk in room.desks[:3]:
        desk.say(*"abcdefgh")
    await trio.sleep(1)
    assert room.shelf.rows() == [10, 10, 4]
    assert [[batch.cafe_id[-1] for batch in batches] for batches in room.shelf.commits] == [["0", "1"], ["2", "1"], ["1"]]
    assert [desk.last_seq for desk in room.desks[:3]] == [8, 8, 8]


async def test_asking_twice_is_asking_once_and_one_with_nothing_after_all_is_passed_over(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room.desks[0].say("hi")
    room.journal.ready(room.desks[0].cafe_id, room.desks[0])
    room.journal.ready(room.desks[1].cafe_id, room.desks[1])
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    assert room.shelf.rows() == [1]
    room.journal.ready(room.desks[1].cafe_id, room.desks[1])
    await trio.sleep(1)
    assert room.shelf.rows() == [1]


async def test_one_who_withdraws_before_departure_does_not_depart(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    for desk in room.desks[:2]:
        desk.say("hi")
    room.journal.withdraw(room.desks[0].cafe_id)
    room.journal.withdraw("somebody else")
    nursery.start_soon(room.journal.run)
    await trio.sleep(1)
    assert [desk.outcomes for desk in room.desks[:2]] == [[], [Committed(1)]]


async def test_silence_is_settled_however_long_that_takes(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    room.refuse(StoreError("no answer"))
    room.shelf.settle_error = StoreError("still none")
    nursery.start_soon(room.journal.run)
    room.desks[0].say("hi")
    await trio.sleep(600)
    assert room.journal.down_since_s == pytest.approx(0.0, abs=0.01)
    assert 600 / RETRY_MAX_S <= room.shelf.settles <= 600 / RETRY_MAX_S + 5
    assert (room.desks[0].outcomes, len(room.shelf.commits)) == ([], 1)
    room.shelf.settle_error = None
    await trio.sleep(RETRY_MAX_S + 0.1)
    assert room.desks[0].outcomes == [TakenBack(2), Committed(2)]
    assert room.journal.down_since_s is None


async def test_only_those_with_a_duplicate_are_told_of_one(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    told = Message("old", room.desks[0].cafe_id, 7, ANN, "ann", None, "hi", "")
    room.shelf.keys = {(ANN, "k"): told}
    room.refuse(StoreConflict("message_client_msg_id_key"))
    nursery.start_soon(room.journal.run)
    await wait_all_tasks_blocked()
    room.desks[0].say("hi", key="k")
    room.desks[1].say("hi", key="other")
    await trio.sleep(1)
    assert room.desks[0].outcomes == [Duplicates({(ANN, "k"): told})]
    assert room.desks[1].outcomes == [TakenBack(1), Committed(1)]


@pytest.mark.parametrize("error", [StoreConflict("message_pkey"), ValueError("a row nobody can write")], ids=lambda error: type(error).__name__)
async def test_a_batch_that_is_wrong_is_looked_for_alone_and_told_to_its_cafe(
    error: Exception, room: Room, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    def answer(batches: Sequence[Batch]) -> None:
        if any(batch.cafe_id == cafe_number(1) for batch in batches):
            raise error

    room.shelf.answer = answer
    nursery.start_soon(room.journal.run)
    await wait_all_tasks_blocked()
    for desk in room.desks[:3]:
        desk.say("hi")
    await trio.sleep(1)
    assert [desk.outcomes for desk in room.desks[:3]] == [[Committed(1)], [Poisoned(error)], [Committed(1)]]
    assert room.shelf.rows() == [3, 1, 1, 1]


async def test_a_connection_lost_while_looking_for_the_wrong_one_is_settled_too(room: Room, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    errors = [StoreError("lost"), ValueError("wrong")]

    def answer(batches: Sequence[Batch]) -> None:
        if errors:
            raise errors.pop()

    room.shelf.answer = answer
    nursery.start_soon(room.journal.run)
    await wait_all_tasks_blocked()
    for desk in room.desks[:2]:
        desk.say("hi")
    await trio.sleep(1)
    assert [desk.outcomes for desk in room.desks[:2]] == [[TakenBack(2), Committed(2)], [Committed(1)]]


async def test_a_journal_that_crashed_settles_first_what_was_under_way(room: Room, autojump_clock: MockClock) -> None:
    room.refuse(StoreError("no answer"))
    room.shelf.settle_error = RuntimeError("a bug in the driver")
    room.desks[0].say("hi")
    with pytest.raises(RuntimeError):
        await room.journal.run()
    assert room.desks[0].outcomes == []
    room.shelf.settle_error = None
    with trio.move_on_after(1):
        await room.journal.run()
    assert room.desks[0].outcomes == [TakenBack(2), Committed(2)]
    with trio.move_on_after(1):
        await room.journal.run()
    assert (room.shelf.settles, len(room.desks[0].outcomes)) == (2, 2)


async def test_a_journal_that_is_cancelled_while_it_waits_can_go_on(room: Room, autojump_clock: MockClock) -> None:
    for n in (1, 2):
        with trio.move_on_after(1):
            await room.journal.run()
        room.desks[0].say("hi")
        with trio.move_on_after(1):
            await room.journal.run()
        assert len(room.desks[0].outcomes) == n
