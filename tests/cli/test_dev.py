"""`brewd dev` from start to end: what it refuses, what it keeps, and how it stops."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from brewd.cli.dev import dev_config, walk
from brewd.config import WIDE_OPEN, EdgeLimits
from tests.cli.conftest import ROOT, Dev, Ran

Run = Callable[..., Ran]


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "fd://3"])
def test_dev_is_for_this_machine_only(run: Run, listen: str) -> None:
    ran = run("dev", "--listen", listen)
    assert (ran.code, ran.out) == (2, "")
    assert "dev listens on loopback only" in ran.err


def test_an_address_that_is_none_is_usage(run: Run) -> None:
    assert run("dev", "--listen", "8080").code == 2


def test_dev_limits_nothing_at_the_edge_that_nobody_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = argparse.Namespace(config=None, data=str(tmp_path), listen=None)
    assert dev_config(args).limits.edge == WIDE_OPEN
    monkeypatch.setenv("BREWD__LIMITS__EDGE__FRAMES_PER_S", "7")
    assert dev_config(args).limits.edge == EdgeLimits(frames_per_s=7)


def paste(lines: str) -> str:
    """What a shell prints for them; they must all succeed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", lines], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines are for people who have curl")
def test_the_lines_to_paste_lead_from_a_receipt_to_a_chat(tmp_path: Path) -> None:
    dev = Dev(tmp_path / "data")
    try:
        printed = paste(walk(dev.demo))
    finally:
        assert dev.end() == 0
    assert '"qrSvg":"<svg' in printed
    assert f'"username":"{dev.demo["receipts"][0]["username"]}"' in printed
    assert '"content":"One flat white, please."' in printed
    assert "problem" not in printed


def test_dev_keeps_its_cafe_and_ends_when_asked(run: Run, tmp_path: Path) -> None:
    first = Dev(tmp_path / "data")
    try:
        ran = run("stop", "--socket", first.socket, "--timeout", "30")
        assert (ran.code, ran.err) == (0, "stopping\nstopped\n")
    finally:
        assert first.end() == 0
    assert (tmp_path / "data/.gitignore").read_text() == "*\n"
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert not Path(first.socket).exists()
    second = Dev(tmp_path / "data")
    try:
        assert second.demo["cafe"] == first.demo["cafe"]
        assert {one["joinToken"] for one in second.demo["receipts"]}.isdisjoint({one["joinToken"] for one in first.demo["receipts"]})
        ran = run("drain", "--socket", second.socket, "--timeout", "30")
        assert (ran.code, ran.err) == (0, "draining\nstopped\n")
    finally:
        assert second.end() == 0
