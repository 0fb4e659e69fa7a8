"""`brewd bench`: what its generator sends is a real conversation, what it counts is what was delivered, and the command says what it found."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
import tomllib
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Ping, Pong, TextMessage

from brewd.cli import bench_daemon, bench_limits, bench_report
from brewd.cli import bench_wire as wire
from brewd.cli.bench_fleet import Fleet, JoinError, Joining
from brewd.cli.bench_load import Load, Plan, percentiles
from brewd.cli.bench_proc import child_of, cpu_s, move, rss_kib
from brewd.cli.bench_scenarios import TABLE, curves
from tests.cli.conftest import ROOT, Ran, an_hour_later
from tests.patience import PATIENCE

CAFE = "0199aaaa-0000-7000-8000-000000000001"


def read_by_a_server(data: bytes) -> list[Any]:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(data)
    return list(server.events())


def test_a_message_frame_is_what_the_contract_wants() -> None:
    (message,) = read_by_a_server(wire.message_template(CAFE) % (1234567890, 42))
    assert isinstance(message, TextMessage)
    content = "~T0000000001234567890 some words that differ 00000042"
    assert json.loads(message.data) == {"event": "message:send", "data": {"cafeId": CAFE, "content": content}}


def test_a_join_frame_asks_for_an_answer() -> None:
    (message,) = read_by_a_server(wire.join_frame(CAFE))
    assert json.loads(message.data) == {"event": "join:cafe", "ref": "j", "data": {"cafeId": CAFE}}


def test_control_frames_are_found_between_text_frames() -> None:
    server = Connection(ConnectionType.SERVER)
    text = server.send(TextMessage(data='{"event":"topics:update","data":{}}'))
    buffer = bytearray(text + server.send(Ping(payload=b"abcd")) + text)
    assert list(wire.control_frames(buffer, len(buffer))) == [(wire.PING, b"abcd")]
    # A length of 0x0189 is no ping.
    long = server.send(TextMessage(data='{"x":"' + "y" * (0x189 - 8) + '"}'))
    assert list(wire.control_frames(bytearray(long), len(long))) == []
    assert list(wire.control_frames(bytearray(b"\x89\x04ab"), 4)) == []


@pytest.fixture
def pair() -> Iterator[tuple[Load, Fleet, socket.socket]]:
    """A load of one socket, joined, and the other end of it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    fleet = Fleet(port=0, path="/ws", cafes=[CAFE], tokens=["t"])
    fd = ours.fileno()
    fleet.reads = [ours.recv_into] * (fd + 1)
    fleet.sends_for = [-1] * fd + [0]
    fleet.senders = [ours]
    fleet._socks = {fd: ours}
    fleet.epoll.register(fd, 1)
    plan = Plan(targets=[], rounds=1, path="/ws", outstanding=1, rate=0, warm_s=0, measure_s=0, join_limit_s=1, cpu=-1)
    yield Load(fleet, plan, [CAFE]), fleet, theirs
    ours.close()
    theirs.close()
    fleet.epoll.close()


def delivery(age_us: int = 0) -> bytes:
    server = Connection(ConnectionType.SERVER)
    stamp = time.monotonic_ns() + wire.STAMP_ZERO_NS - 1000 * age_us
    data = {"event": "message:new", "data": {"message": {"content": f"~T{stamp:019d} above basic"}}}
    return bytes(server.send(TextMessage(data=json.dumps(data, separators=(",", ":")))))


