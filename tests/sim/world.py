"""One deterministic world: a store, daemons, clients, and a script of what happens to them, all drawn from one seed.

Time is trio's test clock, the order of tasks comes from the seed too, and everything that waits does so on one agenda. So the
same seed is the same story, whichever other seeds were run before it.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any

import structlog
import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from brewd.cafe import actor, directory, history
from brewd.cafe import commands as c
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.looks import index_of
from brewd.cafe.ref import CafeRef
from brewd.cafe.room import Room
from brewd.cafe.spam import SpamRules
from brewd.config import Bucket, Profile
from brewd.runtime.clock import as_datetime
from tests.sim.daemon import START_MS, Daemon
from tests.sim.decisions import Termed
from tests.sim.ending import ending
from tests.sim.faults import Weather
from tests.sim.home import Mute
from tests.sim.laws import LawBroken, Laws
from tests.sim.members import Client
from tests.sim.script import Script
from tests.sim.trouble import Setup, Trouble


class World:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.trouble = Trouble()
        self.laws = Laws(now_s=trio.current_time, fenced=lambda cafe_id: self.trouble.within(cafe_id, trio.current_time() + 1.0))
        self.setup = _draw_setup(random)
        self.weather = Weather(random=random, tables=self.laws.tables, at=self.at, trouble=self.trouble.everywhere)
        self.cafes = [f"cafe{number}" for number in range(random.randint(1, 3))]
        for cafe_id in self.cafes:
            self.laws.tables.add_cafe(cafe_id, f"epoch-{cafe_id}")
        self.termed = Termed(_draw_terms(random))
        self.laws.limits = self.termed.now.limits
        self.mutes: dict[str, Mute] = {}
        self.moderated = False  # ever
        self.clients = [self._client(number) for number in range(random.randint(2, 7))]
        self.daemons: list[Daemon] = []
        self.over = False
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._nap: trio.CancelScope | None = None

    async def run(self) -> None:
        """The whole story. Raises `LawBroken`."""
        broken: LawBroken | None = None
        async with trio.open_nursery() as self.nursery:
            try:
                await self.start_daemon()
                for client in self.clients:
                    self.arrive(client)
                script = Script(self, self.random)
                await self.until(script.end_s, script)
                await ending(self)
            except LawBroken as error:
                broken = error
            self.nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    def at(self, time_s: float, do: Callable[[], None]) -> None:
        """Put something on the agenda."""
        self._count += 1
        heapq.heappush(self._agenda, (time_s, self._count, do))
        if self._nap is not None and time_s < self._nap.deadline:
            self._nap.deadline = time_s

    def after(self, pause_s: float, do: Callable[[], None]) -> None:
        self.at(trio.current_time() + pause_s, do)

    async def until(self, end_s: float, script: Script | None = None) -> None:
        """Live until then: what the agenda says, and between it what the script does. The laws are checked after every step."""
        while True:
            next_s = min(self._agenda[0][0] if self._agenda else math.inf, script.next_s if script is not None else math.inf, end_s)
            with trio.CancelScope(deadline=next_s) as self._nap:
                await trio.sleep_forever()
            now_s = trio.current_time()
            if self._agenda and self._agenda[0][0] <= now_s:
                heapq.heappop(self._agenda)[2]()
            elif script is not None and script.next_s <= now_s:
                await script.act()
            elif end_s <= now_s:
                return
            self.audit()

    def audit(self) -> None:
        for daemon in self.daemons:
            daemon.audit()
        for client in self.clients:
            client.audit()
        self.laws.check()

    async def start_daemon(self) -> Daemon:
        daemon = Daemon(number=len(self.daemons), world=self, random=self.random)
        self.daemons.append(daemon)
        await self.nursery.start(daemon.run)
        self.laws.note("daemon", daemon.number, "serves")
        return daemon

    @property
    def serving(self) -> list[Daemon]:
        return [daemon for daemon in self.daemons if daemon.up and not daemon.draining]

    def arrive(self, client: Client) -> None:
        """Connect and join, or try again a little later."""
        if client.socket is not None or client.away:
            return
        if not self.serving:
            self.after(0.2, lambda: self.arrive(client))
            return
        home = self.random.choice(self.serving)
        home.clients.add(client)
        client.connect(home)
        self.enter(client)

    def enter(self, client: Client, *, anew: bool = False) -> None:
        """Join on the socket there is, and keep trying until it is let in."""
        if client.away or not client.ready:
            return
        if not client.joining():
            self.nursery.start_soon(self._join, client, anew)
        self.after(0.3 + self.random.random(), lambda: None if client.inside else self.enter(client))

    async def _join(self, client: Client, anew: bool) -> None:
        if client.ready and not client.joining():
            await client.join(anew=anew)

    def decide(self, action: str, client: Client, length_s: float = 0.0) -> None:
        """A moderator's word: stored first, then told to the daemon the client is connected to."""
        home = client.home
        if not isinstance(home, Daemon) or not home.up:
            return
        user_id, now_s = client.who.user_id, trio.current_time()
        at_ms = START_MS + int(now_s * 1000)
        until_ms = at_ms + int(length_s * 1000)
        until = as_datetime(until_ms) if action == "mute" else None
        row = (f"act-{at_ms}-{len(self.laws.trace)}", client.cafe_id, action, user_id, client.name, None, "mo", None, "", until, None, as_datetime(at_ms))
        self.laws.tables.run("moderation_add", *([value] for value in row))
        self.laws.note("moderator", action, user_id, length_s)
        self.laws.muted(user_id, at_ms, until_ms)
        self.moderated = True
        self.mutes[user_id] = Mute(home, now_s, now_s + length_s)
        home.directory.order(client.cafe_id, c.Mute(user_id, until_ms, "") if action == "mute" else c.Unmute(user_id))

    def gone(self, client: Client, to: int, ref: CafeRef, *, politely: bool) -> None:
        """A socket ended. The server notices after a while; the client comes back after another."""
        self.after(0.0 if politely else self.random.choice([0.0, 0.01, 1.0]) * self.random.random(), lambda: ref.detach(to))
        if not self.over:
            self.after(self.random.choice([0.02, 0.5, 3.0]) * self.random.random(), lambda: self.arrive(client))

    def _client(self, number: int) -> Client:
        random = self.random
        user = random.randint(0, number)  # now and then two clients are one user
        cafe_id = self.cafes[user % len(self.cafes)]
        who = c.Who(f"user{user}", f"name{user}", None, staff=user == 5, moderator=user == 5)
        return Client(name=f"client{number}", who=who, cafe_id=cafe_id, laws=self.laws, random=random)


