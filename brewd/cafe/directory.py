"""The directory: café id → ref. Starts an actor when somebody has something to say to its café, and forgets it when it is idle.

Owns no room. Each café runs as a child of the cafés' supervisor, so a crash restarts that café alone; one that crashes more
often than its restart intensity allows is quarantined until `revive`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio
from msgspec import Struct

from brewd.cafe.actor import CafeActor, FencedOff, Keeper, Observer, Step
from brewd.cafe.commands import Command, SetBadge
from brewd.cafe.events import Event
from brewd.cafe.history import HELD_MAX
from brewd.cafe.ref import CafeRef, CafeStatus, State
from brewd.cafe.room import Room, Rules, step
from brewd.cafe.standing import Standing
from brewd.errors import Rejected, StoreError
from brewd.runtime.alarm import Alarms
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.runtime.quota import Quota
from brewd.runtime.supervisor import Restart, Supervisor
from brewd.store.journal import Journal
from brewd.store.records import Line, Recent

log = get_logger("directory")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 0.5
TURN_MAX_S = 2.0
"""A store that hangs holds up those cafés that are being opened. The others do not wait in silence."""


class Store(Protocol):
    """Where a café starts from. Raises `StoreError`, within its own deadline."""

    async def open_line(self, cafe_id: str) -> Line | None: ...
    async def recent(self, cafe_id: str, limit: int) -> Recent: ...


class Standings(Protocol):
    """Where the café's people stand. Raises `StoreError`, within its own deadline."""

    async def standing(self, cafe_id: str, recent: Recent) -> Standing: ...


class Warmth(Observer, Protocol):
    """What the mirror knows of a café from before: topic scores. Answers quickly or with nothing; never raises."""

    async def topics(self, cafe_id: str) -> list[tuple[str, float]]: ...

    def closed(self, cafe_id: str) -> None:
        """The café passivated: nobody is in it."""


class Bounds(Struct, frozen=True):
    """How large and how patient cafés are."""

    mailbox_max: int = 1024
    idle_s: float = 300.0
    starts_at_once: int = 8
    restart: Restart = Restart(intensity=3, period_s=5.0, backoff_s=0.02)


