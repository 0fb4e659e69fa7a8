"""What the kernel says about a process: CPU seconds, resident memory and children, from /proc; and on which core it has it run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cpu_s(pid: int) -> float:
    """CPU seconds used by all threads of `pid`, user and system, children not counted. Resolution: one clock tick (10 ms)."""
    # The process name stands in parentheses and may itself hold parentheses and spaces, so fields are counted from the last one.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    """Resident memory of `pid` in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def child_of(pid: int, module: str) -> int | None:
    """The process that `pid` started as `python -m module`."""
    for task in Path(f"/proc/{pid}/task").iterdir():  # any of its threads may have started it
        for child in _read(task / "children").split():
            if module.encode() in _read(Path("/proc") / child.decode() / "cmdline").split(b"\0"):
                return int(child)
    return None


def move(pid: int, cpu: int) -> None:
    """Have all threads of `pid` stay on that core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cpu})


def _read(path: Path) -> bytes:
    """Empty when what it tells of is gone."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
