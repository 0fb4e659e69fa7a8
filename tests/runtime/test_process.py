"""Who runs before whom: what the kernel was asked for, and what it was not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from brewd.runtime import process
from brewd.runtime.process import NICE_AGAIN_S, SLICE_NS, be_nice, let_others_first
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


def test_a_process_is_nice_and_so_is_its_session() -> None:
    ours = niceness(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        while not be_nice(other.pid, 10):
            time.sleep(NICE_AGAIN_S)
        assert niceness(other.pid) == {10}
        other.communicate(b"\n")
    assert niceness(0) == ours != {10}


def test_where_it_cannot_be_asked_for_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    let_others_first(2**22)  # nobody
    assert be_nice(2**22, 10)
    monkeypatch.setattr(process, "_SCHED_SETATTR", {})
    let_others_first()
    assert slice_ns(0) != SLICE_NS
