"""One `brewd dev` for all of these tests, and the command line run in this process against it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from brewd.cli import bench_wire
from brewd.cli.main import main
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent
START_MAX_S = 60.0


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Dev:
    """A `brewd dev` process. `demo` is what it printed when it was ready."""

    def __init__(self, data: Path, *options: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("BREWD")}
        self.log = data.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "brewd", "dev", "--json", "--data", str(data), *(options or ("--listen", "127.0.0.1:0"))],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=env,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_MAX_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"brewd dev did not start: {self.log.read_text()[-4000:]}")
        self.demo: dict[str, Any] = json.loads(line)
        self.socket = str(self.demo["controlSocket"])

    def end(self) -> int:
        """Its exit code, after SIGTERM if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        return self.process.returncode


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    running = Dev(tmp_path_factory.mktemp("dev") / "data")
    yield running
    assert running.end() == 0


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine has set, and where the tests were started, is of no account."""
    for name in list(os.environ):
        if name.startswith("BREWD"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection over loopback: the end that opened it, and the other."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours, server.accept()[0] as theirs:
        yield ours, theirs


def an_hour_later(patch: pytest.MonkeyPatch) -> None:
    """By the clocks that are read in ns. The kernel stamps with its own."""
    monotonic_ns, time_ns, hour_ns = time.monotonic_ns, time.time_ns, 3600 * 1_000_000_000
    patch.setattr(time, "monotonic_ns", lambda: monotonic_ns() + hour_ns)
    patch.setattr(time, "time_ns", lambda: time_ns() + hour_ns)


@pytest.fixture
def arrivals_noted() -> Iterator[None]:
    """The kernel notes arrivals meanwhile: it does so while any socket asks for it, and begins a moment after the first one has."""
    with tcp_pair() as (ours, theirs):
        bench_wire.note_arrivals(ours.setsockopt)
        deadline = time.monotonic() + PATIENCE
        ancillary: list[tuple[int, int, bytes]] = []
        while not ancillary and time.monotonic() < deadline:
            theirs.send(b"!")
            ancillary = ours.recvmsg(1, bench_wire.ANCILLARY_BYTES)[1]
        assert bench_wire.unread_ns(ancillary) > 0
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run("cafe", "list")`: one command, in this process."""

    def command(*argv: str) -> Ran:
        capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as end:  # argparse ends this way
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return command


@pytest.fixture
def brewd(run: Callable[..., Ran], dev: Dev) -> Callable[..., Ran]:
    """The same, talking to the running daemon."""
    return lambda *argv: run(*argv, "--socket", dev.socket)
