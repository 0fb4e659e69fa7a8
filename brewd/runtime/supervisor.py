"""Supervision: who restarts what, how often, and what happens when that does not help.

A `Supervisor` owns children, each a coroutine function that runs until it returns (done) or raises (crashed). One-for-one: a
crash restarts that child alone, after a backoff that grows within the period that it ran. More than `intensity` crashes in `period_s`
quarantine a child; an `essential` child instead fails its supervisor, and with it whoever runs that supervisor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio

from brewd.runtime.log import get_logger

log = get_logger("supervisor")


ENDLESS: Final = 64
"""As an intensity: there is no end to trying. No more crashes than these are counted; long before, the backoff has grown as far as it does."""


class Restart(msgspec.Struct, frozen=True):
    """How much crashing is too much: more than `intensity` in `period_s`. The n-th crash in `period_s` that the child ran waits `backoff_s`·(2ⁿ⁻¹ - 1),
    `period_s` at most; from the `intensity`-th on as long as that.

    Its pauses are no part of that time: they would soon fill it, and what cannot start would be tried at the old pace again.
    """

    intensity: int = 3
    period_s: float = 5.0
    backoff_s: float = 0.02

    def delay_s(self, crashes: int) -> float:
        """The pause after that many crashes: none after the first."""
        return min(self.backoff_s * (2.0 ** (crashes - 1) - 1), self.period_s)


class GaveUp(Exception):
    """An essential child crashed more often than its restart intensity allows."""


class Child:
    """One supervised task. `state`: running, backoff, quarantined, stopped."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], restart: Restart, essential: bool, crashed: Callable[[Exception], None] | None) -> None:
        self.name = name
        self.run = run
        self.restart = restart
        self.essential = essential
        self.crashed = crashed
        self.state = "running"
        self.restarts = 0
        self.last_error = ""
        self.ran_s = 0.0
        self.crashes: deque[tuple[float, float]] = deque(maxlen=ENDLESS)  # when, and how long it had run until then, all in all
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    def note_crash(self, error: Exception, now_s: float, ran_s: float) -> int:
        """Record a crash after a run of so long; how many there were within the period, this one included."""
        self.last_error = f"{type(error).__name__}: {error}"
        self.ran_s += ran_s
        self.crashes.append((now_s, self.ran_s))
        while self.crashes[0][1] <= self.ran_s - self.restart.period_s:
            self.crashes.popleft()
        return sum(at_s > now_s - self.restart.period_s for at_s, _ in self.crashes)

    def stop(self) -> None:
        """Cancel it; `ended` is set when it is gone."""
        self.scope.cancel()


class Supervisor:
    """A named group of children. Open one with `open_supervisor`."""

    def __init__(self, name: str, nursery: trio.Nursery, facts: Callable[[], dict[str, Any]] | None = None) -> None:
        self.name = name
        self._nursery = nursery
        self._facts = facts
        self._children: dict[str, Child] = {}
        self._groups: dict[str, Supervisor] = {}

    def spawn(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        restart: Restart | None = None,
        essential: bool = False,
        crashed: Callable[[Exception], None] | None = None,
    ) -> Child:
        """Start a child. `crashed` is told of each crash before the restart, synchronously. A name is used once at a time."""
        if name in self._children:
            raise ValueError(f"{self.name} has a child named {name} already")
        child = Child(name, run, restart or Restart(), essential, crashed)
        self._children[name] = child
        self._nursery.start_soon(self._keep, child, name=name)
        return child

    def group(self, name: str, facts: Callable[[], dict[str, Any]] | None = None) -> Supervisor:
        """A supervisor below this one, for children of a kind. Its essential children fail this one's nursery."""
        below = Supervisor(name, self._nursery, facts)
        self._groups[name] = below
        return below

    def state_of(self, name: str) -> str:
        """The child's state; `stopped` when there is none of that name."""
        child = self._children.get(name)
        return "stopped" if child is None else child.state

    def discard(self, name: str) -> Child | None:
        """Stop a child and forget it, quarantined or not: its name is free again. Its `ended` tells when it is gone."""
        child = self._children.pop(name, None)
        if child is not None:
            child.stop()
        return child

    def stop(self) -> None:
        """Cancel every child, and those of the groups below."""
        for child in list(self._children.values()):
            child.stop()
        for below in self._groups.values():
            below.stop()

    async def _keep(self, child: Child) -> None:
        try:
            with child.scope:
                while await self._survives(child):
                    pass
        finally:
            if child.state != "quarantined":
                child.state = "stopped"
                if self._children.get(child.name) is child:
                    del self._children[child.name]
            child.ended.set()

    async def _survives(self, child: Child) -> bool:
        """Run the child once; whether to run it again."""
        began_s = trio.current_time()
        try:
            child.state = "running"
            await child.run()
        except Exception as error:
            now_s = trio.current_time()
            crashes = child.note_crash(error, now_s, now_s - began_s)
            log.error("crashed", child=child.name, crashes=crashes, exc_info=error)
            if crashes > child.restart.intensity:
                child.state = "quarantined"
            if child.crashed is not None:
                child.crashed(error)
            if crashes <= child.restart.intensity:
                child.state = "backoff"
                child.restarts += 1
                await trio.sleep(child.restart.delay_s(min(len(child.crashes), child.restart.intensity)))
                return True
            if child.essential:
                raise GaveUp(f"{child.name} crashed {crashes} times in {child.restart.period_s:g} s: {child.last_error}") from error
            log.error("quarantined", child=child.name)
        return False

    def tree(self) -> dict[str, Any]:
        """The group as data: name, children with state and restart count, groups below."""
        children: list[dict[str, Any]] = [
            {"name": c.name, "state": c.state, "restarts": c.restarts, **({"lastError": c.last_error} if c.last_error else {})} for c in self._children.values()
        ]
        return {"name": self.name, **(self._facts() if self._facts else {}), "children": children + [g.tree() for g in self._groups.values()]}


@asynccontextmanager
async def open_supervisor(name: str) -> AsyncIterator[Supervisor]:
    """A supervisor whose children live as long as the block: on leaving it they are cancelled."""
    async with trio.open_nursery() as nursery:
        yield Supervisor(name, nursery)
        nursery.cancel_scope.cancel()
