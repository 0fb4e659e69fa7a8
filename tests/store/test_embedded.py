"""Servers of our own: private, kept between runs, found and cleared when an earlier run was killed."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import trio

from brewd.runtime.bridge import Bridge
from brewd.store.child import Account, Child, choose_account, processes
from brewd.store.embedded import EmbeddedError, PostgresServer, RedisServer, data_lock, embedded_postgres, embedded_redis
from brewd.store.embedded_postgres import find_binaries
from brewd.store.postgres import Place, Postgres
from brewd.store.redis import open_redis

QUERIES = {
    "setting": "SELECT current_setting($1)",
    "make": "CREATE TABLE IF NOT EXISTS kept (n int)",
    "add": "INSERT INTO kept VALUES (1)",
    "count": "SELECT count(*) FROM kept",
    "collation": "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
}


def postgres(bridge: Bridge, dsn: str) -> Postgres:
    return Postgres(bridge=bridge, queries=QUERIES, place=Place(dsn, prepared=True), pool_max=2)


def owner_of_servers() -> int:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()


def capabilities_of(pid: int) -> set[int]:
    """The rights beyond an ordinary user's, as numbers, that the process has or could take."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    held = int(lines["CapEff"], 16) | int(lines["CapPrm"], 16)
    return {number for number in range(64) if held >> number & 1}


def uid_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


async def test_the_first_start_makes_a_private_durable_server(bridge: Bridge, tmp_path: Path) -> None:
    """Also where an even earlier first start was broken off and left half a cluster."""
    directory = tmp_path / "new"
    (directory / "postgres.new" / "base").mkdir(parents=True)
    with data_lock(directory):
        async with embedded_postgres(directory) as server:
            pg = postgres(bridge, server.dsn)
            for setting, value in {
                "listen_addresses": "",
                "fsync": "on",
                "synchronous_commit": "on",
                "full_page_writes": "on",
                "TimeZone": "UTC",
                "jit": "off",
            }.items():
                assert await pg.fetchval("setting", setting) == value, setting
            row = await pg.fetchrow("collation")
            assert row is not None
            assert tuple(row) == ("C", "UTF8")
            assert uid_of(server.pid) == owner_of_servers()
            assert capabilities_of(server.pid) <= {1, 2}  # to walk through closed directories, when root's data lies below one
            for private in ("postgres", "run"):
                found = (directory / private).stat()
                assert stat.S_IMODE(found.st_mode) == 0o700
                assert found.st_uid == owner_of_servers()
            assert not listens_on_tcp(server.pid)
            pg.close()
        assert not (directory / "postgres.new").exists()


def listens_on_tcp(pid: int) -> bool:
    """Whether a socket of the process is in the kernel's tables of TCP sockets."""
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    tables = "".join(path.read_text() for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists())
    return any(f" {name[8:-1]} " in tables for name in sockets if name.startswith("socket:["))


async def test_what_was_written_is_there_after_a_stop_and_after_a_kill(bridge: Bridge, data_dir: Path) -> None:
    for run in range(3):
        async with embedded_postgres(data_dir) as server, embedded_redis(data_dir) as mirror:
            pg = postgres(bridge, server.dsn)
            await pg.execute("make")
            assert await pg.fetchval("count") == run
            await pg.execute("add")
            async with open_redis(bridge, url=mirror.url) as redis:
                assert await redis.pipeline([("INCR", "runs"), ("DBSIZE",)]) == [run + 1, 1]
            pg.close()
            if run == 1:
                os.kill(server.pid, signal.SIGKILL)


async def test_redis_is_private_too_and_leaves_no_file_while_it_runs(data_dir: Path) -> None:
    for _ in range(2):
        async with embedded_redis(data_dir) as server:
            socket = Path(unquote(server.url.removeprefix("unix://").partition("?")[0]))
            assert socket.is_socket()
            assert stat.S_IMODE(socket.stat().st_mode) == 0o700
            assert uid_of(server.pid) == owner_of_servers()
            assert not listens_on_tcp(server.pid)
            assert not list((data_dir / "redis").glob("*.rdb"))
        assert list((data_dir / "redis").glob("*.rdb"))


async def test_a_stop_ends_a_paused_server_too(data_dir: Path) -> None:
    with trio.fail_after(8):
        async with embedded_postgres(data_dir) as server, embedded_redis(data_dir) as mirror:
            os.kill(server.pid, signal.SIGSTOP)
            os.kill(mirror.pid, signal.SIGSTOP)


async def test_a_start_that_is_given_up_leaves_no_server_behind(data_dir: Path) -> None:
    async def start() -> None:
        async with embedded_postgres(data_dir):
            await trio.sleep_forever()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            while not processes("postgres", data_dir / "postgres"):
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    assert processes("postgres", data_dir / "postgres") == []


def test_a_data_directory_has_one_brewd(data_dir: Path) -> None:
    with pytest.raises(EmbeddedError, match=rf"another brewd \(process {os.getpid()}\)"), data_lock(data_dir):
        pass


