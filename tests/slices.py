"""What the kernel was asked for: how long slices (sched_getattr(2), for which Python has no name either), and how small a share."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from brewd.runtime.process import _SCHED_ATTR, SLICE_NS

_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275, "riscv64": 275}


def slice_ns(pid: int) -> int:
    attributes = ctypes.create_string_buffer(_SCHED_ATTR.size)
    assert ctypes.CDLL(None).syscall(_SCHED_GETATTR[platform.machine()], pid, attributes, _SCHED_ATTR.size, 0) == 0
    runtime_ns: int = _SCHED_ATTR.unpack(attributes.raw)[5]
    return runtime_ns


def lets_others_first(pid: int) -> bool:
    """It asked for the longest. On a kernel that gives nobody slices of their own: nothing was broken by asking."""
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    return release < (6, 12) or slice_ns(pid) == SLICE_NS


def niceness(pid: int) -> tuple[int, int | None]:
    """Of the process and, where there is such a thing, of its session."""
    session = Path(f"/proc/{pid}/autogroup")
    words = session.read_text().split() if session.exists() else []
    return os.getpriority(os.PRIO_PROCESS, pid), int(words[-1]) if words else None


def stands_back(pid: int, before: int) -> bool:
    """It was made nicer by ten than `before`; where the session counts, that was."""
    process, session = niceness(pid)
    return process == min(19, before + 10) if session is None else session == 10
