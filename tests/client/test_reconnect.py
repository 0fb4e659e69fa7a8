"""When a room comes back, how long it waits, and when it stays away."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from brewd.client import Disconnected, MessageNew, Policy, Rejected, Room, ServerDraining, SessionOver, Unconfirmed, Unreachable
from tests.client.conftest import Enter
from tests.client.scripted import CAFE, ME, Scripted, message, token


async def until(room: Room, kind: type[Any]) -> Any:
    while not isinstance(event := await anext(room), kind):
        pass
    return event


async def settle() -> None:
    """Let everybody do what they can do without time passing."""
    await trio.testing.wait_all_tasks_blocked(0.01)


def grant(access: str, refresh: str) -> tuple[int, Any]:
    return 200, {"accessToken": access, "refreshToken": refresh, "user": {"id": ME, "username": "MochaFox", "cafeId": CAFE}}


async def test_a_restart_is_waited_out_as_long_as_the_server_says(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await peer.event("server:draining", {"reconnectInMs": 7000})
        await peer.close(1012, "restart")
        await (await server.admit(seq=0)).gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert (await until(room, ServerDraining)).reconnect_in_ms == 7000
        lost = await until(room, Disconnected)
        assert (lost.code, lost.reason, lost.retry_in_s) == (1012, "restart", 7.25)
        await settle()
        assert room._standing.link is None
        mock_clock.jump(7.25)
        await room._inside()


@pytest.mark.parametrize("code", [1008, 4001, 4002, 4003, 4004])
async def test_final_codes_end_the_iteration_with_an_error(server: Scripted, enter: Enter, nursery: trio.Nursery, code: int) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await peer.say(1)
        await peer.close(code, "enough")

    nursery.start_soon(serve)
    async with enter() as room:
        await until(room, MessageNew)  # what came before is still delivered
        with pytest.raises(SessionOver) as caught:
            await anext(room)
    assert (caught.value.code, caught.value.reason) == (code, "enough")


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4008, 4999])
async def test_other_codes_are_come_back_from(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any, code: int) -> None:
    async def serve() -> None:
        await (await server.admit(seq=0)).close(code)
        await (await server.admit(seq=0)).gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert (await until(room, Disconnected)).code == code
        await settle()
        mock_clock.jump(1)
        await room._inside()


async def test_a_goodbye_ends_the_iteration_quietly(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        await (await server.admit(seq=0)).close(1000)

    nursery.start_soon(serve)
    async with enter() as room:
        assert [type(event).__name__ async for event in room] == ["Joined"]
        with pytest.raises(SessionOver):
            await room.send("too late")


async def test_waits_grow_until_a_connection_holds(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        for _ in range(5):
            await (await server.admit(seq=0)).drop()
        peer = await server.admit(seq=0)
        await peer.say(1)
        await trio.sleep(100)
        await peer.drop()

    nursery.start_soon(serve)
    waits = []
    async with enter() as room:
        for _ in range(5):
            waits.append((await until(room, Disconnected)).retry_in_s)
            await settle()
            mock_clock.jump(waits[-1])
        await until(room, MessageNew)
        await settle()
        mock_clock.jump(100)
        waits.append((await until(room, Disconnected)).retry_in_s)
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 0.25]


async def test_a_dead_connection_is_noticed_by_its_pulse(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        peer.stream.vanished = True  # the host went away: TCP knows nothing yet
        await (await server.admit(seq=0)).gone()

    nursery.start_soon(serve)
    async with enter() as room:
        for wait_s in (25, 10):
            await settle()
            mock_clock.jump(wait_s)
        lost = await until(room, Disconnected)
        assert (lost.code, lost.reason) == (1006, "no heartbeat")
        await settle()
        mock_clock.jump(1)
        await room._inside()


async def test_a_busy_server_is_given_the_time_it_asks_for(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        await settle()
        mock_clock.jump(3.0)
        await settle()
        assert server.refusals == []
        mock_clock.jump(0.25)
        await (await server.admit(seq=0)).gone()

    server.refusals = [(429, {"Retry-After": "3"}, {"code": "rate_limited", "detail": "slow down"})]
    nursery.start_soon(serve)
    async with enter():
        pass


@pytest.mark.parametrize("code", ["user_expired", "unauthorized", "banned", "forbidden", "not_found"])
async def test_a_handshake_refused_for_good_is_the_answer(server: Scripted, enter: Enter, code: str) -> None:
    status = {"user_expired": 401, "unauthorized": 401, "not_found": 404}.get(code, 403)
    server.refusals = [(status, {}, {"code": code, "detail": "no"})]
    with pytest.raises(Rejected) as caught:
        async with enter():
            pytest.fail("the body must not run")
    assert (caught.value.code, caught.value.detail) == (code, "no")


async def test_join_refused_for_good(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.accept()
        await peer.greet()
        frame = await peer.get("join:cafe")
        await peer.event("error", {"code": "not_in_cafe", "detail": "another café"}, frame["ref"])
        await peer.gone()

    nursery.start_soon(serve)
    with pytest.raises(Rejected, match="another café"):
        async with enter():
            pytest.fail("the body must not run")


async def test_an_expired_token_is_replaced_before_connecting(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.accept()
        assert peer.headers["authorization"] == "Bearer " + token(3600, "new")
        await peer.greet()
        await peer.admit(seq=0)
        await peer.gone()

    server.http["POST", "/api/auth/refresh"] = lambda query, body, headers: grant(token(3600, "new"), "r2")
    nursery.start_soon(serve)
    async with enter(access=token(30), refresh="r1") as room:
        assert (room.session.access_token, room.session.refresh_token) == (token(3600, "new"), "r2")
    assert server.asked == [("POST", "/api/auth/refresh", {"refreshToken": "r1"})]


@pytest.mark.parametrize("how", ["close", "handshake"])
async def test_a_token_the_server_calls_expired_is_replaced(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any, how: str) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        if how == "handshake":
            server.refusals = [(401, {}, {"code": "token_expired", "detail": "expired"})]
        await peer.close(4001 if how == "close" else 1012, "token expired")
        await settle()
        mock_clock.jump(1)
        if how == "handshake":
            await settle()
            mock_clock.jump(1)
        peer = await server.admit(seq=0)
        assert peer.headers["authorization"] == "Bearer " + token(3600, "new")
        await peer.say(1)
        await peer.gone()

    server.http["POST", "/api/auth/refresh"] = lambda query, body, headers: grant(token(3600, "new"), "r2")
    nursery.start_soon(serve)
    async with enter(refresh="r1") as room:
        await until(room, MessageNew)
    assert len(server.asked) == 1


async def test_a_refused_renewal_is_the_end(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        await (await server.admit(seq=0)).close(4001)

    server.http["POST", "/api/auth/refresh"] = lambda query, body, headers: (401, {"code": "user_expired", "detail": "24 hours are over"})
    nursery.start_soon(serve)
    with pytest.raises(Rejected) as caught:
        async with enter(refresh="r1") as room:
            await until(room, MessageNew)
    assert caught.value.code == "user_expired"


async def test_a_long_visit_renews_over_the_wire(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await settle()
        mock_clock.jump(3541)  # a minute before the token ends
        frame = await peer.get("token:refresh")
        assert frame["data"] == {"token": token(7200, "new")}
        await peer.event("reply", {"expiresAt": "2026-11-22T12:00:00.000Z"}, frame["ref"])
        await peer.say(1)
        await peer.gone()

    server.http["POST", "/api/auth/refresh"] = lambda query, body, headers: grant(token(7200, "new"), "r2")
    nursery.start_soon(serve)
    async with enter(refresh="r1", policy=Policy(answer_s=7200)) as room:
        await until(room, MessageNew)
        assert room.session.refresh_token == "r2"
    assert len(server.asked) == 1


async def test_a_message_survives_the_loss_of_its_connection(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    keys = []

    async def serve() -> None:
        peer = await server.admit(seq=0)
        keys.append((await peer.get("message:send"))["data"]["clientMsgId"])  # committed, but the answer is lost
        await peer.drop()
        await settle()
        mock_clock.jump(1)
        peer = await server.accept()
        await peer.greet()
        await peer.admit(seq=1, messages=[message(1)], recovered=True)
        keys.append((await peer.confirm(1, duplicate=True))["clientMsgId"])
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        sent = await room.send("one espresso")
        assert (sent.message.seq, sent.duplicate) == (1, True)
    assert len(keys) == 2
    assert keys[0] == keys[1]


async def test_a_full_mailbox_is_waited_for(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        frame = await peer.get("message:send")
        await peer.event("error", {"code": "mailbox_full", "detail": "full", "retryAfterMs": 2000}, frame["ref"])
        await settle()
        mock_clock.jump(2.25)
        assert (await peer.confirm(1))["clientMsgId"] == frame["data"]["clientMsgId"]
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert (await room.send("hello")).message.seq == 1


async def test_a_no_is_raised_with_when_to_retry(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        frame = await peer.get("message:send")
        await peer.event("error", {"code": "rate_limited", "detail": "30 s between messages", "retryAfterMs": 30000}, frame["ref"])
        frame = await peer.get("presence:update")
        await peer.event("error", {"code": "brand_new_code", "detail": "?"}, frame["ref"])
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        with pytest.raises(Rejected) as caught:
            await room.send("hello")
        assert caught.value.data() == {"code": "rate_limited", "detail": "30 s between messages", "retryAfterMs": 30000}
        with pytest.raises(Rejected, match="brand_new_code"):
            await room.set_status("busy")
        with pytest.raises(Rejected, match="payload_too_large"):
            await room.send("x" * 20_000)


async def test_silence_ends_with_the_deadline(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        for event in ("message:send", "message:delete"):
            await peer.get(event)
            await settle()
            mock_clock.jump(10)
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        with pytest.raises(Unconfirmed) as caught:
            await room.send("hello", client_msg_id="k1", deadline_s=10)
        assert caught.value.client_msg_id == "k1"
        with pytest.raises(Unreachable):
            await room.delete("m1")


async def test_typing_is_told_and_never_waits(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        assert (await peer.get("typing:start"))["data"] == {"cafeId": CAFE}
        assert "ref" not in await peer.get("typing:stop")
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        room.typing()
        room.typing(False)
        await settle()
