"""One stay in a room: connect, join where the last one left off, read until it ends. The ending is a value; what follows from it is not decided here.

What outlives a connection stands in `Standing`. The reader is one task and handles frames strictly in order, so an answer to `join:cafe` and
the messages around it are seen as the server sent them.
"""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from brewd.client.events import Connected, Event, Joined, Lagged, LineBroken, MessageNew, Missed, Reply, ServerDraining, ServerError, decode
from brewd.client.failures import Unreachable, rejected, retry_after_s
from brewd.client.http import Client
from brewd.client.inbox import Inbox
from brewd.client.line import Line, Place
from brewd.client.link import Link, LinkLost, Stream, dial
from brewd.client.retry import BYE, GOING_AWAY, LOST, Ending, handshake_ending
from brewd.client.session import Session
from brewd.client.shapes import Message
from brewd.errors import Rejected
from brewd.runtime.clock import Clock

_PAGE: Final = 100
_ANSWER_MAX_BYTES: Final = 16 << 20  # a join answers with everybody in the room and everything that was missed
_QUEUE_FRAMES: Final = 64


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a room is. The defaults suit a bot."""

    patience_s: float = 10.0  # for the first time in the room; afterwards a room never gives up by itself
    connect_s: float = 5.0
    answer_s: float = 10.0  # an answer to join, a pong, a renewal
    goodbye_s: float = 1.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 30.0
    stable_s: float = 10.0  # a connection that held this long starts the backoff anew
    inbox_max: int = 1024  # events waiting for the reader; 0: there is none, keep nothing
    refill_max: int = 2000  # messages fetched after a long absence; more are reported as `Missed`


class Standing:
    """What outlives a connection: the place in the line, the reader's inbox, who this is, and the link while there is one."""

    def __init__(self, *, cafe_id: str | None, inbox: Inbox) -> None:
        self.cafe_id = cafe_id
        self.user_id: str | None = None
        self.line: Final = Line()
        self.inbox: Final = inbox
        self.link: Link | None = None
        self.entered = False
        self.reconnect_s = 0.0
        self.changed: Final = trio.lowlevel.ParkingLot()

    def set_link(self, link: Link | None) -> None:
        self.link = link
        self.entered = self.entered or link is not None
        self.changed.unpark_all()


