"""Latencies of many measurements put together, and how sure a ratio of them is.

A p99 of a few seconds is the work of a dozen messages, and changes with whatever else the machine does. That of all rounds together does so
less; by how much is told by drawing rounds at random, again and again, from those that were measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

STEP_US: Final = 10
DRAWS: Final = 400
SURE: Final = 0.95

Counts = Mapping[int, int]
"""Latency, in steps of `STEP_US` and rounded down, and how many messages took so long."""


def counted(latencies_us: Iterable[int]) -> list[tuple[int, int]]:
    """Pairs as in `Counts`, which JSON has no keys for; in order."""
    return sorted(Counter(us // STEP_US for us in latencies_us).items())


def together(measured: Iterable[Counts]) -> Counts:
    total: Counter[int] = Counter()
    for counts in measured:
        total.update(counts)
    return total


def percentile_us(counts: Counts, share: float) -> int:
    """The latency that `share` of them were below, to a step. 0 when there are none."""
    total = sum(counts.values())
    rank = min(int(total * share), total - 1)
    for step in sorted(counts):
        rank -= counts[step]
        if rank < 0:
            return step * STEP_US
    return 0


def ratios(rounds: Sequence[tuple[Counts, Counts]], shares: Sequence[float]) -> list[dict[str, float]]:
    """For each of `shares`, that percentile of the first to that of the second, all rounds together; and from where to where it lies in `SURE` of the
    draws (the percentile bootstrap over whole rounds: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13)."""
    draw = random.Random(1).choices  # noqa: S311  (the same in every run)
    drawn = zip(*(_ratios(draw(rounds, k=len(rounds)), shares) for _ in range(DRAWS)), strict=True)
    left_out = round(DRAWS * (1 - SURE) / 2)
    return [
        {"ratio": found, "low": ranked[left_out], "high": ranked[-1 - left_out]}
        for found, ranked in zip(_ratios(rounds, shares), map(sorted, drawn), strict=True)
    ]


def _ratios(rounds: Sequence[tuple[Counts, Counts]], shares: Sequence[float]) -> list[float]:
    first, second = (together(measured) for measured in zip(*rounds, strict=True))
    pairs = ((percentile_us(first, share), percentile_us(second, share)) for share in shares)
    return [of / to if to else 0.0 for of, to in pairs]
