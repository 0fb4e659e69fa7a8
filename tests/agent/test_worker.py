"""The worker: a real process, orders to it and news from it, and what happens when it goes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, memory_stream_pair

from brewd.agent import orders as o
from brewd.agent import remote
from brewd.agent import worker as far
from brewd.agent.calls import Meter, Opening, UpstreamError, Written
from brewd.agent.parts import RESTART
from brewd.agent.pieces import Usage
from brewd.agent.prompt import Live, Question, Stable
from brewd.agent.remote import WorkerEnded, WorkerProcess, open_worker
from brewd.agent.row_writer import ROWS_MAX
from brewd.agent.rows import Entry, RowsRefused, encoded, put_rows
from brewd.agent.upstream import CHARS_PER_TOKEN_MAX
from brewd.agent.words import QUERY_MAX_CHARS
from brewd.errors import StoreError
from brewd.people.records import Cafe
from brewd.runtime.process import SLICE_NS
from brewd.runtime.supervisor import open_supervisor
from brewd.store.postgres import Place
from tests.agent.table import Table, until
from tests.agent.upstream import ANSWER, Script, Upstream
from tests.patience import PATIENCE
from tests.slices import lets_others_first, niceness, slice_ns, stands_back

WAIT_S = 5 * PATIENCE
TASK = Question(Stable(name="Corner", menu=("Flat white",)), Live(local_time="ten", present=3), "what\nis „good“?")


def opening(upstream: Upstream, **changes: Any) -> Opening:
    return Opening(**{"api_key": "sk-test", "base_url": upstream.url, "timeout_s": 30.0, "retries": 0, "connections_max": 4, **changes})


@asynccontextmanager
async def opened(upstream: Upstream, **changes: Any) -> AsyncIterator[WorkerProcess]:
    with trio.fail_after(WAIT_S):
        async with open_worker(opening(upstream, **changes), trio.lowlevel.checkpoint) as worker:
            yield worker


async def said(worker: WorkerProcess, meter: Meter | None = None, max_tokens: int = 99) -> tuple[Written, str]:
    """How it ended, and the words."""
    chunks: list[str] = []
    written = await worker.answer(TASK, model="m", max_tokens=max_tokens, on_chunk=chunks.append, meter=meter or Meter())
    return written, "".join(chunks)


def runs(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/stat")


async def test_an_answer_comes_through_as_it_was_made_and_so_does_what_it_used(upstream: Upstream) -> None:
    upstream.script = Script(thinking="é" * 30, input_tokens=11, output_tokens=22, cache_read_tokens=33, cache_write_tokens=44)
    meter = Meter()
    async with opened(upstream) as worker:
        assert await said(worker, meter) == (Written("end_turn", ("menu",)), "".join(ANSWER))
        assert meter.usage == Usage(11, 22, 33, 44)
        (request,) = upstream.requests
        assert request.body["messages"][0]["content"][1]["text"].endswith("<question>what is „good“?</question>")
        assert (request.body["model"], request.body["max_tokens"]) == ("m", 99)
        assert "sk-test" in str(request.headers)
        worker.use_key("sk-other")
        await said(worker)
        assert "sk-other" in str(upstream.requests[1].headers)
    assert not runs(worker.pid)
    await until(lambda: not upstream.connections)


async def test_a_piece_of_any_size_comes_through(upstream: Upstream) -> None:
    upstream.script = Script(texts=('"\n' * 200_000, "é" * 400_000))
    async with opened(upstream) as worker:
        _, text = await said(worker, max_tokens=1 + 900_000 // CHARS_PER_TOKEN_MAX)
        assert text == '"\n' * 200_000 + "é" * 400_000


async def test_a_failure_is_told_as_it_was(upstream: Upstream) -> None:
    async with opened(upstream) as worker:
        upstream.script = Script(status=429, headers=(("retry-after", "7"),))
        with pytest.raises(UpstreamError) as caught:
            await said(worker)
        assert (caught.value.trouble, caught.value.retry_after_s, caught.value.may_pass) == ("rate_limited", 7.0, True)
        assert "429" in caught.value.detail
        upstream.script = Script(cut_after=2, thinking="é" * 30)
        meter = Meter()
        with pytest.raises(UpstreamError) as caught:
            await said(worker, meter)
        assert (caught.value.trouble, meter.began) == ("cut", True)
        assert meter.usage.output_tokens == -(-(60 + len("".join(ANSWER[:2]))) // 3)  # guessed: what was thought is paid for, too


async def test_cancelling_stops_that_call_and_no_other(upstream: Upstream) -> None:
    upstream.script = Script(held=True)
    heard = ""
    async with opened(upstream) as worker, trio.open_nursery() as nursery:

        async def other() -> None:
            nonlocal heard
            _, heard = await said(worker)

        nursery.start_soon(other)
        await until(lambda: upstream.streaming == 1)
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when, lambda: upstream.streaming == 2, scope)
            await said(worker)
        await until(lambda: upstream.gone == 1)
        assert upstream.streaming == 1
        upstream.let(len(ANSWER))
    assert heard == "".join(ANSWER)


async def _cancel_when(condition: Any, scope: trio.CancelScope) -> None:
    await until(condition)
    scope.cancel()


async def test_when_it_is_killed_whoever_opened_it_is_told_and_its_calls_end(upstream: Upstream) -> None:
    upstream.script = Script(held=True)
    with pytest.RaisesGroup(WorkerEnded, flatten_subgroups=True):
        async with opened(upstream) as worker, trio.open_nursery() as nursery:
            nursery.start_soon(said, worker)
            await until(lambda: upstream.streaming == 1)
            os.kill(worker.pid, signal.SIGKILL)
            await trio.sleep_forever()
    await until(lambda: not upstream.connections)


async def test_one_that_hangs_is_given_up(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "OVERDUE_S", 0.1)
    monkeypatch.setattr(remote, "END_S", 0.01)
    with pytest.RaisesGroup(WorkerEnded, flatten_subgroups=True):
        async with opened(upstream, timeout_s=0.1) as worker:
            os.kill(worker.pid, signal.SIGSTOP)
            with pytest.raises(UpstreamError, match="timeout"):
                await said(worker)
            await trio.sleep_forever()
    assert not runs(worker.pid)


async def test_one_that_cannot_start_is_soon_tried_once_a_minute(autojump_clock: MockClock) -> None:
    began_s: list[float] = []

    async def run() -> None:
        began_s.append(trio.current_time())
        await trio.sleep(0.7)
        raise WorkerEnded("no memory")

    async with open_supervisor("brewd") as root:
        root.spawn("agent", run, restart=RESTART)
        await trio.sleep(600)
    assert began_s[-1] - began_s[-2] == pytest.approx(60.7)


async def test_a_daemon_that_stood_still_does_not_end_a_worker_that_has_said_all(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "OVERDUE_S", -30.0)  # it has stood still for longer than any deadline
    monkeypatch.setattr(remote, "UNREAD_S", WAIT_S)
    async with opened(upstream, timeout_s=30.0) as worker:
        assert await said(worker) == (Written("end_turn", ("menu",)), "".join(ANSWER))
        assert runs(worker.pid)


class _Deathless:
    """A process that nothing ends, and that reads nothing any more."""

    stdout = None
    pid = 0

    def __init__(self) -> None:
        self.stdin = self
        self.killed = False

    async def send_all(self, data: bytes) -> None:
        raise trio.BrokenResourceError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait(self) -> None:
        await trio.sleep_forever()

    def kill(self) -> None:
        self.killed = True


async def test_one_that_not_even_a_kill_ends_is_not_waited_for_for_ever(autojump_clock: MockClock) -> None:
    process = _Deathless()
    await remote._end(process)  # type: ignore[arg-type]
    assert process.killed
    assert trio.current_time() <= remote.END_S + remote.KILLED_S


async def test_when_nobody_reads_orders_that_is_for_whoever_reads_the_news_to_tell(autojump_clock: MockClock) -> None:
    worker = WorkerProcess(_Deathless(), timeout_s=1.0, give_way=trio.lowlevel.checkpoint)  # type: ignore[arg-type]
    worker.use_key("sk-other")
    with trio.fail_after(1):
        await worker.write()
    worker.use_key("sk-third")


async def test_it_lets_signals_for_the_daemon_pass(upstream: Upstream) -> None:
    async with opened(upstream) as worker:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
        assert (await said(worker))[0].stop_reason == "end_turn"


class _Broken:
    async def answer(self, *args: object, **kwargs: object) -> str:
        raise LookupError("a bug")


async def test_it_gives_way_to_the_daemon_and_is_weighed_against_it(upstream: Upstream) -> None:
    async with opened(upstream) as worker:
        niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + far.NICE)
        assert (os.getpriority(os.PRIO_PROCESS, worker.pid), os.sched_getscheduler(worker.pid)) == (niceness, os.SCHED_BATCH)
        assert os.getsid(worker.pid) == os.getsid(0)  # in another session it would be a group of its own to the scheduler, as heavy as the daemon's
        assert os.getpgid(worker.pid) == worker.pid  # and in our process group a Ctrl-C would be for it, too


async def test_a_bug_in_one_call_is_told_and_ends_that_call() -> None:
    told: list[o.News] = []
    async with trio.open_nursery() as nursery:
        worker = far.Worker(_Broken(), None, told.append, nursery)  # type: ignore[arg-type]
        worker.take(o.Ask(7, TASK, "m", 1))
    (crashed,) = told
    assert isinstance(crashed, o.Crashed)
    assert crashed.call == 7
    assert "LookupError: a bug" in crashed.traceback
    worker.take(o.Cancel(7))  # too late, which is no error


async def test_orders_are_carried_out_until_there_are_no_more(upstream: Upstream) -> None:
    """The worker's own loop, in this process; the orders come in pieces."""
    upstream.script = Script(held=True)
    near, orders = memory_stream_pair()
    told: list[o.News] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.work, orders, told.append)
        sent = o.line(o.Open(opening(upstream))) + o.line(o.Ask(1, TASK, "m", 9)) + o.line(o.Ask(2, TASK, "m", 9)) + o.line(o.Cancel(2))
        for at in range(0, len(sent), 100):
            await near.send_all(sent[at : at + 100])
        await until(lambda: upstream.streaming == 1 and len(told) >= 2)
        upstream.let(len(ANSWER))
        await until(lambda: any(isinstance(news, o.Done) for news in told))
        await near.aclose()
    assert told[0] == o.Ready()
    assert "".join(news.text for news in told if isinstance(news, o.Said)) == "".join(ANSWER)
    assert [news.call for news in told if isinstance(news, o.Stopped)] == [2]
    await until(lambda: not upstream.connections)


