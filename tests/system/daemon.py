"""A real `brewd serve` with its embedded servers in a directory of its own, to be started, hurt and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import trio

from brewd.edge.control.client import ControlClient
from brewd.store.embedded import PostgresServer

ROOT = Path(__file__).parent.parent.parent
START_MAX_S = 30.0
END_MAX_S = 40.0
POLL_S = 0.002

CONFIG = """\
[server]
listen = ["127.0.0.1:{port}"]
[data]
dir = "data"
[limits]
profile = "load"
[limits.profiles.load]
message = {{ per_hour = 1000000, burst = 1000000, gap_s = 0 }}
badge_message = {{ per_hour = 1000000, burst = 1000000, gap_s = 0 }}
[limits.spam]
enabled = false
[limits.edge]
anonymous_per_15min = 0
failures_per_15min = 0
failures_per_cafe_per_15min = 0
failures_per_username_per_15min = 0
receipts_per_hour = 0
sockets_per_address = 0
sockets_per_user = 0
frames_per_s = 0
"""


class Row(NamedTuple):
    """A message as the table has it."""

    cafe_id: str
    seq: int
    id: str
    user_id: str
    content: str
    client_msg_id: str | None


class Daemon:
    """One brewd after the other in the same directory. `port`: where it listens, known once it is ready; 0 in the config takes a free one."""

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.config = directory / "brewd.toml"
        self.config.write_text(CONFIG.format(port=port))
        self.log = directory / "daemon.log"
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.ready_s = 0.0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process without waiting for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "brewd", "serve", "-c", str(self.config)], stdout=log, stderr=log, cwd=ROOT, env=environment()
            )
        return self.process

    async def start(self) -> float:
        """Start it; the seconds from there until it said that it is ready."""
        read_from = self.log.stat().st_size if self.log.exists() else 0
        began_s = time.monotonic()
        process = self.launch()
        with trio.move_on_after(START_MAX_S):
            while process.poll() is None:
                for event in self.events("ready", read_from):
                    self.ready_s = time.monotonic() - began_s
                    self.port = int(event["urls"][0].rpartition(":")[2])
                    return self.ready_s
                await trio.sleep(POLL_S)
        raise AssertionError(f"brewd does not start:\n{self.log.read_text()[-4000:]}")

    def events(self, name: str, read_from: int = 0) -> list[dict[str, Any]]:
        """The log lines of that name."""
        with self.log.open("rb") as log:
            log.seek(read_from)
            lines = log.read().split(b"\n")
        mark = f'"event":"{name}"'.encode()
        return [json.loads(line) for line in lines[:-1] if mark in line]

    async def ended(self, timeout_s: float = END_MAX_S) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        with trio.fail_after(timeout_s):
            while self.process.poll() is None:
                await trio.sleep(POLL_S)
        return self.process.wait()

    async def kill(self) -> None:
        """As a machine out of memory would."""
        assert self.process is not None
        self.process.kill()
        await self.ended()

    async def terminate(self, timeout_s: float = END_MAX_S) -> int:
        assert self.process is not None
        self.process.terminate()
        return await self.ended(timeout_s)

    async def call(self, method: str, /, **params: Any) -> Any:
        """Ask over the control socket."""

        def ask() -> Any:
            with ControlClient(self.data / "control.sock", timeout_s=60) as client:
                return client.call(method, **params)

        return await trio.to_thread.run_sync(ask)

    async def cafes(self, count: int) -> list[str]:
        """The ids of so many new cafés."""

        def ask() -> list[str]:
            with ControlClient(self.data / "control.sock", timeout_s=60) as client:
                return [client.call("cafe.add", name=f"Café {n}")["cafe"]["id"] for n in range(count)]

        return await trio.to_thread.run_sync(ask)

    async def users(self, cafe_ids: list[str], each: int) -> list[tuple[str, str, str]]:
        """So many new people in each café: café id, user id, access token."""

        def ask() -> list[tuple[str, str, str]]:
            with ControlClient(self.data / "control.sock", timeout_s=60) as client:
                return [(cafe_id, u["id"], u["accessToken"]) for cafe_id in cafe_ids for u in client.call("user.add", cafeId=cafe_id, count=each)["users"]]

        return await trio.to_thread.run_sync(ask)

    async def rows(self, cafe_ids: Iterable[str]) -> list[Row]:
        """Every message of these cafés in Postgres, by café and number."""
        dsn, wanted = PostgresServer(data_dir=self.data).dsn, list(cafe_ids)
        return await trio.to_thread.run_sync(lambda: asyncio.run(_rows(dsn, wanted)))

    def server(self, program: str) -> int:
        """The pid of the embedded server it runs now (`postgres`, `valkey-server`); 0 while there is none."""
        for pid in children(self.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/exe").readlink().name == program:
                    return pid
        return 0

    def rss_mib(self) -> float:
        """The memory the daemon itself holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    def cpu_s(self) -> float:
        """The CPU time the daemon itself has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def left(self) -> list[int]:
        """The processes that still work in the data directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(self.data) and (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                    found.append(int(entry.name))
        return found

    async def alone(self, timeout_s: float = 5.0) -> float:
        """Wait until nothing of it is left; how long that took."""
        began_s = time.monotonic()
        with trio.move_on_after(timeout_s):
            while self.left():
                await trio.sleep(POLL_S)
            return time.monotonic() - began_s
        raise AssertionError(f"left behind: {[Path(f'/proc/{pid}/cmdline').read_bytes() for pid in self.left()]}")


async def _rows(dsn: str, cafe_ids: list[str]) -> list[Row]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        query = "SELECT cafe_id::text, seq, id::text, user_id::text, content, client_msg_id FROM message WHERE cafe_id = ANY($1::uuid[]) ORDER BY cafe_id, seq"
        return [Row(*row) for row in await connection.fetch(query, cafe_ids, timeout=30)]
    finally:
        await connection.close(timeout=10)


def environment() -> dict[str, str]:
    """Without what the machine has set for a brewd of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BREWD")}


def children(pid: int) -> list[int]:
    """The processes that one started, by whichever thread."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


@contextmanager
def paused(*pids: int) -> Iterator[None]:
    """Those processes do not run, but stay."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    """Started here; gone afterwards, with all that belongs to it."""
    try:
        await daemon.start()
        yield daemon
    finally:
        with trio.CancelScope(shield=True):
            await clear(daemon)


async def clear(daemon: Daemon) -> None:
    """Nothing of it survives a test, whatever went wrong in it."""
    if daemon.process is not None and daemon.process.poll() is None:
        await daemon.kill()
    with trio.move_on_after(5):
        while daemon.left():
            await trio.sleep(POLL_S)
        return
    for pid in daemon.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
