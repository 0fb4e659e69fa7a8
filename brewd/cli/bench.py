"""`brewd bench fanout|limits|agent`: how much a brewd on this machine delivers, at what cost, and what limits, spam rules and the agent do to that.

Each measurement starts daemons of its own on one core and drives them from another (`bench_load.py`). Nothing that runs already is touched.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from brewd.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brewd.cli.bench_scenarios import Scenario

_JOIN_LIMIT_S: Final = 120.0
_SLACK_S: Final = 60.0  # for the generator to start, and to sum up
_FILES_TO_SPARE: Final = 100

_DESCRIPTION: Final = """\
Measure the way of a message from one sender to every member of its room, everything switched on, limits set wide.
Without names or -n, the whole table is run: closed-1k, closed-5k, paced, many-rooms, alone."""

_LIMITS_DESCRIPTION: Final = """\
What counting and judging messages costs: the same closed loop, in turn against a daemon with wide limits and the spam rules on
(buckets, gaps, duplicates, raids, and what of that is noted in Redis), and against one with limits.enabled and limits.spam.enabled
false. Both run all the time on one core; a round measures the one and then the other, and what counts is the median of the ratios
within the rounds, shown with the least and the greatest of them. Without names or -n: closed-1k (each message goes to 100) and alone (to its sender only)."""

_AGENT_DESCRIPTION: Final = """\
200 guests of one café ask its agent 20 different questions, again and again, of an upstream that the bench runs itself, while 100
others hear 100 messages a second; and in turn the same room while nobody asks, twice, so that it shows what this machine can tell apart;
and while 200 guests of other cafés hear as much ordinary talk as the answers were. The daemon and its stores have one core; the agent's
worker, the generator, the askers and their upstream have the other. Prints the upstream calls (one a question), how long the first words
are under way from the upstream to a socket, and the room's latency in all four. Both end when the kernel has the bytes at the client's
socket, however late they are read there. The generator, where the system lets it (root), sends ahead of whatever else runs on its core.
A ratio is that of the percentiles of all rounds' messages, asked to quiet that to both quiet measurements together; what is in brackets
it lies between in 95 of 100 draws of these rounds. "typical p99" is the ratio of the medians of the rounds' own p99, which no
single round changes in which the machine stood still.
Exit code 1 when a question stayed without an answer or was asked twice upstream."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("bench", help="measure what brewd can do on this machine", description="Measure what brewd can do on this machine.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fanout = verbs.add_parser(
        "fanout",
        parents=[options.json_option()],
        help="deliveries per CPU second, latency, memory and connects",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load = _add_load(fanout, seconds=4.0, warm=1.0)
    load.add_argument("--rate", type=options.positive_number, metavar="N", help="paced: messages a second, all rooms together")
    fanout.add_argument("--curve", action="store_true", help="CPU per delivery from 10 to 1,000 rooms and from 100 to 10,000 sockets")
    fanout.add_argument("--repeat", type=_positive, default=1, metavar="N", help="measure N times and show the median by CPU per delivery")
    limits = verbs.add_parser(
        "limits",
        parents=[options.json_option()],
        help="the same load with limits and spam rules, and without",
        description=_LIMITS_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_load(limits, seconds=1.0, warm=0.2)
    limits.add_argument("--rounds", type=_positive, default=15, metavar="N", help="pairs of measurements, the order swapped each time (default 15)")
    limits.set_defaults(rate=None, curve=False)
    agent = verbs.add_parser(
        "agent",
        parents=[options.json_option()],
        help="many askers, and what the room notices of them",
        description=_AGENT_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    agent.add_argument("--askers", type=_positive, default=200, metavar="N", help="default 200")
    agent.add_argument("--rate", type=options.positive_number, metavar="N", help="messages a second in the room (default 100)")
    agent.add_argument("--rounds", type=_positive, default=8, metavar="N", help="four measurements each, in another order each time (default 8)")
    _add_machine(agent, seconds=5.0)


def _add_load(parser: argparse.ArgumentParser, *, seconds: float, warm: float) -> argparse._MutuallyExclusiveGroup:
    """What every measurement takes; the group says how a load of one's own is driven."""
    parser.add_argument("names", metavar="SCENARIO", nargs="*", help="run only these of the table")
    own = parser.add_argument_group("a load of your own")
    own.add_argument("-n", "--sockets", type=_positive, metavar="N")
    own.add_argument("-r", "--rooms", type=_positive, metavar="N", help="default 10")
    load = own.add_mutually_exclusive_group()
    load.add_argument("-k", "--outstanding", type=_positive, metavar="N", help="closed loop: messages under way in each room (default 4)")
    _add_machine(parser, seconds=seconds, warm=warm)
    return load


def _add_machine(parser: argparse.ArgumentParser, *, seconds: float, warm: float = 1.0) -> None:
    """How long each measurement takes, and where."""
    parser.add_argument("--seconds", type=options.positive_number, default=seconds, metavar="S", help=f"length of each measurement (default {seconds:g})")
    parser.add_argument("--warm", type=options.positive_number, default=warm, metavar="S", help=f"under load before it counts (default {warm:g})")
    parser.add_argument("--server-cpu", type=int, default=0, metavar="CPU", help="core of the daemon and its stores (default 0)")
    parser.add_argument("--load-cpu", type=int, default=1, metavar="CPU", help="core of the generator (default 1)")
    parser.add_argument("--dir", metavar="PATH", help="where the temporary data directories go")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def run(args: argparse.Namespace) -> int:
    import signal

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(args)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> int:
    from brewd.cli import bench_limits, bench_report
    from brewd.cli.bench_daemon import BenchError

    if args.action == "agent":
        return _agent(args)
    if args.action == "limits" and not args.sockets:
        args.names = args.names or ["closed-1k", "alone"]
    chosen = _chosen(args)
    if args.action == "limits" and (paced := [scenario.name for scenario in chosen if not scenario.outstanding]):
        raise output.Exit(output.USAGE, f"{paced[0]} is paced: it takes as long with limits as without")
    _raise_file_limit(max(scenario.sockets for scenario in chosen) * (2 if args.action == "limits" else 1))
    results: list[dict[str, Any]] = []
    trouble = False
    for scenario in chosen:
        output.say(f"{scenario.name}: {scenario.text}")
        try:
            result, measured = (_limits if args.action == "limits" else _fanout)(scenario, args)
        except BenchError as error:
            raise output.Exit(output.FAILED, f"{scenario.name}: {error}") from None
        results.append(result)
        for one in measured:
            for remark in bench_report.remarks(one):
                output.say(remark)
            trouble = trouble or not one["delivered"] or bool(one["lost"]) or (args.action == "limits" and bool(one["refused"]))
    output.emit(args, {"results": results}, bench_limits.table(results) if args.action == "limits" else bench_report.table(results))
    return output.FAILED if trouble else output.OK


def _fanout(scenario: Scenario, args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result, and the measurements to be remarked on."""
    tries = sorted((_measure(scenario, args)[0][0] for _ in range(args.repeat)), key=lambda result: result["deliveries_per_cpu_s"])
    return tries[len(tries) // 2], [tries[len(tries) // 2]]


def _limits(scenario: Scenario, args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from brewd.cli import bench_limits

    rounds = _measure(scenario, args, limited=(True, False), rounds=args.rounds)
    return bench_limits.compared(scenario.name, rounds), rounds[-1]


def _agent(args: argparse.Namespace) -> int:
    from brewd.cli import bench_agent
    from brewd.cli.bench_daemon import BenchError

    try:
        result = bench_agent.measure(args, _drive)
    except BenchError as error:
        raise output.Exit(output.FAILED, f"agent: {error}") from None
    output.emit(args, result, bench_agent.table(result))
    for failure in result["failures"]:
        output.say(f"agent: {failure}")
    return output.OK if bench_agent.fine(result) else output.FAILED


def _terminated(number: int, _: object) -> None:
    """Told to stop: leave like an exception, so that the daemon and its data go too."""
    raise SystemExit(128 + number)


def _chosen(args: argparse.Namespace) -> list[Scenario]:
    """What the command line asks for. Ends the command when that is not sensible."""
    from brewd.cli.bench_scenarios import TABLE, Scenario, curves

    table = {scenario.name: scenario for scenario in TABLE}
    if args.sockets:
        rooms = args.rooms or min(10, args.sockets)
        if args.names or args.curve or rooms > args.sockets:
            raise output.Exit(output.USAGE, "-n is a load of its own, with at least one socket a room; leave the names out")
        return [Scenario(name="own", sockets=args.sockets, rooms=rooms, outstanding=0 if args.rate else args.outstanding or 4, rate=args.rate or 0.0)]
    if args.rooms or args.rate or args.outstanding:
        raise output.Exit(output.USAGE, "-r, -k and --rate describe a load of your own: say with -n how many sockets it has")
    if unknown := [name for name in args.names if name not in table]:
        raise output.Exit(output.USAGE, f"no scenario {unknown[0]!r}; there are {', '.join(table)}")
    if args.curve:
        return list(curves())
    return [table[name] for name in args.names] or list(TABLE)


def _measure(scenario: Scenario, args: argparse.Namespace, *, limited: Sequence[bool] = (True,), rounds: int = 1) -> list[list[dict[str, Any]]]:
    """Round by round, the result of a daemon with limits or without for each of `limited`."""
    from brewd.cli.bench_daemon import bench_daemon

    cores = os.sched_getaffinity(0)
    pinned = {args.server_cpu, args.load_cpu} <= cores and args.server_cpu != args.load_cpu
    with ExitStack() as stack:
        targets = []
        for each in limited:
            daemon = stack.enter_context(bench_daemon(cpu=args.server_cpu if pinned else None, parent_dir=args.dir, limited=each))
            cafes, tokens = daemon.populate(rooms=scenario.rooms, sockets=scenario.sockets)
            targets.append({"port": daemon.port, "pid": daemon.pid, "cafes": cafes, "tokens": tokens})
        plan = {
            "targets": targets,
            "rounds": rounds,
            "path": "/ws",
            "outstanding": scenario.outstanding,
            "rate": scenario.rate,
            "warm_s": args.warm,
            "measure_s": args.seconds,
            "join_limit_s": _JOIN_LIMIT_S,
            "cpu": args.load_cpu if pinned else -1,
        }
        found = _drive(plan, limit_s=len(targets) * (_JOIN_LIMIT_S + rounds * (args.warm + args.seconds + 1.0)) + _SLACK_S)
    about = {"scenario": scenario.name, "outstanding": scenario.outstanding, "rate": scenario.rate, "pinned": pinned}
    return [[about | result for result in results] for results in found]


def _drive(plan: dict[str, Any], *, limit_s: float) -> list[list[dict[str, Any]]]:
    """Run the generator as a process of its own: it shares neither core nor interpreter with anything."""
    import json
    import subprocess
    import sys

    from brewd.cli.bench_daemon import BenchError

    try:
        done = subprocess.run(
            [sys.executable, "-m", "brewd.cli.bench_load"], input=json.dumps(plan).encode(), capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"the generator did not end within {limit_s:g} s") from None
    if done.returncode:
        raise BenchError(done.stderr.decode(errors="replace").strip()[-2000:])
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def _raise_file_limit(sockets: int) -> None:
    """Both processes need a file a socket, and inherit our limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and sockets + _FILES_TO_SPARE > hard:
        raise output.Exit(output.USAGE, f"{sockets} sockets need as many open files; the hard limit here is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
