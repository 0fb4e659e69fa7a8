"""`brewd agent` and a café's menu, against a real daemon that has no key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from brewd.agent.personas import PERSONAS
from brewd.agent.settings import Proactivity
from brewd.cli import agent
from tests.cli.conftest import Ran
from tests.cli.test_live import NOBODY

Brewd = Callable[..., Ran]


@pytest.fixture
def cafe(brewd: Brewd) -> str:
    return str(brewd("cafe", "add", "--name", "Corner", "--json").json["cafe"]["id"])


def test_an_agent_is_shown_and_set(brewd: Brewd, cafe: str) -> None:
    shown = brewd("agent", "show", "--cafe", cafe)
    assert shown.code == 0
    assert [line.split()[:2] for line in shown.out.splitlines()] == [
        ["agent", "enabled"], ["status", "off"], ["persona", "bartender"], ["by", "itself"], ["today", "0"], ["this", "month"],
    ]  # fmt: skip
    assert "0 questions, 0.00 cents of a budget of 200 cents" in shown.out
    assert shown.err.startswith("the agent answers nobody: ")
    changed = brewd(
        "agent", "set", "--cafe", cafe, "--disabled", "--persona", "custom", "--custom-text", "Like a pirate.", "--proactivity", "hype",
        "--daily-budget-cents", "50", "--monthly-budget-cents", "none", "--json",
    )  # fmt: skip
    assert changed.json["config"] == {
        "enabled": False, "persona": "custom", "customText": "Like a pirate.", "proactivity": "hype", "dailyBudgetCents": 50, "monthlyBudgetCents": None,
    }  # fmt: skip
    assert changed.json["spent"]["costMonthMicrocents"] == 0
    assert changed.json["spent"]["hitRate"] is None
    again = brewd("agent", "set", "--cafe", cafe, "--enabled")
    assert "enabled" in again.out
    assert "no budget" in again.out


def test_the_command_knows_every_persona_and_proactivity_without_importing_the_agent() -> None:
    assert (PERSONAS, get_args(Proactivity)) == (agent._PERSONAS, agent._PROACTIVITY)


def test_what_makes_no_sense_is_said(brewd: Brewd, cafe: str) -> None:
    for argv, code, words in (
        (("set", "--cafe", cafe), 2, "nothing to set"),
        (("set", "--cafe", cafe, "--persona", "pirate"), 2, "bartender"),
        (("set", "--cafe", cafe, "--daily-budget-cents", "-1"), 2, "daily-budget-cents"),
        (("set", "--cafe", cafe, "--daily-budget-cents", "1.5"), 2, "none"),
        (("set", "--cafe", cafe, "--persona", "custom", "--custom-text", ""), 2, "--custom-text: "),
        (("set", "--cafe", NOBODY, "--enabled"), 4, "no such café"),
        (("show", "--cafe", NOBODY), 4, "no such café"),
    ):
        ran = brewd("agent", *argv)
        assert (ran.code, ran.out) == (code, ""), ran
        assert words in ran.err


def test_a_menu_comes_from_a_file(brewd: Brewd, cafe: str, tmp_path: Path) -> None:
    file = tmp_path / "menu.json"
    file.write_text(json.dumps([{"name": "Melange", "price": "3,80 €"}, {"name": "Cake", "note": "vegan"}]))
    assert "2 items" in brewd("cafe", "set", cafe, "--menu", str(file)).out
    assert brewd("cafe", "show", cafe, "--json").json["cafe"]["menu"][1] == {"name": "Cake", "note": "vegan"}
    for text, words in (("[{]", "is not JSON"), ("{}", "is not a list"), ('[{"price": 1}]', "menu[0]")):
        file.write_text(text)
        ran = brewd("cafe", "set", cafe, "--menu", str(file))
        assert ran.code == 2
        assert words in ran.err
    assert "No such file" in brewd("cafe", "set", cafe, "--menu", str(tmp_path / "nowhere")).err
    assert brewd("cafe", "set", cafe, "--menu", "", "--json").json["cafe"]["menu"] == []
