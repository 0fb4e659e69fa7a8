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


def niceness(pid: int) -> set[int]:
    """Of the process and of its session; the latter where the kernel has such a thing."""
    session = Path(f"/proc/{pid}/autogroup")
    return {os.getpriority(os.PRIO_PROCESS, pid), *([int(session.read_text().split()[-1])] if session.exists() else [])}
