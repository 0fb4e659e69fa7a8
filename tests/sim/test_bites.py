"""The simulation is worth something only if it fails when it should: here it has to."""

from __future__ import annotations

import pytest

from tests.sim.laws import NAMES, LawBroken
from tests.sim.planted import MORE, SIX
from tests.sim.uncounted import uncounted
from tests.sim.world import patched, play

SEEDS_MAX = 300


@pytest.mark.parametrize("bug", [*SIX, *MORE])
def test_a_planted_bug_is_found(bug: str) -> None:
    with uncounted():
        _found(bug)


def _found(bug: str) -> None:
    laws, places = {**SIX, **MORE}[bug]
    for seed in range(SEEDS_MAX):
        try:
            with patched(*places):
                play(seed)
        except LawBroken as broken:
            said = str(broken)
            assert said.startswith(tuple(f"law {law} ({NAMES[law]})" for law in laws)), said
            with patched(*places), pytest.raises(LawBroken) as again:
                play(seed)
            assert str(again.value) == said, "a failing seed must replay"
            play(seed)  # and without the bug nothing is wrong
            return
    pytest.fail(f"{SEEDS_MAX} seeds, and nobody noticed")
