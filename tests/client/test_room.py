"""What a program in a room sees: everything once, in order, across whatever happens to the connection."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from brewd.client import Disconnected, Joined, Lagged, LineBroken, MessageNew, Missed, Policy, Rejected, Room, Unknown, Unreachable, join
from brewd.runtime.clock import Clock
from tests.client.conftest import Enter
from tests.client.scripted import CAFE, EPOCH, ME, Scripted, message, token


async def seqs(room: Room, count: int) -> list[int]:
    """The next `count` message numbers; other events in between are passed over."""
    found: list[int] = []
    while len(found) < count:
        event = await anext(room)
        if isinstance(event, MessageNew):
            found.append(event.message.seq)
    return found


async def until(room: Room, kind: type[Any]) -> Any:
    while not isinstance(event := await anext(room), kind):
        pass
    return event


async def test_a_bot_in_five_lines(server: Scripted, enter: Enter) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=2, messages=[message(1), message(2, "!time")])
        await peer.say(3, content="!time")
        sent = await peer.confirm(4)
        assert sent["content"] == "noon"
        await peer.event("message:new", {"message": message(4, "noon", userId=ME)})
        await peer.close(1000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        answered = 0
        async with enter() as room:
            async for event in room:
                if isinstance(event, MessageNew) and event.message.content == "!time":
                    await room.send("noon")
                    answered += 1
        assert answered == 1  # history is not news
        assert room.user_id == ME


async def test_history_comes_with_joined(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    nursery.start_soon(_admitted_and_left, server)
    async with enter() as room:
        joined = await anext(room)
        assert isinstance(joined, Joined)
        assert [m.seq for m in joined.messages] == [1, 2]
        assert joined.epoch == EPOCH


async def _admitted_and_left(server: Scripted) -> None:
    peer = await server.admit(seq=2, messages=[message(1), message(2)])
    assert [frame["event"] for frame in await peer.gone()] == ["leave:cafe"]


async def test_join_turns_a_receipt_into_a_room(server: Scripted, clock: Clock) -> None:
    user = {"id": ME, "username": "MochaFox", "cafeId": CAFE, "newField": 1}
    grant = {"accessToken": token(3600, "mine"), "refreshToken": "r1", "user": user, "patronKey": "p"}
    server.http["POST", "/api/auth/join"] = lambda query, body, headers: (201, grant)

    async def serve() -> None:
        peer = await server.accept()
        assert peer.headers["authorization"] == "Bearer " + token(3600, "mine")
        await peer.greet()
        await peer.admit(seq=0)
        await peer.gone()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with join(server.url, cafe_id=CAFE, username="MochaFox", join_token="ABC", wifi_ssid="Brew", clock=clock) as room:
            assert room.session.patron_key == "p"
    assert server.asked == [("POST", "/api/auth/join", {"cafeId": CAFE, "username": "MochaFox", "joinToken": "ABC", "wifiSsid": "Brew"})]


async def test_a_used_receipt_is_refused_before_the_body_runs(server: Scripted) -> None:
    problem = {"type": "about:blank", "title": "Conflict", "status": 409, "code": "join_token_used", "detail": "used"}
    server.http["POST", "/api/auth/join"] = lambda query, body, headers: (409, problem)
    with pytest.raises(Rejected) as caught:
        async with join(server.url, cafe_id=CAFE, username="MochaFox", join_token="ABC"):
            pytest.fail("the body must not run")
    assert caught.value.code == "join_token_used"


async def test_what_the_body_raises_is_not_wrapped(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    nursery.start_soon(_admitted_and_left, server)
    with pytest.raises(KeyError, match="mine"):
        async with enter():
            raise KeyError("mine")


async def test_a_lost_connection_resumes_where_it_was(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=5)
        await peer.say(6, 7)
        await peer.drop()
        peer = await server.accept()
        await peer.greet()
        asked = await peer.admit(seq=9, messages=[message(8), message(9)], recovered=True)
        assert asked == {"cafeId": CAFE, "since": 7, "epoch": EPOCH}
        await peer.say(9, 10)
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert await seqs(room, 2) == [6, 7]
        lost = await until(room, Disconnected)
        assert (lost.code, lost.retry_in_s) == (1006, 0.25)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(0.25)
        assert (await until(room, Joined)).messages == ()
        assert await seqs(room, 3) == [8, 9, 10]


async def test_what_the_server_no_longer_holds_is_fetched(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    def history(query: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        since = int(query.partition("since=")[2].partition("&")[0])
        last = min(since + 100, 260)
        return 200, {"messages": [message(seq) for seq in range(since + 1, last + 1)], "hasMore": last < 260, "epoch": EPOCH}

    async def serve() -> None:
        peer = await server.admit(seq=5)
        await peer.drop()
        peer = await server.accept()
        await peer.greet()
        await peer.admit(seq=255, messages=[message(seq) for seq in range(206, 256)])
        await peer.say(*range(256, 262))
        await peer.gone()

    server.http["GET", f"/api/chat/messages/{CAFE}"] = history
    nursery.start_soon(serve)
    async with enter() as room:
        await until(room, Disconnected)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
        assert await seqs(room, 256) == list(range(6, 262))
    assert [target.partition("since=")[2] for _, target, _ in server.asked] == ["5", "105", "205"]


async def test_a_long_absence_is_reported_not_fetched(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=5)
        await peer.drop()
        peer = await server.accept()
        await peer.greet()
        await peer.admit(seq=500, messages=[message(seq) for seq in range(498, 501)])
        await peer.gone()

    nursery.start_soon(serve)
    async with enter(Policy(refill_max=100)) as room:
        await until(room, Disconnected)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
        assert await until(room, Missed) == Missed(first_seq=6, last_seq=497)
        assert await seqs(room, 3) == [498, 499, 500]


async def test_when_catching_up_fails_it_begins_again(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=5)
        await peer.drop()
        for recovered in (False, True):
            peer = await server.accept()
            await peer.greet()
            asked = await peer.admit(seq=8, messages=[message(seq) for seq in range(6 if recovered else 8, 9)], recovered=recovered)
            assert asked["since"] == 5
            said = await peer.gone()
            # Only the last of them is meant to be a goodbye to the others in the room.
            assert [one["event"] for one in said] == (["leave:cafe"] if recovered else [])
            assert peer.ws.closed is not None
            assert peer.ws.closed.code == (1000 if recovered else 1001)

    server.http["GET", f"/api/chat/messages/{CAFE}"] = lambda query, body, headers: (503, {"code": "storage_unavailable", "detail": "soon"})
    nursery.start_soon(serve)
    async with enter() as room:
        for _ in range(2):
            await until(room, Disconnected)
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(1)
        assert await seqs(room, 3) == [6, 7, 8]


async def test_a_broken_line_is_told_and_old_messages_do_not_come_again(server: Scripted, enter: Enter, nursery: trio.Nursery, mock_clock: Any) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=5, messages=[message(5)])
        await peer.say(6)
        await peer.drop()
        peer = await server.accept()
        await peer.greet()
        # The backup knew up to 4; 5 and 6 were made anew since, later than everything the client has seen.
        fresh = [message(seq, createdAt=f"2026-11-22T11:00:0{seq}.000Z") for seq in (5, 6)]
        await peer.admit(seq=6, messages=[message(4), *fresh], epoch="e2")
        await peer.say(7)
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert await seqs(room, 1) == [6]
        await until(room, Disconnected)
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(1)
        assert await until(room, LineBroken) == LineBroken(epoch="e2")
        assert await seqs(room, 3) == [5, 6, 7]


async def test_a_hole_in_the_live_stream_is_asked_for(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await peer.say(1, 4, 5)
        asked = await peer.admit(seq=5, messages=[message(seq) for seq in range(2, 6)], recovered=True)
        assert asked["since"] == 1
        await peer.say(5, 6)
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert await seqs(room, 6) == [1, 2, 3, 4, 5, 6]


async def test_lagged_catches_up_on_the_same_connection(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=3)
        await peer.event("lagged", {"from": 10, "to": 12})
        asked = await peer.admit(seq=4, messages=[message(4)], recovered=True)
        assert asked["since"] == 3
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        lagged = await until(room, Lagged)
        assert (lagged.first, lagged.last) == (10, 12)
        await until(room, Joined)
        assert await seqs(room, 1) == [4]


async def test_what_it_does_not_know_it_passes_on(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await peer.event("latte:art", {"shape": "swan"})
        await peer.gone()

    nursery.start_soon(serve)
    async with enter() as room:
        assert await until(room, Unknown) == Unknown(event="latte:art", data={"shape": "swan"})


async def test_a_full_inbox_stops_the_reading_but_not_the_sending(server: Scripted, enter: Enter, nursery: trio.Nursery) -> None:
    async def serve() -> None:
        peer = await server.admit(seq=0)
        await peer.say(*range(1, 201))
        await peer.confirm(201)
        await peer.say(201)
        await peer.gone()

    nursery.start_soon(serve)
    async with enter(Policy(inbox_max=10)) as room:
        assert await seqs(room, 1) == [1]
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await room.send("hello")).message.seq == 201  # the answer stands behind 199 events nobody has taken
        assert await seqs(room, 200) == list(range(2, 202))


async def test_nobody_there(mock_clock: Any, enter: Enter, server: Scripted, nursery: trio.Nursery) -> None:
    server.refusals = [(503, {"Retry-After": "1"}, {"code": "cafe_unavailable", "detail": "starting"})] * 50

    async def time_passes() -> None:
        for _ in range(20):
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(1)

    nursery.start_soon(time_passes)
    with pytest.raises(Unreachable, match="not in the room within 5 s: HTTP 503"):
        async with enter(Policy(patience_s=5)):
            pytest.fail("the body must not run")