def test_the_lock_of_a_killed_brewd_is_free(tmp_path: Path, checkout: Path) -> None:
    script = "import sys, time\nfrom pathlib import Path\nfrom brewd.store.embedded import data_lock\nwith data_lock(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "data")], stdout=subprocess.PIPE, cwd=checkout) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(EmbeddedError, match=f"process {other.pid}"), data_lock(tmp_path / "data"):
            pass
        other.kill()
        other.wait()
    with data_lock(tmp_path / "data"):
        pass


async def test_stale_files_of_a_dead_server_are_cleared_whoever_has_their_pid_now(bridge: Bridge, data_dir: Path) -> None:
    """The pid in them is alive, and it is this test: Postgres alone would refuse to start."""
    (data_dir / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir}/postgres\n0\n5432\n{data_dir}/run\n\n")
    (data_dir / "run" / ".s.PGSQL.5432").write_text("")
    (data_dir / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    (data_dir / "run" / "redis.sock").write_text("")
    async with embedded_postgres(data_dir) as server, embedded_redis(data_dir):
        pg = postgres(bridge, server.dsn)
        await pg.check()
        pg.close()


async def test_a_server_left_over_from_an_earlier_run_is_ended_even_a_paused_one(bridge: Bridge, data_dir: Path) -> None:
    old_postgres, old_redis = PostgresServer(data_dir=data_dir), RedisServer(data_dir=data_dir)
    await old_postgres.start()
    await old_redis.start()
    pids = (old_postgres.pid, old_redis.pid)
    os.kill(old_postgres.pid, signal.SIGSTOP)
    async with embedded_postgres(data_dir) as server, embedded_redis(data_dir) as mirror:
        assert server.pid not in pids
        assert mirror.pid not in pids
        pg = postgres(bridge, server.dsn)
        await pg.check()
        pg.close()
        await old_postgres.stop()
        await old_redis.stop()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_other_processes_in_the_directory_are_left_alone(data_dir: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=data_dir / "postgres") as onlooker:
        async with embedded_postgres(data_dir):
            assert onlooker.poll() is None
        onlooker.kill()


async def test_a_path_too_long_for_a_socket_gets_a_short_private_place(bridge: Bridge, data_dir: Path) -> None:
    deep = data_dir.parent / ("d" * 60) / ("e,f" * 20)
    deep.parent.mkdir()
    data_dir.rename(deep)
    async with embedded_postgres(deep) as server, embedded_redis(deep) as mirror:
        assert len(server.dsn) < 120
        pg = postgres(bridge, server.dsn)
        await pg.check()
        pg.close()
        async with open_redis(bridge, url=mirror.url) as redis:
            await redis.check()
        place = Path(unquote(mirror.url.removeprefix("unix://").partition("?")[0])).parent
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    place.rmdir()


async def test_a_cluster_of_another_version_is_refused_with_what_to_do(data_dir: Path) -> None:
    (data_dir / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 9.*pg_dump"):
        await PostgresServer(data_dir=data_dir).start()


async def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    server = PostgresServer(data_dir=data_dir, settings={"no_such_setting": "1"})
    with pytest.raises(EmbeddedError, match="no_such_setting"):
        await server.start()
    await server.stop()


async def test_binaries_of_the_machine_serve_when_there_is_no_wheel(tmp_path: Path) -> None:
    found = await find_binaries(tmp_path / "none")
    assert (found / "initdb").exists()


def test_a_directory_of_someone_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 4242, 4242)
        with pytest.raises(EmbeddedError, match="belongs to user 4242"):
            choose_account().make_dir(tmp_path)
    else:
        with pytest.raises(EmbeddedError, match="belongs to user 0"):
            choose_account().make_dir(Path("/"))


def test_a_symbolic_link_in_a_public_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(EmbeddedError, match="not a directory"):
        choose_account().make_dir(tmp_path / "link")


def test_root_gives_its_servers_no_more_than_they_need(tmp_path: Path) -> None:
    """`tmp_path` lies in a directory that is closed to others, as `/root` does; `/` is open."""
    (tmp_path / "closed").mkdir(mode=0o700)
    if os.geteuid() != 0:
        assert choose_account(tmp_path / "closed" / "x") == Account(uid=None, gid=None, capability=None)
        return
    nobody = pwd.getpwnam("nobody")
    assert choose_account(Path("/usr/bin/env")) == Account(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=None)
    closed = choose_account(tmp_path / "closed" / "x")
    assert closed.uid == nobody.pw_uid
    assert closed.capability is not None


async def test_what_lies_in_a_closed_directory_can_be_reached_and_nothing_there_be_changed(tmp_path: Path) -> None:
    """Both ways of asking: by opening, and by access(2), as Postgres asks for its own programs."""
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed" / "file").write_text("here")
    ask = "import os, sys; path = sys.argv[1]; sys.exit(0 if open(path).read() == 'here' and os.access(path, os.R_OK) and not os.access(path, os.W_OK) else 3)"
    child = Child(
        argv=[sys.executable, "-I", "-c", ask if os.geteuid() == 0 else "", str(tmp_path / "closed" / "file")],
        account=choose_account(tmp_path / "closed" / "file"),
        death_signal=signal.SIGKILL,
        cwd=tmp_path,
        log=tmp_path / "log",
    )
    assert await child.wait() == 0, child.last_words()
