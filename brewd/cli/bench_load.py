"""The load generator of `brewd bench`: one thread, one epoll set, plain sockets, in a process of its own.

`python -m brewd.cli.bench_load` reads one JSON plan from stdin and writes one JSON result to stdout. In the measured path it never decodes
a frame: one read into a large buffer, one count of the mark that every message carries once, and now and then a look at the send times inside.
It sees what the C generator it is checked against sees, and costs little more.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from array import array
from contextlib import suppress
from typing import Any, Final, Literal, NotRequired, TypedDict

from brewd.cli import bench_wire as wire
from brewd.cli.bench_fleet import Fleet, JoinError
from brewd.cli.bench_pooled import counted
from brewd.cli.bench_proc import cpu_s, rss_kib

_COUNTER_FIRST: Final = 12_345_678
_COUNTER_MAX: Final = 100_000_000
"""Every text is another one, of one length, and has no row of zeros in it: a daemon may take those for spam."""

_EVENTS_MAX: Final = 1024
_SETTLE_NS: Final = 500_000_000
_SETTLE_AGAIN_NS: Final = 100_000_000  # for what was under way when the round before ended
_SAMPLE_EVERY_CLOSED: Final = 17  # reads between looks at send times; a prime, so that it never falls into step with the members of a room
_BUSY_WAIT_NS: Final = 2_000_000  # epoll counts in whole ms: nearer than this to the next send, poll without waiting
NICE: Final = 10


class Target(TypedDict):
    """A server that is measured."""

    port: int
    pid: int  # for its CPU time and memory
    cafes: list[str]  # one id per room
    tokens: list[str]  # one per socket


class Plan(TypedDict):
    """Measurements of one target, or of several in turn."""

    targets: list[Target]
    rounds: int  # in each, every target is measured once; the order changes with every round
    path: str
    outstanding: int  # closed loop: messages under way per room; 0 = paced
    rate: float  # paced: messages a second, all rooms together
    warm_s: float
    measure_s: float
    join_limit_s: float
    cpu: int  # core to stay on; -1 = any
    beside: NotRequired[Literal["first", "last"]]
    """Others have work on its core. It sends ahead of them, or gives way; it never waits busily; and a message arrives when the kernel has it, not when it is read.
    All latencies are in the result, for several measurements to be put together."""


class Load:
    """Drives a joined fleet, in a closed loop or paced, and counts what comes back."""

    def __init__(self, fleet: Fleet, plan: Plan, cafes: list[str]) -> None:
        self._fleet = fleet
        self._outstanding = plan["outstanding"]
        self._gap_ns = 0 if self._outstanding else int(1e9 / plan["rate"])
        self._beside = "beside" in plan
        self._busy_wait_ns = 0 if self._beside else _BUSY_WAIT_NS
        self._templates = [wire.message_template(cafe) for cafe in cafes]
        self._sample_every = _SAMPLE_EVERY_CLOSED if self._outstanding else 1
        self._latencies_us = array("L")
        self._cut: dict[int, bytes] = {}  # by file descriptor: the tail of a read that may hold the first part of a mark
        self._sent = self._seen = self._bytes = self._stalled = self._late_max_ns = self._due_ns = self._room = 0

    def measure(self, *, pid: int, warm_s: float, measure_s: float) -> dict[str, Any]:
        """Warm up, then count for `measure_s`."""
        self._pump(time.monotonic_ns() + (_SETTLE_AGAIN_NS if self._sent else _SETTLE_NS), sending=False)
        self._due_ns = time.monotonic_ns()
        for room in range(len(self._templates)):
            for _ in range(self._outstanding):
                self._send(room)
        self._pump(time.monotonic_ns() + int(warm_s * 1e9), sending=True)
        self._latencies_us = array("L")
        self._late_max_ns = 0
        before = (time.monotonic_ns(), cpu_s(pid), time.process_time(), self._sent, self._seen, self._bytes)
        self._pump(before[0] + int(measure_s * 1e9), sending=True)
        after = (time.monotonic_ns(), cpu_s(pid), time.process_time(), self._sent, self._seen, self._bytes)
        elapsed_ns, server_s, own_s, sent, seen, size = (b - a for a, b in zip(before, after, strict=True))
        elapsed_s = elapsed_ns / 1e9
        return {
            "elapsed_s": elapsed_s,
            "sent": sent,
            "sent_per_s": sent / elapsed_s,
            "delivered": seen,
            "delivered_per_s": seen / elapsed_s,
            "mb_per_s": size / elapsed_s / 1e6,
            "server_cpu_s": server_s,
            "server_cpu_percent": 100 * server_s / elapsed_s,
            "deliveries_per_cpu_s": seen / server_s if server_s else 0.0,
            "load_cpu_percent": 100 * own_s / elapsed_s,
            "late_max_us": self._late_max_ns // 1000,
            "realtime": os.sched_getscheduler(0) == os.SCHED_FIFO,
            "stalled": self._stalled,
            "rss_kib": rss_kib(pid),
            **percentiles(self._latencies_us),
            **({"counts": counted(self._latencies_us)} if self._beside else {}),
        }

    def _pump(self, until_ns: int, *, sending: bool) -> None:
        """Receive, count and answer until the monotonic time `until_ns`. The one loop whose speed matters."""
        fleet, clock, cut = self._fleet, time.monotonic_ns, self._cut
        poll, buffer, reads, sends_for = fleet.epoll.poll, fleet.buffer, fleet.reads, fleet.sends_for
        count, find, mark, ping, end, every = buffer.count, buffer.find, wire.MARK, wire.PING, wire.FRAME_END, self._sample_every
        closed = sending and self._outstanding > 0
        wait_s, countdown = 0.02, every
        while (now := clock()) < until_ns:
            if sending and not closed:
                wait_s = self._pace(now)
            for fd, _ in poll(wait_s, _EVENTS_MAX):
                try:
                    size = reads[fd](buffer)
                except OSError as error:
                    size = fleet.failed(error)
                marks = count(mark, 0, size) if size > 0 else 0
                if cut and size > 0 and (tail := cut.pop(fd, None)) is not None:
                    marks += (tail + buffer[: min(size, len(mark) - 1)]).count(mark)
                if size > 0 and buffer[size - 1] != end:
                    cut[fd] = bytes(buffer[max(size - len(mark) + 1, 0) : size])
                if not marks:
                    fleet.glance(fd, size)
                    continue
                self._seen += marks
                self._bytes += size
                if find(ping, 0, size) >= 0:
                    fleet.answer_pings(fd, size)
                countdown -= 1
                if not countdown:
                    countdown = every
                    self._sample(size)
                if closed and (room := sends_for[fd]) >= 0:
                    for _ in range(marks):
                        self._send(room)

    def _pace(self, now_ns: int) -> float:
        """Send what is due, a room at a time in turn; the result is how long to wait for events, in s."""
        while self._due_ns <= now_ns:
            self._late_max_ns = max(self._late_max_ns, now_ns - self._due_ns)
            self._send(self._room)
            self._room = (self._room + 1) % len(self._templates)
            self._due_ns += self._gap_ns
        return 0.001 if self._due_ns - now_ns > self._busy_wait_ns else 0.0

    def _send(self, room: int) -> None:
        self._sent += 1
        try:
            self._fleet.senders[room].send(self._templates[room] % (time.monotonic_ns() + wire.STAMP_ZERO_NS, (_COUNTER_FIRST + self._sent) % _COUNTER_MAX))
        except OSError:  # the server does not read, or is gone; the message is not under way, which a closed loop shows as a lower rate
            self._stalled += 1

    def _sample(self, size: int) -> None:
        """Note how old every message in the buffer was when it arrived, if its stamp was read whole."""
        buffer, first, digits = self._fleet.buffer, len(wire.STAMP), wire.STAMP_DIGITS
        arrived = time.monotonic_ns() + wire.STAMP_ZERO_NS - self._fleet.unread_ns
        at = buffer.find(wire.STAMP, 0, size)
        while 0 <= at <= size - first - digits:
            self._latencies_us.append((arrived - int(buffer[at + first : at + first + digits])) // 1000)
            at = buffer.find(wire.STAMP, at + first + digits, size)


def percentiles(latencies_us: array[int]) -> dict[str, int]:
    """p50, p99, p99.9 and the worst of the samples, in µs; zeros when there are none."""
    ranked = sorted(latencies_us) or [0]
    at = {name: ranked[min(int(len(ranked) * share), len(ranked) - 1)] for name, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))}
    return {**at, "max_us": ranked[-1], "samples": len(latencies_us)}


def run(plan: Plan) -> list[list[dict[str, Any]]]:
    """Carry out one plan in this process. For each round the results of the targets, in the order of the plan."""
    if plan["cpu"] >= 0:
        os.sched_setaffinity(0, {plan["cpu"]})
    if plan.get("beside") == "last":
        os.nice(NICE)
    elif plan.get("beside") == "first" and plan["cpu"] >= 0:  # anywhere else it could put itself ahead of the server
        with suppress(OSError):  # then it sends late at times, and several at once
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    targets = plan["targets"]
    timed = "beside" in plan
    fleets = [Fleet(port=target["port"], path=plan["path"], cafes=target["cafes"], tokens=target["tokens"], timed=timed) for target in targets]
    loads = [Load(fleet, plan, target["cafes"]) for fleet, target in zip(fleets, targets, strict=True)]
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a collection over 10,000 sockets would be measured as the server's latency
    joined = [fleet.join(pid=target["pid"], limit_s=plan["join_limit_s"]) for fleet, target in zip(fleets, targets, strict=True)]
    rounds: list[list[dict[str, Any]]] = []
    for number in range(plan["rounds"]):
        results: list[dict[str, Any]] = [{} for _ in targets]
        for at in range(len(targets)) if number % 2 == 0 else reversed(range(len(targets))):
            measured = loads[at].measure(pid=targets[at]["pid"], warm_s=plan["warm_s"], measure_s=plan["measure_s"])
            results[at] = {**joined[at], **measured, "lost": fleets[at].lost, "refused": fleets[at].refused, "note": fleets[at].note}
        rounds.append(results)
    return rounds


def main() -> int:
    plan: Plan = json.load(sys.stdin)
    try:
        result = run(plan)
    except (JoinError, OSError) as error:
        sys.stderr.write(f"load: {error}\n")
        return 1
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
