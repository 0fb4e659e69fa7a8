"""The mirror: what is in memory, written behind to Redis for others to read and for a warm start.

Owns a set of sources that changed. A few times a second it asks each what to write and sends all of it in one pipeline. Nobody
waits for it, and it queues names, never data, so its memory is bounded by the number of sources whatever Redis does.

Redis paused or gone: the mirror tries again, ever more rarely, and sources go on being marked. Redis back, or emptied behind our
back (a marker key with this process's name is missing): every source is written anew, in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import trio

from brewd.errors import StoreError
from brewd.runtime.log import get_logger

log = get_logger("mirror")

FLUSH_S = 0.5
RETRY_S = (FLUSH_S, 2 * FLUSH_S, 4 * FLUSH_S)
"""Pauses after so many failures in a row; the last of them from then on."""

SOURCES_AT_ONCE = 16
"""Sources in one pipeline: neither Redis nor the bridge is held up for long."""

TIMEOUT_S = 1.0
ONCE_MAX = 10_000
"""Writes of things that are not sources, waiting for the next flush. With more, everything is written anew instead."""

MARKER = "brewd:mirror"
MARKER_TTL_S = 86_400

RedisCommand = tuple[Any, ...]
Render = Callable[[bool], list[RedisCommand]]
"""`render(full)`: the commands that bring Redis up to date; with `full`, from nothing."""


class Pipeline(Protocol):
    async def pipeline(self, commands: Sequence[RedisCommand], *, timeout_s: float = 1.0) -> list[Any]: ...


class Mirror:
    """`name` identifies this process's writing. On a crash of `run` everything is written anew."""

    def __init__(self, *, redis: Pipeline, name: str) -> None:
        self._redis = redis
        self._name = name
        self._sources: dict[str, Render] = {}
        self._changed: dict[str, None] = {}
        self._once: dict[str, list[RedisCommand]] = {}
        self._flushing = trio.Lock()
        self._stale = True
        self.failures = 0
        self.rewritten: list[Callable[[], None]] = []
        """Told after everything was written anew; whoever uses `write` writes all of it again then."""

    def note(self, key: str, render: Render) -> None:
        """The source `key` changed. Never blocks; noting twice is noting once."""
        self._sources[key] = render
        self._changed[key] = None

    def write(self, key: str, commands: list[RedisCommand]) -> None:
        """Write something once, with the next flush; a later write of the same key replaces it. Dropped when Redis is away: see `rewritten`."""
        if not self._stale:
            self._once[key] = commands
        if len(self._once) > ONCE_MAX:
            self._once.clear()
            self._stale = True

    def forget(self, key: str) -> None:
        """The source will not be written again. What it wrote expires by itself."""
        self._sources.pop(key, None)
        self._changed.pop(key, None)

    async def run(self) -> NoReturn:
        self._stale = True
        while True:
            await trio.sleep(RETRY_S[min(self.failures, len(RETRY_S) - 1)])
            await self.flush()

    async def flush(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Write everything that changed; False when Redis did not take it, and everything is to be written anew.

        One after the other: what changed before is in Redis when this returns, also what another flush was just writing.
        """
        async with self._flushing:
            return await self._flush(timeout_s)

    async def _flush(self, timeout_s: float) -> bool:
        try:
            if not self._stale:
                (mark,) = await self._redis.pipeline([("GET", MARKER)], timeout_s=timeout_s)
                self._stale = mark != self._name
            if self._stale:
                await self._write(list(self._sources), full=True, timeout_s=timeout_s)
                await self._redis.pipeline([("SET", MARKER, self._name, "EX", MARKER_TTL_S)], timeout_s=timeout_s)
                self._stale = False
                log.info("rewritten", sources=len(self._sources))
                for told in self.rewritten:
                    told()
            else:
                once, self._once = self._once, {}
                await self._write(list(self._changed), full=False, timeout_s=timeout_s)
                await self._write_once(once, timeout_s)
        except StoreError as error:
            if not self.failures:
                log.warning("redis_unavailable", error=str(error))
            self._stale = True
            self._once.clear()
            self.failures += 1
            return False
        self.failures = 0
        return True

    async def _write_once(self, once: dict[str, list[RedisCommand]], timeout_s: float) -> None:
        writes = list(once.values())
        for at in range(0, len(writes), SOURCES_AT_ONCE):
            await self._redis.pipeline([command for commands in writes[at : at + SOURCES_AT_ONCE] for command in commands], timeout_s=timeout_s)

    async def _write(self, keys: list[str], *, full: bool, timeout_s: float) -> None:
        for at in range(0, len(keys), SOURCES_AT_ONCE):
            commands: list[RedisCommand] = []
            for key in keys[at : at + SOURCES_AT_ONCE]:
                self._changed.pop(key, None)
                render = self._sources.get(key)
                if render is not None:
                    commands += render(full)
            if commands:
                await self._redis.pipeline(commands, timeout_s=timeout_s)
