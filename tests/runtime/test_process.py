"""Who runs before whom: what the kernel was asked for, and what it was not."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from brewd.runtime import process
from brewd.runtime.process import SLICE_NS, be_nice, let_others_first
from tests.patience import PATIENCE
from tests.slices import lets_others_first, niceness, slice_ns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a question to Linux")


def test_a_process_that_lets_others_first_stays_what_it_is() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        os.setpriority(os.PRIO_PROCESS, other.pid, 3)
        os.sched_setscheduler(other.pid, os.SCHED_BATCH, os.sched_param(0))
        assert slice_ns(other.pid) != SLICE_NS
        let_others_first(other.pid)
        assert lets_others_first(other.pid)
        assert (os.getpriority(os.PRIO_PROCESS, other.pid), os.sched_getscheduler(other.pid)) == (3, os.SCHED_BATCH)
        other.communicate(b"\n")
    assert slice_ns(0) != SLICE_NS


async def test_a_process_is_nice_and_so_is_its_session() -> None:
    before = niceness(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        usual, session = niceness(other.pid)
        with trio.fail_after(PATIENCE):
            while not be_nice(other.pid, 10):
                await trio.sleep(0.01)
        assert niceness(other.pid) == (min(19, usual + 10), None if session is None else 10)
        other.communicate(b"\n")
    assert niceness(os.getpid()) == before


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="sessions do not count")
def test_who_asks_for_niceness_too_often_is_told_to_come_again() -> None:
    """By a kernel that takes more from the administrator: the asking process is none (prctl(2), PR_CAPBSET_DROP of CAP_SYS_ADMIN)."""
    script = "import os; from brewd.runtime.process import be_nice; os.setsid(); print(sum(be_nice(os.getpid(), 1) for _ in range(10)), os.getpriority(0, 0))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, timeout=100 * PATIENCE, check=False,
        preexec_fn=lambda: ctypes.CDLL(None).prctl(24, 21, 0, 0, 0),
    )  # fmt: skip
    taken, nice = map(int, done.stdout.split())
    assert taken < 10
    assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + taken)


def test_where_it_cannot_be_asked_for_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    let_others_first(2**22)  # nobody
    assert be_nice(2**22, 10)
    monkeypatch.setattr(process, "_SCHED_SETATTR", {})
    let_others_first()
    assert slice_ns(0) != SLICE_NS