# Rows of what calls cost


def rows(table: Table, cafe: Cafe, *ids: str, query: str = "what is good?", outcome: str = "answered") -> bytes:
    """As `RowWriter` has them written."""
    entries = [
        Entry(
            id=one, cafe_id=cafe.id, user_id=None, session_id=None, staff=True, query=query, persona="bartender", model="m", at_ms=table.clock.now_ms(),
            outcome=outcome, input_tokens=11, output_tokens=22, cache_read_tokens=33, cache_write_tokens=44, cost_microcents=55,
        )
        for one in ids
    ]  # fmt: skip
    return encoded(entries)


WRITERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query <> '' AND starts_with($1, query)"
"""Whose last statement this is, as much of it as Postgres keeps."""


async def test_rows_are_written_over_there(table: Table, upstream: Upstream) -> None:
    cafe, id_ = await table.cafe(), table.ids.uuid7()
    async with opened(upstream, place=table.pg.place) as worker:
        await worker.put(rows(table, cafe, id_, query='„é" \\ \n'))
        found = await table.row("SELECT query, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_microcents FROM agent_queries")
        assert [tuple(row) for row in found] == [('„é" \\ \n', 11, 22, 33, 44, 55)]
        assert await table.row(WRITERS, table.pg.queries["agent_query_put"])  # not by us
    assert not runs(worker.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="a question to Linux")
