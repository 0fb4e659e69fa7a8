"""Rooms, journal and members in one deterministic world, seed after seed: the laws hold after every step.

pytest tests/sim                                  # 1,000 seeds
pytest tests/sim/test_sim.py --sim-seeds 100000   # any number
pytest tests/sim/test_sim.py --sim-seed 4711      # one story alone, as it went before
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.sim.laws import LawBroken
from tests.sim.uncounted import uncounted
from tests.sim.world import play

BLOCK = 100

_DIGEST = """
import hashlib
from tests.sim.world import play
print(hashlib.sha256(repr([play(seed).trace for seed in (3, 8, 13)]).encode()).hexdigest())
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    one, count = metafunc.config.getoption("--sim-seed"), metafunc.config.getoption("--sim-seeds")
    blocks = [range(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)] if one is None else [range(one, one + 1)]
    metafunc.parametrize("seeds", blocks, ids=[f"{block.start}-{block.stop - 1}" for block in blocks])


def test_the_laws_hold(seeds: range) -> None:
    with uncounted() if seeds.start else nullcontext():
        for seed in seeds:
            try:
                play(seed)
            except LawBroken as broken:
                pytest.fail(f"seed {seed}: {broken}\n{_replay(seed)}", pytrace=False)
            except Exception as error:
                error.add_note(_replay(seed))
                raise


def _replay(seed: int) -> str:
    return f"Replay it alone: pytest tests/sim/test_sim.py --sim-seed {seed}"


def test_a_seed_is_the_same_story_whatever_ran_before() -> None:
    alone = play(5).trace
    play(6)
    assert play(5).trace == alone


def test_a_seed_is_the_same_story_in_another_process(checkout: Path) -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            cwd=checkout,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]
