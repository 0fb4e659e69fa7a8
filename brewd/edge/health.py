"""How the daemon is: for `/api/health`, `brewd status`, and whoever decides to send it traffic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from brewd.errors import StoreError
from brewd.runtime.clock import Clock

FRESH_S = 1.0
CHECK_S = 1.0


class Health:
    """Checks the stores at most once in `FRESH_S`, whoever asks how often. `ready` is set by the daemon.

    `agent`: `ok`, `unavailable`, or `off`, which is as good as ok: a brewd need not have one.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        version: str,
        postgres: Callable[[float], Awaitable[None]],
        redis: Callable[[float], Awaitable[None]],
        agent: Callable[[], str],
    ) -> None:
        self.ready = False
        self._clock = clock
        self._version = version
        self._agent = agent
        self._probes = {"postgres": postgres, "redis": redis}
        self._started_s = clock.monotonic_s()
        self._checks: dict[str, str] = {}
        self._checked_s = float("-inf")
        self._lock = trio.Lock()

    async def report(self) -> dict[str, Any]:
        """`{status, version, uptimeS, checks}`. Takes `CHECK_S` at most."""
        async with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._checked_s > FRESH_S:
                async with trio.open_nursery() as nursery:
                    for name in self._probes:
                        nursery.start_soon(self._check, name)
                self._checked_s = now_s
        agent = self._agent()
        healthy = agent != "unavailable" and all(result == "ok" for result in self._checks.values())
        return {
            "status": "ok" if healthy else "degraded",
            "version": self._version,
            "uptimeS": round(self._clock.monotonic_s() - self._started_s, 1),
            "checks": {**self._checks, "agent": agent},
        }

    async def live(self) -> bool:
        """The event loop turns: that is what answering shows."""
        await trio.lowlevel.checkpoint()
        return True

    async def is_ready(self) -> bool:
        """Serving, and not draining."""
        await trio.lowlevel.checkpoint()
        return self.ready

    async def _check(self, name: str) -> None:
        try:
            await self._probes[name](CHECK_S)
        except StoreError as error:
            self._checks[name] = f"down: {error}"
        else:
            self._checks[name] = "ok"
