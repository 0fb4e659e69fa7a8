"""The queries a room opens with, on the real Postgres and on the tables of the simulation: the same questions, the same answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from brewd.runtime.clock import as_datetime
from brewd.store.messages import Messages, Queries
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres
from brewd.store.records import Batch, Entry, Message, Redaction
from tests.sim.store import Direct, Tables

START_MS = 1_795_341_600_000
CAFE, OTHER, ANN, BOB, STAY = (str(uuid.UUID(int=n)) for n in (0xC1, 0xC2, 0xA, 0xB, 0x5))


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, pg: Postgres) -> Queries:
    if request.param == "memory":
        tables = Tables()
        for cafe_id in (CAFE, OTHER):
            tables.add_cafe(cafe_id, "epoch")
        return Direct(tables)
    for cafe_id in (CAFE, OTHER):
        await pg.transaction(_add_cafe, cafe_id)
    return pg


async def _add_cafe(tx: Tx, cafe_id: str) -> None:
    await tx.script(
        f"INSERT INTO cafe (id, name, created_at) VALUES ('{cafe_id}', 'C', now()); INSERT INTO cafe_line (cafe_id, epoch) VALUES ('{cafe_id}', '{CAFE}')"
    )


def act(n: int, action: str, at_ms: int, *, cafe_id: str = CAFE, until_ms: int | None = None) -> Sequence[Any]:
    until = None if until_ms is None else as_datetime(START_MS + until_ms)
    return str(uuid.UUID(int=1000 - n)), cafe_id, action, ANN, "ann", None, None, "rule", f"reason {n}", until, None, as_datetime(START_MS + at_ms)


def use(n: int, action: str | None, at_ms: int, *, cafe_id: str = CAFE, reset: bool = False) -> Sequence[Any]:
    return str(uuid.UUID(int=n)), cafe_id, BOB, action, None if reset else STAY, reset, as_datetime(START_MS + at_ms)


async def add(store: Queries, name: str, *rows: Sequence[Any]) -> None:
    assert await store.fetch(name, *map(list, zip(*rows, strict=True))) == []


async def test_acts_are_read_as_they_were_decided(store: Queries) -> None:
    rows = [act(1, "mute", 50, until_ms=900), act(2, "block", 70), act(3, "unmute", 60), act(4, "kick", 65), act(5, "block", 20), act(6, "mute", 10)]
    await add(store, "moderation_add", *rows)
    await add(store, "moderation_add", act(7, "mute", 70, until_ms=5), act(8, "block", 80, cafe_id=OTHER), rows[0])
    found = await store.fetch("standing_acts", CAFE, as_datetime(START_MS + 10), as_datetime(START_MS + 20), as_datetime(START_MS))
    # In the order of time, and of two at the same time as they came; whatever is as old as the bound is too old.
    assert [(row["action"], row["reason"]) for row in found] == [("mute", "reason 1"), ("unmute", "reason 3"), ("block", "reason 2"), ("mute", "reason 7")]
    assert (found[0]["user_id"], found[0]["created_at"], found[0]["until_at"]) == (ANN, as_datetime(START_MS + 50), as_datetime(START_MS + 900))
    assert found[1]["until_at"] is None


async def test_uses_are_read_in_the_order_of_time(store: Queries) -> None:
    await add(
        store, "limit_use_add", use(1, "poke", 30), use(2, "agent", 20), use(3, None, 40, reset=True), use(4, "poke", 10), use(5, "poke", 50, cafe_id=OTHER)
    )
    await add(store, "limit_use_add", use(1, "poke", 99))
    found = await store.fetch("standing_used", CAFE, as_datetime(START_MS + 10))
    assert [(row["action"], row["user_id"], row["session_id"], row["reset"]) for row in found] == [
        ("agent", BOB, STAY, False), ("poke", BOB, STAY, False), (None, BOB, None, True),
    ]  # fmt: skip
    assert [row["at"] for row in found] == [as_datetime(START_MS + at_ms) for at_ms in (20, 30, 40)]


async def test_messages_count_deleted_or_not(store: Queries) -> None:
    messages = Messages(lane=store, pool=store, timeout_s=5.0)
    for cafe_id in (CAFE, OTHER):
        line = await messages.open_line(cafe_id)
        assert line is not None
        entries = tuple(
            Entry(Message(str(uuid.UUID(int=1000 * uuid.UUID(cafe_id).int + seq)), cafe_id, seq, *author, "x", ""), None, START_MS + seq)
            for seq, author in enumerate([(ANN, "ann", None), (BOB, "bob", None), (ANN, "ann", None), (ANN, "ann", "regular"), (BOB, "bob", None)], 1)
        )
        await messages.commit([Batch(cafe_id, line.generation, 1, entries)])
        await messages.commit([Batch(cafe_id, line.generation, 6, (), (Redaction(entries[3].message.id, None, START_MS),))])

    async def sent(newest: int, since_ms: int) -> dict[str, list[tuple[int, bool]]]:
        rows = await store.fetch("message_sent", CAFE, newest, as_datetime(START_MS + since_ms))
        assert {(row["user_id"], row["username"]) for row in rows} <= {(ANN, "ann"), (BOB, "bob")}
        return {row["username"]: [(at_ms - START_MS, badged) for at_ms, badged in zip(row["at_ms"], row["badged"], strict=True)] for row in rows}

    ann, bob = [(1, False), (3, False), (4, True)], [(2, False), (5, False)]
    assert await sent(100, 0) == {"ann": ann, "bob": bob}
    assert await sent(3, 0) == await sent(100, 2) == {"ann": ann[1:], "bob": bob[1:]}
    assert await sent(1, 0) == {"bob": bob[1:]}
    assert await sent(1, 5) == {}
