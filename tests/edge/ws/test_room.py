"""The room over the wire: joining, leaving, saying and deleting, in the shapes the contract gives them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from trio.testing import MockClock

from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import RFC3339_MS, UUID, Wire, frame, said

MESSAGE = {"id", "cafeId", "seq", "userId", "username", "badge", "content", "createdAt", "deleted"}
ANSWER = {"cafeId", "epoch", "seq", "userCount", "users", "topics", "messages", "recovered", "deleted"}
NOBODY = "00000000-0000-7000-8000-00000000000a"


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
async def bob(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


def user(person: Person, status: str = "online") -> dict[str, Any]:
    return {"id": person.id, "username": person.name, "status": status, "badge": None}


async def still(*wires: Wire) -> None:
    """Forget what was heard so far."""
    for wire in wires:
        await wire.settle()


def names(heard: list[dict[str, Any]]) -> list[str]:
    """The events that were heard; topics come when they come."""
    return [one["event"] for one in heard if one["event"] != "topics:update"]


async def test_the_first_join_of_an_empty_room(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.connect(ann)
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id})
    assert UUID.fullmatch(answer.pop("epoch"))
    assert answer == {
        "cafeId": cafe.id, "seq": 0, "userCount": 1, "users": [user(ann)], "topics": [], "messages": [], "recovered": False, "deleted": [],
    }  # fmt: skip
    assert await wire.settle() == []  # nobody hears of their own coming


async def test_coming_and_going_is_told_to_the_others(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.connect(bob)
    answer = await b.ask("join:cafe", {"cafeId": cafe.id})
    assert (answer["userCount"], answer["users"]) == (2, [user(ann), user(bob)])
    assert await a.heard("users:update") == {"cafeId": cafe.id, "action": "join", "user": user(bob), "userCount": 2}
    assert await b.ask("leave:cafe", {"cafeId": cafe.id}) == {}
    assert await a.heard("users:update") == {"cafeId": cafe.id, "action": "leave", "user": user(bob), "userCount": 1}
    await house.send(a, cafe.id, "bob is gone")
    assert await b.settle() == []
    assert await b.ask("leave:cafe", {"cafeId": cafe.id}) == {}  # to leave twice is no mistake
    assert names(await a.settle()) == ["message:new"]


async def test_joining_again_changes_nothing(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    await still(a)
    for _ in range(3):
        answer = await b.ask("join:cafe", {"cafeId": cafe.id})
        assert answer.keys() == ANSWER
        assert answer["userCount"] == 2
    await house.send(a, cafe.id, "once is enough")
    assert names(await b.settle()) == ["message:new"]
    assert names(await a.settle()) == ["message:new"]


async def test_joins_and_leaves_in_one_breath(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    """What is asked in one packet is answered in order, and the last word counts."""
    a, b = await house.enter(ann), await house.connect(bob)
    join, leave = ("join:cafe", {"cafeId": cafe.id}), ("leave:cafe", {"cafeId": cafe.id})
    for turn, words in enumerate(itertools.product([join, leave], repeat=4)):
        refs = [f"{turn}-{at}" for at in range(4)]
        await b.send(b"".join(said(*word, ref) for word, ref in zip(words, refs, strict=True)))
        answers = [await b.answer(ref) for ref in refs]
        assert [answer["event"] for answer in answers] == ["reply"] * 4
        await house.send(a, cafe.id, f"word {turn}")
        heard = [one for one in await b.settle() if one["event"] == "message:new"]
        assert len(heard) == (1 if words[-1] == join else 0), words
        if words[-1] == join:
            await b.ask(*leave)
    counted = [one["data"] for one in await a.settle() if one["event"] == "users:update"]
    assert [one["userCount"] for one in counted] == [{"join": 2, "leave": 1}[one["action"]] for one in counted]
    assert [one["action"] for one in counted] == ["join", "leave"] * (len(counted) // 2)


async def test_a_message_is_answered_and_reaches_everyone(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, twin, b = await house.enter(ann), await house.enter(ann), await house.enter(bob)
    outside = await house.connect(bob)
    await still(a, twin, b)
    sent = await house.send(a, cafe.id, "hello <b>room</b> \U0001f375 \u202e", clientMsgId="m-1")
    assert set(sent) == {"message", "duplicate", "warnings"}
    assert (sent["duplicate"], sent["warnings"]) == (False, [])
    assert set(sent["message"]) == {"id", "seq", "createdAt"}
    assert sent["message"]["seq"] == 1
    assert UUID.fullmatch(sent["message"]["id"])
    assert RFC3339_MS.fullmatch(sent["message"]["createdAt"])
    for wire in (a, twin, b):
        told = await wire.heard("message:new")
        assert told == {
            "message": {
                **sent["message"], "cafeId": cafe.id, "userId": ann.id, "username": ann.name, "badge": None,
                "content": "hello <b>room</b> \U0001f375 \u202e", "deleted": False,
            },
            "clientMsgId": "m-1",
        }  # fmt: skip
        assert set(told["message"]) == MESSAGE
    assert await outside.settle() == []
    await house.send(a, cafe.id, "no mark on this one")
    assert set(await b.heard("message:new")) == {"message"}


async def test_numbers_run_without_a_gap_and_all_hear_the_same(house: House, cafe: Cafe) -> None:
    people = await house.guests(cafe, 4)
    wires = [await house.enter(person) for person in people]
    for wire in wires:
        await wire.send(b"".join(said("message:send", {"cafeId": cafe.id, "content": f"talk {wire} {n}"}, f"s{n}") for n in range(25)))
    for wire in wires:
        for n in range(25):
            assert (await wire.answer(f"s{n}"))["event"] == "reply"
    heard = [[(await wire.heard("message:new"))["message"] for _ in range(100)] for wire in wires]
    assert [message["seq"] for message in heard[0]] == list(range(1, 101))
    assert heard[0] == heard[1] == heard[2] == heard[3]


async def test_a_message_without_a_ref_is_stored_all_the_same(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    await wire.say("message:send", {"cafeId": cafe.id, "content": "fire and forget"})
    assert (await wire.heard("message:new"))["message"]["seq"] == 1
    assert names(await wire.settle()) == []


async def test_sent_again_it_is_answered_again_and_not_shown_again(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    first = await house.send(a, cafe.id, "just once", clientMsgId="m-1")
    again = await house.send(a, cafe.id, "just once", clientMsgId="m-1")
    assert again == {**first, "duplicate": True}
    other_device = await house.enter(ann)
    assert await house.send(other_device, cafe.id, "just once, worded anew", clientMsgId="m-1") == {**first, "duplicate": True}
    assert (await house.send(b, cafe.id, "mine is another", clientMsgId="m-1"))["duplicate"] is False
    assert [one["data"]["message"]["content"] for one in await b.settle() if one["event"] == "message:new"] == ["just once", "mine is another"]


async def test_twenty_at_once_with_one_mark_are_one_message(house: House, cafe: Cafe, ann: Person) -> None:
    phone, laptop = await house.enter(ann), await house.enter(ann)
    for wire in (phone, laptop):
        for n in range(4):
            await wire.say("message:send", {"cafeId": cafe.id, "content": "only one of these", "clientMsgId": "m-1"}, n)
    answers = [(await wire.answer(n))["data"] for wire in (phone, laptop) for n in range(4)]
    assert sum(not answer["duplicate"] for answer in answers) == 1
    assert len({answer["message"]["id"] for answer in answers}) == 1
    assert names(await phone.settle()) == ["message:new"]


async def test_what_cannot_be_sent(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    for content in ["", " \n\t ", "x" * 1001, "\u2003", "nul\0nul", "\u200b\u202e", "\u3164", "\u2800 \ufe0f", "\x01\x7f\x1f"]:
        refusal = await wire.refused("message:send", {"cafeId": cafe.id, "content": content})
        assert refusal["code"] == "invalid_request", repr(content)
        assert [error["path"] for error in refusal["errors"]] == ["data.content"], refusal
    refusal = await wire.refused("message:send", {"cafeId": cafe.id, "content": "nul in the mark", "clientMsgId": "a\0b"})
    assert refusal["code"] == "invalid_request"
    assert [error["path"] for error in refusal["errors"]] == ["data.clientMsgId"]
    for content in ["x" * 1000, "🍵" * 1000, "€" * 1000, "\ufffe\uffff\u200b", "\r\n.\r\n", '"\\', "\x01\x7f\x1f."]:
        assert (await house.send(wire, cafe.id, content))["duplicate"] is False
        assert (await wire.heard("message:new"))["message"]["content"] == content


async def test_a_lone_surrogate_is_not_text(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    for escape in [r"\ud800", r"\udfff", r"\ud83c x", r"\udf75\ud83c"]:
        await wire.send(frame(f'{{"event":"message:send","ref":"s","data":{{"cafeId":"{cafe.id}","content":"{escape}"}}}}'))
        answer = await wire.next()
        assert (answer["event"], answer["data"]["code"]) == ("error", "invalid_request"), escape
    assert (await house.send(wire, cafe.id, "a pair is one character: \U0001f375"))["message"]["seq"] == 1


async def test_sending_before_joining_is_refused(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.connect(ann)
    assert (await wire.refused("message:send", {"cafeId": cafe.id, "content": "anyone?"}))["code"] == "not_in_cafe"
    assert (await wire.refused("presence:update", {"status": "busy"}))["code"] == "not_in_cafe"
    assert await wire.ask("typing:start", {"cafeId": cafe.id}) == {}
    await wire.ask("join:cafe", {"cafeId": cafe.id})
    await wire.ask("leave:cafe", {"cafeId": cafe.id})
    assert (await wire.refused("message:send", {"cafeId": cafe.id, "content": "too late"}))["code"] == "not_in_cafe"


async def test_the_author_deletes(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    sent = (await house.send(a, cafe.id, "I take that back", clientMsgId="m-1"))["message"]
    await still(a, b)
    assert await a.ask("message:delete", {"messageId": sent["id"]}) == {}
    deleted = {"messageId": sent["id"], "cafeId": cafe.id, "seq": sent["seq"]}
    assert await a.heard("message:deleted") == deleted
    assert await b.heard("message:deleted") == deleted
    answer = await b.ask("join:cafe", {"cafeId": cafe.id})
    assert [(message["content"], message["deleted"]) for message in answer["messages"]] == [("", True)]
    # Once more is no mistake, and no news; and the mark still stands for it.
    assert await a.ask("message:delete", {"messageId": sent["id"]}) == {}
    assert names(await b.settle()) == []
    again = await house.send(a, cafe.id, "I take that back", clientMsgId="m-1")
    assert (again["duplicate"], again["message"]["id"]) == (True, sent["id"])


async def test_others_cannot_delete_and_a_moderator_can(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    barista, moderator = await house.enter(house.staff(cafe, "barista")), await house.enter(house.staff(cafe, "moderator"))
    sent = (await house.send(a, cafe.id, "something rude"))["message"]
    await still(a)
    for wire in (b, barista):
        assert (await wire.refused("message:delete", {"messageId": sent["id"]}))["code"] == "forbidden"
    assert await a.settle() == []
    assert await moderator.ask("message:delete", {"messageId": sent["id"]}) == {}
    assert (await a.heard("message:deleted"))["messageId"] == sent["id"]
    assert (await moderator.heard("message:deleted"))["messageId"] == sent["id"]


async def test_deleting_what_is_not_there(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    assert (await wire.refused("message:delete", {"messageId": NOBODY}))["code"] == "not_found"
    odd = [NOBODY + "\n", NOBODY + "\0", NOBODY.upper(), "", "x", "../" * 12, NOBODY[:-1], " " + NOBODY, "\uff10" * 8 + NOBODY[8:], None, 5]
    for message_id in odd:
        refusal = await wire.refused("message:delete", {"messageId": message_id})
        if message_id != NOBODY.upper():
            assert refusal["code"] == "invalid_request", repr(message_id)
    assert (await house.send(wire, cafe.id, "all is well"))["message"]["seq"] == 1


async def test_a_message_no_longer_held_can_still_be_deleted(house: House, cafe: Cafe, ann: Person, bob: Person) -> None:
    a, b = await house.enter(ann), await house.enter(bob)
    sent = (await house.send(a, cafe.id, "long ago"))["message"]
    for batch in range(6):
        await a.send(b"".join(said("message:send", {"cafeId": cafe.id, "content": f"and then {batch} {n}"}, n) for n in range(100)))
        for n in range(100):
            await a.answer(n)
    assert (await b.refused("message:delete", {"messageId": sent["id"]}))["code"] in ("not_found", "forbidden")
    assert await a.ask("message:delete", {"messageId": sent["id"]}) == {}
    assert (await b.heard("message:deleted"))["seq"] == 1


async def test_topics_are_told_once_a_second_and_only_when_they_change(house: House, cafe: Cafe, ann: Person, flow: MockClock) -> None:
    wire = await house.enter(ann)
    await house.send(wire, cafe.id, "espresso espresso espresso machine")
    flow.jump(2.1)
    told = await wire.heard("topics:update")
    assert set(told) == {"cafeId", "topics"}
    assert told["cafeId"] == cafe.id
    assert all(set(topic) == {"topic", "score"} for topic in told["topics"])
    assert "espresso" in [topic["topic"] for topic in told["topics"]]
    await wire.settle()
    for n in range(20):
        await house.send(wire, cafe.id, f"cappuccino number{n}")
    assert [one["event"] for one in await wire.settle()].count("topics:update") <= 1
    flow.jump(2.1)
    await wire.heard("topics:update")
    flow.jump(10)
    assert await wire.settle() == []
    answer = await wire.ask("join:cafe", {"cafeId": cafe.id})
    assert "cappuccino" in [topic["topic"] for topic in answer["topics"]]


async def test_every_kind_of_ref_comes_back_as_it_was(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.enter(ann)
    for ref in ["", "x" * 64, 0, -1, 2**53, 2**63, 10**40, "\u0000", "\U0001f375", "null"]:
        await wire.say("presence:update", {"status": "online"}, ref)
        assert await wire.answer(ref) == {"event": "reply", "ref": ref, "data": {}}
        await wire.say("presence:update", {"status": "asleep"}, ref)
        refusal = await wire.answer(ref)
        assert (refusal["event"], refusal["data"]["code"]) == ("error", "invalid_request")


async def test_every_frame_with_a_ref_has_exactly_one_answer(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.connect(ann)
    here = {"cafeId": cafe.id}
    frames: list[tuple[str, Any]] = [
        ("auth", {"token": ann.token}), ("token:refresh", {"token": ann.token}), ("join:cafe", here), ("join:cafe", {**here, "since": 0}),
        ("typing:start", here), ("typing:stop", here), ("presence:update", {"status": "busy"}), ("message:send", {**here, "content": "x y"}),
        ("message:send", {**here, "content": ""}), ("message:delete", {"messageId": NOBODY}), ("leave:cafe", here), ("typing:start", here),
        ("message:send", {**here, "content": "x"}), ("nonsense", {}), ("join:cafe", {}), ("join:cafe", None), ("presence:update", {"status": "away"}),
    ]  # fmt: skip
    await wire.send(b"".join(said(event, data, at) for at, (event, data) in enumerate(frames)))
    for at in range(len(frames)):
        await wire.answer(at)
    rest = await wire.settle()
    assert [one for one in rest if "ref" in one] == []
    assert [one for one in rest if one["event"] in ("reply", "error")] == []
