"""Direct messages on a real Postgres: who may, what is stored, what is told to whom in which order, and what becomes of lost answers."""

from __future__ import annotations

import time

import asyncpg
import pytest
import trio
from msgspec import UNSET
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe.events import DmDeleted, DmMessage, DmRead
from brewd.cafe.spam import Violation
from brewd.errors import Rejected, StoreError
from brewd.people.tokens import Identity
from brewd.runtime.bridge import Bridge
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.dm import SEND_S, Sent
from brewd.social.turns import UNSURE_MAX, Turns
from brewd.store.postgres import Postgres
from tests.patience import PATIENCE
from tests.social.channels import Corner, open_corner, run_sql

NOBODY = "01900000-0000-7000-8000-00000000dead"


@pytest.fixture
async def corner(pg: Postgres, clock: Clock, ids: Ids) -> Corner:
    return await open_corner(pg, clock, ids)


@pytest.fixture
async def ann(corner: Corner) -> Identity:
    return await corner.guest()


@pytest.fixture
async def bob(corner: Corner) -> Identity:
    return await corner.guest()


@pytest.fixture
async def ab(corner: Corner, ann: Identity, bob: Identity) -> str:
    return await corner.channel(ann, bob)


def told(corner: Corner, who: Identity) -> list[tuple[int, str]]:
    """The messages they were told, as (seq, content)."""
    return [(event.message.seq, event.message.content) for event in corner.ears.told.get(who.user_id, []) if isinstance(event, DmMessage)]


async def contents(corner: Corner, who: Identity, channel_id: str) -> list[tuple[int, str]]:
    return [(message.seq, message.content) for message in await corner.dms.messages(who, channel_id, limit=100)]


async def unread(corner: Corner, who: Identity) -> list[int]:
    return [channel.unread for channel in await corner.dms.channels(who)]


