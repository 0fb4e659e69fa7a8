"""What brewd asks of its own processes: files enough for everybody, garbage looked for where there is some, and who runs before whom."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import resource
import struct
import sys
from pathlib import Path
from typing import Final

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
"""The number of the system call, for which Python has no name."""

_SCHED_ATTR: Final = struct.Struct("=IIQiIQQQ")
"""`struct sched_attr` in its first version: size, policy, flags, nice, priority, runtime, deadline, period."""

SLICE_NS: Final = 100_000_000
"""The longest that the kernel takes."""


def raise_file_limit() -> None:
    """A socket is a file: use as many as the machine lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_gc(new_objects: int = 50_000) -> None:
    """What lives now lives on; and sockets and messages make no cycles worth looking for every few hundred objects.

    With fewer `new_objects` between two looks each is shorter.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(new_objects, 20, 50)
    gc.enable()


def let_others_first(pid: int = 0) -> None:
    """Whoever wakes up on its core need not wait until this process (0: the calling thread) has had its turn. It gets its share all the same, so
    once it was kept waiting it may be chosen, and then runs until somebody wakes up: work that is long should pause as well.

    A process that asks for long slices is interrupted by those that did not: sched_setattr(2), `sched_runtime`, from Linux 6.12 on.
    Where there is no such thing, or no right to ask for it, nothing changes. Niceness alone does not do it: one that runs for a
    millisecond is not interrupted for being nice; but with it the share is a small one (`be_nice`).
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    with contextlib.suppress(OSError):  # it is gone
        policy, nice = os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, policy, 0, nice, 0, SLICE_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, pid, attributes, 0)


def be_nice(pid: int, by: int) -> bool:
    """Give the process, which is the first and only one of its session, a smaller share of its core while others want it. False: the kernel wants to be
    asked another time; from anybody without CAP_SYS_ADMIN it takes this once in 0.1 s, on the whole machine.

    Where sessions share a core before their processes do, it is the session that has to be nice: sched(7), "The autogroup feature". Where
    there is no such thing, or no right to ask for it, nothing changes.
    """
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(by))
    except BlockingIOError:
        return False
    except OSError:
        pass
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, pid) + by))
    return True
