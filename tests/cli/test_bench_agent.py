"""`brewd bench agent`: its askers are real ones, what it counts is what came, and it says what it found."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from brewd.agent.calls import Opening
from brewd.agent.remote import open_worker
from brewd.cli import bench_agent, bench_askers, bench_load, bench_pooled
from brewd.cli.bench_askers import Asker, Asking, open_all
from brewd.cli.bench_daemon import BenchError, config_text
from brewd.cli.bench_upstream import Script, Upstream, open_upstream
from brewd.config import Config, load
from tests.cli.conftest import ROOT, an_hour_later, tcp_pair
from tests.edge.ws.house import House, house_config, open_house
from tests.patience import PATIENCE


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    for name, value in (("SPREAD_S", 0.05), ("THINKS_S", 0.4), ("TEXTS", 3), ("GAP_S", 0.01)):
        monkeypatch.setattr(bench_askers, name, value)
    async with open_upstream() as upstream:
        upstream.script = bench_askers.script(itertools.count())
        yield upstream


@pytest.fixture
async def house(upstream: Upstream, tmp_path: Path, postgres_dsn: str, redis_url: str) -> AsyncIterator[House]:
    file = tmp_path / "bench.toml"
    file.write_text(config_text(tmp_path / "data", limited=True, agent_url=upstream.url))
    (tmp_path / "key").write_text("sk-bench")
    bench: Config = load(file, {})
    config = house_config(tmp_path, postgres_dsn, redis_url)
    async with open_house(replace(config, agent=bench.agent, limits=bench.limits)) as house:
        yield house


async def test_askers_share_what_they_ask_alike(house: House, upstream: Upstream) -> None:
    cafe = await house.cafe()
    tokens = [person.token for person in await house.guests(cafe, 40)]
    async with open_all(house.port, cafe.id, tokens) as askers:
        asking = Asking(askers, upstream)
        for _ in range(2):
            found = await asking.run(0.01)
            assert found["failures"] == []
            assert (found["rounds"], found["asked"], found["answered"], found["questions"], found["calls"]) == (1, 40, 40, 20, 20)
            assert len(found["first_us"]) == 40
            assert all(0 < us < 5_000_000 for us in found["first_us"])


async def test_what_an_asker_gets_instead_of_an_answer_is_told(house: House, upstream: Upstream) -> None:
    upstream.script = Script(status=500)
    cafe = await house.cafe()
    async with open_all(house.port, cafe.id, [(await house.guest(cafe)).token]) as askers:
        (failure,) = (await Asking(askers, upstream).run(0.01))["failures"]
        assert "query:error" in failure
    with pytest.raises(ExceptionGroup) as refused:
        async with open_all(house.port, cafe.id, ["nobody"]):
            pass
    assert "401" in str(refused.value.exceptions[0])


@pytest.mark.usefixtures("arrivals_noted")
async def test_first_words_that_lie_unread_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [f'{{"event":"query:{name}","data":{{"text":"words"}}}}'.encode() for name in ("start", "chunk", "complete")]
    with tcp_pair() as (ours, theirs):
        ours.setblocking(False)
        asker = Asker(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), "c")
        theirs.send(b"".join(b"\x81" + bytes([len(frame)]) + frame for frame in frames))
        an_hour_later(monkeypatch)  # trio's clock does not notice: what it calls now is when they are read
        read_s = trio.current_time()
        with trio.fail_after(PATIENCE):
            first_s, words = await asker.ask("?")
        monkeypatch.undo()
    assert (words, round((read_s - first_s) / 3600)) == ("words", 1)


async def test_askers_answer_pings_while_nobody_has_them_ask() -> None:
    with tcp_pair() as (ours, theirs):
        ours.setblocking(False)
        asker = Asker(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), "c")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker.idle)
            with trio.fail_after(PATIENCE):
                for payload in (b"one", b"two"):
                    theirs.send(b"\x89\x03" + payload)
                    answer = await trio.to_thread.run_sync(theirs.recv, 100)
                    assert (answer[0], answer[-3:]) == (0x8A, payload)
                theirs.close()  # which ends it, and is no crash: the next question tells


async def test_the_worker_is_moved_off_the_core_of_the_daemon() -> None:
    cpu = max(os.sched_getaffinity(0))
    with pytest.raises(BenchError):
        bench_agent.move_worker(os.getpid(), cpu)
    opening = Opening(api_key="k", base_url="http://127.0.0.1:9", timeout_s=1.0, retries=0, connections_max=1)
    async with open_worker(opening, trio.lowlevel.checkpoint) as worker:
        bench_agent.move_worker(os.getpid(), cpu)
        assert os.sched_getaffinity(worker.pid) == {cpu}


@pytest.mark.parametrize(("before", "policy", "nicer"), [("", os.SCHED_IDLE, 0), ("os.SCHED_IDLE = 99", os.SCHED_OTHER, 1)])
def test_askers_give_way_as_far_as_the_kernel_lets_them(before: str, policy: int, nicer: int) -> None:
    script = f"import os; from brewd.cli import bench_askers; {before}\nbench_askers.give_way(); print(os.sched_getscheduler(0), os.nice(0))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == [str(policy), str(min(19, os.nice(0) + nicer * bench_load.NICE))], done.stderr


def measured(*latencies_us: int) -> dict[str, Any]:
    """A hundred messages: the last latencies are of one each, the first of all others."""
    first, *others = latencies_us
    counts = bench_pooled.counted([first] * (100 - len(others)) + others)
    return {"p50_us": first, "p99_us": latencies_us[-1], "server_cpu_percent": 20.0, "counts": counts}


def test_what_was_found_is_summed_up() -> None:
    asking = {"rounds": 1, "asked": 40, "answered": 40, "questions": 20, "calls": 20, "first_us": [2000, 1000], "failures": []}
    asked = [{**measured(1000, *slow), "asking": asking} for slow in ((2200, 2200), (2200, 2200), (9000, 9000, 9000))]
    rounds = [{"quiet": measured(1000, 2000, 2000), "again": measured(1000, 1800, 2000), "talk": measured(2000, 4400, 4400), "asked": one} for one in asked]
    result = bench_agent.summed_up(rounds, pinned=True)
    assert (result["calls"], result["first_us"]) == (60, {"p50": 2000, "p99": 2000, "max": 2000})
    assert {state: one["p99_us"] for state, one in result["all"].items()} == {"quiet": 2000, "again": 2000, "talk": 4400, "asked": 9000}
    assert result["ratios"]["asked_to_quiet"] == {
        "p50_us": {"ratio": 1.0, "low": 1.0, "high": 1.0}, "p99_us": {"ratio": 4.5, "low": 1.1, "high": 4.5},
        "typical_p99_us": {"ratio": 1.1, "low": 1.1, "high": 4.5},
    }  # fmt: skip
    assert result["ratios"]["quiet_to_quiet"]["p99_us"] == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    assert result["ratios"]["asked_to_talk"]["p50_us"]["ratio"] == 0.5
    assert bench_agent.fine(result)
    assert not bench_agent.fine(result | {"calls": 61})
    assert not bench_agent.fine(result | {"failures": ["no"]})
    text = bench_agent.table(result)
    assert "60 for 60 different questions" in text
    assert "p50 1.00 (1.00 to 1.00), p99 4.50 (1.10 to 4.50), typical p99 1.10 (1.10 to 4.50)" in text
    assert text.splitlines()[-1].split() == ["all", "1.00", "1.00", "2.00", "1.00", "2.00", "2.00", "4.40", "9.00"]


def test_latencies_are_put_together() -> None:
    first, second = dict(bench_pooled.counted([5, 19, 10, 2500])), dict(bench_pooled.counted([12, 2509]))
    assert bench_pooled.together([first, second]) == {0: 1, 1: 3, 250: 2}
    assert [bench_pooled.percentile_us(first, share) for share in (0.0, 0.5, 0.99)] == [0, 10, 2500]
    assert bench_pooled.percentile_us({}, 0.99) == 0
    assert bench_pooled.ratio([({1: 1}, {})], bench_pooled.pooled(0.5)) == {"ratio": 0.0, "low": 0.0, "high": 0.0}


def test_a_round_that_stood_still_is_not_typical() -> None:
    rounds = [({100: 99, 300: 1}, {100: 99, 200: 1})] * 8 + [({100: 80, 9000: 20}, {100: 99, 200: 1})]
    assert bench_pooled.ratio(rounds, bench_pooled.typical(0.99)) == {"ratio": 1.5, "low": 1.5, "high": 1.5}
    assert bench_pooled.ratio(rounds, bench_pooled.pooled(0.99))["ratio"] == 45


@pytest.mark.parametrize(("statistic", "width"), [(bench_pooled.pooled(0.9), 0.25), (bench_pooled.typical(0.9), 0.35)], ids=["pooled", "typical"])
def test_what_a_ratio_lies_between_holds_the_true_one_in_most_runs(statistic: bench_pooled.Statistic, width: float) -> None:
    chance, held = random.Random(7), 0

    def some() -> dict[int, int]:
        return dict(bench_pooled.counted(int(chance.gammavariate(4, 25)) for _ in range(200)))

    for _ in range(25):
        found = bench_pooled.ratio([(some(), some()) for _ in range(8)], statistic)
        held += found["low"] <= 1 <= found["high"]
        assert found["high"] - found["low"] < width
    assert held >= 20
