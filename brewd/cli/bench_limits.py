"""`brewd bench limits`: the same load with limits and without, in many short rounds within one run.

Both daemons are there all the time, with the same sockets joined; a round measures one and then the other. What the machine does
meanwhile falls on both of a round alike, and on neither always first, so what counts is the ratio within a round.
"""

from __future__ import annotations

import statistics
from typing import Any, Final

from brewd.cli import output

Measured = dict[str, Any]

_HEADERS: Final = (
    "SCENARIO", "ROUNDS", "DELIVERIES/CPU-S ON", "OFF", "ON/OFF: MEDIAN", "MIN", "MAX", "SENDS/CPU-S ON", "OFF", "ON/OFF: MEDIAN", "MIN", "MAX",
)  # fmt: skip
_FIGURES: Final = ("deliveries", "sends")


def compared(scenario: str, measured: list[list[Measured]]) -> dict[str, Any]:
    """The rates and ratios (with limits / without; 0.9 = ten percent less) of each round, and what they come to: median, least and greatest."""
    rounds = []
    for on, off in measured:
        with_limits, without = _rates(on), _rates(off)
        rounds.append({"on": with_limits, "off": without, "ratio": {name: _ratio(with_limits[name], without[name]) for name in _FIGURES}})
    ratios = {name: [one["ratio"][name] for one in rounds] for name in _FIGURES}
    return {
        "scenario": scenario,
        "rounds": rounds,
        "median": {name: statistics.median(found) for name, found in ratios.items()},
        "min": {name: min(found) for name, found in ratios.items()},
        "max": {name: max(found) for name, found in ratios.items()},
    }


def table(results: list[dict[str, Any]]) -> str:
    """A line a scenario: the medians of the rates, and the ratios within the rounds."""
    rows: list[tuple[object, ...]] = []
    for result in results:
        cells: list[object] = [result["scenario"], len(result["rounds"])]
        for name in _FIGURES:
            cells += [f"{statistics.median(one[side][name] for one in result['rounds']):.0f}" for side in ("on", "off")]
            cells += [f"{result[of][name]:.3f}" for of in ("median", "min", "max")]
        rows.append(tuple(cells))
    return output.table(_HEADERS, rows)


def _rates(result: Measured) -> dict[str, float]:
    """Per CPU-second of the daemon."""
    return {"deliveries": result["deliveries_per_cpu_s"], "sends": result["sent"] / result["server_cpu_s"] if result["server_cpu_s"] else 0.0}


def _ratio(on: float, off: float) -> float:
    return on / off if off else 0.0
