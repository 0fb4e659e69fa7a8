"""The daemon: everything wired together, started in order, stopped in reverse.

`run` owns the root supervisor. Infrastructure that crashes more often than its restart intensity allows ends the process with a
clear last line; cafés do not (see `cafe/directory.py`). SIGTERM and SIGINT drain; a second one stops at once, and so does the
first one while the daemon still starts.
"""

from __future__ import annotations

import importlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from brewd import __version__
from brewd.agent.calling import OpenClient
from brewd.agent.parts import AgentParts, make_agent
from brewd.agent.remote import open_worker
from brewd.cafe.actor import Step
from brewd.cafe.directory import Bounds, Directory
from brewd.cafe.ledger import Ledger
from brewd.cafe.mirrored import CafeMirror
from brewd.cafe.room import Rules, step
from brewd.config import Config
from brewd.edge.control.methods import build_methods
from brewd.edge.control.server import ControlServer
from brewd.edge.door import bound, certificate
from brewd.edge.drain import drain, see_out
from brewd.edge.guard import Guard, open_guard
from brewd.edge.health import Health
from brewd.edge.http.parts import HttpParts
from brewd.edge.listener import Kind, Listener, url_of
from brewd.edge.ws.agent import AgentSocket
from brewd.edge.ws.agent import Parts as AskingParts
from brewd.edge.ws.connection import Calls, WebSocket
from brewd.edge.ws.connection import Parts as SocketParts
from brewd.edge.ws.peer import READ_BYTES, UNLIMITED
from brewd.edge.ws.plain import Plain
from brewd.edge.ws.sockets import Sockets
from brewd.edge.ws.watchers import Watchers
from brewd.jobs.housekeeping import Housekeeping, housekeeping
from brewd.people.alike import Alike
from brewd.people.allowances import Allowances
from brewd.people.badges import Badges
from brewd.people.cafes import Cafes
from brewd.people.mirrored import PeopleMirror
from brewd.people.moderation import Moderation
from brewd.people.people import People, open_people
from brewd.people.receipts import Receipts
from brewd.people.sessions import CLOSE_EXPIRED, Sessions
from brewd.people.staff import Staff
from brewd.people.standings import Standings
from brewd.people.tokens import Tokens
from brewd.people.users import Users
from brewd.people.visits import Visits
from brewd.runtime.alarm import Alarms
from brewd.runtime.bridge import open_bridge
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.log import configure, get_logger
from brewd.runtime.process import calm_gc, raise_file_limit
from brewd.runtime.quota import Quota
from brewd.runtime.supervisor import Supervisor, open_supervisor
from brewd.social.social import Social, make_social
from brewd.store.embedded import data_lock
from brewd.store.journal import Journal
from brewd.store.mirror import Mirror
from brewd.store.stores import ENDLESS_RESTART, Stores, migrated, open_stores
from brewd.store.where import where

log = get_logger("brewd")

SLOW_IMPORTS = ("brewd.store.redis", "brewd.edge.http.server", "brewd.edge.http.app", "brewd.edge.http.calls")
"""Half of the time it takes to import everything: spent while the embedded servers start."""

ALARM_GRAIN_S = 0.02
"""Grace, typing and topics may be this late; nobody notices, and a thousand cafés share a wake-up."""


class Parts(Struct, frozen=True):
    """What whoever started the daemon may use once it is ready."""

    config: Config
    clock: Clock
    ids: Ids
    urls: list[str]
    cafes: Cafes
    staff: Staff
    users: Users
    receipts: Receipts
    tokens: Tokens
    sessions: Sessions
    moderation: Moderation
    allowances: Allowances
    badges: Badges
    directory: Directory
    supervisor: Supervisor
    sockets: Sockets
    journal: Journal
    mirror: Mirror
    keeping: Housekeeping
    agent: AgentParts
    watchers: Watchers
    stop: Callable[[], None]


Ready = Callable[[Parts], Awaitable[None]]


class _Ground(Struct, frozen=True):
    """What everything stands on."""

    config: Config
    clock: Clock
    ids: Ids
    root: Supervisor
    urls: list[str]
    open_client: OpenClient


class _Rooms(Struct, frozen=True):
    """The cafés, and what serves all of them. `watchers` hear what `agent` says by itself."""

    directory: Directory
    journal: Journal
    ledger: Ledger
    mirror: Mirror
    quota: Quota
    moderation: Moderation
    allowances: Allowances
    visits: Visits
    badges: Badges
    social: Social
    keeping: Housekeeping
    agent: AgentParts
    watchers: Watchers