def _draw_terms(random: Random) -> Terms:
    """In half of the worlds nothing is limited and nothing is spam; in the others one of the two, or both."""
    kind = random.choice(["", "", "", "limits", "spam", "limits and spam"])
    bucket = Bucket(per_hour=random.choice([3600, 36_000, 360_000]), burst=random.choice([2, 5, 20]), gap_s=random.choice([0, 0, 0.05, 1]))
    rules = SpamRules(
        words=index_of(["gold"]), duplicate_ms=random.choice([500, 5000]), warnings_ms=10_000, blocks_ms=20_000, mute_ms=random.choice([300, 4000])
    )
    return Terms(limits_of(Profile(message=bucket, badge_message=bucket)) if "limits" in kind else None, rules if "spam" in kind else None)


def _draw_setup(random: Random) -> Setup:
    roomy = random.random() < 0.5
    return Setup(
        mailbox_max=1024 if roomy else random.choice([3, 8, 40]),
        quota=20_000 if roomy else random.choice([2, 5, 20_000]),
        batch_max=random.choice([1, 3, 1000]),
        held=history.HELD_MAX if roomy else random.choice([1, 4, 16]),
        keys=history.KEYS_MAX if roomy else random.choice([1, 8, 4096]),
        commit_timeout_s=random.choice([0.5, 2.0, 5.0]),
        read_timeout_s=random.choice([0.5, 2.0]),
        reply_timeout_ms=random.choice([500, 2000, 5000]),
        grace_ms=random.choice([300, 2000, 30_000]),
        idle_s=random.choice([0.5, 5.0, 300.0]),
    )


@contextmanager
def patched(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Put something else at each (owner, name) for a while."""
    before = [getattr(owner, name) for owner, name, _ in places]
    for owner, name, value in places:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(places, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def _silence() -> Iterator[None]:
    """Thousands of crashes are nothing to write about."""
    config, configured = structlog.get_config(), structlog.is_configured()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        if configured:
            structlog.configure(**config)
        else:
            structlog.reset_defaults()


def _fixed(seed: int, world: World) -> AbstractContextManager[None]:
    """What is not an argument anywhere: the order of trio's tasks, the size of histories, and bugs outside of `step`."""

    def breaking(where: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def strike(room: Room, *args: Any) -> Any:
            world.trouble.strike(room.cafe_id, where)
            return real(room, *args)

        return strike

    return patched(
        (trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        (trio_run, "_r", Random(seed)),
        (history, "HELD_MAX", world.setup.held),
        (history, "KEYS_MAX", world.setup.keys),
        (directory, "HELD_MAX", world.setup.held),
        *((actor, name, breaking(name, getattr(actor, name))) for name in ("depart", "confirmed")),
    )


def play(seed: int) -> Laws:
    """Run one seed to its end; what was noted. Raises `LawBroken`."""
    told: list[Laws] = []

    async def story() -> None:
        world = World(seed)
        told.append(world.laws)
        with _silence(), _fixed(seed, world):
            await world.run()

    trio.run(story, clock=MockClock(autojump_threshold=0))
    return told[0]
