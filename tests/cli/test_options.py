"""How a client finds its daemon, and what it says when there is none."""

from __future__ import annotations

import socket
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from brewd.cli.options import socket_path
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


def find(config: str | None = None, path: str | None = None) -> Path:
    return socket_path(Namespace(config=config, socket=path))


def test_the_default_data_directory_is_the_last_resort(tmp_path: Path) -> None:
    assert find() == tmp_path / "home/.local/share/brewd/control.sock"


def test_what_is_said_more_closely_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".brewd").mkdir()
    assert find() == tmp_path / ".brewd/control.sock"
    monkeypatch.setenv("BREWD__DATA__DIR", "/srv/brewd")
    assert find() == Path("/srv/brewd/control.sock")
    monkeypatch.setenv("BREWD_SOCKET", "/run/env.sock")
    assert find() == Path("/run/env.sock")
    file = tmp_path / "b.toml"
    file.write_text('[control]\nsocket = "/run/file.sock"\n')
    assert find(str(file)) == Path("/run/file.sock")
    assert find(str(file), "/run/said.sock") == Path("/run/said.sock")


def test_nobody_there_is_code_3_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    ran = run("status")
    assert (ran.code, ran.out) == (3, "")
    assert f"{tmp_path}/home/.local/share/brewd/control.sock does not exist" in ran.err
    assert "brewd dev" in ran.err


def test_a_daemon_that_hangs_is_code_6(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(1)
        ran = run("status", "--socket", str(tmp_path / "s"), "--timeout", "0.05")
    assert (ran.code, ran.err) == (6, "brewd: no answer to status within 0.05 s; it may still take effect\n")


def test_a_bad_config_is_code_78_here_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("x = 1\n")
    assert run("status", "-c", str(tmp_path / "b.toml")).code == 78
