"""The command line as a whole: fast, helpful, and with an exit code for each kind of failure."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from brewd import __version__
from tests.cli.conftest import ROOT, Ran

Run = Callable[..., Ran]


def test_help_imports_nothing_slow() -> None:
    """What takes time to import is what takes time: nothing but argparse is needed to say what there is."""
    script = "import sys; from brewd.cli.main import build_parser; build_parser().format_help(); print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"trio", "msgspec", "quart", "hypercorn", "asyncpg", "redis", "structlog", "rich", "asyncio", "brewd.config", "brewd.daemon"}


def test_help_names_every_verb(run: Run) -> None:
    ran = run("--help")
    assert ran.code == 0
    for verb in (
        "dev",
        "serve",
        "check",
        "migrate",
        "status",
        "ps",
        "cafe",
        "staff",
        "user",
        "message",
        "limits",
        "moderation",
        "drain",
        "stop",
        "config",
        "bench",
        "completion",
    ):
        assert f"\n    {verb}" in ran.out
    assert "78 bad config" in ran.out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"brewd {__version__}\n", "")


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("brew",),
        ("cafe",),
        ("cafe", "add"),
        ("status", "--timeout", "0"),
        ("user", "add", "--cafe", "x", "--count", "100001"),
        ("staff", "add", "--role", "boss"),
        ("limits", "set", "--cafe", "x", "message.per_hour"),
        ("limits", "set", "--cafe", "x", "message.per_hour=many"),
        ("limits", "set", "--cafe", "x", "message.gap_s=nan"),
        ("limits", "try", "--cafe", "x", "message.gap_s=1e999"),
        ("limits", "reset", "--cafe", "x", "Otter", "--action", "shout"),
        ("user", "mute", "--cafe", "x", "Otter", "--for=-5m"),
        ("user", "ban", "--cafe", "x", "Otter", "--for", "soon"),
        ("user", "kick", "--cafe", "x", "Otter", "--for", "2h"),
        ("moderation", "log", "--cafe", "x", "--limit", "0"),
    ],
)
def test_what_cannot_be_understood_is_usage(run: Run, argv: tuple[str, ...]) -> None:
    ran = run(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: brewd" in ran.err


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "brewd", "config", "show", "--defaults"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, (ROOT / "brewd.toml").read_text(), "")


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "brewd", "config", "show"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_verbs(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert "revive" in ran.out