async def test_it_lets_others_first_and_so_does_our_own_postgres_where_it_works_for_it(table: Table, upstream: Upstream) -> None:
    """Ours are the tests' own servers, too. What works for the rooms, and a Postgres of somebody else's, is left alone."""
    cafe = await table.cafe()
    (own,) = await table.row("SELECT pg_backend_pid() AS pid")
    usual, session = niceness(own["pid"])
    assert session in (None, 0)
    for ours in (True, False):
        async with opened(upstream, place=replace(table.pg.place, ours=ours)) as worker:
            await worker.put(rows(table, cafe, table.ids.uuid7()))
            (theirs,) = await table.row(WRITERS, table.pg.queries["agent_query_put"])
            assert lets_others_first(worker.pid)
            assert lets_others_first(theirs["pid"]) if ours else slice_ns(theirs["pid"]) != SLICE_NS
            assert stands_back(theirs["pid"], usual) is ours
    assert slice_ns(own["pid"]) != SLICE_NS
    assert not stands_back(own["pid"], usual)


async def test_an_end_stays_when_its_beginning_comes_late(table: Table) -> None:
    cafe, id_ = await table.cafe(), table.ids.uuid7()
    for outcome in ("started", "answered", "started"):
        await put_rows(table.pg, rows(table, cafe, id_, outcome=outcome))
    assert await table.logged() == [("answered",)]