class Visit:
    """One connection. `run` once."""

    def __init__(self, *, standing: Standing, session: Session, api: Client, policy: Policy, clock: Clock) -> None:
        self._standing = standing
        self._session = session
        self._api = api
        self._policy = policy
        self._clock = clock
        self._ending: Ending | None = None
        self._inside_since_s = math.inf
        self._join_ref: str | None = None

    @property
    def held(self) -> bool:
        """It lasted long enough in the room that the next attempt need not be careful."""
        return trio.current_time() - self._inside_since_s >= self._policy.stable_s

    async def run(self) -> Ending:
        """From the handshake to the end. Raises nothing but bugs and `Cancelled`."""
        try:
            token = await self._session.fresh()
            stream = await dial(self._api.base_url, timeout_s=self._policy.connect_s)
        except Rejected as refusal:
            return Ending(refusal=refusal, reason=refusal.detail)
        except Unreachable as silence:
            return Ending(reason=str(silence), wait_s=silence.retry_after_s)
        try:
            await self._stay(stream, token)
        finally:
            # The library leaves the socket open when the other side closes first or turns the handshake away.
            await trio.aclose_forcefully(stream)
        return self._ending or Ending(reason=f"not in the room within {self._policy.answer_s:g} s")

    async def _stay(self, stream: Stream, token: str) -> None:
        parts = urlsplit(self._api.base_url)
        try:
            async with trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                scope.deadline = trio.current_time() + self._policy.answer_s  # until we are in the room
                ws = await wrap_client_stream(
                    nursery,
                    stream,
                    parts.netloc,
                    f"{parts.path}/ws",
                    extra_headers=[(b"Authorization", b"Bearer " + token.encode())],
                    message_queue_size=_QUEUE_FRAMES,
                    max_message_size=_ANSWER_MAX_BYTES,
                    receive_buffer_size=65_536,
                )
                link = Link(ws)
                nursery.start_soon(link.write)
                nursery.start_soon(self._renewals, link)
                try:
                    with link.reading:
                        await self._read(link, nursery)
                finally:
                    self._standing.set_link(None)
                    if not scope.cancel_called:  # otherwise the other side is silent, and would not answer a close either
                        with trio.CancelScope(deadline=trio.current_time() + self._policy.goodbye_s, shield=True):
                            # 1000 would be a goodbye to the room: only whoever hung up on purpose says it.
                            await ws.aclose(BYE if link.reading.cancel_called else GOING_AWAY)
                    link.lose()
                    scope.cancel()
        except* ConnectionRejected as answers:
            self._end(turned_away(answers.exceptions[0]))

    async def _read(self, link: Link, nursery: trio.Nursery) -> None:
        try:
            while self._ending is None:
                item = decode(await link.ws.get_message())
                if isinstance(item, Reply) and item.ref == self._join_ref:
                    nursery.cancel_scope.deadline = math.inf
                    await self._enter(item, link)
                elif isinstance(item, Reply):
                    link.settle(item)
                elif isinstance(item, Connected):
                    nursery.start_soon(self._beat, link, item.heartbeat_ms / 1000, nursery.cancel_scope)
                    await self._greet(item, link)
                else:
                    await self._take(item, link)
                await self._standing.inbox.roomy()
        except ConnectionClosed as closed:
            reason = closed.reason
            self._end(Ending(code=int(reason.code), reason=reason.reason or "") if reason else Ending(code=LOST))
        except LinkLost:
            self._end(Ending(code=LOST))

    async def _greet(self, connected: Connected, link: Link) -> None:
        standing = self._standing
        standing.user_id = connected.user_id
        standing.cafe_id = standing.cafe_id or connected.cafe_id
        if standing.line.shown_at is None:
            standing.line.shown_at = connected.server_time
        await self._ask_in(link)

    async def _ask_in(self, link: Link) -> None:
        """Ask for everything past the line. One question at a time: what its answer does not cover comes after it."""
        if self._join_ref is None:
            line = self._standing.line
            place = {} if line.epoch is None else {"since": line.seq, "epoch": line.epoch}
            self._join_ref = await link.ask("join:cafe", {"cafeId": self._standing.cafe_id, **place})

    async def _take(self, event: Event, link: Link) -> None:
        standing = self._standing
        if isinstance(event, MessageNew):
            if standing.line.epoch is None:
                return  # before the first answer: that answer holds it
            place = standing.line.place(event.message)
            if place is Place.AHEAD:
                await self._ask_in(link)
            if place is not Place.NEXT:
                return
        elif isinstance(event, ServerDraining):
            standing.reconnect_s = event.reconnect_in_ms / 1000
        elif isinstance(event, ServerError) and event.code in ("token_expired", "user_expired", "unauthorized"):
            self._end(Ending(refusal=Rejected(event.code, event.detail), reason=event.detail))
        standing.inbox.put(event)
        if isinstance(event, Lagged):
            await self._ask_in(link)

    async def _enter(self, reply: Reply, link: Link) -> None:
        """The answer to `join:cafe`: show what was missed, in order and once, then let calls through."""
        self._join_ref = None
        if reply.refusal is not None:
            refusal = rejected(reply.refusal)
            self._end(Ending(refusal=refusal, reason=refusal.detail, wait_s=retry_after_s(refusal)))
            return
        try:
            joined = msgspec.json.decode(reply.data, type=Joined)
            await self._resume(joined)
        except (msgspec.DecodeError, Unreachable, Rejected) as error:
            # Fetching what was missed failed. Going on would leave a hole, so begin again: the line has not moved past it.
            self._end(Ending(reason=f"could not catch up: {error}"))
            return
        self._inside_since_s = min(self._inside_since_s, trio.current_time())
        if self._standing.link is None:
            self._standing.set_link(link)

    async def _resume(self, joined: Joined) -> None:
        line, inbox = self._standing.line, self._standing.inbox
        if line.epoch is None:
            line.begin(joined)
            inbox.put(joined)
            return
        inbox.put(msgspec.structs.replace(joined, messages=()))
        if joined.epoch != line.epoch:
            inbox.put(LineBroken(epoch=joined.epoch))
            for message in line.restart(joined):
                inbox.put(MessageNew(message=message))
            return
        behind = joined.seq - line.seq
        reaches_back = bool(joined.messages) and joined.messages[0].seq <= line.seq + 1
        if not joined.recovered and not reaches_back and 0 < behind <= self._policy.refill_max:
            await self._refill(joined.seq)
        self._show(joined.messages)
        if gone := line.skip_to(joined.seq):
            inbox.put(Missed(first_seq=joined.seq - gone + 1, last_seq=joined.seq))

    async def _refill(self, until_seq: int) -> None:
        """Fetch the messages between the line and `until_seq` over HTTP. Raises `Unreachable` or `Rejected`."""
        standing = self._standing
        assert standing.cafe_id is not None
        while standing.line.seq < until_seq:
            page = await self._api.history(standing.cafe_id, since=standing.line.seq, limit=_PAGE, token=self._session.access_token)
            if page.epoch != standing.line.epoch:
                raise Unreachable("the sequence was replaced meanwhile")
            self._show(page.messages)
            await standing.inbox.roomy()
            if not page.has_more or not page.messages:
                return

    def _show(self, messages: tuple[Message, ...]) -> None:
        for message, gone in self._standing.line.catch_up(messages):
            if gone:
                self._standing.inbox.put(Missed(first_seq=message.seq - gone, last_seq=message.seq - 1))
            self._standing.inbox.put(MessageNew(message=message))

    async def _beat(self, link: Link, every_s: float, scope: trio.CancelScope) -> None:
        await link.beat(every_s=max(every_s, 1.0), answer_s=self._policy.answer_s)
        self._end(Ending(reason="no heartbeat"))
        scope.cancel()

    async def _renewals(self, link: Link) -> None:
        """Replace the access token before it ends, and tell the server over the wire, so that a long visit needs no reconnect."""
        while self._session.renewable and (due_ms := self._session.renew_at_ms()) is not None:
            await trio.sleep(max(0.0, (due_ms - self._clock.now_ms()) / 1000))
            try:
                await self._session.renew(self._session.access_token)
                with trio.move_on_after(self._policy.answer_s):
                    await link.call("token:refresh", {"token": self._session.access_token})
            except (Unreachable, Rejected):
                # The old token may still hold for a while; when it does not, the server says so and the next visit begins with a new one.
                await trio.sleep(self._policy.answer_s)
            except LinkLost:
                return

    def _end(self, ending: Ending) -> None:
        """The first ending is the one that tells why; what follows is its echo."""
        self._ending = self._ending or ending


def turned_away(answer: Any) -> Ending:
    """The handshake was answered, but with a no: a problem document from brewd, or an error page of something in between."""
    try:
        problem = msgspec.json.decode(answer.body or b"{}", type=dict)
    except msgspec.DecodeError:
        problem = {}
    headers = {name.lower(): value for name, value in answer.headers}
    wait = headers.get(b"retry-after", b"")
    code = {401: "unauthorized", 403: "forbidden", 404: "not_found"}.get(answer.status_code, "invalid_request")
    refusal = rejected({"code": code, "detail": f"the server answered {answer.status_code} to the WebSocket handshake"} | problem)
    return handshake_ending(answer.status_code, refusal, float(wait) if wait.isdigit() else 0.0)
