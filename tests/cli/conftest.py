"""One `brewd dev` for all of these tests, and the command line run in this process against it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from brewd.cli.main import main

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
