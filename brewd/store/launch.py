"""Become a server process that cannot outlive brewd: drop root, ask for a signal at the parent's death, then exec.

Run as a program of its own (`python launch.py JSON`), because all this must happen between fork and exec, where a process
with threads may not run Python. It imports nothing of brewd, and everything it needs before it gives up the right to read.

The order matters: Linux forgets the death signal when the user changes, so it is asked for last; and as the parent may have
died just before that, its pid is compared afterwards. The signal is sent when the *thread* that started this process ends,
so brewd starts its servers from the thread that runs trio, never from a worker.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    order = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if order["uid"] is not None:
        drop_root(libc, order["uid"], order["gid"], order["capability"])
    os.umask(0o077)
    if sys.platform == "linux":
        checked(libc.prctl(PR_SET_PDEATHSIG, order["death_signal"], 0, 0, 0))
        if os.getppid() != order["parent_pid"]:
            sys.exit("brewd ended before its server started")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(order["argv"][0], order["argv"])


def drop_root(libc: ctypes.CDLL, uid: int, gid: int, capability: int | None) -> None:
    """Change to `uid`, for good. With a `capability` (a Linux number), keep that one over the change and the exec."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    if capability is None:
        os.setresuid(uid, uid, uid)
        return
    # Without this bit, access(2) forgets the capability, and Postgres asks that way whether it may run its own programs. It
    # takes a right that root may lack in a container; then it is only missed if the programs, too, lie in a closed directory.
    libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    checked(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setresuid(uid, uid, uid)
    only = 1 << capability
    low, high = only & 0xFFFFFFFF, only >> 32
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, low, high, high, high)
    checked(libc.capset(header, data))
    checked(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
