"""`brewd config show`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brewd.config import load, render_defaults
from tests.cli.conftest import ROOT, Ran

Run = Callable[..., Ran]


def test_the_defaults_are_the_reference_at_the_top(run: Run) -> None:
    assert run("config", "show", "--defaults") == (0, (ROOT / "brewd.toml").read_text(), "")
    assert run("config", "show", "--defaults").out == render_defaults()


def test_a_file_and_the_environment_are_shown_as_they_come_out(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "b.toml"
    file.write_text("[room]\nhistory = 7\n")
    monkeypatch.setenv("BREWD__ROOM__IDLE_S", "9")
    shown = run("config", "show", "-c", str(file))
    again = tmp_path / "again.toml"
    again.write_text(shown.out)
    assert shown.code == 0
    assert load(again, {}) == load(file)
    assert run("config", "show", "-c", str(file), "--json").json["config"]["room"]["idle_s"] == 9


def test_a_bad_file_is_code_78(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text("[room]\nhistry = 7\n")
    assert run("config", "show", "-c", str(file)) == (78, "", f"{file}:2: room.histry: unknown key; did you mean room.history?\n")


def test_no_daemon_starts_on_a_bad_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text("[server]\nlisten = []\n")
    for verb in ("serve", "dev", "migrate"):
        assert run(verb, "-c", str(file)) == (78, "", f"{file}:2: server.listen: needs at least one address\n")
