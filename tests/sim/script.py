"""What happens in a world: who says what when, what breaks, and when it heals. Every choice is drawn from the seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from brewd.cafe import commands as c
from brewd.errors import Rejected
from tests.sim.laws import BOUNDED
from tests.sim.members import Client

if TYPE_CHECKING:
    from tests.sim.world import World

DAEMONS_MAX = 4
IMPATIENCE_MAX = 12


class Script:
    """`act` does the next thing, `next_s` is when. It ends at `end_s`."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random
        self._pace_s = random.choice([0.005, 0.03, 0.1, 0.4])
        self.next_s = 0.0
        self.end_s = self._pace_s * random.randint(25, 100)
        wild = random.choice([0.0, 0.3, 1.0, 3.0])
        storm = random.choice([0.0, 0.0, 1.0])
        self._deeds: list[tuple[Callable[[], None], float]] = [
            (self._say, 40), (self._say_at_once, 2), (self._resend, 6), (self._nonsense, 1), (self._delete, 6), (self._typing, 4), (self._status, 2),
            (self._shout, 3), (self._mute, 0.7), (self._unmute, 0.5), (self._ask, 3), (self._leave, 3), (self._come_back, 6), (self._join_again, 2), (self._pause, 1),
            (self._cut, 4 * wild), (self._stall, 3 * wild), (self._flow, 5 * wild), (self._crash, 2 * wild), (self._outage, wild), (self._stop_cafe, 0.5 * wild),
            (self._poison, 0.6 * wild), (self._remove, 0.5 * wild), (self._kill, 0.7 * wild), (self._drain, 0.3 * wild), (self._second, 0.7 * wild), (self._storm, storm), (self._revive, 2 * storm),
        ]  # fmt: skip

    async def act(self) -> None:
        """One deed."""
        deeds = self._deeds
        (deed,) = self._random.choices([deed for deed, _ in deeds], [weight for _, weight in deeds])
        self.next_s = trio.current_time() + self._random.expovariate(1 / self._pace_s)
        deed()

    def _anyone(self, *, inside: bool = True) -> Client | None:
        ready = [client for client in self._world.clients if client.ready and (client.inside or not inside)]
        return self._random.choice(ready) if ready else None

    # What clients do.

    def _say(self) -> None:
        client = self._anyone(inside=self._random.random() < 0.95)
        if client is not None:
            client.say(f"{client.name} says {client.said}", keyed=self._random.random() < 0.8)

    def _say_at_once(self) -> None:
        client = self._anyone()
        for _ in range(self._random.randint(2, 12)):
            if client is not None and client.ready:
                client.say(f"{client.name} says {client.said}", keyed=self._random.random() < 0.8)

    def _resend(self) -> None:
        client = self._anyone()
        if client is not None and client.unsent:
            key = self._random.choice(list(client.unsent))
            if sum(asked.client_msg_id == key for asked in client.asked.values()) < IMPATIENCE_MAX:
                client.resend(key)

    def _nonsense(self) -> None:
        client = self._anyone()
        if client is not None:
            client.say(self._random.choice(["  ", "x" * 1001]), keyed=False)

    def _shout(self) -> None:
        """What spam rules look at, where there are any; and what they never let through."""
        client = self._anyone()
        if client is not None:
            gold = self._world.termed.now.spam is not None and self._random.random() < 0.3
            client.say(
                f"gold {client.name} {client.said}" if gold else f"LOUDLY {client.name} SAYS {client.said}", keyed=not gold and self._random.random() < 0.8
            )

    def _mute(self) -> None:
        client = self._anyone(inside=False)
        if client is not None and not client.who.staff:
            self._world.decide("mute", client, self._random.choice([0.1, 1.0, 10.0]) * self._random.random())

    def _unmute(self) -> None:
        client = self._anyone(inside=False)
        if client is not None and client.who.user_id in self._world.mutes:
            self._world.decide("unmute", client)

    def _delete(self) -> None:
        client = self._anyone()
        if client is None or not client.seen:
            return
        message_id = client.seen[self._random.choice(list(client.seen))]
        if self._random.random() < 0.7:
            client.delete(message_id)
        else:
            self._question(client, c.Delete(client.who, message_id))

    def _typing(self) -> None:
        client = self._anyone()
        if client is not None:
            client.typing(on=self._random.random() < 0.7)

    def _status(self) -> None:
        client = self._anyone()
        if client is not None and not client.who.staff:
            client.set_status(self._random.choice(["online", "away", "busy"]))

    def _ask(self) -> None:
        client = self._anyone(inside=False)
        if client is not None:
            self._question(client, c.PresenceQuery() if self._random.random() < 0.5 else c.TopicsQuery(10))

    def _question(self, client: Client, question: c.Question) -> None:
        self._world.nursery.start_soon(self._wait_for, client, question)

    async def _wait_for(self, client: Client, question: c.Question) -> None:
        laws, ref, asked_s, timeout_s = self._world.laws, client.ref, trio.current_time(), 1.0
        assert ref is not None
        try:
            answer = await ref.ask(question, timeout_s)
        except Rejected:
            answer = None
        if trio.current_time() > asked_s + timeout_s:
            laws.breach(BOUNDED, f"a question was open for {trio.current_time() - asked_s:.3f} s")
        if answer is not None and isinstance(question, c.Delete):
            laws.is_deleted(client.cafe_id, question.message_id, "confirmed from outside")

    def _leave(self) -> None:
        client = self._anyone()
        if client is not None and not client.leaving:
            client.leave()

    def _come_back(self) -> None:
        for client in self._world.clients:
            if client.away and not client.leaving:
                client.away = False
                if client.socket is None:
                    self._world.arrive(client)
                else:
                    self._world.enter(client)
                return

    def _join_again(self) -> None:
        client = self._anyone()
        if client is not None and not client.leaving:
            self._world.enter(client, anew=self._random.random() < 0.3)

    def _remove(self) -> None:
        """Somebody's time is over: the user leaves, and the sockets end."""
        client = self._anyone()
        if client is None or client.ref is None:
            return
        try:
            client.ref.tell(c.Remove(client.who.user_id))
        except Rejected:
            return
        for other in self._world.clients:
            if other.who.user_id == client.who.user_id and other.socket is not None:
                other.socket.close(4003, "removed")

    def _pause(self) -> None:
        self.next_s = trio.current_time() + self._random.choice([0.5, 2.0, 8.0])

    # What breaks.

    def _cut(self) -> None:
        client = self._anyone(inside=False)
        if client is not None:
            client.cut()

    def _stall(self) -> None:
        client = self._anyone(inside=False)
        if client is not None and client.socket is not None:
            client.socket.stall()

    def _flow(self) -> None:
        for client in self._world.clients:
            if client.socket is not None and client.socket.stalled:
                client.socket.flow()
                return

    def _crash(self) -> None:
        self._world.trouble.bugs[self._random.choice(self._world.cafes)] = self._random.choice(["before", "after", "observer", "depart", "confirmed"])

    def _storm(self) -> None:
        cafe_id, length_s = self._random.choice(self._world.cafes), self._random.choice([0.05, 0.5, 2.0])
        self._world.trouble.storms[cafe_id] = trio.current_time() + length_s
        self._world.trouble.within(cafe_id, trio.current_time() + length_s)

    def _revive(self) -> None:
        for daemon in self._world.serving:
            for status in daemon.directory.list():
                if status.state == "quarantined":
                    self._world.nursery.start_soon(daemon.directory.revive, status.cafe_id)

    def _poison(self) -> None:
        client = self._anyone()
        if client is not None:
            self._world.trouble.within(client.cafe_id, trio.current_time() + 1.0)
            client.say(f"\0 {client.name} says {client.said}", keyed=False)

    def _stop_cafe(self) -> None:
        daemon = self._random.choice(self._world.serving) if self._world.serving else None
        if daemon is not None:
            statuses = daemon.directory.list()
            if statuses:
                cafe_id = self._random.choice(statuses).cafe_id
                self._world.trouble.within(cafe_id, trio.current_time() + 1.0)
                self._world.nursery.start_soon(daemon.stop_cafe, cafe_id)

    def _outage(self) -> None:
        self._world.weather.outage(self._random.choice([0.1, 1.0, 10.0]) * self._random.random(), hangs=self._random.random() < 0.5)

    def _kill(self) -> None:
        if self._world.serving and len(self._world.daemons) < DAEMONS_MAX:
            self._random.choice(self._world.serving).kill()
            if not self._world.serving:
                self._world.nursery.start_soon(self._world.start_daemon)

    def _drain(self) -> None:
        if self._world.serving and len(self._world.daemons) < DAEMONS_MAX:
            self._world.nursery.start_soon(self._random.choice(self._world.serving).drain)
            self._world.nursery.start_soon(self._world.start_daemon)

    def _second(self) -> None:
        """Another daemon comes up beside the first: for a while both believe that they own the cafés."""
        if len(self._world.serving) == 1 and len(self._world.daemons) < DAEMONS_MAX:
            self._world.nursery.start_soon(self._world.start_daemon)
