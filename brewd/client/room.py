"""A café's room as a program sees it: iterate for events, `send` to speak. It stays connected by itself.

Every message is seen once and in order, across lost connections, server restarts and token renewals; a message sent is posted once, however
often it had to be resent. When that cannot be kept, an event (`Missed`, `LineBroken`) or an exception says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import msgspec
import trio

from brewd.client.events import Disconnected, Event
from brewd.client.failures import SessionOver, Unconfirmed, Unreachable, retry_after_s
from brewd.client.http import Client
from brewd.client.inbox import Inbox
from brewd.client.link import Link, LinkLost, encode
from brewd.client.retry import BYE, Backoff, Ending, Verdict, failure, judge
from brewd.client.session import Session
from brewd.client.shapes import Sent
from brewd.client.visit import Policy, Standing, Visit
from brewd.errors import Rejected
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

_DEFAULT: Final = Policy()
_WORTH_RESENDING: Final = frozenset({"mailbox_full", "storage_unavailable", "cafe_unavailable"})


class Room:
    """Made by `connect` and `join`. One task iterates; any number may call the methods."""

    def __init__(self, *, api: Client, session: Session, cafe_id: str | None, policy: Policy, clock: Clock, ids: Ids) -> None:
        self.session: Final = session
        self.api: Final = api
        self._policy = policy
        self._clock = clock
        self._ids = ids
        self._inbox = Inbox(policy.inbox_max)
        self._standing = Standing(cafe_id=cafe_id, inbox=self._inbox)
        self._last = Ending(reason="not tried")
        self._closing = False

    @property
    def cafe_id(self) -> str:
        return self._standing.cafe_id or ""

    @property
    def user_id(self) -> str:
        """Whose session this is: what `event.message.user_id` says of one's own messages."""
        return self._standing.user_id or ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Ends when the server says goodbye; raises `SessionOver` or `Rejected` when the room cannot be kept."""
        return await self._inbox.get()

    async def send(self, content: str, *, client_msg_id: str | None = None, deadline_s: float = 30.0) -> Sent:
        """Post a message; returns when it is committed. Lost connections and full queues are waited out and the message is resent, which cannot
        double it. Raises `Rejected` for a no (`rate_limited` tells when to retry), `Unconfirmed` after `deadline_s`, `SessionOver`.
        Cancelling leaves open whether it was posted."""
        key = client_msg_id or self._ids.uuid4()
        data = {"cafeId": self.cafe_id, "content": content, "clientMsgId": key}
        with trio.move_on_after(deadline_s), self._inbox.giving_way():
            while True:
                link = await self._inside()
                try:
                    return msgspec.json.decode(await link.call("message:send", data), type=Sent)
                except LinkLost:
                    continue
                except Rejected as refusal:
                    if refusal.code not in _WORTH_RESENDING:
                        raise
                    await trio.sleep(retry_after_s(refusal) + self._chance() * self._policy.backoff_base_s)
        raise Unconfirmed(key)

    async def delete(self, message_id: str) -> None:
        """Take a message back (one's own; moderators any)."""
        await self.request("message:delete", {"messageId": message_id})

    async def set_status(self, status: str) -> None:
        """`online`, `away` or `busy`."""
        await self.request("presence:update", {"status": status})

    def typing(self, active: bool = True) -> None:
        """Show or hide the typing sign. Not confirmed; dropped while there is no connection."""
        if self._standing.link is not None:
            self._standing.link.post("typing:start" if active else "typing:stop", {"cafeId": self.cafe_id})

    async def request(self, event: str, data: dict[str, Any], *, deadline_s: float = 10.0) -> Any:
        """Any request of the protocol, once: its answer's data. Raises `Rejected`; `Unreachable` when no answer came, and then it may have been done."""
        with trio.move_on_after(deadline_s), self._inbox.giving_way():
            link = await self._inside()
            try:
                return msgspec.json.decode(await link.call(event, data))
            except LinkLost:
                raise Unreachable(f"the connection was lost before {event} was answered") from None
        raise Unreachable(f"no answer to {event} within {deadline_s:g} s")

    async def keep(self) -> None:
        """Stay in the room until the session is over. Runs as a task of `connect`."""
        policy = self._policy
        backoff = Backoff(base_s=policy.backoff_base_s, max_s=policy.backoff_max_s, chance=self._chance)
        while True:
            visit = Visit(standing=self._standing, session=self.session, api=self.api, policy=policy, clock=self._clock)
            token = self.session.access_token
            ending = await visit.run()
            verdict = judge(ending, renewable=self.session.renewable)
            if verdict is Verdict.RENEW:
                ending = await self._renew(token, ending)
                verdict = judge(ending, renewable=False)
            if self._closing or verdict in (Verdict.OVER, Verdict.BYE):
                self._inbox.end(failure(ending) if verdict is Verdict.OVER and not self._closing else None)
                self._standing.set_link(None)
                return
            if visit.held:
                backoff.reset()
            wait_s = backoff.next_s(max(ending.wait_s, self._standing.reconnect_s))
            self._standing.reconnect_s = 0.0
            self._last = ending
            if self._standing.entered:
                self._inbox.put(Disconnected(code=ending.code, reason=ending.reason, retry_in_s=wait_s))
            await trio.sleep(wait_s)

    async def enter(self) -> None:
        """Wait until the room is entered for the first time. Raises what stands against it; `Unreachable` after `patience_s`."""
        with trio.move_on_after(self._policy.patience_s):
            await self._inside()
            return
        raise Unreachable(f"not in the room within {self._policy.patience_s:g} s: {self._last.reason}")

    async def leave(self) -> None:
        """Say goodbye, so that the others see it at once. Shielded, at most `goodbye_s`; never raises."""
        self._closing = True
        link = self._standing.link
        with trio.CancelScope(deadline=trio.current_time() + self._policy.goodbye_s, shield=True):
            if link is not None:
                await link.hang_up(encode("leave:cafe", {"cafeId": self.cafe_id}))

    async def _renew(self, token: str, ending: Ending) -> Ending:
        """The access token was refused: get another. The result is an ending that waiting can mend, or why none can."""
        try:
            await self.session.renew(token)
        except Rejected as refusal:
            return Ending(code=ending.code, reason=refusal.detail, refusal=refusal, wait_s=retry_after_s(refusal))
        except Unreachable as silence:
            return Ending(reason=str(silence), wait_s=silence.retry_after_s)
        return Ending(reason="the access token had expired")

    async def _inside(self) -> Link:
        """The link, as soon as there is one. Raises what ended the session."""
        while (link := self._standing.link) is None:
            if self._inbox.ended:
                raise self._inbox.failure or SessionOver(BYE, "the server said goodbye")
            await self._standing.changed.park()
        return link

    def _chance(self) -> float:
        return self._ids.below(1 << 53) / (1 << 53)


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: str,
    refresh_token: str | None = None,
    cafe_id: str | None = None,
    policy: Policy = _DEFAULT,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> AsyncIterator[Room]:
    """A room for the holder of an access token. Without a refresh token the room ends with the access token; `cafe_id`: the token's own by default."""
    clock = clock or Clock()
    async with Client(url, timeout_s=policy.answer_s) as api:
        session = Session(api=api, clock=clock, access_token=token, refresh_token=refresh_token)
        room = Room(api=api, session=session, cafe_id=cafe_id, policy=policy, clock=clock, ids=ids or Ids(clock))
        async with _kept(room):
            yield room


@asynccontextmanager
async def join(
    url: str,
    *,
    cafe_id: str,
    username: str,
    join_token: str,
    wifi_ssid: str | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
    patron_key: str | None = None,
    policy: Policy = _DEFAULT,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> AsyncIterator[Room]:
    """A room for the holder of a receipt. The receipt is used up; `room.session` has the tokens and the patron key to keep."""
    clock = clock or Clock()
    async with Client(url, timeout_s=policy.answer_s) as api:
        grant = await api.join(
            cafe_id=cafe_id,
            username=username,
            join_token=join_token,
            wifi_ssid=wifi_ssid,
            latitude=latitude,
            longitude=longitude,
            patron_key=patron_key,
        )
        session = Session(api=api, clock=clock, access_token=grant.access_token, refresh_token=grant.refresh_token, patron_key=grant.patron_key)
        room = Room(api=api, session=session, cafe_id=cafe_id, policy=policy, clock=clock, ids=ids or Ids(clock))
        async with _kept(room):
            yield room


@asynccontextmanager
async def _kept(room: Room) -> AsyncIterator[None]:
    """The room's background task around a body. What the body raises comes out as it is, not wrapped in a group."""
    failed: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.keep)
        try:
            await room.enter()
            yield
        except Exception as error:
            failed = error  # carried around the nursery, and raised behind it
        finally:
            await room.leave()
            nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
