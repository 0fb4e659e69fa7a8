"""How long the slices are that a process asked the kernel for: sched_getattr(2), for which Python has no name either."""

from __future__ import annotations

import ctypes
import platform

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
