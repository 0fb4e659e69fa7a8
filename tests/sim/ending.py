"""How every story ends: nothing breaks any more, everybody comes back, and all of them must have seen the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from brewd.cafe import commands as c
from brewd.cafe.limits import Terms
from brewd.runtime.clock import as_datetime
from tests.sim.daemon import START_MS, Daemon
from tests.sim.laws import BOUNDED, CONTAINED, ONCE, ONE_ORDER

if TYPE_CHECKING:
    from tests.sim.world import World

PATIENCE_S = 20.0


async def ending(world: World) -> None:
    """Raises `LawBroken`."""
    home = await _calm(world)
    await _nudge(world)
    _agree(world, "without having to come back")
    for client in world.clients:
        client.away = False
        client.cut()
    await world.until(trio.current_time() + 4.0)
    await _everything_answered(world)
    _agree(world, "after coming back")
    await _histories(world, home)
    await _present(world, home)
    await _empty(world, home)


async def _calm(world: World) -> Daemon:
    """The faults stop, one daemon stays, and what was still under way ends."""
    world.laws.note("the end begins")
    world.weather.calm = True
    world.weather.outage_until_s = 0.0
    world.trouble.bugs.clear()
    world.trouble.storms.clear()
    await world.until(trio.current_time() + 4.0)  # a daemon that drains has ended by now
    serving = world.serving
    home = serving[0] if serving else await world.start_daemon()
    for daemon in serving[1:]:
        daemon.kill()
    _all_may_speak(world, home)
    for client in world.clients:
        if client.socket is not None and client.socket.stalled:
            client.socket.flow()
        if not client.leaving:
            client.away = False
        world.arrive(client)
        if not client.inside:  # whoever is must have seen everything without asking
            world.enter(client)
    for status in home.directory.list():
        await home.directory.revive(status.cafe_id)
    await world.until(trio.current_time() + 25.0)
    world.audit()
    for client in world.clients:
        if not client.inside and not client.away:
            world.laws.breach(CONTAINED, f"{client.name} cannot get in although nothing is wrong")
        if client.asked:
            world.laws.breach(BOUNDED, f"{client.name} still waits for {[asked.kind for asked in client.asked.values()]}")
    world.laws.check()
    return home


def _all_may_speak(world: World, home: Daemon) -> None:
    """Limits are lifted and mutes are over, in the cafés that are open and in those that will be."""
    world.termed.now, world.laws.limits = Terms(), None
    at_ms = START_MS + int(trio.current_time() * 1000)
    for number, act in enumerate([act for act in world.laws.tables.decisions.acts if act["action"] == "mute"]):
        row = (f"end-{number}", act["cafe_id"], "unmute", act["user_id"], act["username"], None, "mo", None, "", None, None, as_datetime(at_ms))
        world.laws.tables.run("moderation_add", *([value] for value in row))
    world.mutes.clear()
    for client in world.clients:
        world.laws.muted(client.who.user_id, at_ms, at_ms)
        home.directory.order(client.cafe_id, c.Unmute(client.who.user_id))
    for cafe_id in world.cafes:
        home.directory.order(cafe_id, c.SetTerms(Terms()))


def _agree(world: World, when: str) -> None:
    """Everybody who is inside has the last message, and knows of every deletion among those it has."""
    laws = world.laws
    for client in world.clients:
        if not client.inside:
            continue
        rows = laws.tables.rows[client.cafe_id]
        if client.last != len(rows):
            laws.breach(ONE_ORDER, f"{client.name} has {client.last} of {len(rows)} {when}")
        for seq, message_id in client.seen.items():
            if rows[seq - 1].deleted_at is not None and message_id not in client.deleted and seq > len(rows) - world.setup.held:
                laws.breach(ONE_ORDER, f"{client.name} still shows {seq}, which is deleted, {when}")
    laws.check()


async def _nudge(world: World) -> None:
    """One more message in every café: an actor that was replaced without noticing finds out when it writes."""
    guests = [client for client in world.clients if client.inside and not client.who.staff]
    speakers = {client.cafe_id: client for client in guests}
    give_up_s = trio.current_time() + PATIENCE_S
    while speakers and trio.current_time() < give_up_s:
        asked = [speaker for speaker in speakers.values() if speaker.ready and speaker.inside]
        for speaker in asked:
            speaker.say(f"{speaker.name} says {speaker.said}", keyed=True)
        await world.until(trio.current_time() + 1.0)
        heard = [speaker.cafe_id for speaker in asked if f"{speaker.name}-{speaker.said}" not in speaker.unsent]
        speakers = {cafe_id: speaker for cafe_id, speaker in speakers.items() if cafe_id not in heard}


async def _everything_answered(world: World) -> None:
    """Whatever has a clientMsgId is sent again until it is answered, and is then stored once."""
    give_up_s = trio.current_time() + PATIENCE_S + sum(len(client.unsent) for client in world.clients)
    while True:
        await world.until(trio.current_time() + 0.1)
        open_sends = [client for client in world.clients if client.unsent and not client.who.staff]
        if not open_sends and all(client.inside for client in world.clients):
            break
        if trio.current_time() > give_up_s:
            world.laws.breach(BOUNDED, f"not answered in the end: {[(client.name, client.inside, list(client.unsent)) for client in world.clients]}")
            world.laws.check()
        for client in open_sends:
            if client.inside and not any(asked.kind == "send" for asked in client.asked.values()):
                client.resend(next(iter(client.unsent)))
    tables = world.laws.tables
    for client in world.clients:
        for key, (id, seq) in client.acked.items():
            row = tables.by_key.get((client.who.user_id, key))
            if row is None or (row.id, row.seq) != (id, seq):
                world.laws.breach(ONCE, f"{key} was acknowledged as {seq}, and the store has {None if row is None else row.seq}")
    world.laws.check()


async def _histories(world: World, home: Daemon) -> None:
    """What a client saw, with the gaps that a join without `recovered` leaves filled from history, is what the store has."""
    for client in world.clients:
        rows = world.laws.tables.rows[client.cafe_id]
        missing = [row.seq for row in rows if row.seq not in client.seen]
        for message in await home.after(client.cafe_id, missing[0] - 1, len(rows)) if missing else ():
            if client.seen.setdefault(message.seq, message.id) != message.id:
                world.laws.breach(ONE_ORDER, f"{client.name} saw another message as {message.seq} than history has")
        if client.seen != {row.seq: row.id for row in rows}:
            world.laws.breach(ONE_ORDER, f"{client.name} saw another history than the store has")
    world.laws.check()


async def _present(world: World, home: Daemon) -> None:
    """Once every grace time is over, those present are those connected."""
    await world.until(trio.current_time() + world.setup.grace_ms / 1000 + 0.1)
    for cafe_id in world.cafes:
        here = {client.who.user_id for client in world.clients if client.cafe_id == cafe_id and not client.who.staff}
        answer = await home.ref(cafe_id).ask(c.PresenceQuery())
        if {user.id for user in answer.users} != here or answer.user_count != len(here):
            world.laws.breach(CONTAINED, f"present in {cafe_id}: {sorted(user.id for user in answer.users)} instead of {sorted(here)}")
    world.laws.check()


async def _empty(world: World, home: Daemon) -> None:
    """Everybody leaves; after the idle time nothing is left of the cafés."""
    world.over = True
    give_up_s = trio.current_time() + PATIENCE_S
    while any(client.inside for client in world.clients) and trio.current_time() < give_up_s:
        for client in world.clients:
            if client.inside and not client.leaving:
                client.leave()
        await world.until(trio.current_time() + 1.0)
    for client in world.clients:
        if client.inside:
            world.laws.breach(BOUNDED, f"{client.name} cannot leave")
        client.cut()
    await world.until(trio.current_time() + world.setup.idle_s + 2.0)
    if home.quota.used:
        world.laws.breach(BOUNDED, f"{home.quota.used} of the quota are still taken, and nobody is there")
    if home.directory.list():
        world.laws.breach(BOUNDED, f"not passivated: {home.directory.list()}")
    world.laws.check()
