"""Sockets that do not read while the room talks: they cost little, are told what they missed or sent away, and nobody else notices."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.config import Config
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Closed, Wire, frame, said, upgrade
from tests.patience import PATIENCE

SLOW = 500
OUTBOX_BYTES = 32_768
PAGE_BYTES = 4096
LONG = "\U0001f375" * 990  # nearly four kilobytes


@pytest.fixture
async def narrow(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    """A house that lets a socket fall behind by no more than 32 KiB."""
    async with open_house(replace(config, room=replace(config.room, outbox_max_bytes=OUTBOX_BYTES, mailbox_max=4096))) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


@pytest.fixture
async def cafe(narrow: House) -> Cafe:
    return await narrow.cafe()


async def enter_slowly(house: House, person: Person) -> Wire:
    """In the room, with next to no buffer on the way."""
    wire = await Wire.open(await house.stream(read_buffer_bytes=2048), upgrade(authorization=f"Bearer {person.token}"))
    await wire.say("join:cafe", {"cafeId": person.cafe_id}, "in")
    await wire.answer("in")
    return wire


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def seqs(heard: list[dict[str, Any]]) -> list[int]:
    return [one["data"]["message"]["seq"] for one in heard if one["event"] == "message:new"]


async def test_five_hundred_sockets_that_never_read(narrow: House, cafe: Cafe, flow: MockClock) -> None:
    people = await narrow.guests(cafe, 2)
    speaker, listener = await narrow.enter(people[0]), await narrow.enter(people[1])
    crowd = [narrow.staff(cafe, "barista") for _ in range(SLOW)]  # whose coming is not announced
    slow: list[Wire] = []
    async with trio.open_nursery() as nursery:

        async def come(person: Person) -> None:
            slow.append(await enter_slowly(narrow, person))

        for person in crowd:
            nursery.start_soon(come, person)
    gc.collect()
    before_bytes = resident_bytes()
    peak_bytes, sent = 0, 0
    answers_s: list[float] = []
    while sum(wire.outbox.closed for wire in narrow.parts.sockets.all()) < SLOW:
        assert sent < 200, "the room has talked long enough"
        at_s = trio.current_time()
        await narrow.send(speaker, cafe.id, f"{sent} {LONG}")
        answers_s.append(trio.current_time() - at_s)
        await speaker.settle()
        sent += 1
        peak_bytes = max(peak_bytes, resident_bytes() - before_bytes)
    assert seqs(await listener.settle()) == list(range(1, sent + 1))
    assert peak_bytes < 32 << 20
    assert sorted(answers_s)[len(answers_s) // 2] < 0.5 * PATIENCE
    for wire in slow[:5]:  # whoever reads after all: a beginning without a gap, and the reason
        with pytest.raises(Closed) as closed:
            await wire.heard("nothing")
        assert closed.value.code == 4008
        heard = seqs(list(wire.inbox))
        assert heard
        assert heard == list(range(1, len(heard) + 1))
    for _ in range(10):
        flow.jump(1)
        await trio.testing.wait_all_tasks_blocked(0.001)
        await speaker.settle(), await listener.settle()
    assert len(narrow.parts.sockets) == 2
    # Someone who was sent away comes back and misses nothing.
    back = await narrow.connect(crowd[0])
    answer = await back.ask("join:cafe", {"cafeId": cafe.id, "since": 1})
    assert answer["recovered"] is True
    assert [message["seq"] for message in answer["messages"]] == list(range(2, sent + 1))


async def test_what_may_be_dropped_is_dropped_for_a_slow_socket_and_messages_are_not(house: House) -> None:
    cafe = await house.cafe()
    ann, bob, eve = await house.guests(cafe, 3)
    slow = await enter_slowly(house, ann)
    speaker, other = await house.enter(bob), await house.enter(eve)
    outbox = next(wire.outbox for wire in house.parts.sockets.all() if wire.identity and wire.identity.user_id == ann.id)
    sent = 0
    while not outbox.slow:
        await house.send(speaker, cafe.id, f"{sent} {LONG}")
        await speaker.settle()
        sent += 1
    first = sent
    for _ in range(3):
        for event in ("typing:start", "typing:stop"):
            await speaker.ask(event, {"cafeId": cafe.id})
        await speaker.ask("presence:update", {"status": "away"})
        await speaker.ask("presence:update", {"status": "online"})
        await house.send(speaker, cafe.id, f"{sent} in between")
        sent += 1
    # A goodbye and a reply of one's own are not events that may be dropped.
    await slow.say("presence:update", {"status": "online"}, "mine")
    assert await slow.answer("mine") == {"event": "reply", "ref": "mine", "data": {}}
    lagged = await slow.heard("lagged")
    assert set(lagged) == {"from", "to"}
    assert first <= lagged["from"] <= lagged["to"] <= sent
    heard = await slow.settle()
    assert seqs(heard) == list(range(1, sent + 1))
    assert [one["event"] for one in heard if one["event"] in ("typing:indicator", "lagged")] == []
    # Now that it keeps up it hears everything again.
    await other.ask("typing:start", {"cafeId": cafe.id})
    assert (await slow.heard("typing:indicator"))["userId"] == eve.id
    assert sum(one["event"] == "typing:indicator" for one in await speaker.settle()) == 1


async def test_a_large_answer_that_is_not_read_harms_nobody(narrow: House, cafe: Cafe) -> None:
    """A resume may be larger than the outbox; a client that asks for it again and again without reading is sent away."""
    ann, bob = await narrow.guests(cafe, 2)
    speaker = await narrow.enter(bob)
    for n in range(50):
        await narrow.send(speaker, cafe.id, f"{n} {LONG}")
    greedy = await enter_slowly(narrow, ann)
    await greedy.send(said("join:cafe", {"cafeId": cafe.id, "since": 0}, "again") * 50)
    with trio.fail_after(5):
        while not all(wire.outbox.closed for wire in narrow.parts.sockets.all() if wire.identity and wire.identity.user_id == ann.id):
            await trio.sleep(0.01)
    await speaker.settle()
    assert (await narrow.send(speaker, cafe.id, "nobody noticed"))["message"]["seq"] == 51
    with pytest.raises(Closed) as closed:
        await greedy.heard("nothing")
    assert closed.value.code == 4008


async def test_pinging_without_reading_is_no_way_to_fill_memory(narrow: House, cafe: Cafe) -> None:
    wire = await enter_slowly(narrow, await narrow.guest(cafe))
    ping = frame("x" * 125, 9) * 500
    before_bytes = resident_bytes()
    with trio.move_on_after(5):
        while len(narrow.parts.sockets) and not narrow.parts.sockets.all()[0].outbox.closed:
            try:
                await wire.send(ping)
            except trio.BrokenResourceError:
                break
    assert not narrow.parts.sockets.all() or narrow.parts.sockets.all()[0].outbox.closed
    assert resident_bytes() - before_bytes < 16 << 20


async def test_what_follows_a_breach_of_the_protocol_is_not_kept(narrow: House, cafe: Cafe) -> None:
    wire = await narrow.enter(await narrow.guest(cafe))
    noise = frame("x" * 125, 9, rsv=4) + frame("y" * 16_000, 2, fin=False) * 4
    await wire.send(noise)
    before_bytes = resident_bytes()
    for _ in range(600):  # forty megabytes
        await wire.send(noise)
    assert resident_bytes() - before_bytes < 8 << 20
    assert (await wire.closed())[0] == 1002
