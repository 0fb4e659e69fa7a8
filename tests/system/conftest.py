"""The daemon as operators and customers meet it: a process, its sockets, and what is left when something is killed.

These tests wait for real. Each wait is bounded; `--long` gives the large numbers and the long outages of the acceptance list.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.system.daemon import Daemon, clear, running


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="system tests: the full numbers and the long outages")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture
def measured(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """`measured(ready_s=0.8)`: shown while the tests run, and kept in the report."""

    def note(**values: float) -> None:
        for name, value in values.items():
            record_property(name, value)
        with capsys.disabled():
            print("  " + "  ".join(f"{name} {value:.3g}" for name, value in values.items()), end=" ", flush=True)

    return note


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as a first run leaves it: copying one is faster than making one."""
    daemon = Daemon(tmp_path_factory.mktemp("prepared"))

    async def first_run() -> None:
        async with running(daemon):
            assert await daemon.terminate() == 0

    trio.run(first_run)
    return daemon.data


@pytest.fixture
async def idle(prepared: Path, tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that is not started yet. It is gone after the test."""
    subprocess.run(["cp", "-a", str(prepared), str(tmp_path / "data")], check=True)
    daemon = Daemon(tmp_path)
    yield daemon
    with trio.CancelScope(shield=True):
        await clear(daemon)


@pytest.fixture(scope="session")
def house(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("house")
    subprocess.run(["cp", "-a", str(prepared), str(directory / "data")], check=True)
    daemon = Daemon(directory)
    yield daemon
    trio.run(clear, daemon)


@pytest.fixture
async def daemon(house: Daemon) -> Daemon:
    """A daemon that serves. It may have served, and suffered, in other tests before: whoever wants to be alone makes cafés of their own."""
    if house.process is None or house.process.poll() is not None:
        await house.start()
    assert (await house.call("status"))["checks"]["postgres"] == "ok"
    return house
