"""`brewd bench agent`: a café that talks while two hundred of its guests ask its agent, and the same café while they do not.

And, to tell what either means, the same café while as many people hear as much ordinary talk in other cafés, and once more while nothing
else goes on: by how much two quiet measurements differ is what this machine can tell apart. All four are measured in one run and in turn,
by the same generator against the same daemon, so that what the machine does meanwhile falls on all alike. The upstream is a local one:
what is measured is brewd, not a model.

The daemon and its stores are alone on one core. The agent's worker, the generator, the askers and their upstream share the other, so
what is under way has arrived when the kernel has it at the client's socket: how late that is read there would be their own doing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any, Final

from brewd.agent import chunks
from brewd.cli import bench_proc, output
from brewd.cli.bench_askers import GAP_S, QUESTIONS, SPREAD_S, TEXTS, THINKS_S
from brewd.cli.bench_daemon import BenchError, bench_daemon
from brewd.cli.bench_pooled import Counts, percentile_us, pooled, ratio, together, typical

ROOM_SOCKETS: Final = 100
RATE: Final = 100.0
"""Messages a second in the room."""

CHUNKS_PER_S: Final = QUESTIONS * (1 + TEXTS * GAP_S / chunks.GAP_S) / (SPREAD_S + THINKS_S + TEXTS * GAP_S)
"""What the askers hear, each chunk with those who asked alike: so many messages go to as many rooms of as many people."""

JOIN_LIMIT_S: Final = 30.0
_SLACK_S: Final = 60.0
_FIGURES: Final = {"p50_us": 0.5, "p99_us": 0.99}
_COMPARED: Final = {"p50_us": pooled(0.5), "p99_us": pooled(0.99), "typical_p99_us": typical(0.99)}
_STATES: Final = ("quiet", "again", "talk", "asked")
_HEADERS: Final = ("ROUND", "ROOM P50 MS QUIET", "AGAIN", "TALK", "ASKED", "ROOM P99 MS QUIET", "AGAIN", "TALK", "ASKED")

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
        if pinned:
            move_worker(daemon.pid, load_cpu)
        elsewhere, listeners = daemon.populate(rooms=min(QUESTIONS, args.askers), sockets=args.askers)
        limit_s = JOIN_LIMIT_S + args.warm + args.seconds + _SLACK_S

        def plan(cafes: list[str], tokens: list[str], rate: float, beside: str) -> dict[str, Any]:
            return {
                "targets": [{"port": daemon.port, "pid": daemon.pid, "cafes": cafes, "tokens": tokens}], "rounds": 1,
                "path": "/ws", "outstanding": 0, "rate": rate,
                "warm_s": args.warm, "measure_s": args.seconds, "join_limit_s": JOIN_LIMIT_S, "cpu": load_cpu, "beside": beside,
            }  # fmt: skip

        room = plan([cafe], tokens[:ROOM_SOCKETS], args.rate or RATE, "first")
        talk = plan(elsewhere, listeners, CHUNKS_PER_S, "last")

        def once(state: str, pool: ThreadPoolExecutor) -> dict[str, Any]:
            if state == "asked":
                askers.order(seconds=args.warm + args.seconds)
            talking = pool.submit(drive, talk, limit_s=limit_s) if state == "talk" else None
            ((found,),) = drive(room, limit_s=limit_s)
            if talking is not None:
                talking.result()
            return {**found, "asking": askers.answer()} if state == "asked" else found

        rounds = []
        with ThreadPoolExecutor(1) as pool:
            for number in range(args.rounds):
                first = number % len(_STATES)  # it changes with every round
                order = [*_STATES[first:], *_STATES[:first]]
                rounds.append({state: once(state, pool) for state in order})
                p99 = ", ".join(f"{state} {rounds[-1][state]['p99_us'] / 1000:.2f}" for state in _STATES)
                output.say(f"round {number + 1} of {args.rounds}: room p99 in ms {p99}")
    return summed_up(rounds, pinned=pinned)


def move_worker(daemon: int, cpu: int) -> None:
    """Take the agent's worker off the core of the daemon that started it."""
    worker = bench_proc.child_of(daemon, "brewd.agent.worker")
    if worker is None:
        raise BenchError("the daemon has no worker for its agent")
    bench_proc.move(worker, cpu)


def summed_up(rounds: list[dict[str, Any]], *, pinned: bool) -> dict[str, Any]:
    """`first_us`: from the upstream's first words of an answer to their arrival at the socket of each asker of it.

    `all` are the percentiles of the messages of all rounds, `ratios` those of one state to another's, and of the rounds' own in the middle, with what
    they lie between (see `bench_pooled`).
    What was asked is compared to both quiet measurements together, and the second of these to the first.
    """
    askings = [one["asked"]["asking"] for one in rounds]
    first_us = sorted(us for asking in askings for us in asking["first_us"])
    at = {name: first_us[min(int(len(first_us) * share), len(first_us) - 1)] if first_us else 0 for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
    counts: dict[str, list[Counts]] = {state: [dict(one[state]["counts"]) for one in rounds] for state in _STATES}
    both = [together(pair) for pair in zip(counts["quiet"], counts["again"], strict=True)]
    compared = {
        "asked_to_quiet": (counts["asked"], both),
        "quiet_to_quiet": (counts["again"], counts["quiet"]),
        "asked_to_talk": (counts["asked"], counts["talk"]),
    }
    return {
        "pinned": pinned,
        **{name: sum(asking[name] for asking in askings) for name in ("rounds", "asked", "answered", "questions", "calls")},
        "first_us": at,
        "failures": [text for asking in askings for text in asking["failures"]],
        "room": [{state: {name: one[state][name] for name in (*_FIGURES, "server_cpu_percent")} for state in _STATES} for one in rounds],
        "all": {state: {name: percentile_us(together(counts[state]), share) for name, share in _FIGURES.items()} for state in _STATES},
        "ratios": {
            name: {figure: ratio(list(zip(of, to, strict=True)), statistic) for figure, statistic in _COMPARED.items()} for name, (of, to) in compared.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for title, one in [*enumerate(result["room"], 1), ("all", result["all"])]:
        rows.append((title, *(f"{one[state][name] / 1000:.2f}" for name in _FIGURES for state in _STATES)))
    first = result["first_us"]
    said = output.facts(
        [
            ("asked", f"{result['asked']} times in {result['rounds']} rounds, {result['answered']} answered"),
            ("upstream calls", f"{result['calls']} for {result['questions']} different questions"),
            *((f"room, {name.replace('_', ' ')}", _ratio(found, sure=len(result["room"]) > 1)) for name, found in result["ratios"].items()),
            ("first words, upstream to socket", f"p50 {first['p50'] / 1000:.2f} ms, p99 {first['p99'] / 1000:.2f} ms, worst {first['max'] / 1000:.2f} ms"),
        ]
    )
    return f"{said}\n\n{output.table(_HEADERS, rows)}"


def fine(result: dict[str, Any]) -> bool:
    """Every question was answered, and no call was made twice."""
    return not result["failures"] and result["answered"] == result["asked"] and result["calls"] == result["questions"]


def _ratio(found: dict[str, dict[str, float]], *, sure: bool) -> str:
    """A single round says nothing of the next one."""
    return ", ".join(
        f"{name.removesuffix('_us').replace('_', ' ')} {one['ratio']:.2f}" + (f" ({one['low']:.2f} to {one['high']:.2f})" if sure else "")
        for name, one in found.items()
    )
