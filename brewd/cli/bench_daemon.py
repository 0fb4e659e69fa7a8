"""A brewd for one measurement: its own process and data directory, wide limits, and as many customers as sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from brewd.edge.control.client import ControlClient, Unreachable
from brewd.store import launch

_START_S: Final = 60.0
_STOP_S: Final = 20.0
_USERS_AT_ONCE: Final = 1000
_ASKING: Final = "{ per_session = 1000, gap_s = 0 }"
_WIDE: Final = "{ per_hour = 1000000000, burst = 1000000000, gap_s = 0 }"

_CONFIG: Final = """
[server]
listen = ["127.0.0.1:0"]
drain_s = 5
[data]
dir = {dir}
[limits]
enabled = {limited}
profile = "bench"
[limits.profiles.bench]
message = {wide}
badge_message = {wide}
agent = {asking}
[limits.spam]
enabled = {limited}
[limits.edge]
anonymous_per_15min = 0
failures_per_15min = 0
failures_per_cafe_per_15min = 0
failures_per_username_per_15min = 0
sockets_per_address = 0
sockets_per_user = 0
frames_per_s = 0
[observe]
log_level = "warning"
"""

_AGENT: Final = """
[agent]
base_url = {url}
api_key_file = {key}
in_flight_max = 100
in_flight_cafe_max = 100
"""


class BenchError(Exception):
    """The measurement could not be made; the text says why."""


class BenchDaemon:
    """A running daemon and its control socket."""

    def __init__(self, *, pid: int, port: int, control: ControlClient) -> None:
        self.pid: Final = pid
        self.port: Final = port
        self._control = control

    def populate(self, *, rooms: int, sockets: int) -> tuple[list[str], list[str]]:
        """Café ids, one a room, and access tokens, one a socket: the token of socket `i` is for room `i % rooms`."""
        cafes: list[str] = []
        tokens = [""] * sockets
        for room in range(rooms):
            cafe: str = self._control.call("cafe.add", name=f"Bench {room}")["cafe"]["id"]
            cafes.append(cafe)
            seats = range(room, sockets, rooms)
            for first in range(0, len(seats), _USERS_AT_ONCE):
                some = seats[first : first + _USERS_AT_ONCE]
                users = self._control.call("user.add", cafeId=cafe, count=len(some))["users"]
                for seat, user in zip(some, users, strict=True):
                    tokens[seat] = user["accessToken"]
        return cafes, tokens

    def spend_freely(self, cafe: str) -> None:
        """Whatever the café's agent costs."""
        self._control.call("agent.set", cafeId=cafe, dailyBudgetCents=None, monthlyBudgetCents=None)


def config_text(data: Path, *, limited: bool, agent_url: str | None = None) -> str:
    """The TOML such a daemon runs with: limits that are wide, or none."""
    agent = "" if agent_url is None else _AGENT.format(url=json.dumps(agent_url), key=json.dumps(str(data.parent / "key")))
    return _CONFIG.format(dir=json.dumps(str(data)), wide=_WIDE, asking=_ASKING, limited=json.dumps(limited)) + agent


@contextmanager
def bench_daemon(*, cpu: int | None, parent_dir: str | None = None, limited: bool = True, agent_url: str | None = None) -> Iterator[BenchDaemon]:
    """A fresh daemon on `cpu` (None: anywhere), its embedded stores with it; gone with the block, and its data too.

    `limited`: rooms count and judge every message, by limits that are wide. False: they do neither.
    `agent_url`: who answers for the agent; None: there is none.
    """
    home = Path(tempfile.mkdtemp(prefix="brewd-bench-", dir=parent_dir)).resolve()
    home.chmod(0o711)  # the embedded servers may run as another user, who must get through
    config = home / "brewd.toml"
    config.write_text(config_text(home / "data", limited=limited, agent_url=agent_url))
    (home / "key").write_text("sk-bench")
    log = home / "log"
    process = _start(config, log, cpu)
    try:
        with _control(process, home / "data" / "control.sock", log) as control:
            listen = control.call("status")["listen"][0]
            yield BenchDaemon(pid=process.pid, port=urlsplit(listen).port or 0, control=control)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _start(config: Path, log: Path, cpu: int | None) -> subprocess.Popen[bytes]:
    """The daemon, started under the affinity it should have: its threads and its stores inherit it."""
    argv = [sys.executable, "-m", "brewd", "serve", "-c", str(config)]
    # Whatever ends this process, the daemon ends too.
    order = {"uid": None, "gid": None, "capability": None, "death_signal": signal.SIGTERM, "parent_pid": os.getpid(), "argv": argv}
    ours = os.sched_getaffinity(0)
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        with log.open("wb") as out:
            return subprocess.Popen([sys.executable, launch.__file__, json.dumps(order)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # noqa: S603 — ourselves
    finally:
        os.sched_setaffinity(0, ours)


def _control(process: subprocess.Popen[bytes], path: Path, log: Path) -> ControlClient:
    """The control socket, as soon as the daemon serves."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"the daemon ended with code {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            return ControlClient(path, timeout_s=120.0)
        except Unreachable:
            time.sleep(0.05)
    raise BenchError(f"the daemon was not ready within {_START_S:g} s")
