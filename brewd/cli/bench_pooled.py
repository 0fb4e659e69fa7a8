"""Latencies of many measurements put together, and how sure a ratio of them is.

A p99 of a few seconds is the work of a dozen messages, and changes with whatever else the machine does. That of all rounds together does so
less; by how much is told by drawing rounds at random, again and again, from those that were measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final

STEP_US: Final = 10
DRAWS: Final = 400
SURE: Final = 0.95

Counts = Mapping[int, int]
"""Latency, in steps of `STEP_US` and rounded down, and how many messages took so long."""

Statistic = Callable[[Sequence[Counts]], float]
"""Of what was measured in several rounds, in µs."""


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


def pooled(share: float) -> Statistic:
    """That percentile of all rounds' messages together."""
    return lambda measured: percentile_us(together(measured), share)


def typical(share: float) -> Statistic:
    """Of each round's own percentile the median: a round in which the machine stood still for a moment does not show."""
    return lambda measured: median(percentile_us(one, share) for one in measured)


def ratio(rounds: Sequence[tuple[Counts, Counts]], statistic: Statistic) -> dict[str, float]:
    """The statistic of the first to that of the second, and from where to where it lies in `SURE` of the draws (the percentile bootstrap over whole
    rounds: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13)."""
    draw = random.Random(1).choices  # noqa: S311  (the same in every run)
    ranked = sorted(_ratio(draw(rounds, k=len(rounds)), statistic) for _ in range(DRAWS))
    left_out = round(DRAWS * (1 - SURE) / 2)
    return {"ratio": _ratio(rounds, statistic), "low": ranked[left_out], "high": ranked[-1 - left_out]}


def _ratio(rounds: Sequence[tuple[Counts, Counts]], statistic: Statistic) -> float:
    of, to = (statistic(measured) for measured in zip(*rounds, strict=True))
    return of / to if to else 0.0