async def test_as_many_rows_as_are_ever_written_at_once_come_through(table: Table, upstream: Upstream) -> None:
    cafe = await table.cafe()
    async with opened(upstream, place=table.pg.place) as worker:
        await worker.put(rows(table, cafe, *(table.ids.uuid7() for _ in range(ROWS_MAX)), query="😀" * QUERY_MAX_CHARS))
    assert [row["count"] for row in await table.row("SELECT count(*) FROM agent_queries")] == [ROWS_MAX]


async def test_why_rows_could_not_be_written_is_told(table: Table, upstream: Upstream) -> None:
    """Where they are the cause, without a word of theirs."""
    cafe = await table.cafe()
    async with opened(upstream, place=table.pg.place) as worker:
        with pytest.raises(RowsRefused) as caught:
            await worker.put(rows(table, cafe, "a secret"))
        assert "secret" not in str(caught.value)
        await worker.put(rows(table, cafe, table.ids.uuid7()))
    async with opened(upstream, place=Place("postgresql://nobody@127.0.0.1:1/none", prepared=True)) as worker:
        with pytest.raises(StoreError, match="cannot connect"):
            await worker.put(rows(table, cafe, table.ids.uuid7()))


async def test_whoever_waits_for_rows_hears_that_the_worker_is_gone(table: Table, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "END_S", 0.01)
    cafe = await table.cafe()
    refused: list[WorkerProcess] = []

    async def put(worker: WorkerProcess) -> None:
        with trio.fail_after(WAIT_S), pytest.raises(StoreError, match="worker"):
            await worker.put(rows(table, cafe, table.ids.uuid7()))
        refused.append(worker)

    for number, overdue_s in ((signal.SIGKILL, 1000), (signal.SIGSTOP, -1.9)):  # it dies; it hangs, and is ended
        monkeypatch.setattr(remote, "OVERDUE_S", overdue_s)
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(WorkerEnded, flatten_subgroups=True):
                async with opened(upstream, place=table.pg.place) as worker:
                    os.kill(worker.pid, number)
                    nursery.start_soon(put, worker)
                    await trio.sleep_forever()
        assert refused.pop() is worker
        await put(worker)  # and so does who comes later, at once


async def test_a_daemon_that_stood_still_does_not_end_a_worker_that_has_answered(table: Table, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    cafe = await table.cafe()
    monkeypatch.setattr(remote, "PUT_S", 0.0)
    monkeypatch.setattr(remote, "OVERDUE_S", 0.0)  # it has stood still for longer than any deadline
    monkeypatch.setattr(remote, "UNREAD_S", WAIT_S)
    async with opened(upstream, place=table.pg.place) as worker:
        await worker.put(rows(table, cafe, table.ids.uuid7()))
        assert runs(worker.pid)
    assert await table.logged() == [("answered",)]


async def test_what_it_says_waits_while_a_message_is_under_way(upstream: Upstream) -> None:
    way = trio.Event()
    way.set()

    async def give_way() -> None:
        await way.wait()

    upstream.script = Script(held=True)
    chunks: list[str] = []
    with trio.fail_after(WAIT_S):
        async with open_worker(opening(upstream), give_way) as worker, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: worker.answer(TASK, model="m", max_tokens=99, on_chunk=chunks.append, meter=Meter()))
            await until(lambda: upstream.streaming == 1)
            way = trio.Event()
            await trio.testing.wait_all_tasks_blocked(0.05)  # the beginning of the answer was read before that
            upstream.let(len(ANSWER))
            await until(lambda: not upstream.streaming)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert not chunks
            way.set()
            await until(lambda: "".join(chunks) == "".join(ANSWER))


def test_lines_are_put_together_and_one_without_an_end_is_refused() -> None:
    lines = o.Lines()
    assert list(lines.feed(b'{"a"')) == []
    assert list(lines.feed(b':1}\n{"b":2}\n{')) == [b'{"a":1}', b'{"b":2}']
    with pytest.raises(ValueError, match="bytes"):
        list(lines.feed(b"x" * o.LINE_MAX_BYTES))
