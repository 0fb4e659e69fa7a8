"""What the kernel says about a process: CPU seconds and resident memory, from /proc."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_s(pid: int) -> float:
    """CPU seconds used by all threads of `pid`, user and system, children not counted. Resolution: one clock tick (10 ms)."""
    # The process name stands in parentheses and may itself hold parentheses and spaces, so fields are counted from the last one.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    """Resident memory of `pid` in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
