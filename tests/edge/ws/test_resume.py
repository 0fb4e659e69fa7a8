"""Coming back: everything that was missed, without a gap and without a repeat, or the plain word that it cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from brewd.cafe.signs import RATE
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import Wire, frame, said

RESUME_MAX = 1000


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def talk(wire: Wire, cafe: Cafe, count: int, word: str = "word", size: int = 0) -> list[str]:
    """`count` messages, all stored; their ids."""
    ids: list[str] = []
    for start in range(0, count, 200):
        turn = range(start, min(start + 200, count))
        await wire.send(b"".join(said("message:send", {"cafeId": cafe.id, "content": f"{word} {n}".ljust(size, "x")}, n) for n in turn))
        ids += [(await wire.answer(n))["data"]["message"]["id"] for n in turn]
    await wire.settle()
    return ids


def seqs(answer: Any) -> list[int]:
    return [message["seq"] for message in answer["messages"]]


async def test_what_was_missed_is_told(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.connect(ann)
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id})
    epoch = answer["epoch"]
    ids = await talk(wire, cafe, 60)
    for since in [0, 1, 30, 59, 60]:
        for more in [{}, {"epoch": epoch}]:
            answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": since, **more})
            assert (answer["recovered"], answer["seq"], answer["epoch"]) == (True, 60, epoch)
            assert seqs(answer) == list(range(since + 1, 61))
            assert [message["id"] for message in answer["messages"]] == ids[since:]


async def test_without_since_or_with_a_wrong_one_the_last_fifty(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    await talk(wire, cafe, 60)
    odd: list[dict[str, Any]] = [
        {}, {"since": None}, {"since": 61}, {"since": 2**53}, {"since": 5, "epoch": "00000000-0000-4000-8000-000000000000"}, {"since": 5, "epoch": ""},
        {"since": 5, "epoch": "x" * 64}, {"since": 5, "epoch": "\0"},
    ]  # fmt: skip
    for more in odd:
        answer = await wire.ask("join:cafe", {"cafeId": cafe.id, **more})
        assert answer["recovered"] is False, more
        assert seqs(answer) == list(range(11, 61)), more


async def test_a_since_that_is_no_number_of_a_message(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    huge = ["9007199254740993", "18446744073709551616", "1" + "0" * 400, "1e300"]
    for since in ["-1", "1.5", '"5"', "true", "[]", "{}", "NaN", "-0.1", *huge]:
        await wire.send(frame(f'{{"event":"join:cafe","ref":"j","data":{{"cafeId":"{cafe.id}","since":{since}}}}}'))
        assert (await wire.heard("error"))["code"] == "invalid_request", since
    assert (await house.send(wire, cafe.id, "still here"))["message"]["seq"] == 1


async def test_beyond_what_the_room_holds_postgres_remembers(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    ids = await talk(wire, cafe, 900)
    for since in [0, 1, 100, 643, 644, 899]:
        answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": since})
        assert answer["recovered"] is True, since
        assert [message["id"] for message in answer["messages"]] == ids[since:], since


async def test_too_far_behind_is_not_recovered(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    await talk(wire, cafe, RESUME_MAX + 10)
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": 9})
    assert (answer["recovered"], seqs(answer)) == (False, list(range(RESUME_MAX - 39, RESUME_MAX + 11)))
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": 10})
    assert (answer["recovered"], seqs(answer)) == (True, list(range(11, RESUME_MAX + 11)))


async def test_too_much_text_is_not_recovered(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    await talk(wire, cafe, 220, size=1000)
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": 0})
    assert (answer["recovered"], len(answer["messages"])) == (False, 50)
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": 100})
    assert (answer["recovered"], len(answer["messages"])) == (True, 120)


async def test_a_room_that_was_asleep_is_resumed_too(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    ids = await talk(wire, cafe, 300)
    await wire.bye()
    await house.parts.directory.stop(cafe.id)
    for since in [250, 0]:
        again = await house.connect(ann)
        answer = await again.ask("join:cafe", {"cafeId": cafe.id, "since": since})
        assert answer["recovered"] is True
        assert [message["id"] for message in answer["messages"]] == ids[since:]
        await again.bye()
        await house.parts.directory.stop(cafe.id)


async def test_resuming_while_the_room_talks_loses_and_repeats_nothing(house: House, cafe: Cafe, ann: Person) -> None:
    bob = await house.guest(cafe)
    speaker = await house.enter(bob)
    await talk(speaker, cafe, 600)
    over = trio.Event()

    async def go_on() -> None:
        for n in range(300):
            await speaker.say("message:send", {"cafeId": cafe.id, "content": f"meanwhile {n}"})
            if n % 10 == 0:
                await trio.sleep(0)
        await speaker.settle()
        over.set()

    async def come_and_go() -> None:
        wire, last, turns = await house.connect(ann), 0, 0
        while last < 900:
            turns += 1
            if turns % RATE.burst == 0:  # nobody is let in more often than that
                wire = await house.connect(await house.guest(cafe))
            answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": last})
            assert answer["recovered"]
            heard = seqs(answer) + [one["data"]["message"]["seq"] for one in await wire.settle() if one["event"] == "message:new"]
            await wire.ask("leave:cafe", {"cafeId": cafe.id})
            heard += [one["data"]["message"]["seq"] for one in wire.inbox if one["event"] == "message:new"]
            wire.inbox.clear()
            assert heard == list(range(last + 1, last + 1 + len(heard)))
            last += len(heard)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            nursery.start_soon(come_and_go)
    assert over.is_set()


async def test_what_was_deleted_meanwhile_is_named(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    ids = await talk(wire, cafe, 10)
    for id in (ids[2], ids[8]):
        await wire.ask("message:delete", {"messageId": id})
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id, "since": 5})
    assert answer["recovered"] is True
    assert [(message["seq"], message["deleted"]) for message in answer["messages"]] == [(6, False), (7, False), (8, False), (9, True), (10, False)]
    assert answer["deleted"] == [ids[2]]
    assert (await wire.ask("join:cafe", {"cafeId": cafe.id}))["deleted"] == []


async def test_what_is_deleted_while_it_is_read_does_not_arrive_with_its_text(house: House, cafe: Cafe, ann: Person) -> None:
    """It is older than all that the room holds, so the room cannot know it from there; and whoever joins then hears of no deletion."""
    wire, late = await house.enter(ann), await house.connect(ann)
    ids = await talk(wire, cafe, 900)
    messages: Any = house.parts.directory._store
    read = messages.after

    async def after(*args: Any) -> Any:
        found = await read(*args)
        await wire.ask("message:delete", {"messageId": ids[3]})
        return found

    messages.after = after
    answer = await late.ask("join:cafe", {"cafeId": cafe.id, "since": 0})
    assert (answer["recovered"], seqs(answer)) == (True, list(range(1, 901)))
    assert [(message["id"], message["content"]) for message in answer["messages"] if message["deleted"]] == [(ids[3], "")]
    assert answer["messages"][3]["deleted"] is True
    assert "message:deleted" not in {told["event"] for told in await late.settle()}
    # Once more is no news, old as it is.
    await wire.settle()
    await wire.ask("message:delete", {"messageId": ids[3]})
    assert "message:deleted" not in {told["event"] for told in await late.settle()}
