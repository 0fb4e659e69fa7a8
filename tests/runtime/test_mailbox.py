"""The mailbox: bounded, in order, one wake-up for many tells. The slot: one answer, however many are given."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.runtime.mailbox import Mailbox, Slot


def test_a_full_mailbox_says_so_and_keeps_what_it_has() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    assert [mailbox.tell(n) for n in range(3)] == [True, True, False]
    assert (len(mailbox), mailbox.take(), mailbox.take()) == (2, 0, 1)
    with pytest.raises(IndexError):
        mailbox.take()


def test_push_goes_past_the_limit_in_order() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(1)
    mailbox.push(2)
    assert not mailbox.tell(3)
    assert [mailbox.take(), mailbox.take()] == [1, 2]


async def test_many_tells_in_one_tick_are_one_turn_of_the_reader() -> None:
    mailbox: Mailbox[int] = Mailbox(10)
    turns: list[list[int]] = []

    async def read() -> None:
        while True:
            await mailbox.wait()
            turns.append([mailbox.take() for _ in range(len(mailbox))])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for n in range(3):
            mailbox.tell(n)
        await wait_all_tasks_blocked()
        mailbox.push(3)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert turns == [[0, 1, 2], [3]]


async def test_wake_ends_a_wait_with_nothing_in_the_mailbox_and_is_nothing_to_a_busy_reader() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.wake()
    woken = trio.Event()

    async def read() -> None:
        await mailbox.wait()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert not woken.is_set()
        mailbox.wake()
        mailbox.wake()
    assert woken.is_set()
    assert len(mailbox) == 0


async def test_waiting_is_a_checkpoint_even_when_something_is_there() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(1)
    with trio.testing.assert_checkpoints():
        await mailbox.wait()
    assert mailbox.take() == 1


async def test_it_has_one_reader_and_a_cancelled_one_makes_room_for_the_next() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await mailbox.wait()
        nursery.cancel_scope.cancel()
    mailbox.wake()  # nobody is there any more
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.wait)
        await wait_all_tasks_blocked()
        assert mailbox.tell(1)


async def test_the_first_answer_counts() -> None:
    slot: Slot[str] = Slot()
    slot.set("first")
    slot.set("second")
    slot.fail(ValueError("third"))
    assert await slot.get(1) == "first"


async def test_a_failure_is_raised_where_the_answer_is_awaited() -> None:
    slot: Slot[str] = Slot()
    slot.fail(ValueError("no"))
    slot.set("yes")
    with pytest.raises(ValueError, match="no"):
        await slot.get(1)


async def test_no_answer_in_time(autojump_clock: MockClock) -> None:
    slot: Slot[str] = Slot()
    with pytest.raises(trio.TooSlowError):
        await slot.get(2.5)
    assert trio.current_time() == pytest.approx(2.5)
    slot.set("to nobody")
