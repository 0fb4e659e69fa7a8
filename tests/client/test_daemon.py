"""The client against the real daemon: the same promises, kept by both ends together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from brewd import config as cfg
from brewd.client import Client, Disconnected, Joined, MessageNew, Policy, Rejected, Room, SessionOver, connect, join
from brewd.daemon import Parts, run

_WIDE = cfg.Bucket(per_hour=1_000_000, burst=1_000_000, gap_s=0)
_SLOW = Policy(backoff_base_s=60, backoff_max_s=60)
"""Comes back only when the test lets time pass."""


def config(data_dir: Path, postgres_dsn: str, redis_url: str, port: int) -> cfg.Config:
    return cfg.Config(
        server=cfg.Server(listen=[f"127.0.0.1:{port}"]),
        data=cfg.Data(dir=str(data_dir)),
        postgres=cfg.Postgres(url=postgres_dsn, pool_max=3),
        redis=cfg.Redis(url=redis_url),
        limits=cfg.Limits(profiles={"standard": cfg.Profile(message=_WIDE, badge_message=_WIDE)}, edge=cfg.EdgeLimits(sockets_per_user=0, frames_per_s=0)),
        observe=cfg.Observe(log_level="error"),
    )


@pytest.fixture
def daemon(tmp_path: Path, postgres_dsn: str, redis_url: str, mock_clock: Any) -> AsyncIterator[Any]:
    """Start it as often as needed, on the same data; time passes as always and can be jumped over."""
    mock_clock.rate = 1.0

    @asynccontextmanager
    async def started(port: int = 0) -> AsyncIterator[Parts]:
        handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
        send, receive = trio.open_memory_channel[Parts](1)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: run(config(tmp_path, postgres_dsn, redis_url, port), ready=send.send))
                with trio.fail_after(20):
                    parts = await receive.receive()
                yield parts
                parts.stop()
        finally:
            # The daemon owns its process's log; here it is a guest in another's.
            structlog.reset_defaults()
            logging.getLogger().handlers[:] = handlers
            logging.getLogger().setLevel(level)

    return started  # type: ignore[return-value]


def guest(parts: Parts, user: Any, policy: Policy | None = None) -> AbstractAsyncContextManager[Room]:
    return connect(parts.urls[0], token=user.access_token, policy=policy or Policy(), clock=parts.clock, ids=parts.ids)


async def news(room: Room, count: int) -> list[tuple[int, str]]:
    """Number and content of the next `count` messages."""
    found: list[tuple[int, str]] = []
    while len(found) < count:
        event = await anext(room)
        if isinstance(event, MessageNew):
            found.append((event.message.seq, event.message.content))
    return found


async def lost(room: Room) -> Disconnected:
    while not isinstance(event := await anext(room), Disconnected):
        pass
    return event


async def test_from_receipt_to_conversation(daemon: Any) -> None:
    async with daemon() as parts:
        cafe = await parts.cafes.add(name="Corner")
        await parts.staff.add(cafe_id=cafe.id, name="ana", role="barista", password="flat-white-please")
        async with Client(parts.urls[0]) as api:
            assert (await api.health()).status == "ok"
            login = await api.staff_login(cafe_id=cafe.id, name="ana", password="flat-white-please")
            receipts = [await api.receipt(cafe_id=cafe.id, receipt_id=f"r{n}", token=login.access_token) for n in range(2)]
        tickets = [{"cafe_id": cafe.id, "username": one.username, "join_token": one.join_token, "clock": parts.clock} for one in receipts]
        async with join(parts.urls[0], **tickets[0]) as ann, join(parts.urls[0], **tickets[1]) as bob:
            sent = await ann.send("good morning")
            assert await news(bob, 1) == [(sent.message.seq, "good morning")]
            await bob.set_status("busy")
            bob.typing()
            present = await bob.api.presence(cafe.id, token=bob.session.access_token)
            assert {person.username: person.status for person in present.users} == {receipts[0].username: "online", receipts[1].username: "busy"}
            await ann.delete(sent.message.id)
            page = await bob.api.history(cafe.id, token=bob.session.access_token)
            assert [(message.deleted, message.content) for message in page.messages] == [(True, "")]
        with pytest.raises(Rejected) as caught:
            async with join(parts.urls[0], **tickets[0]):
                pytest.fail("a receipt works once")
        assert caught.value.code == "join_token_used"


async def test_a_restart_loses_nothing_and_doubles_nothing(daemon: Any, mock_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        async with daemon() as parts:
            cafe = await parts.cafes.add(name="Corner")
            ann, bob = await parts.users.add_many(cafe.id, 2)
            port = int(parts.urls[0].rpartition(":")[2])
            rooms: trio.MemorySendChannel[Room]
            rooms, entered = trio.open_memory_channel[Room](2)
            done = trio.Event()

            async def stay(user: Any) -> None:
                async with guest(parts, user, _SLOW) as room:
                    await rooms.send(room)
                    await done.wait()

            nursery.start_soon(stay, ann)
            talker = await entered.receive()
            nursery.start_soon(stay, bob)
            listener = await entered.receive()
            await talker.send("before")
        assert await news(listener, 1) == [(1, "before")]
        went = await lost(listener)
        assert went.code == 1012
        nursery.start_soon(lambda: talker.send("while it was away", deadline_s=600))
        async with daemon(port):
            mock_clock.jump(120)
            assert await news(listener, 1) == [(2, "while it was away")]
            assert (await talker.send("after")).message.seq == 3
            assert await news(listener, 1) == [(3, "after")]
            done.set()


async def test_more_was_missed_than_a_resume_brings(daemon: Any, mock_clock: Any) -> None:
    async with daemon() as parts:
        cafe = await parts.cafes.add(name="Corner")
        ann, bob = await parts.users.add_many(cafe.id, 2)
        async with guest(parts, ann) as talker, guest(parts, bob, _SLOW) as listener:
            await talker.send("first")
            assert await news(listener, 1) == [(1, "first")]
            parts.sockets.close_user(bob.id, 1013, "later")
            await lost(listener)
            async with trio.open_nursery() as nursery:
                limit = trio.CapacityLimiter(50)

                async def say(number: int) -> None:
                    async with limit:
                        await talker.send(f"number {number}")

                for number in range(1100):
                    nursery.start_soon(say, number)
            mock_clock.jump(60)
            missed = await news(listener, 1100)
            assert [seq for seq, _ in missed] == list(range(2, 1102))
            assert len({content for _, content in missed}) == 1100


async def test_a_session_renews_itself(daemon: Any) -> None:
    async with daemon() as parts:
        cafe = await parts.cafes.add(name="Corner")
        receipt = await parts.receipts.issue(cafe.id, "r1")
        ticket = {"cafe_id": cafe.id, "username": receipt.username, "join_token": receipt.join_token, "clock": parts.clock}
        async with join(parts.urls[0], **ticket) as room:
            first = room.session.access_token
            await room.session.renew(first)
            assert room.session.access_token != first
            answer = await room.request("token:refresh", {"token": room.session.access_token})
            assert set(answer) == {"expiresAt"}


async def test_who_is_kicked_out_stays_out(daemon: Any) -> None:
    async with daemon() as parts:
        cafe = await parts.cafes.add(name="Corner")
        (ann,) = await parts.users.add_many(cafe.id, 1)
        async with guest(parts, ann) as room:
            assert isinstance(await anext(room), Joined)
            parts.sockets.close_user(ann.id, 4003, "kicked")
            with pytest.raises(SessionOver) as caught:
                async for _ in room:
                    pass
        assert (caught.value.code, caught.value.reason) == (4003, "kicked")
