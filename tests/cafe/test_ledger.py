"""The ledger: decisions reach the real Postgres once and in their order, whatever becomes of it meanwhile."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.cafe.effects import Record, Used
from brewd.cafe.ledger import BATCH_MAX, GATHER_S, RETRY_S, Ledger
from brewd.errors import StoreError
from brewd.runtime.clock import Clock, as_datetime, as_ms
from brewd.runtime.ids import Ids
from brewd.runtime.supervisor import Restart, open_supervisor
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres

ANN = str(uuid.UUID(int=0xA))
CAFE, OTHER = (str(uuid.UUID(int=n)) for n in (0xC1, 0xC2))
STAY = str(uuid.UUID(int=0x5))


class Away:
    """The way to Postgres, or to nothing. `down`: no query arrives; `lost`: the next one does, and its answer does not."""

    def __init__(self, pg: Any = None) -> None:
        self.pg = pg
        self.down = False
        self.lost = False
        self.sizes: list[int] = []

    async def fetch(self, name: str, *args: Any, timeout_s: float = 5.0) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(args[0]))
        if self.down:
            raise StoreError("down")
        rows = await self.pg.fetch(name, *args) if self.pg is not None else []
        if self.lost:
            self.lost = False
            raise StoreError("no answer in time")
        return list(rows)


@pytest.fixture
async def cafes(pg: Postgres, clock: Clock, ids: Ids) -> None:
    for cafe_id in (CAFE, OTHER):
        await pg.transaction(_add_cafe, cafe_id)


async def _add_cafe(tx: Any, cafe_id: str) -> None:
    await tx.script(f"INSERT INTO cafe (id, name, created_at) VALUES ('{cafe_id}', 'C', now())")


def block(at_ms: int, reason: str = "too loud") -> Record:
    return Record("block", ANN, "ann", at_ms, rule="capitals", reason=reason)


async def kept(pg: Postgres, cafe_id: str = CAFE) -> list[tuple[str, str, int]]:
    return [(row["action"], row["reason"], as_ms(row["created_at"])) for row in reversed(await pg.fetch("moderation_log", cafe_id, None, None, 1000))]


async def test_what_is_noted_is_kept_as_it_was(pg: Postgres, cafes: None, clock: Clock, ids: Ids, nursery: trio.Nursery) -> None:
    ledger = Ledger(pg=pg, ids=ids)
    nursery.start_soon(ledger.run)
    now_ms = clock.now_ms()
    message_id = ids.uuid7()
    ledger.note(CAFE, block(now_ms))
    ledger.note(CAFE, Record("mute", ANN, "ann", now_ms + 1, rule="blocks", reason="Too much.", until_ms=now_ms + 5000))
    ledger.note(CAFE, Record("delete", ANN, "ann", now_ms + 2, by=ids.uuid7(), by_name="mo", message_id=message_id))
    ledger.note(OTHER, Used("poke", ANN, STAY, now_ms + 3))
    ledger.note(OTHER, Used("agent", ANN, "", now_ms + 4))
    await ledger.settled()
    assert len(ledger) == 0
    delete, mute, blocked = await pg.fetch("moderation_log", CAFE, None, None, 10)
    assert (blocked["rule"], blocked["staff_name"], blocked["until_at"]) == ("capitals", None, None)
    assert (mute["rule"], as_ms(mute["until_at"]), mute["username"]) == ("blocks", now_ms + 5000, "ann")
    # The account is not there (any more): the name stays.
    assert (delete["staff_id"], delete["staff_name"], delete["message_id"]) == (None, "mo", message_id)
    used = await pg.fetch("standing_used", OTHER, as_datetime(0))
    assert [(row["action"], row["user_id"], row["session_id"], row["reset"]) for row in used] == [("poke", ANN, STAY, False), ("agent", ANN, None, False)]
    ledger.note(CAFE, block(now_ms + 9, "later"))
    await ledger.settled(CAFE)
    assert (await kept(pg))[-1] == ("block", "later", now_ms + 9)


async def test_everything_is_written_once_when_postgres_is_back(
    pg: Postgres, cafes: None, clock: Clock, ids: Ids, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brewd.cafe.ledger.RETRY_S", 0.01)
    monkeypatch.setattr("brewd.cafe.ledger.SETTLE_S", 0.05)
    away = Away(pg)
    ledger = Ledger(pg=away, ids=ids)
    away.down = True
    now_ms = clock.now_ms()
    for n in range(BATCH_MAX + 5):
        ledger.note(CAFE, block(now_ms + n, f"n{n}"))
    nursery.start_soon(ledger.run)
    with pytest.raises(StoreError):
        await ledger.settled(CAFE)
    await ledger.settled(OTHER)
    away.down, away.lost = False, True  # the first batch arrives twice
    monkeypatch.setattr("brewd.cafe.ledger.SETTLE_S", 10.0)
    await ledger.settled()
    assert [reason for _, reason, _ in await kept(pg)] == [f"n{n}" for n in range(BATCH_MAX + 5)]
    assert away.sizes[-2:] == [BATCH_MAX, 5]


async def test_a_decision_that_cannot_be_kept_takes_no_other_with_it(pg: Postgres, cafes: None, clock: Clock, ids: Ids, logged: list[Any]) -> None:
    ledger = Ledger(pg=pg, ids=ids)
    now_ms = clock.now_ms()
    gone = str(uuid.UUID(int=0xDEAD))
    ledger.note(CAFE, block(now_ms, "one"))
    ledger.note(CAFE, Record("block", "not a uuid", "ann", now_ms + 1))
    ledger.note(gone, block(now_ms + 2, "no such café"))
    ledger.note(CAFE, block(now_ms + 3, "two"))
    async with open_supervisor("test") as root:
        root.spawn("ledger", ledger.run, restart=Restart(intensity=10, period_s=5.0, backoff_s=0.0))
        await ledger.settled()
        root.stop()
    assert [reason for _, reason, _ in await kept(pg)] == ["one", "two"]
    (line,) = [line for line in logged if line["event"] == "not_kept"]
    assert "not a uuid" in line["decision"]


async def test_there_is_a_bound_on_what_waits_and_the_log_has_the_rest(clock: Clock, ids: Ids, logged: list[Any]) -> None:
    ledger = Ledger(pg=Away(), ids=ids, pending_max=3)
    for n in range(5):
        ledger.note(CAFE, block(n, f"n{n}"))
    assert len(ledger) == 3
    assert [line["reason"] for line in logged if line["event"] == "block"] == [f"n{n}" for n in range(5)]
    assert len([line for line in logged if line["event"] == "not_kept"]) == 2


async def test_whoever_waits_for_one_cafe_does_not_wait_for_the_others(ids: Ids, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    away = Away()
    away.down = True
    ledger = Ledger(pg=away, ids=ids)
    nursery.start_soon(ledger.run)
    ledger.note(CAFE, block(1))
    await ledger.settled(OTHER)
    with pytest.raises(StoreError):
        await ledger.settled(CAFE)
    assert trio.current_time() == 2.0


async def test_what_was_charged_gathers_and_what_was_done_to_somebody_does_not_wait(ids: Ids, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pg = Away()
    ledger = Ledger(pg=pg, ids=ids)
    nursery.start_soon(ledger.run)
    for wait_s in (0.1, 0.1, 0.01):
        ledger.note(CAFE, Used("agent", ANN, STAY, 1))
        await trio.sleep(wait_s)
    assert pg.sizes == [1]
    ledger.note(CAFE, block(2))
    await wait_all_tasks_blocked()
    assert pg.sizes == [1, 1, 2]  # a statement a kind
    ledger.note(CAFE, Used("agent", ANN, STAY, 3))
    before_s = trio.current_time()
    await ledger.settled(CAFE)
    assert trio.current_time() == before_s
    ledger.note(CAFE, Used("agent", ANN, STAY, 4))
    await trio.sleep(GATHER_S + 0.01)
    assert pg.sizes == [1, 1, 2, 1, 1]


async def test_what_could_not_be_written_is_tried_again_without_gathering(ids: Ids, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    pg = Away()
    pg.down = True
    ledger = Ledger(pg=pg, ids=ids)
    nursery.start_soon(ledger.run)
    ledger.note(CAFE, block(1))
    await trio.sleep(2.5 * RETRY_S)
    assert len(pg.sizes) == 3


async def test_what_is_charged_does_not_wait_for_the_disk(pg: Postgres, cafes: None, clock: Clock, ids: Ids) -> None:
    use = [ids.uuid7()], [CAFE], [ANN], ["poke"], [STAY], [False], [as_datetime(clock.now_ms())]

    async def setting(tx: Tx) -> str:
        before: str = await tx._connection.fetchval("SHOW synchronous_commit")
        assert before != "off"
        await tx.execute("limit_use_add", *use)
        after: str = await tx._connection.fetchval("SHOW synchronous_commit")
        return after

    assert await pg.transaction(setting) == "off"
