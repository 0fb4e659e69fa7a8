"""The process that makes the calls dies under a daemon that goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from brewd.agent import calling
from brewd.agent.calls import GiveWay, Opening
from brewd.agent.remote import WorkerProcess, open_worker
from brewd.config import Config
from tests.agent.upstream import Script, Upstream
from tests.edge.ws.agent.queries import HELD, SAID, ask, completed, connect, failed, until
from tests.edge.ws.house import open_house
from tests.edge.ws.wire import WAIT_S


class Workers:
    """Real ones, in the order in which they were started."""

    def __init__(self) -> None:
        self.started: list[WorkerProcess] = []

    @asynccontextmanager
    async def open(self, opening: Opening, give_way: GiveWay) -> AsyncIterator[WorkerProcess]:
        async with open_worker(opening, give_way) as worker:
            self.started.append(worker)
            yield worker


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """A busy machine takes long to start one."""
    monkeypatch.setattr(calling, "OPENING_S", WAIT_S)
    return Workers()


async def test_when_what_makes_the_calls_is_killed_it_is_started_again(
    config: Config, upstream: Upstream, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real worker. Who was waiting is told, who asks meanwhile is answered, and no call is forgotten."""
    put, puts = WorkerProcess.put, list[tuple[WorkerProcess, bytes]]()

    async def noting(worker: WorkerProcess, rows: bytes) -> None:
        await put(worker, rows)
        puts.append((worker, rows))

    monkeypatch.setattr(WorkerProcess, "put", noting)

    upstream.script = HELD
    async with open_house(config, open_client=workers.open) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire = await connect(house, ann)
        query_id = await ask(wire, ann)
        upstream.let()
        await wire.heard("query:chunk")
        os.kill(workers.started[0].pid, signal.SIGKILL)
        text, error = await failed(wire, query_id)
        assert (text, error["code"], error["partial"]) == ("", "agent_unavailable", True)
        health = (await house.api("GET", "/api/health")).json
        assert (health["status"], health["checks"]["agent"]) == ("degraded", "unavailable")
        upstream.script = Script()
        assert await completed(wire, await ask(wire, ann)) == SAID
        assert (await house.api("GET", "/api/health")).json["checks"]["agent"] == "ok"
        await house.enter(ann)
        summary = await house.parts.agent.log.summary(cafe.id)
        assert (summary.queries_today, summary.cached_today) == (2, 0)
    assert len(workers.started) == 2
    assert [worker for worker, rows in puts if b'"started"' in rows] == workers.started  # each has written down its call


async def test_it_is_started_again_with_the_key_of_before_while_the_file_is_written(config: Config, upstream: Upstream, workers: Workers) -> None:
    async with open_house(config, open_client=workers.open) as house:
        ann = await house.guest(await house.cafe())
        wire = await connect(house, ann)
        await completed(wire, await ask(wire, ann, "Are you there?"))
        Path(config.agent.api_key_file).write_text("")  # as `open(path, "w")` does before anything is written
        os.kill(workers.started[0].pid, signal.SIGKILL)
        await until(lambda: len(workers.started) == 2, WAIT_S)
        assert await completed(wire, await ask(wire, ann, "And now?")) == SAID


async def test_who_asks_while_what_makes_the_calls_dies_hears_that_the_agent_is_away_and_not_the_store(
    config: Config, upstream: Upstream, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to write the call down; the store is well."""
    put, beginning = WorkerProcess.put, trio.Event()

    async def noting(worker: WorkerProcess, rows: bytes) -> None:
        if b"And now?" in rows:
            beginning.set()
        await put(worker, rows)

    monkeypatch.setattr(WorkerProcess, "put", noting)

    async with open_house(config, open_client=workers.open) as house:
        ann = await house.guest(await house.cafe())
        wire = await connect(house, ann)
        await completed(wire, await ask(wire, ann, "Are you there?"))
        os.kill(workers.started[0].pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            async def refused() -> None:
                _, error = await failed(wire, await ask(wire, ann, "And now?"))
                assert error["code"] == "agent_unavailable"  # and not that the store is
                assert error["retryAfterMs"] > 0

            nursery.start_soon(refused)
            with trio.fail_after(WAIT_S):
                await beginning.wait()
            os.kill(workers.started[0].pid, signal.SIGKILL)