def pump(load: Load, *, sending: bool = False) -> int:
    load._pump(time.monotonic_ns() + 30_000_000, sending=sending)
    return load._seen


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_deliveries_are_counted_however_they_are_cut(pair: tuple[Load, Fleet, socket.socket], cut: int) -> None:
    load, _, server = pair
    data = delivery() * 3
    server.send(data[: len(data) // 3 + cut])
    pump(load)
    server.send(data[len(data) // 3 + cut :])
    assert pump(load) == 3


def test_a_closed_loop_sends_as_much_as_came_back(pair: tuple[Load, Fleet, socket.socket]) -> None:
    load, _, server = pair
    server.send(delivery() + delivery())
    pump(load, sending=True)
    sent = read_by_a_server(server.recv(65536))
    assert [json.loads(message.data)["event"] for message in sent] == ["message:send"] * 2


def test_beside_others_it_never_polls_without_waiting(pair: tuple[Load, Fleet, socket.socket]) -> None:
    _, fleet, server = pair
    plan = Plan(targets=[], rounds=1, path="/ws", outstanding=0, rate=1000, warm_s=0, measure_s=0, join_limit_s=1, cpu=-1)
    assert Load(fleet, plan, [CAFE])._pace(0) == 0.0
    beside = Load(fleet, Plan(**plan, beside="first"), [CAFE])
    assert beside._pace(2_500_000) == 0.001
    assert beside._sent == 3  # what is late is sent now, and nothing is left out
    server.recv(65536)


def test_pings_are_answered_also_between_deliveries(pair: tuple[Load, Fleet, socket.socket]) -> None:
    load, fleet, server = pair
    ping = Connection(ConnectionType.SERVER).send(Ping(payload=b"beat"))
    server.send(delivery() + ping)
    assert pump(load) == 1
    server.send(ping)
    pump(load)
    assert read_by_a_server(server.recv(65536)) == [Pong(payload=b"beat"), Pong(payload=b"beat")]
    assert fleet.note == ""


def test_refusals_and_losses_are_told(pair: tuple[Load, Fleet, socket.socket]) -> None:
    load, fleet, server = pair
    frame = Connection(ConnectionType.SERVER).send(TextMessage(data='{"event":"error","data":{"code":"rate_limited","detail":"slow down"}}'))
    server.send(frame)
    pump(load)
    server.close()
    pump(load)
    assert (fleet.refused, fleet.lost) == (1, 1)
    assert "rate_limited" in fleet.note


def test_latency_is_read_from_the_message(pair: tuple[Load, Fleet, socket.socket]) -> None:
    load, fleet, _ = pair
    data = delivery(age_us=5000) + delivery(age_us=7000)
    fleet.buffer[: len(data)] = data
    load._sample(len(data))
    first, second = (latency / 1000 for latency in load._latencies_us)
    assert 5 <= first < 5000  # the clock goes on while the test does
    assert 7 <= second < 5000


@pytest.mark.usefixtures("arrivals_noted")
@pytest.mark.parametrize("timed", [True, False])
def test_a_message_that_lies_unread_ages_only_when_reading_is_measured(timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fleet = Fleet(port=listener.getsockname()[1], path="/ws", cafes=[CAFE], tokens=["t"], timed=timed)
        fd = fleet._open(0)
        plan = Plan(targets=[], rounds=1, path="/ws", outstanding=1, rate=0, warm_s=0, measure_s=0, join_limit_s=1, cpu=-1)
        load = Load(fleet, plan, [CAFE])
        with listener.accept()[0] as server, fleet.epoll:
            server.send(delivery(age_us=7000))
            fleet.epoll.poll(PATIENCE)
            an_hour_later(monkeypatch)
            load._sample(fleet.read(fd))
            monkeypatch.undo()
            (latency_us,) = load._latencies_us
            assert latency_us >= 7000
            assert (latency_us < 3600e6) is timed
            assert fleet.read(fd) == -1  # as without `timed`, when there is nothing
            server.close()
            assert fleet.read(fd) == 0
        fleet._socks[fd].close()


def test_how_long_bytes_lay_unread_is_what_the_kernel_says() -> None:
    def said(ago_ns: int, level: int = socket.SOL_SOCKET, kind: int = wire.SO_TIMESTAMPNS) -> tuple[int, int, bytes]:
        return level, kind, struct.pack("ll", *divmod(time.time_ns() - ago_ns, 1_000_000_000))

    hour_ns = 3600 * 1_000_000_000
    assert hour_ns <= wire.unread_ns([said(hour_ns)]) < 2 * hour_ns
    assert hour_ns <= wire.unread_ns([said(0, kind=1), said(hour_ns)]) < 2 * hour_ns
    assert wire.unread_ns([said(-hour_ns)]) == 0  # the clock was set back
    assert wire.unread_ns([]) == 0
    for other in (said(hour_ns, level=socket.IPPROTO_TCP), said(hour_ns, kind=1), (socket.SOL_SOCKET, wire.SO_TIMESTAMPNS, b"cut")):
        assert wire.unread_ns([other]) == 0


def test_a_kernel_that_notes_no_arrivals_is_not_an_error() -> None:
    with socket.socket() as sock:

        def refuses(level: int, option: int, value: int) -> None:
            sock.setsockopt(level, 9999, value)

        with pytest.raises(OSError, match="not available"):
            refuses(socket.SOL_SOCKET, wire.SO_TIMESTAMPNS, 1)
        wire.note_arrivals(refuses)


def test_percentiles() -> None:
    assert percentiles(array("L", range(1, 1001))) == {"p50_us": 501, "p99_us": 991, "p999_us": 1000, "max_us": 1000, "samples": 1000}
    assert percentiles(array("L"))["p99_us"] == 0


def test_a_refused_join_says_what_the_server_said() -> None:
    fleet = Fleet(port=0, path="/ws", cafes=[CAFE], tokens=["t"])
    answer = b"HTTP/1.1 401 Unauthorized\r\n\r\n" + b'{"code":"token_expired"}'
    fleet.buffer[: len(answer)] = answer
    with pytest.raises(JoinError, match="token_expired"):
        fleet._advance(0, Joining(0), len(answer))
    inside = Joining(0)
    inside.upgraded = True
    refusal = b'\x81\x40{"event":"error","data":{"code":"not_in_cafe"},"ref":"j"}'
    fleet.buffer[: len(refusal)] = refusal
    with pytest.raises(JoinError, match="not_in_cafe"):
        fleet._advance(0, inside, len(refusal))


def test_the_kernel_knows_this_process() -> None:
    assert cpu_s(os.getpid()) > 0
    assert rss_kib(os.getpid()) > 1000


_BUSY = """
import sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
sys.stdin.read()
"""


def test_a_child_is_found_and_moved_with_all_its_threads() -> None:
    command = [sys.executable, "-c", _BUSY, "brewd.some.module"]
    with ThreadPoolExecutor(1) as other_thread:  # it is the kernel's parent of what it starts
        child = other_thread.submit(subprocess.Popen[bytes], command, stdin=subprocess.PIPE, stdout=subprocess.PIPE).result()
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            assert child_of(os.getpid(), "brewd.some.module") == child.pid
            assert child_of(os.getpid(), "brewd.some") is None
            assert child_of(child.pid, "brewd.some.module") is None
            cpu = max(os.sched_getaffinity(0))
            move(child.pid, cpu)
            threads = [int(task.name) for task in Path(f"/proc/{child.pid}/task").iterdir()]
            assert [os.sched_getaffinity(thread) for thread in threads] == [{cpu}, {cpu}]
            child.communicate()


def test_curves_keep_the_deliveries_level() -> None:
    assert {scenario.rate * scenario.sockets / scenario.rooms for scenario in curves()} == {20_000}
    assert {scenario.name for scenario in TABLE} == {"closed-1k", "closed-5k", "paced", "many-rooms", "alone"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("nope",), "no scenario 'nope'"),
        (("-r", "3"), "say with -n"),
        (("-n", "3", "-r", "4"), "at least one socket a room"),
        (("-n", "3", "paced"), "leave the names out"),
        (("-n", "0"), "not a whole number"),
        (("-k", "1", "--rate", "1"), "not allowed with"),
        (("-n", "9999999"), "hard limit"),
    ],
)
def test_what_makes_no_sense_is_usage(run: Callable[..., Ran], argv: tuple[str, ...], says: str) -> None:
    ran = run("bench", "fanout", *argv)
    assert ran.code == 2
    assert says in ran.err


def test_remarks_on_what_should_not_be_believed() -> None:
    clean = {"scenario": "s", "lost": 0, "refused": 0, "note": "", "delivered": 9, "outstanding": 1, "load_cpu_percent": 50, "rate": 0.0, "sent_per_s": 1.0}
    assert bench_report.remarks(clean) == []
    assert "1 connections lost" in bench_report.remarks(clean | {"lost": 1})[0]
    assert "nothing was delivered" in bench_report.remarks(clean | {"delivered": 0})[0]
    assert "busy 99 %" in bench_report.remarks(clean | {"load_cpu_percent": 99})[0]
    assert "only 50 of 100" in bench_report.remarks(clean | {"outstanding": 0, "rate": 100.0, "sent_per_s": 50.0})[0]


def test_a_whole_measurement() -> None:
    """A daemon of its own, with real stores, for a moment."""
    command = [sys.executable, "-m", "brewd", "bench", "fanout", "-n", "6", "-r", "2", "-k", "2", "--seconds", "0.5", "--warm", "0.1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert (result["sockets"], result["rooms"], result["lost"], result["refused"]) == (6, 2, 0, 0)
    assert result["sent"] > 0
    assert abs(result["delivered"] - 3 * result["sent"]) <= 3 * 2 * 2 * 2  # what was under way at either end of the measurement
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]
    assert "own" in bench_report.table([result])


def test_limits_are_compared_within_each_round() -> None:
    def measured(rate: float) -> dict[str, Any]:
        return {"deliveries_per_cpu_s": 10 * rate, "sent": 2 * rate, "server_cpu_s": 2.0}

    result = bench_limits.compared("s", [[measured(9), measured(10)], [measured(16), measured(20)], [measured(20), measured(20)]])
    assert [result[of] for of in ("median", "min", "max")] == [{"deliveries": ratio, "sends": ratio} for ratio in (0.9, 0.8, 1.0)]
    assert result["rounds"][0] == {"on": {"deliveries": 90, "sends": 9}, "off": {"deliveries": 100, "sends": 10}, "ratio": {"deliveries": 0.9, "sends": 0.9}}
    assert bench_limits.table([result]).splitlines()[-1].split() == ["s", "3", "160", "200", "0.900", "0.800", "1.000", "16", "20", "0.900", "0.800", "1.000"]


def test_what_takes_as_long_with_limits_as_without_is_not_compared(run: Callable[..., Ran]) -> None:
    ran = run("bench", "limits", "paced")
    assert (ran.code, ran.out) == (2, "")
    assert "paced is paced" in ran.err


@pytest.mark.parametrize("limited", [True, False])
def test_a_bench_daemon_limits_or_does_not(limited: bool) -> None:
    """Its config is the whole difference."""
    config = tomllib.loads(bench_daemon.config_text(Path("/data"), limited=limited))
    assert (config["limits"]["enabled"], config["limits"]["spam"]["enabled"]) == (limited, limited)


def test_limits_are_compared_on_real_daemons() -> None:
    command = [sys.executable, "-m", "brewd", "bench", "limits", "-n", "4", "-r", "2", "--rounds", "3", "--seconds", "0.2", "--warm", "0.1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert len(result["rounds"]) == 3
    assert 0 < result["min"]["sends"] <= result["median"]["sends"] <= result["max"]["sends"]


def test_told_to_stop_it_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brewd", "bench", "fanout", "-n", "4", "-r", "2", "--seconds", "60", "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as bench:
        deadline = time.monotonic() + 60
        while not (lock := next(tmp_path.glob("*/data/lock"), None)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert lock is not None
        daemon = int(lock.read_text() or 0)
        bench.terminate()
        assert bench.wait(60) == 143
    assert list(tmp_path.iterdir()) == []
    assert not daemon or not Path(f"/proc/{daemon}").exists()