class Directory:
    """See the module. One for the process; `refs` grows with the cafés that are in use."""

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        store: Store,
        journal: Journal,
        standings: Standings,
        keeper: Keeper,
        warmth: Warmth,
        clock: Clock,
        ids: Ids,
        alarms: Alarms,
        quota: Quota,
        rules: Rules,
        bounds: Bounds,
        step: Step = step,
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._journal = journal
        self._standings = standings
        self._keeper = keeper
        self._warmth = warmth
        self._clock = clock
        self._ids = ids
        self._alarms = alarms
        self._quota = quota
        self._rules = rules
        self._bounds = bounds
        self._step = step
        self._starts = trio.CapacityLimiter(bounds.starts_at_once)
        self._refs: dict[str, CafeRef] = {}

    def ref(self, cafe_id: str) -> CafeRef:
        """The café's ref. Whether there is such a café shows when something is told to it."""
        ref = self._refs.get(cafe_id)
        if ref is None:
            ref = self._refs[cafe_id] = CafeRef(cafe_id=cafe_id, mailbox_max=self._bounds.mailbox_max, start=self._start, forget=self._forget)
        return ref

    def order(self, cafe_id: str, command: Command) -> None:
        """Tell a café that is in use what was decided outside and is stored; any other reads it when it opens.

        It is never refused, and whatever is told after it finds it done. The caller stores each one first, which bounds them.
        """
        if self.is_open(cafe_id):
            self._refs[cafe_id].mailbox.push(command)

    def is_open(self, cafe_id: str) -> bool:
        """Whether the café has a room, or is getting one."""
        ref = self._refs.get(cafe_id)
        return ref is not None and ref.state in (State.STARTING, State.RUNNING)

    def notify(self, cafe_id: str, user_id: str, event: Event) -> None:
        """Tell one user of a café, if they are connected to it. See `CafeRef.notify`."""
        ref = self._refs.get(cafe_id)
        if ref is not None:
            ref.notify(user_id, event)

    def set_badge(self, cafe_id: str, user_id: str, badge: str | None) -> None:
        """From the next thing they say on, this user has that badge, on every socket and for everybody to see. Never blocks."""
        ref = self._refs.get(cafe_id)
        if ref is not None:
            ref.fanout.set_badge(user_id, badge)
            self.order(cafe_id, SetBadge(user_id, badge))

    def list(self) -> list[CafeStatus]:
        return [ref.status() for ref in self._refs.values()]

    async def revive(self, cafe_id: str) -> CafeStatus:
        """Start a quarantined café again, with a clean record. Others are left as they are. `Rejected`: `not_found`."""
        ref = self._known(cafe_id)
        if ref.state is State.QUARANTINED:
            self._supervisor.discard(cafe_id)
            self._start(ref)
        return ref.status()

    async def stop(self, cafe_id: str, timeout_s: float = 5.0) -> CafeStatus:
        """End the café's actor and its sockets; the next command starts it again. `Rejected`: `not_found`."""
        ref = self._known(cafe_id)
        for outbox in list(ref.fanout.attached.values()):
            outbox.close(1012, "this café was stopped")
        child = self._supervisor.discard(cafe_id)
        if child is not None:
            with trio.move_on_after(timeout_s):
                await child.ended.wait()
        if (child is None or child.ended.is_set()) and self._supervisor.state_of(cafe_id) == "stopped":  # else it was started again meanwhile
            ref.state = State.STOPPED
            if len(ref.mailbox):
                self._start(ref)
            elif not ref.fanout.attached:
                self._forget(ref)
        return ref.status()

    def _known(self, cafe_id: str) -> CafeRef:
        ref = self._refs.get(cafe_id)
        if ref is None:
            raise Rejected("not_found", f"No café {cafe_id} is in use.")
        return ref

    def _forget(self, ref: CafeRef) -> None:
        """The café is stopped and nobody is connected: its next ref may be another."""
        if self._refs.get(ref.cafe_id) is ref:
            del self._refs[ref.cafe_id]

    def _start(self, ref: CafeRef) -> None:
        ref.state = State.STARTING
        self._supervisor.spawn(ref.cafe_id, lambda: self._live(ref), restart=self._bounds.restart, crashed=lambda error: self._crashed(ref, error))

    async def _live(self, ref: CafeRef) -> None:
        """Load and run, until the café passivates or turns out not to exist."""
        try:
            while await self._fenced_off(ref):
                await trio.sleep(RETRY_FIRST_S)
        except BaseException:
            ref.state = State.STOPPED
            raise
        ref.state = State.STOPPED
        self._supervisor.discard(ref.cafe_id)
        self._warmth.closed(ref.cafe_id)
        if not ref.fanout.attached:
            self._forget(ref)

    async def _fenced_off(self, ref: CafeRef) -> bool:
        """One life. True when it ended because the line was taken over, or a commit was settled against us: not a bug; start over."""
        ref.state = State.STARTING
        room = await self._load(ref)
        if room is None:
            self._refuse_all(ref, Rejected("not_found", "There is no such café."))
            return False
        actor = CafeActor(
            ref=ref, room=room, journal=self._journal, clock=self._clock, alarms=self._alarms, idle_s=self._bounds.idle_s,
            observer=self._warmth, keeper=self._keeper, new_incident=self._ids.uuid4, step=self._step,
        )  # fmt: skip
        ref.state = State.RUNNING
        try:
            await actor.run()
        except FencedOff:
            return True
        return False

    async def _load(self, ref: CafeRef) -> Room | None:
        """Take the line over and read where it stands. Waits for Postgres as long as it takes; meanwhile callers are told."""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                async with self._turn_to_start():
                    line = await self._store.open_line(ref.cafe_id)
                    if line is None:
                        return None
                    recent = await self._store.recent(ref.cafe_id, HELD_MAX)
                    standing = await self._standings.standing(ref.cafe_id, recent)
                    topics = await self._warmth.topics(ref.cafe_id)
            except StoreError:
                self._refuse_all(ref, Rejected("storage_unavailable", "The café cannot be opened at the moment.", retryAfterMs=1000))
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
                continue
            now_ms = self._clock.now_ms()
            room = Room(
                line=line, recent=recent, rules=self._rules, quota=self._quota, new_id=self._ids.uuid7, now_ms=now_ms, standing=standing,
            )  # fmt: skip
            room.topics.restore(topics, now_ms)
            return room

    @asynccontextmanager
    async def _turn_to_start(self) -> AsyncIterator[None]:
        """One of a few. `StoreError` when those before it take so long that whoever waits for this café must be told."""
        try:
            with trio.fail_after(TURN_MAX_S):
                await self._starts.acquire()
        except trio.TooSlowError:
            raise StoreError("too many cafés wait to be opened") from None
        try:
            yield
        finally:
            self._starts.release()

    def _refuse_all(self, ref: CafeRef, rejected: Rejected) -> None:
        for _ in range(len(ref.mailbox)):
            command = ref.mailbox.take()
            if hasattr(command, "to"):
                ref.fanout.refuse(command.to, getattr(command, "ref", None), rejected)
        ref.fanout.flush(ref.seq)

    def _crashed(self, ref: CafeRef, error: Exception) -> None:
        ref.crashes += 1
        quarantined = self._supervisor.state_of(ref.cafe_id) == "quarantined"
        ref.state = State.QUARANTINED if quarantined else State.STARTING
        if quarantined:
            self._refuse_all(ref, Rejected("cafe_unavailable", "This café is out of order at the moment.", retryAfterMs=5000))
