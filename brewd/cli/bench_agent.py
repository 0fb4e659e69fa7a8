"""`brewd bench agent`: a café that talks while two hundred of its guests ask its agent, and the same café while they do not.

Both are measured in one run and in turn, by the same generator against the same daemon, so that what the machine does meanwhile falls on
both alike. The upstream is a local one: what is measured is brewd, not a model.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from brewd.cli import output
from brewd.cli.bench_daemon import BenchError, bench_daemon

ROOM_SOCKETS: Final = 100
RATE: Final = 100.0
"""Messages a second in the room."""

JOIN_LIMIT_S: Final = 30.0
_SLACK_S: Final = 60.0
_FIGURES: Final = ("p50_us", "p99_us")
_HEADERS: Final = ("ROUND", "ROOM P50 MS QUIET", "ASKED", "RATIO", "ROOM P99 MS QUIET", "ASKED", "RATIO")

Drive = Callable[..., list[list[dict[str, Any]]]]


class Askers:
    """The process with the askers and their upstream (`bench_askers`)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url: str = self.answer()["url"]

    def order(self, **what: Any) -> None:
        self._pipe(self._process.stdin).write(json.dumps(what) + "\n")
        self._pipe(self._process.stdin).flush()

    def answer(self) -> dict[str, Any]:
        """What comes of the last order."""
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise BenchError(f"the askers ended: {self._pipe(self._process.stderr).read().strip()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def _askers() -> Iterator[Askers]:
    process = subprocess.Popen(
        [sys.executable, "-m", "brewd.cli.bench_askers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Askers(process)
    finally:
        process.kill()
        process.communicate()


def measure(args: Any, drive: Drive) -> dict[str, Any]:
    """All rounds, and what they come to. `drive(plan, limit_s=…)` runs the room's load."""
    cores = os.sched_getaffinity(0)
    pinned = {args.server_cpu, args.load_cpu} <= cores and args.server_cpu != args.load_cpu
    load_cpu = args.load_cpu if pinned else -1
    with _askers() as askers, bench_daemon(cpu=args.server_cpu if pinned else None, parent_dir=args.dir, agent_url=askers.url) as daemon:
        (cafe,), tokens = daemon.populate(rooms=1, sockets=ROOM_SOCKETS + args.askers)
        daemon.spend_freely(cafe)
        askers.order(port=daemon.port, cafe=cafe, tokens=tokens[ROOM_SOCKETS:], cpu=load_cpu)
        askers.answer()
        askers.order(seconds=0.1)  # a round that does not count: what is loaded with the first call is not loaded again
        askers.answer()
        plan = {
            "targets": [{"port": daemon.port, "pid": daemon.pid, "cafes": [cafe], "tokens": tokens[:ROOM_SOCKETS]}], "rounds": 1,
            "path": "/ws", "outstanding": 0, "rate": args.rate or RATE,
            "warm_s": args.warm, "measure_s": args.seconds, "join_limit_s": JOIN_LIMIT_S, "cpu": load_cpu,
        }  # fmt: skip

        def once(asked: bool) -> tuple[dict[str, Any], dict[str, Any]]:
            if asked:
                askers.order(seconds=args.warm + args.seconds)
            ((room,),) = drive(plan, limit_s=JOIN_LIMIT_S + args.warm + args.seconds + _SLACK_S)
            return room, askers.answer() if asked else {}

        rounds = []
        for number in range(args.rounds):
            first = number % 2 == 1  # what comes first changes with every round
            one, other = once(first), once(not first)
            (quiet, _), (busy, asking) = (other, one) if first else (one, other)
            rounds.append({"quiet": quiet, "busy": busy, "asking": asking})
            output.say(f"round {number + 1} of {args.rounds}: room p99 {_ratio(rounds[-1], 'p99_us'):.2f}")
    return summed_up(rounds, pinned=pinned)


def summed_up(rounds: list[dict[str, Any]], *, pinned: bool) -> dict[str, Any]:
    """`first_us`: from the upstream's first words of an answer to the socket of each asker of it."""
    askings = [one["asking"] for one in rounds]
    first_us = sorted(us for asking in askings for us in asking["first_us"])
    at = {name: first_us[min(int(len(first_us) * share), len(first_us) - 1)] if first_us else 0 for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    return {
        "pinned": pinned,
        **{name: sum(asking[name] for asking in askings) for name in ("rounds", "asked", "answered", "questions", "calls")},
        "first_us": at,
        "failures": [text for asking in askings for text in asking["failures"]],
        "room": [
            {
                "quiet": {name: one["quiet"][name] for name in _FIGURES},
                "busy": {name: one["busy"][name] for name in _FIGURES},
                "ratio": {name: _ratio(one, name) for name in _FIGURES},
                "server_cpu_percent": {name: one[name]["server_cpu_percent"] for name in ("quiet", "busy")},
            }
            for one in rounds
        ],
        "ratio": {name: statistics.median(_ratio(one, name) for one in rounds) for name in _FIGURES},
    }


def table(result: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for number, one in enumerate(result["room"], 1):
        figures = [text for name in _FIGURES for text in (f"{one['quiet'][name] / 1000:.2f}", f"{one['busy'][name] / 1000:.2f}", f"{one['ratio'][name]:.2f}")]
        rows.append((number, *figures))
    rows.append(("median", "", "", f"{result['ratio']['p50_us']:.2f}", "", "", f"{result['ratio']['p99_us']:.2f}"))
    first = result["first_us"]
    said = output.facts(
        [
            ("asked", f"{result['asked']} times in {result['rounds']} rounds, {result['answered']} answered"),
            ("upstream calls", f"{result['calls']} for {result['questions']} different questions"),
            ("first words, upstream to socket", f"p50 {first['p50'] / 1000:.2f} ms, p99 {first['p99'] / 1000:.2f} ms, worst {first['max'] / 1000:.2f} ms"),
        ]
    )
    return f"{said}\n\n{output.table(_HEADERS, rows)}"


def fine(result: dict[str, Any]) -> bool:
    """Every question was answered, and no call was made twice."""
    return not result["failures"] and result["answered"] == result["asked"] and result["calls"] == result["questions"]


def _ratio(one: dict[str, Any], name: str) -> float:
    return one["busy"][name] / one["quiet"][name] if one["quiet"][name] else 0.0