class _Stop:
    """How the daemon is asked to end: `drain` lets what is under way finish, `at_once` does not wait. A daemon that still starts just ends."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.starting: trio.CancelScope | None = trio.CancelScope()
        self.draining = trio.CancelScope()

    def drain(self) -> None:
        self.asked.set()
        if self.starting is not None:
            self.starting.cancel()

    def at_once(self) -> None:
        self.draining.cancel()
        self.drain()


async def _import_slowly() -> None:
    for name in SLOW_IMPORTS:
        await trio.to_thread.run_sync(importlib.import_module, name)


async def run(config: Config, *, ready: Ready | None = None, step: Step = step, open_client: OpenClient = open_worker, clock: Clock | None = None) -> int:
    """Run until told to stop; the exit status. Raises `CannotListen`, `PortInUse`, `EmbeddedError`, `MigrationError`, `KeyFileError` or `OSError` when it cannot.

    `ready` is called once everything serves. `step` is what rooms step with: tests put a broken one in. `open_client` opens
    whoever makes the agent's calls: tests spare themselves a process. `clock`: tests give one of another time.
    """
    configure(format=config.observe.log, level=config.observe.log_level)
    raise_file_limit()
    stop = _Stop()
    assert stop.starting is not None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, stop.starting:
        async with AsyncExitStack() as stack:
            tls = certificate(config.server.tls)
            listening = [stack.enter_context(bound(text)) for text in config.server.listen]
            urls = [url_of(sock, tls=tls is not None) for sock in listening]
            config = replace(config, server=replace(config.server, public_url=config.server.public_url or urls[0]))
            stack.enter_context(data_lock(config.data.path))
            root = await stack.enter_async_context(open_supervisor("brewd"))
            root.spawn("signals", lambda: _on_signals(signals, stop), essential=True)
            bridge = await stack.enter_async_context(open_bridge())
            clock = clock or Clock()
            ground = _Ground(config=config, clock=clock, ids=Ids(clock), root=root, urls=urls, open_client=open_client)
            stores = await stack.enter_async_context(open_stores(config, root, bridge, meanwhile=_import_slowly))
            stack.callback(root.stop)  # whoever uses the stores ends before them
            await _serve(ground, stores, listening, tls, stop, ready=ready, step=step)
    return 0


async def _serve(
    ground: _Ground, stores: Stores, listening: list[socket.socket], tls: ssl.SSLContext | None, stop: _Stop, *, ready: Ready | None, step: Step
) -> None:
    """From the migrations to the last goodbye."""
    from brewd.edge.http.app import ENDPOINTS, create_app
    from brewd.edge.http.calls import Calls as HttpCalls
    from brewd.edge.http.server import HttpServer

    config, clock, root = ground.config, ground.clock, ground.root
    await migrated(stores.postgres, clock, where(config))
    people = await open_people(config, pg=stores.postgres, clock=clock, ids=ground.ids)
    guard = await open_guard(config.limits.edge, clock=clock, cafes=people.cafes)
    sockets = Sockets(clock, per_user=config.limits.edge.sockets_per_user)
    rooms = _rooms(ground, stores, people, sockets, step)
    _watch_sessions(ground, stores, people.sessions, rooms, sockets)
    await rooms.badges.warm()
    root.spawn("badges", rooms.badges.run, restart=ENDLESS_RESTART)
    health = Health(clock=clock, version=__version__, postgres=stores.postgres.check, redis=stores.redis.check, agent=lambda: rooms.agent.agent.status.state)
    async with trio.open_nursery() as flushers:
        http_parts = _http_parts(ground, stores, people, rooms, guard=guard, health=health)
        http = HttpServer(create_app(http_parts))
        socket_parts, kinds = _socket_parts(ground, stores, people, rooms, calls=HttpCalls(http_parts, ENDPOINTS), sockets=sockets, nursery=flushers)
        listener = Listener(sockets=listening, parts=socket_parts, kinds=kinds, http=http, limits=guard.limits, server=config.server, tls=tls)
        root.spawn("sockets", sockets.watch, essential=True)
        control = _control(ground, people, rooms, guard=guard, health=health, stop=stop)
        await flushers.start(control.serve, config.data.path / config.control.socket)
        root.spawn("listener", listener.run, essential=True)
        calm_gc()
        health.ready = True
        stop.starting = None
        log.info("ready", urls=ground.urls, version=__version__)
        if ready is not None:
            await ready(_parts(ground, people, rooms, sockets, stop))
        await stop.asked.wait()
        health.ready = False
        jobs = root.discard("jobs")
        with stop.draining:
            await drain(
                listener=listener, http=http, sockets=sockets, quota=rooms.quota, ledger=rooms.ledger, end_agent=lambda: rooms.agent.end(root),
                mirror=rooms.mirror, ids=ground.ids, within_s=config.server.drain_s,
            )  # fmt: skip
            if jobs is not None:
                await jobs.ended.wait()  # what it interrupted is written down, for the next daemon to do
        see_out(sockets)
        log.info("stopped", sockets=len(sockets))
        flushers.cancel_scope.cancel()


def _rooms(ground: _Ground, stores: Stores, people: People, sockets: Sockets, step: Step) -> _Rooms:
    """The cafés, and the actors that serve all of them."""
    config, root = ground.config, ground.root
    room = config.room
    alarms = Alarms(ALARM_GRAIN_S)
    mirror = Mirror(redis=stores.redis, name=ground.ids.uuid4())
    quota = Quota(config.journal.pending_max)
    journal = Journal(store=stores.messages, batch_max=config.journal.batch_max)
    visits = Visits(pg=stores.postgres)
    ledger = Ledger(pg=stores.behind, ids=ground.ids, seen=visits.seen)
    root.spawn("alarms", alarms.run, essential=True)
    root.spawn("journal", journal.run, essential=True)
    root.spawn("mirror", mirror.run)
    root.spawn("ledger", ledger.run, restart=ENDLESS_RESTART)
    warmth = CafeMirror(mirror=mirror, redis=stores.redis, clock=ground.clock)
    directory = Directory(
        supervisor=root.group("cafes"),
        store=stores.messages,
        journal=journal,
        standings=Standings(pg=stores.postgres, cafes=people.cafes, decisions=ledger, clock=ground.clock),
        keeper=ledger,
        warmth=warmth,
        clock=ground.clock,
        ids=ground.ids,
        alarms=alarms,
        quota=quota,
        rules=Rules(
            message_max_chars=room.message_max_chars,
            history=room.history,
            presence_grace_ms=int(room.presence_grace_s * 1000),
            typing_ms=int(room.typing_s * 1000),
            reply_timeout_ms=int(config.journal.timeout_s * 900),  # so that the answer, too, is there within `timeout_s`
        ),
        bounds=Bounds(mailbox_max=room.mailbox_max, idle_s=room.idle_s),
        step=step,
    )
    pg, clock, ids = stores.postgres, ground.clock, ground.ids
    alike = Alike(pg=pg, clock=clock, rooms=directory)
    ledger.on_mutes, people.joins.on_muted = alike.follow, alike.mute
    badges = Badges(pg=pg, clock=clock, ids=ids, cafes=people.cafes, holders=people.sessions.holders, visits=visits, rooms=directory)
    social = make_social(pg=pg, clock=clock, ids=ids, sessions=people.sessions, rooms=directory)
    social.pokes.on_match.append(badges.matched)
    root.spawn("delivery", social.delivery.run)
    agent, watchers = _agent(ground, stores, people, directory, mirror, journal=journal), Watchers(Plain())
    agent.proactive.listeners.append(watchers.tell)
    warmth.on_unsaid.append(agent.agent.unsaid)
    keeping = housekeeping(
        pg=pg, replica=stores.replica, redis=stores.redis, mirror=mirror, clock=clock, ids=ids, sessions=people.sessions, rooms=directory,
        decisions=ledger, send_away=sockets.close_user, badges=badges, pokes=social.pokes, agent=agent,
        retention_days=room.retention_days, numbers_days=config.data.numbers_days,
    )  # fmt: skip
    root.spawn("jobs", keeping.scheduler.run, restart=ENDLESS_RESTART)
    return _Rooms(
        directory=directory, journal=journal, ledger=ledger, mirror=mirror, quota=quota, visits=visits, badges=badges, social=social, keeping=keeping,
        moderation=Moderation(pg=pg, clock=clock, ids=ids, sessions=people.sessions, rooms=directory, send_away=sockets.close_user),
        allowances=Allowances(pg=pg, clock=clock, ids=ids, cafes=people.cafes, rooms=directory), agent=agent, watchers=watchers,
    )  # fmt: skip


def _agent(ground: _Ground, stores: Stores, people: People, directory: Directory, mirror: Mirror, *, journal: Journal) -> AgentParts:
    """The agent: beside the rooms, and never missed by them."""
    agent = make_agent(
        ground.config.agent, pg=stores.postgres, redis=stores.redis, mirror=mirror, cafes=people.cafes, rooms=directory, clock=ground.clock, ids=ground.ids,
        open_client=ground.open_client, give_way=journal.give_way,
    )  # fmt: skip
    agent.spawn(ground.root)
    return agent


def _watch_sessions(ground: _Ground, stores: Stores, sessions: Sessions, rooms: _Rooms, sockets: Sockets) -> None:
    """A session that begins shows in Redis; one that ends is gone from there, and its sockets are closed."""
    people_mirror = PeopleMirror(mirror=rooms.mirror, pg=stores.postgres, clock=ground.clock)
    sessions.on_open += [people_mirror.opened, rooms.visits.opened]
    rooms.badges.on_change.append(people_mirror.badge)
    sessions.on_revoke.append(people_mirror.ended)
    sessions.on_revoke.append(lambda session_id, user_id, code: _revoked(sockets, session_id, user_id, code))
    ground.root.spawn("people-mirror", people_mirror.run)


def _socket_parts(
    ground: _Ground, stores: Stores, people: People, rooms: _Rooms, *, calls: Calls, sockets: Sockets, nursery: trio.Nursery
) -> tuple[SocketParts, dict[str, Kind]]:
    """What sockets work with, and what each path is served by."""
    room = ground.config.room
    shared: dict[str, Any] = {
        "clock": ground.clock, "sessions": people.sessions, "sockets": sockets, "dialect": Plain(), "nursery": nursery,
        "frames_per_s": ground.config.limits.edge.frames_per_s or UNLIMITED, "frame_max_bytes": room.frame_max_bytes, "outbox_max_bytes": room.outbox_max_bytes,
        "buffer": memoryview(bytearray(READ_BYTES)),
    }  # fmt: skip
    talking = SocketParts(**shared, directory=rooms.directory, messages=stores.messages, calls=calls)
    asking = AskingParts(
        **shared, ids=ground.ids, agent=rooms.agent.agent, configs=rooms.agent.configs, watchers=rooms.watchers, give_way=rooms.journal.give_way
    )
    return talking, {"/ws": partial(WebSocket, talking), "/ws/agent": partial(AgentSocket, asking)}


def _http_parts(ground: _Ground, stores: Stores, people: People, rooms: _Rooms, *, guard: Guard, health: Health) -> HttpParts:
    social = rooms.social
    return HttpParts(
        config=ground.config, clock=ground.clock, ids=ground.ids, pg=stores.postgres, cafes=people.cafes, staff=people.staff, users=people.users,
        receipts=people.receipts, joins=people.joins, sessions=people.sessions, tokens=people.tokens, directory=rooms.directory, moderation=rooms.moderation,
        allowances=rooms.allowances, badges=rooms.badges, interests=social.interests, matching=social.matching, pokes=social.pokes, dms=social.dms,
        erasure=rooms.keeping.erasure, analytics=rooms.keeping.analytics,
        agent_configs=rooms.agent.configs, agent_status=rooms.agent.agent.status_of,
        guard=guard, health=health.report, live=health.live, ready=health.is_ready,
    )  # fmt: skip


def _control(ground: _Ground, people: People, rooms: _Rooms, *, guard: Guard, health: Health, stop: _Stop) -> ControlServer:
    methods = build_methods(
        cafes=people.cafes, networks=guard.networks, staff=people.staff, users=people.users, directory=rooms.directory,
        supervisor=ground.root, config=ground.config,
        health=health.report, drain=stop.drain, stop=stop.at_once, urls=ground.urls, moderation=rooms.moderation, allowances=rooms.allowances,
        keeping=rooms.keeping, clock=ground.clock, agent=rooms.agent,
    )  # fmt: skip
    return ControlServer(methods=methods, ids=ground.ids)


def _parts(ground: _Ground, people: People, rooms: _Rooms, sockets: Sockets, stop: _Stop) -> Parts:
    return Parts(
        config=ground.config, clock=ground.clock, ids=ground.ids, urls=ground.urls, cafes=people.cafes, staff=people.staff, users=people.users,
        receipts=people.receipts, tokens=people.tokens, sessions=people.sessions, moderation=rooms.moderation, allowances=rooms.allowances,
        badges=rooms.badges, directory=rooms.directory, supervisor=ground.root, sockets=sockets, journal=rooms.journal, mirror=rooms.mirror, keeping=rooms.keeping,
        agent=rooms.agent, watchers=rooms.watchers, stop=stop.drain,
    )  # fmt: skip


def _revoked(sockets: Sockets, session_id: str | None, user_id: str, code: int) -> None:
    reason = "your time here is over" if code == CLOSE_EXPIRED else "the session was ended"
    if session_id is not None:
        sockets.close_session(session_id, code, reason)
    else:
        sockets.close_user(user_id, code, reason)


async def _on_signals(signals: AsyncIterator[int], stop: _Stop) -> None:
    async for _ in signals:
        if stop.asked.is_set():
            stop.at_once()
        stop.drain()