async def test_a_message_is_stored_numbered_and_told_to_both(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    first = await corner.dms.send(ann, ab, "  Hello <b>there</b> \U0001f375", "n1")
    second = await corner.dms.send(bob, ab, "Hi")
    message = first.message
    assert (message.channel_id, message.seq, message.user_id, message.username, message.content, message.deleted) == (
        ab, 1, ann.user_id, ann.username, "  Hello <b>there</b> \U0001f375", False,
    )  # fmt: skip
    assert (first.duplicate, first.warnings, second.message.seq) == (False, (), 2)
    assert corner.ears.told == {
        ann.user_id: [DmMessage(ab, message, "n1"), DmMessage(ab, second.message)],
        bob.user_id: [DmMessage(ab, message), DmMessage(ab, second.message)],  # Ann's name for it is nobody else's
    }
    assert await corner.dms.messages(bob, ab, limit=100) == await corner.dms.messages(ann, ab, limit=100) == [message, second.message]


async def test_pages(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    for n in range(1, 8):
        await corner.dms.send(ann if n % 2 else bob, ab, f"m{n}")

    async def page(limit: int, before: int | None = None) -> list[int]:
        return [message.seq for message in await corner.dms.messages(bob, ab, limit=limit, before=before)]

    assert [await page(3), await page(3, 5), await page(100, 2), await page(100, 1), await page(5, 2**53)] == [[5, 6, 7], [2, 3, 4], [1], [], [3, 4, 5, 6, 7]]


async def test_a_resend_is_answered_with_the_first_and_nobody_hears_of_it(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    first = await corner.dms.send(ann, ab, "Hello", "n1")
    corner.ears.refusal = Rejected("muted", "You are muted.")  # not even judged
    assert await corner.dms.send(ann, ab, "Something else", "n1") == Sent(first.message, duplicate=True)
    corner.ears.refusal = None
    assert (len(corner.ears.asked), corner.ears.orders) == (1, [])
    assert told(corner, bob) == told(corner, ann) == await contents(corner, ann, ab) == [(1, "Hello")]
    await corner.dms.delete(ann, first.message.id)
    again = await corner.dms.send(ann, ab, "Hello", "n1")
    assert (again.message.content, again.message.deleted, again.duplicate) == ("", True, True)


async def test_a_name_is_of_one_author_in_one_channel(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    cid = await corner.guest()
    ac = await corner.channel(ann, cid)
    sent = [await corner.dms.send(who, channel_id, content, "n1") for who, channel_id, content in ((ann, ab, "a"), (bob, ab, "b"), (ann, ac, "c"))]
    assert [(one.duplicate, one.message.seq, one.message.content) for one in sent] == [(False, 1, "a"), (False, 2, "b"), (False, 1, "c")]


async def test_sent_at_once_under_one_name_it_is_one(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    sent: list[Sent] = []

    async def send() -> None:
        sent.append(await corner.dms.send(ann, ab, "Hello", "n1"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(send)
    assert sorted(one.duplicate for one in sent) == [False] + [True] * 7
    assert {one.message for one in sent} == {sent[0].message}
    assert told(corner, bob) == [(1, "Hello")]
    assert [type(command) for command in corner.ears.asked] == [c.Whisper]  # and it repeats nothing


async def test_both_at_once_are_told_in_the_order_of_the_numbers(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    async def talk(who: Identity, name: str) -> None:
        for n in range(10):
            await corner.dms.send(who, ab, f"{name}{n}")

    async with trio.open_nursery() as nursery:
        for who, name in ((ann, "a"), (bob, "b"), (ann, "A"), (bob, "B")):
            nursery.start_soon(talk, who, name)
    stored = await contents(corner, ann, ab)
    assert [seq for seq, _ in stored] == list(range(1, 41))
    assert told(corner, ann) == told(corner, bob) == stored
    assert len(corner.dms._turns) == 0


# What is refused


@pytest.mark.parametrize("content", ["", "   ", "\n\t", "\u200b\u3164"])
async def test_there_must_be_something_to_read(corner: Corner, ann: Identity, ab: str, content: str) -> None:
    with pytest.raises(Rejected) as refused:
        await corner.dms.send(ann, ab, content)
    assert (refused.value.code, refused.value.extras["errors"][0]["path"]) == ("invalid_request", "content")


async def test_what_the_room_refuses_is_not_stored_and_a_warning_is_passed_on(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    corner.ears.refusal = Rejected("spam_blocked", "No.")
    with pytest.raises(Rejected, match="spam_blocked"):
        await corner.dms.send(ann, ab, "Hello")
    corner.ears.refusal, corner.ears.warnings = None, (Violation("capitals", "soft", "Loud."),)
    assert (await corner.dms.send(ann, ab, "HELLO")).warnings == corner.ears.warnings
    assert await contents(corner, bob, ab) == [(1, "HELLO")]
    assert corner.ears.orders == []


async def test_to_others_a_channel_is_not_there(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    message = (await corner.dms.send(ann, ab, "Hello")).message
    cid = await corner.guest()
    strangers = [cid, await Corner(corner.world, await corner.world.cafe()).guest()]
    before = list(corner.ears.asked)
    for who in strangers:
        refusals = []
        for channel_id, message_id in ((ab, message.id), (NOBODY, NOBODY)):
            for call in (
                corner.dms.messages(who, channel_id, limit=5), corner.dms.send(who, channel_id, "Hi"), corner.dms.read(who, channel_id, 1),
                corner.dms.typing(who, channel_id, on=True), corner.dms.delete(who, message_id),
            ):  # fmt: skip
                with pytest.raises(Rejected) as refused:
                    await call
                refusals.append(refused.value.data())
        assert refusals[:5] == refusals[5:]
        assert {refusal["code"] for refusal in refusals} == {"not_found"}
        assert await corner.dms.channels(who) == []
    assert corner.ears.asked == before
    assert corner.ears.told.keys() == {ann.user_id, bob.user_id}


async def test_who_has_no_part_in_a_channel_does_not_wait_for_those_who_have(corner: Corner, ann: Identity, ab: str) -> None:
    cid = await corner.guest()
    with corner.dms._turns.of(ab) as turn:
        async with turn.taken(1):
            for call in (corner.dms.send(cid, ab, "Hi"), corner.dms.read(cid, ab, 1)):
                with trio.fail_after(1 * PATIENCE), pytest.raises(Rejected, match="not_found"):
                    await call


# The other one


@pytest.mark.parametrize("how", ["ended", "expired", "banned"])
async def test_when_the_other_is_gone_what_was_said_stays_and_nothing_more_is_said(corner: Corner, ann: Identity, bob: Identity, ab: str, how: str) -> None:
    world = corner.world
    first = (await corner.dms.send(ann, ab, "Hello", "n1")).message
    if how == "ended":
        await world.users.expire(bob.user_id)
    elif how == "expired":
        await run_sql(world.pg, f"UPDATE customer SET expires_at = '2026-11-22T09:00:00Z' WHERE id = '{bob.user_id}'")
    else:
        world.sessions.ban(bob.user_id, world.clock.now_ms() + 60_000)
    refusals = []
    for call in (corner.dms.send(ann, ab, "Still there?"), corner.dms.typing(ann, ab, on=True)):
        with pytest.raises(Rejected) as refused:
            await call
        refusals.append(refused.value.data())
    assert refusals == [{"code": "conflict", "detail": "The other one is not here any more."}] * 2  # alike, however it came
    assert (await corner.dms.send(ann, ab, "Hello", "n1")).duplicate
    assert [channel.id for channel in await corner.dms.channels(ann)] == [ab]
    assert (await corner.dms.read(ann, ab, 1)).seq == 1
    assert (await corner.dms.delete(ann, first.id)).deleted
    if how == "banned":
        world.sessions.unban(bob.user_id)
        assert (await corner.dms.send(ann, ab, "Welcome back")).message.seq == 2


async def test_an_erased_user_takes_the_channel_with_them(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    message = (await corner.dms.send(ann, ab, "Hello")).message
    await run_sql(corner.world.pg, f"DELETE FROM customer WHERE id = '{bob.user_id}'")
    for call in (corner.dms.messages(ann, ab, limit=5), corner.dms.send(ann, ab, "Hi"), corner.dms.delete(ann, message.id)):
        with pytest.raises(Rejected, match="not_found"):
            await call
    assert await corner.dms.channels(ann) == []


# Channels, reading, deleting


async def test_channels_are_listed_with_the_newest_first(corner: Corner, ann: Identity, bob: Identity, ab: str, mock_clock: MockClock) -> None:
    cid, dan = await corner.guest(), await corner.guest()
    mock_clock.jump(1)
    ac = await corner.channel(ann, cid)
    mock_clock.jump(1)
    ad = await corner.channel(dan, ann)
    opened = [(channel.id, channel.last_message is UNSET, channel.unread) for channel in await corner.dms.channels(ann)]
    assert opened == [(ad, True, 0), (ac, True, 0), (ab, True, 0)]
    mock_clock.jump(1)
    message = (await corner.dms.send(bob, ab, "Hello")).message
    corner.ears.present = frozenset({bob.user_id, ann.user_id})
    newest, *rest = await corner.dms.channels(ann)
    assert (newest.id, newest.user.id, newest.user.username, newest.user.online) == (ab, bob.user_id, bob.username, True)
    assert (newest.last_message, newest.last_message_at, newest.unread) == (message, message.created_at, 1)
    assert [(channel.id, channel.user.id, channel.user.online) for channel in rest] == [(ad, dan.user_id, False), (ac, cid.user_id, False)]
    deleted = await corner.dms.delete(bob, message.id)
    (newest, *_) = await corner.dms.channels(ann)
    assert (newest.last_message, newest.unread, deleted.content) == (deleted, 0, "")


async def test_reading_goes_forward_only_and_no_further_than_there_is(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    for n in range(5):
        await corner.dms.send(ann if n != 2 else bob, ab, f"m{n}")
    assert [await unread(corner, bob), await unread(corner, ann)] == [[4], [1]]
    corner.ears.told.clear()
    stands = [((read := await corner.dms.read(bob, ab, seq)).seq, read.unread) for seq in (2, 1, 0, 2, 4, 2**53 - 1, 5)]
    assert stands == [(2, 2), (2, 2), (2, 2), (2, 2), (4, 1), (5, 0), (5, 0)]
    assert corner.ears.told == {bob.user_id: [DmRead(ab, 2, 2), DmRead(ab, 4, 1), DmRead(ab, 5, 0)]}  # nobody else hears, nor of what changes nothing
    assert [await unread(corner, bob), await unread(corner, ann)] == [[0], [1]]


async def test_what_is_deleted_is_gone_from_every_answer(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    message = (await corner.dms.send(ann, ab, "Secret", "n1")).message
    with pytest.raises(Rejected, match="forbidden"):
        await corner.dms.delete(bob, message.id)
    corner.ears.told.clear()
    deleted = await corner.dms.delete(ann, message.id)
    assert (deleted.id, deleted.seq, deleted.content, deleted.deleted, deleted.created_at) == (message.id, 1, "", True, message.created_at)
    assert await corner.dms.delete(ann, message.id) == deleted
    assert corner.ears.told == {who.user_id: [DmDeleted(ab, message.id)] for who in (ann, bob)}  # once
    answers = [await corner.dms.messages(bob, ab, limit=5), await corner.dms.channels(bob), await corner.dms.send(ann, ab, "Secret", "n1")]
    assert "Secret" not in repr(answers)
    assert await unread(corner, bob) == [0]
    assert (await corner.dms.send(bob, ab, "Next")).message.seq == 2


# Lost answers


async def lost(corner: Corner, who: Identity, channel_id: str, content: str, name: str | None, *, loses: str) -> None:
    corner.pg.loses = loses
    with pytest.raises(StoreError):
        await corner.dms.send(who, channel_id, content, name)


async def test_what_was_stored_without_an_answer_is_told_before_what_comes_next(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    await corner.dms.send(bob, ab, "one")
    await lost(corner, ann, ab, "two", "n2", loses="after")
    await lost(corner, ann, ab, "three", "n3", loses="after")
    assert told(corner, bob) == [(1, "one"), (2, "two")]  # the second told it, and was lost itself
    assert (await corner.dms.send(bob, ab, "four")).message.seq == 4
    assert told(corner, ann) == told(corner, bob) == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]
    assert (await corner.dms.send(ann, ab, "three", "n3")).duplicate
    assert len(told(corner, bob)) == 4
    assert len(corner.dms._turns) == 0


@pytest.mark.parametrize("loses", ["before", "after"])
async def test_sent_again_after_a_lost_answer_it_is_there_once_and_told_once(corner: Corner, ann: Identity, bob: Identity, ab: str, loses: str) -> None:
    corner.ears.warnings = (Violation("capitals", "soft", "Loud."),)
    await lost(corner, ann, ab, "HELLO", "n1", loses=loses)
    assert corner.ears.orders == [c.Unsay(ann.user_id, ab, "HELLO", warned=True)]
    assert told(corner, bob) == []
    again = await corner.dms.send(ann, ab, "HELLO", "n1")
    assert again.duplicate is (loses == "after")
    assert told(corner, ann) == told(corner, bob) == await contents(corner, ann, ab) == [(1, "HELLO")]
    assert corner.ears.told[ann.user_id][0] == DmMessage(ab, again.message, "n1")


async def test_one_that_is_late_does_not_come_in_behind_what_was_told(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    await lost(corner, ann, ab, "late", "n1", loses="late")
    await corner.dms.send(bob, ab, "next")
    assert await corner.pg.arrive() == [None]
    assert not (await corner.dms.send(ann, ab, "late", "n1")).duplicate
    assert told(corner, ann) == told(corner, bob) == await contents(corner, ann, ab) == [(1, "next"), (2, "late")]


@pytest.mark.parametrize("by_itself", [True, False])
async def test_one_that_is_late_and_comes_in_at_the_last_moment_is_told_first(corner: Corner, ann: Identity, bob: Identity, ab: str, by_itself: bool) -> None:
    await lost(corner, ann, ab, "late", "n1", loses="late")
    corner.pg.meanwhile = corner.pg.arrive
    if by_itself:
        assert (await corner.dms.send(bob, ab, "next", "n1")).message.seq == 2
    else:  # it was the very same
        assert (await corner.dms.send(ann, ab, "late", "n1")).duplicate
        assert corner.ears.orders == [c.Unsay(ann.user_id, ab, "late", warned=False)] * 2
    assert told(corner, ann) == told(corner, bob) == await contents(corner, ann, ab) == [(1, "late"), (2, "next")][: 1 + by_itself]


async def test_sent_again_while_it_is_being_deleted_it_is_not_shown_again(corner: Corner, ann: Identity, ab: str, nursery: trio.Nursery) -> None:
    message = (await corner.dms.send(ann, ab, "Secret", "n1")).message
    answers: list[Sent] = []

    async def again() -> None:
        answers.append(await corner.dms.send(ann, ab, "Secret", "n1"))

    with corner.dms._turns.of(ab) as turn:
        async with turn.taken(1):
            nursery.start_soon(again)
            with trio.fail_after(1 * PATIENCE):
                while not turn._lock.statistics().tasks_waiting:
                    await trio.sleep(0.001)
            await run_sql(corner.world.pg, f"UPDATE dm_message SET content = '', deleted_at = now() WHERE id = '{message.id}'")
        async with turn.taken(1 * PATIENCE):
            pass  # after them
    assert answers[0].message.content == ""


async def test_a_deletion_without_an_answer_is_told_when_it_is_asked_for_again(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    message = (await corner.dms.send(ann, ab, "Secret")).message
    corner.ears.told.clear()
    corner.pg.loses = "after"
    with pytest.raises(StoreError):
        await corner.dms.delete(ann, message.id)
    await corner.dms.delete(ann, message.id)
    assert corner.ears.told == {who.user_id: [DmDeleted(ab, message.id)] for who in (ann, bob)}


async def test_one_that_comes_in_late_is_told_in_its_place_or_is_not_there(
    corner: Corner, bridge: Bridge, postgres_dsn: str, ann: Identity, bob: Identity, ab: str
) -> None:
    """Somebody holds the channel's row, so the write waits in Postgres, is given up, and may be done all the same once the row is free."""
    holder = await bridge.call(asyncpg.connect, postgres_dsn)
    await bridge.call(holder.execute, "BEGIN")
    await bridge.call(holder.execute, f"SELECT 1 FROM dm_channel WHERE id = '{ab}' FOR UPDATE")
    before = time.monotonic()
    with pytest.raises(StoreError):
        await corner.dms.send(ann, ab, "late", "n1")
    assert time.monotonic() - before < SEND_S
    assert told(corner, bob) == []
    await bridge.call(holder.execute, "COMMIT")
    await corner.dms.send(bob, ab, "next")
    await corner.dms.send(ann, ab, "late", "n1")
    stored = await contents(corner, ann, ab)
    assert sorted(content for _, content in stored) == ["late", "next"]
    assert [seq for seq, _ in stored] == [1, 2]
    assert told(corner, ann) == told(corner, bob) == stored
    await bridge.call(holder.close)


async def test_a_caller_who_leaves_leaves_nothing_untold_or_locked(corner: Corner, ann: Identity, bob: Identity, ab: str) -> None:
    for checkpoints in range(1, 12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(corner.dms.send, ann, ab, f"gone {checkpoints}")
                for _ in range(checkpoints * 3):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
    await corner.dms.send(bob, ab, "last")
    stored = await contents(corner, ann, ab)
    assert told(corner, ann) == told(corner, bob) == stored
    assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
    assert len(corner.dms._turns) == 0


async def test_unsure_channels_are_not_remembered_without_end() -> None:
    turns = Turns()
    for n in range(UNSURE_MAX + 5):
        with turns.of(f"channel-{n}") as turn:
            turn.unsure = True
    assert len(turns) == UNSURE_MAX
    with turns.of("channel-1") as turn:
        turn.unsure = False
    assert len(turns) == UNSURE_MAX - 1
