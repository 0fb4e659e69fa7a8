"""One contract, two stores: what `Messages` promises holds on the real Postgres and on the tables the simulation runs on.

So whatever the simulation shows of rooms and the journal, it shows of a store that answers like Postgres.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from brewd.errors import StoreConflict, StoreError
from brewd.runtime.clock import rfc3339
from brewd.store.messages import Messages, _entry_columns
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres
from brewd.store.records import Batch, Commit, Entry, Line, Message, Redaction, Settled
from tests.sim.store import Direct, Tables

START_MS = 1_795_341_600_000
ANN, BOB = (str(uuid.UUID(int=n)) for n in (0xA, 0xB))
NOBODY = str(uuid.UUID(int=0xDEAD))


class Bench:
    """A store to be tried, with two cafés in it."""

    def __init__(self, messages: Messages) -> None:
        self.messages = messages
        self.cafe, self.other = (str(uuid.UUID(int=n)) for n in (0xC1, 0xC2))
        self._ids = itertools.count(1)

    async def open(self, cafe_id: str = "") -> Line:
        line = await self.messages.open_line(cafe_id or self.cafe)
        assert line is not None
        return line

    def entry(
        self, seq: int, *, cafe_id: str = "", user_id: str = ANN, key: str | None = None, content: str = "", id: str = "", badge: str | None = None
    ) -> Entry:
        at_ms = START_MS + seq * 1001
        message_id = id or str(uuid.UUID(int=0x1000 + next(self._ids)))
        message = Message(message_id, cafe_id or self.cafe, seq, user_id, f"name of {user_id[-1]}", badge, content or f"says {seq}", rfc3339(at_ms))
        return Entry(message, key, at_ms)

    def batch(self, generation: int, *entries: Entry, redactions: tuple[Redaction, ...] = (), cafe_id: str = "") -> Batch:
        first = entries[0] if entries else None
        cafe_id = cafe_id or (first.message.cafe_id if first else self.cafe)
        return Batch(cafe_id, generation, first.message.seq if first else 1, entries, redactions)

    async def write(self, *entries: Entry, generation: int) -> None:
        """A batch that must go in."""
        commit = await self.messages.commit([self.batch(generation, *entries)])
        assert commit.cafe_ids == {entries[0].message.cafe_id}

    async def stored(self, cafe_id: str = "") -> list[str]:
        return [message.content for message in await self.messages.after(cafe_id or self.cafe, 0, 1000)]


@pytest.fixture(params=["memory", "postgres"])
async def bench(request: pytest.FixtureRequest, pg: Postgres) -> AsyncIterator[Bench]:
    epoch = str(uuid.UUID(int=0xE))
    if request.param == "memory":
        tables = Tables()
        wire = Direct(tables)
        made = Bench(Messages(lane=wire, pool=wire, timeout_s=5.0))
        for cafe_id in (made.cafe, made.other):
            tables.add_cafe(cafe_id, epoch)
        yield made
        return
    async with pg.lane() as lane:
        made = Bench(Messages(lane=lane, pool=pg, timeout_s=5.0))
        for cafe_id in (made.cafe, made.other):
            await pg.transaction(_add_cafe, cafe_id, epoch)
        yield made


async def _add_cafe(tx: Tx, cafe_id: str, epoch: str) -> None:
    await tx.script(
        f"INSERT INTO cafe (id, name, created_at) VALUES ('{cafe_id}', 'C', now()); INSERT INTO cafe_line (cafe_id, epoch) VALUES ('{cafe_id}', '{epoch}')"
    )


# Opening and reading.


async def test_each_opening_is_a_new_generation_of_the_same_line(bench: Bench) -> None:
    first, second = await bench.open(), await bench.open()
    assert second == Line(first.cafe_id, first.epoch, first.generation + 1, 0)
    await bench.write(bench.entry(1), bench.entry(2), generation=second.generation)
    assert await bench.open() == Line(first.cafe_id, first.epoch, second.generation + 1, 2)


async def test_there_is_no_line_without_a_cafe(bench: Bench) -> None:
    assert await bench.messages.open_line(NOBODY) is None
    assert (await bench.messages.commit([bench.batch(1, bench.entry(1, cafe_id=NOBODY))])).cafe_ids == frozenset()


async def test_what_was_written_is_read_as_it_was(bench: Bench) -> None:
    line = await bench.open()
    entries = [bench.entry(1, content="5 < 6 & ünïcode 🍵", badge="regular"), bench.entry(2, user_id=BOB, key="k")]
    await bench.write(*entries, generation=line.generation)
    recent = await bench.messages.recent(bench.cafe, 10)
    assert recent.messages == [entry.message for entry in entries]
    assert recent.keys == {(BOB, "k"): entries[1].message}
    assert await bench.messages.known([(BOB, "k"), (ANN, "k"), (BOB, "other")]) == recent.keys


async def test_pages_are_ascending_and_end_where_asked(bench: Bench) -> None:
    line = await bench.open()
    await bench.write(*(bench.entry(seq) for seq in range(1, 8)), generation=line.generation)
    messages = bench.messages
    assert [m.seq for m in (await messages.recent(bench.cafe, 3)).messages] == [5, 6, 7]
    assert [m.seq for m in await messages.after(bench.cafe, 2, 3)] == [3, 4, 5]
    assert [m.seq for m in await messages.before(bench.cafe, 6, 2)] == [4, 5]
    assert await messages.after(bench.cafe, 7, 5) == await messages.after(bench.cafe, 99, 5) == await messages.before(bench.cafe, 1, 5) == []
    assert await messages.after(bench.other, 0, 5) == await messages.after(NOBODY, 0, 5) == []
    assert await messages.known([]) == {}


# One writer, one order.


async def test_an_older_generation_writes_nothing(bench: Bench) -> None:
    old, new = await bench.open(), await bench.open()
    assert (await bench.messages.commit([bench.batch(old.generation, bench.entry(1, content="late"))])).cafe_ids == frozenset()
    await bench.write(bench.entry(1, content="in time"), generation=new.generation)
    assert await bench.stored() == ["in time"]


async def test_a_generation_nobody_handed_out_writes_nothing(bench: Bench) -> None:
    line = await bench.open()
    assert (await bench.messages.commit([bench.batch(line.generation + 1, bench.entry(1))])).cafe_ids == frozenset()
    assert await bench.stored() == []


@pytest.mark.parametrize("first", [1, 2, 4], ids=["used twice", "used once", "a gap"])
async def test_a_batch_must_follow_on(bench: Bench, first: int) -> None:
    line = await bench.open()
    await bench.write(bench.entry(1), bench.entry(2), generation=line.generation)
    wrong = bench.batch(line.generation, bench.entry(first, content="wrong"), bench.entry(first + 1, content="wrong"))
    assert (await bench.messages.commit([wrong])).cafe_ids == frozenset()
    await bench.write(bench.entry(3), generation=line.generation)
    assert await bench.stored() == ["says 1", "says 2", "says 3"]


async def test_cafes_share_a_commit_and_the_fenced_one_is_left_out(bench: Bench) -> None:
    mine, old = await bench.open(), await bench.open(bench.other)
    await bench.open(bench.other)
    batches = [bench.batch(mine.generation, bench.entry(1)), bench.batch(old.generation, bench.entry(1, cafe_id=bench.other))]
    assert (await bench.messages.commit(batches)).cafe_ids == {bench.cafe}
    assert (await bench.stored(), await bench.stored(bench.other)) == (["says 1"], [])


# Exactly once.


async def test_a_known_client_id_refuses_the_whole_commit(bench: Bench) -> None:
    line, other = await bench.open(), await bench.open(bench.other)
    await bench.write(bench.entry(1, key="k"), generation=line.generation)
    batches = [
        bench.batch(other.generation, bench.entry(1, cafe_id=bench.other, user_id=BOB)),
        bench.batch(line.generation, bench.entry(2), bench.entry(3, key="k")),
    ]
    with pytest.raises(StoreConflict) as conflict:
        await bench.messages.commit(batches)
    assert conflict.value.constraint == "message_client_msg_id_key"
    assert (await bench.stored(), await bench.stored(bench.other)) == (["says 1"], [])
    await bench.write(bench.entry(2), generation=line.generation)  # its number was not used up
    await bench.write(bench.entry(1, cafe_id=bench.other), generation=other.generation)


async def test_a_client_id_twice_in_one_commit_is_refused(bench: Bench) -> None:
    line = await bench.open()
    with pytest.raises(StoreConflict):
        await bench.messages.commit([bench.batch(line.generation, bench.entry(1, key="k"), bench.entry(2, key="k"))])
    assert await bench.stored() == []


async def test_client_ids_are_each_users_own_and_may_be_missing(bench: Bench) -> None:
    line = await bench.open()
    await bench.write(bench.entry(1, key="k"), bench.entry(2, key="k", user_id=BOB), bench.entry(3), bench.entry(4), generation=line.generation)
    assert len(await bench.stored()) == 4


async def test_a_fenced_batch_is_fenced_even_when_its_client_id_is_known(bench: Bench) -> None:
    old = await bench.open()
    await bench.write(bench.entry(1, key="k"), generation=old.generation)
    await bench.open()
    assert (await bench.messages.commit([bench.batch(old.generation, bench.entry(2, key="k"))])).cafe_ids == frozenset()


async def test_a_message_id_is_used_once(bench: Bench) -> None:
    line = await bench.open()
    one = bench.entry(1)
    await bench.write(one, generation=line.generation)
    with pytest.raises(StoreConflict) as conflict:
        await bench.messages.commit([bench.batch(line.generation, bench.entry(2, id=one.message.id))])
    assert conflict.value.constraint == "message_id_key"


async def test_what_the_store_cannot_hold_is_an_error_of_its_own_and_writes_nothing(bench: Bench) -> None:
    line, other = await bench.open(), await bench.open(bench.other)
    batches = [bench.batch(line.generation, bench.entry(1, content="a \0 b")), bench.batch(other.generation, bench.entry(1, cafe_id=bench.other))]
    with pytest.raises(Exception, match="0x00") as error:
        await bench.messages.commit(batches)
    assert not isinstance(error.value, StoreError | StoreConflict)
    assert (await bench.stored(), await bench.stored(bench.other)) == ([], [])


# A commit without an answer.


async def test_settling_finds_what_was_committed(bench: Bench) -> None:
    line = await bench.open()
    batch = bench.batch(line.generation, bench.entry(1), bench.entry(2))
    await bench.messages.commit([batch])
    assert await bench.messages.settle([batch]) == [Settled(bench.cafe, line.generation + 1, True)]
    await bench.write(bench.entry(3), generation=line.generation + 1)


async def test_settling_fences_off_what_was_not_committed(bench: Bench) -> None:
    line = await bench.open()
    batch = bench.batch(line.generation, bench.entry(1, content="late"))
    assert await bench.messages.settle([batch]) == [Settled(bench.cafe, line.generation + 1, False)]
    assert (await bench.messages.commit([batch])).cafe_ids == frozenset()
    await bench.write(bench.entry(1, content="again"), generation=line.generation + 1)
    assert await bench.stored() == ["again"]


async def test_settling_a_line_somebody_else_holds_gives_no_generation(bench: Bench) -> None:
    line = await bench.open()
    batch = bench.batch(line.generation, bench.entry(1))
    await bench.messages.commit([batch])
    taken = await bench.open()
    assert await bench.messages.settle([batch]) == [Settled(bench.cafe, None, True)]
    await bench.write(bench.entry(2), generation=taken.generation)  # the new owner notices nothing


async def test_settling_twice_gives_no_second_generation(bench: Bench) -> None:
    line = await bench.open()
    batch = bench.batch(line.generation, bench.entry(1))
    await bench.messages.settle([batch])
    assert await bench.messages.settle([batch]) == [Settled(bench.cafe, None, False)]


async def test_each_cafe_of_a_commit_is_settled_by_itself(bench: Bench) -> None:
    line, other = await bench.open(), await bench.open(bench.other)
    went, stayed = bench.batch(line.generation, bench.entry(1)), bench.batch(other.generation, bench.entry(1, cafe_id=bench.other))
    await bench.messages.commit([went])
    settled = {s.cafe_id: (s.generation, s.committed) for s in await bench.messages.settle([stayed, went])}
    assert settled == {bench.cafe: (line.generation + 1, True), bench.other: (other.generation + 1, False)}


# Deleting.


def gone(message: Message) -> Message:
    return Message(message.id, message.cafe_id, message.seq, message.user_id, message.username, message.badge, "", message.created_at, True)


async def test_a_deletion_empties_the_message_for_every_reader(bench: Bench) -> None:
    line = await bench.open()
    one = bench.entry(1, key="k")
    await bench.write(one, bench.entry(2), generation=line.generation)
    redaction = Redaction(one.message.id, ANN, START_MS + 5000)
    commit = await bench.messages.commit([bench.batch(line.generation, redactions=(redaction,))])
    assert commit == Commit(frozenset({bench.cafe}), {one.message.id: gone(one.message)})
    recent = await bench.messages.recent(bench.cafe, 10)
    assert recent.messages[0] == gone(one.message)
    assert recent.keys == await bench.messages.known([(ANN, "k")]) == {(ANN, "k"): gone(one.message)}
    assert (await bench.messages.after(bench.cafe, 0, 1))[0] == (await bench.messages.before(bench.cafe, 2, 1))[0] == gone(one.message)
    again = await bench.messages.commit([bench.batch(line.generation, redactions=(redaction, redaction))])
    assert again.redacted == commit.redacted


@pytest.mark.parametrize(("by", "deleted"), [(ANN, True), (None, True), (BOB, False)], ids=["author", "moderator", "stranger"])
async def test_who_may_delete(bench: Bench, by: str | None, deleted: bool) -> None:
    line = await bench.open()
    one = bench.entry(1)
    await bench.write(one, generation=line.generation)
    commit = await bench.messages.commit([bench.batch(line.generation, redactions=(Redaction(one.message.id, by, START_MS),))])
    assert (set(commit.cafe_ids), set(commit.redacted)) == ({bench.cafe}, {one.message.id} if deleted else set())
    assert await bench.stored() == ["" if deleted else "says 1"]


async def test_nothing_is_deleted_by_an_old_writer_or_from_another_cafe(bench: Bench) -> None:
    line, other = await bench.open(), await bench.open(bench.other)
    one = bench.entry(1)
    await bench.write(one, generation=line.generation)
    redaction = (Redaction(one.message.id, None, START_MS), Redaction(NOBODY, None, START_MS))
    foreign = await bench.messages.commit([bench.batch(other.generation, redactions=redaction, cafe_id=bench.other)])
    assert foreign == Commit(frozenset({bench.other}))
    await bench.open()
    late = await bench.messages.commit([bench.batch(line.generation, redactions=redaction)])
    assert late == Commit(frozenset())
    assert await bench.stored() == ["says 1"]


async def test_one_commit_writes_for_one_cafe_and_deletes_for_another(bench: Bench) -> None:
    line, other = await bench.open(), await bench.open(bench.other)
    one = bench.entry(1)
    await bench.write(one, generation=line.generation)
    batches = [
        bench.batch(line.generation, redactions=(Redaction(one.message.id, ANN, START_MS),)),
        bench.batch(other.generation, bench.entry(1, cafe_id=bench.other)),
    ]
    commit = await bench.messages.commit(batches)
    assert (set(commit.cafe_ids), set(commit.redacted)) == ({bench.cafe, bench.other}, {one.message.id})


async def test_a_deletion_is_never_settled_as_done(bench: Bench) -> None:
    line = await bench.open()
    one = bench.entry(1)
    await bench.write(one, generation=line.generation)
    batch = bench.batch(line.generation, redactions=(Redaction(one.message.id, ANN, START_MS),))
    await bench.messages.commit([batch])
    assert await bench.messages.settle([batch]) == [Settled(bench.cafe, line.generation + 1, False)]  # to do it again is harmless


# What only a real database can show.


async def test_settling_waits_for_a_commit_that_is_still_under_way(pg: Postgres) -> None:
    """The lock on the line is what makes "not there" final: without waiting, this commit would be called lost and then appear."""
    async with pg.lane() as lane:
        bench = Bench(Messages(lane=lane, pool=pg, timeout_s=5.0))
        await pg.transaction(_add_cafe, bench.cafe, str(uuid.UUID(int=0xE)))
        line = await bench.open()
        batch = bench.batch(line.generation, bench.entry(1))
        written, settled = trio.Event(), []
        go_on: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

        async def slowly(tx: Tx) -> None:
            go_on.append((asyncio.get_running_loop(), asyncio.Event()))
            await tx.fetch("line_commit", *_entry_columns([batch]))
            token.run_sync_soon(written.set)
            await go_on[0][1].wait()

        async def settle() -> None:
            settled.extend(await bench.messages.settle([batch]))

        token: Any = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pg.transaction, slowly)
            await written.wait()
            nursery.start_soon(settle)
            await trio.sleep(0.05)  # time enough for an answer, if it did not wait
            assert settled == []
            go_on[0][0].call_soon_threadsafe(go_on[0][1].set)
        assert settled == [Settled(bench.cafe, line.generation + 1, True)]
