"""What keeps a daemon from starting is said in one clear line, with the right exit code, and nothing is left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.system.daemon import CONFIG, ROOT, Daemon, environment


class Ended(NamedTuple):
    code: int
    err: str


def serve(config: Path) -> Ended:
    """A `brewd serve` that is expected not to last."""
    ran = subprocess.run(
        [sys.executable, "-m", "brewd", "serve", "-c", str(config)], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=20, check=False
    )
    assert not ran.stdout
    return Ended(ran.returncode, ran.stderr)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(tmp_path, port=port)
        code, err = serve(daemon.config)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert f"127.0.0.1:{port} is in use" in err
    assert not daemon.data.exists()
    assert not daemon.left()


def test_what_cannot_be_listened_on(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_text('[server]\nlisten = ["unix:/nonexistent/socket"]\n[data]\ndir = "data"\n')
    code, err = serve(daemon.config)
    assert code == 1
    assert err == "brewd: server.listen: unix:/nonexistent/socket: No such file or directory\n"
    assert not daemon.data.exists()


async def test_a_data_directory_in_use(daemon: Daemon) -> None:
    second = daemon.directory / "second.toml"
    second.write_text(CONFIG.format(port=0))
    before = sorted(path.name for path in daemon.data.iterdir())
    code, err = serve(second)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert f"another brewd (process {daemon.pid}) uses the data directory {daemon.data}" in err
    assert sorted(path.name for path in daemon.data.iterdir()) == before
    assert (await daemon.call("status"))["status"] == "ok", "the first one must not notice"


def test_a_typo_in_the_config(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_text(CONFIG.format(port=0) + '\n[room]\nhistroy = 50\n\n[journal]\ntimeout_s = "soon"\n')
    code, err = serve(daemon.config)
    lines = err.splitlines()
    assert code == 78
    assert len(lines) == 2, err
    assert "histroy" in lines[0]
    assert "history" in lines[0]
    assert "timeout_s" in lines[1]
    assert all(str(daemon.config) in line for line in lines)
    assert not daemon.data.exists()


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    code, err = serve(tmp_path / "none.toml")
    assert code == 78
    assert len(err.splitlines()) == 1
    assert str(tmp_path / "none.toml") in err
