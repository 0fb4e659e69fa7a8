"""`brewd bench limits`: the same load with limits and without, in pairs. What the machine does meanwhile falls on both of a pair alike, and on neither always first."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

from brewd.cli import output

Measured = dict[str, Any]

_HEADERS: Final = ("SCENARIO", "ROUND", "DELIVERIES/CPU-S ON", "OFF", "ON/OFF", "SENDS/CPU-S ON", "OFF", "ON/OFF")
_FIGURES: Final = ("deliveries", "sends")


def pairs(measure: Callable[[bool], Measured], rounds: int) -> list[tuple[Measured, Measured]]:
    """(with limits, without) for each round: what comes first changes with every round."""
    measured: list[tuple[Measured, Measured]] = []
    for number in range(rounds):
        on_first = number % 2 == 0
        first, second = measure(on_first), measure(not on_first)
        measured.append((first, second) if on_first else (second, first))
        on, off = measured[-1]
        output.say(f"round {number + 1} of {rounds}: {_ratio(_rates(on)['deliveries'], _rates(off)['deliveries']):.3f}")
    return measured


def compared(scenario: str, measured: list[tuple[Measured, Measured]]) -> dict[str, Any]:
    """The rates and ratios (with limits / without; 0.9 = ten percent less) of each round, and the median of the ratios."""
    rounds = []
    for on, off in measured:
        with_limits, without = _rates(on), _rates(off)
        rounds.append({"on": with_limits, "off": without, "ratio": {name: _ratio(with_limits[name], without[name]) for name in _FIGURES}})
    return {"scenario": scenario, "rounds": rounds, "median": {name: statistics.median(one["ratio"][name] for one in rounds) for name in _FIGURES}}


def table(results: list[dict[str, Any]]) -> str:
    """A line a round, and the median of the ratios below them."""
    rows: list[tuple[object, ...]] = []
    for result in results:
        for number, one in enumerate(result["rounds"], 1):
            figures = [text for name in _FIGURES for text in (f"{one['on'][name]:.0f}", f"{one['off'][name]:.0f}", f"{one['ratio'][name]:.3f}")]
            rows.append((result["scenario"], number, *figures))
        rows.append((result["scenario"], "median", "", "", f"{result['median']['deliveries']:.3f}", "", "", f"{result['median']['sends']:.3f}"))
    return output.table(_HEADERS, rows)


def _rates(result: Measured) -> dict[str, float]:
    """Per CPU-second of the daemon."""
    return {"deliveries": result["deliveries_per_cpu_s"], "sends": result["sent"] / result["server_cpu_s"] if result["server_cpu_s"] else 0.0}


def _ratio(on: float, off: float) -> float:
    return on / off if off else 0.0
