"""What a dead, paused or killed server costs: a `StoreError` within the deadline, and service again as soon as it answers.

Here real processes are stopped and killed, so these wait for real; every wait is short and bounded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import trio

from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge
from brewd.runtime.supervisor import open_supervisor
from brewd.store.embedded import data_lock, embedded_postgres, embedded_redis
from brewd.store.postgres import Postgres, open_postgres
from brewd.store.redis import open_redis
from tests.conftest import copy_data
from tests.patience import PATIENCE

BACK_MAX_S = 2.0 * PATIENCE


def family(pid: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


def alive(pid: int) -> bool:
    """Whether it still runs. One that ended and was not yet waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def answers_again(pg: Postgres) -> float:
    """Seconds until a call succeeds."""
    before = time.monotonic()
    with trio.fail_after(10):
        while True:
            try:
                await pg.check()
            except StoreError:
                await trio.sleep(0.01)
            else:
                return time.monotonic() - before


async def test_a_paused_postgres_costs_each_call_its_deadline_and_the_next_call_after_it_succeeds(bridge: Bridge, data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as server, open_postgres(bridge, dsn=server.dsn, pool_max=3) as pg, pg.lane() as lane:
        for caller in (pg, lane):
            await caller.check()
        with paused(family(server.pid)):
            for caller in (pg, lane, pg, lane):
                before = time.monotonic()
                with pytest.raises(StoreError):
                    await caller.fetch("migration_list", timeout_s=0.2)
                assert time.monotonic() - before < 0.5 * PATIENCE
            with trio.move_on_after(0.1) as scope:
                await pg.check(timeout_s=30)
            assert scope.cancelled_caught
            before = time.monotonic()
            async with trio.open_nursery() as nursery:  # the whole pool and a queue behind it run into it at once
                for _ in range(6):
                    nursery.start_soon(expect_outage, pg, 0.3)
            assert time.monotonic() - before < 1 * PATIENCE
        for caller in (pg, lane):
            before = time.monotonic()
            await caller.check(timeout_s=BACK_MAX_S)
            assert time.monotonic() - before < BACK_MAX_S


async def accepts(bridge: Bridge, dsn: str) -> bool:
    """Whether the server takes a new connection, asked apart from everything under test."""

    async def connect() -> None:
        await (await asyncpg.connect(dsn, timeout=1)).close()

    try:
        await bridge.call(connect)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


async def expect_outage(pg: Postgres, timeout_s: float) -> None:
    with pytest.raises(StoreError):
        await pg.check(timeout_s=timeout_s)


async def test_a_long_pause_does_not_pile_up_connections(bridge: Bridge, data_dir: Path) -> None:
    """Each try during the pause leaves a connection request with the server; all must be gone soon after it wakes."""
    async with embedded_postgres(data_dir) as server, open_postgres(bridge, dsn=server.dsn, pool_max=10) as pg:
        await pg.check()
        with paused(family(server.pid)):
            for _ in range(8):
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(expect_outage, pg, 0.05)
        assert await answers_again(pg) < BACK_MAX_S


async def test_killed_servers_are_started_again_by_their_supervisor(bridge: Bridge, data_dir: Path) -> None:
    async with (
        embedded_postgres(data_dir) as server,
        embedded_redis(data_dir) as mirror,
        open_postgres(bridge, dsn=server.dsn) as pg,
        open_redis(bridge, url=mirror.url) as redis,
        open_supervisor("stores") as supervisor,
    ):
        supervisor.spawn("postgres", server.watch, essential=True)
        supervisor.spawn("redis", mirror.watch, essential=True)
        async with pg.lane() as lane:
            for caller in (pg, lane):
                await caller.check()
            await redis.check()
            first, old = server.pid, family(server.pid)
            os.kill(server.pid, signal.SIGKILL)
            os.kill(mirror.pid, signal.SIGKILL)
            with trio.fail_after(20):
                while server.pid == first or not await accepts(bridge, server.dsn):
                    await trio.sleep(0.005)
            for caller in (pg, lane):
                assert await answers_again(caller) < BACK_MAX_S
            assert not any(alive(pid) for pid in old)
            with trio.fail_after(5):
                while True:
                    try:
                        await redis.check()
                        break
                    except StoreError:
                        await trio.sleep(0.01)


async def test_a_killed_backend_costs_one_call(bridge: Bridge, data_dir: Path) -> None:
    """Postgres then resets all its backends by itself."""
    async with embedded_postgres(data_dir) as server, open_postgres(bridge, dsn=server.dsn) as pg:
        postmaster = server.pid
        await pg.check()
        own = [pid for pid in family(postmaster) if b"brewd brewd" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert own
        os.kill(own[0], signal.SIGKILL)
        assert await answers_again(pg) < 5 * PATIENCE
        assert server.pid == postmaster


SERVERS = """
import signal, sys, trio
from pathlib import Path
from brewd.store.embedded import data_lock, embedded_postgres, embedded_redis

async def main():
    directory = Path(sys.argv[1])
    with data_lock(directory):
        async with embedded_postgres(directory) as postgres, embedded_redis(directory) as redis:
            print(postgres.pid, redis.pid, flush=True)
            await trio.sleep_forever()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell has it ignored
trio.run(main)
"""


def run_servers(directory: Path, checkout: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that runs both servers, and the pids of all theirs."""
    owner = subprocess.Popen([sys.executable, "-c", SERVERS, str(directory)], stdout=subprocess.PIPE, cwd=checkout)
    assert owner.stdout is not None
    first, second = owner.stdout.readline().split()
    owner.stdout.close()
    return owner, [*family(int(first)), int(second)]


async def test_killing_brewd_leaves_no_server_behind(prepared_data: Path, tmp_path: Path, checkout: Path, bridge: Bridge) -> None:
    directory = copy_data(prepared_data, tmp_path / "data")
    owner, pids = await trio.to_thread.run_sync(run_servers, directory, checkout)
    assert all(alive(pid) for pid in pids)
    owner.kill()
    owner.wait()
    with trio.fail_after(5):
        while any(alive(pid) for pid in pids):
            await trio.sleep(0.01)
    # And whoever comes next finds everything in order, however soon it comes.
    owner, pids = await trio.to_thread.run_sync(run_servers, directory, checkout)
    owner.kill()
    owner.wait()
    with data_lock(directory):
        async with embedded_postgres(directory) as server, open_postgres(bridge, dsn=server.dsn) as pg:
            await pg.check()
            assert not any(alive(pid) for pid in pids[:-1])


async def test_a_polite_end_of_brewd_ends_the_servers_in_order(prepared_data: Path, tmp_path: Path, checkout: Path) -> None:
    directory = copy_data(prepared_data, tmp_path / "data")
    owner, pids = await trio.to_thread.run_sync(run_servers, directory, checkout)
    try:
        owner.send_signal(signal.SIGINT)
        owner.wait(10)
    finally:
        owner.kill()
        owner.wait()
    assert not any(alive(pid) for pid in pids)
    assert not (directory / "postgres" / "postmaster.pid").exists()
    assert "database system is shut down" in (directory / "postgres.log").read_text()
