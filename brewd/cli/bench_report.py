"""What `brewd bench fanout` found, as a table for a person."""

from __future__ import annotations

from typing import Any, Final

from brewd.cli import output

_HEADERS: Final = (
    "SCENARIO", "SOCKETS", "ROOMS", "DELIVERIES/S", "PER CPU-S", "US/DELIVERY", "SENDS/S", "P50 MS", "P99 MS", "P99.9 MS", "CPU %", "KIB/SOCKET", "JOINS/S",
)  # fmt: skip
LOAD_BUSY_PERCENT: Final = 97


def table(results: list[dict[str, Any]]) -> str:
    """One line a measurement. Everything about CPU and memory is the daemon's process alone."""
    return output.table(_HEADERS, [_row(result) for result in results])


def remarks(result: dict[str, Any]) -> list[str]:
    """What should be known before a measurement is believed."""
    name, said = result["scenario"], []
    if result["lost"] or result["refused"]:
        said.append(f"{name}: {result['lost']} connections lost, {result['refused']} frames refused; the first: {result['note']}")
    if not result["delivered"]:
        said.append(f"{name}: nothing was delivered")
    if result["outstanding"] and result["load_cpu_percent"] > LOAD_BUSY_PERCENT:
        said.append(f"{name}: the generator was busy {result['load_cpu_percent']:.0f} % of the time; latencies include its own queue")
    if not result["outstanding"] and result["sent_per_s"] < 0.98 * result["rate"]:
        said.append(f"{name}: only {result['sent_per_s']:.0f} of {result['rate']:g} messages a second could be sent")
    return said


def _row(result: dict[str, Any]) -> tuple[object, ...]:
    cost_us = f"{1e6 * result['server_cpu_s'] / result['delivered']:.2f}" if result["delivered"] else ""
    return (
        result["scenario"],
        result["sockets"],
        result["rooms"],
        f"{result['delivered_per_s']:.0f}",
        f"{result['deliveries_per_cpu_s']:.0f}",
        cost_us,
        f"{result['sent_per_s']:.0f}",
        *(f"{result[key] / 1000:.2f}" for key in ("p50_us", "p99_us", "p999_us")),
        f"{result['server_cpu_percent']:.0f}",
        f"{result['kib_per_socket']:.1f}",
        f"{result['joins_per_s']:.0f}",
    )
