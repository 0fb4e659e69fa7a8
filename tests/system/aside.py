"""Processes beside the test: they read a plan from the first line of stdin, say words when something has come to pass, and, when stdin
ends, what they found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from tests.system.daemon import ROOT


class Aside:
    """The other process. `found` is known after the block."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = b""
        self.found: Any = None

    async def begin(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"begin\n")

    async def says(self, word: str, timeout_s: float) -> None:
        """Wait until it does."""
        with trio.fail_after(timeout_s):
            line = await self._line()
        assert line == word, line

    async def end(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.fail_after(30):
            self.found = json.loads(await self._line())

    async def _line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            more = await self._process.stdout.receive_some()
            assert more, "the process is gone"
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()


@asynccontextmanager
async def aside(module: str, plan: msgspec.Struct, prefix: Sequence[str] = ()) -> AsyncIterator[Aside]:
    """Started when the block begins, asked for what it found when it ends."""
    process = await trio.lowlevel.open_process([*prefix, sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    try:
        await process.stdin.send_all(msgspec.json.encode(plan) + b"\n")
        running = Aside(process)
        yield running
        await running.end()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
