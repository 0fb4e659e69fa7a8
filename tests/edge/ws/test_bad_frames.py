"""Everything that must not be sent: each is answered by its name, ends at most its own socket, and harms nobody else."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import BINARY, CLOSE, PING, PONG, TEXT, Closed, Wire, frame, said

FRAME_MAX = 16_384
CONTINUE = 0


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


@pytest.fixture
async def witness(house: House, cafe: Cafe) -> AsyncIterator[Wire]:
    """Someone who is in the room all the time and must notice nothing."""
    wire = await house.enter(await house.guest(cafe))
    yield wire
    assert (await house.send(wire, cafe.id, "all is well"))["duplicate"] is False
    assert [one["event"] for one in await wire.settle() if one["event"] not in ("users:update", "topics:update")] == ["message:new"]


@pytest.fixture
async def wire(house: House, ann: Person, witness: Wire) -> Wire:
    return await house.enter(ann)


NOT_OURS = [
    ("", "$"), ("{", "$"), ("null", "$"), ("[]", "$"), ("1", "$"), ('"auth"', "$"), ("{}", "$"), ("\ufeff{}", "$"), ("{'event':'x'}", "$"),
    ('{"event":"join:cafe"}', "$"), ('{"event":"nope","data":{}}', "event"), ('{"event":1,"data":{}}', "event"), ('{"event":null}', "event"),
    ('{"event":"join:cafe","data":null}', "data"), ('{"event":"join:cafe","data":[]}', "data"), ('{"event":"join:cafe","data":{}}', "data"),
    ('{"event":"join:cafe","data":{"cafeId":1}}', "data.cafeId"), ('{"event":"join:cafe","data":{"cafeId":""}}', "data.cafeId"),
    ('{"event":"join:cafe","data":{"cafeId":"x","more":1}}', "data"), ('{"event":"join:cafe","data":{"cafeId":"x"},"more":1}', "$"),
    ('{"event":"message:send","data":{"cafeId":"x","content":5}}', "data.content"),
    ('{"event":"message:send","data":{"cafeId":"x","content":"y","clientMsgId":""}}', "data.clientMsgId"),
    ('{"event":"message:send","data":{"cafeId":"x","content":"y","clientMsgId":"%s"}}' % ("z" * 65), "data.clientMsgId"),
    ('{"event":"presence:update","data":{"status":"dead"}}', "data.status"), ('{"event":"join:cafe","data":{"cafeId":"%s"}}' % ("x" * 65), "data.cafeId"),
    ('{"event":"presence:update","data":{"status":"online"},"ref":[]}', "ref"), ('{"event":"presence:update","data":{"status":"online"},"ref":1.5}', "ref"),
    ('{"event":"presence:update","data":{"status":"online"},"ref":"%s"}' % ("x" * 65), "ref"),
    ('{"event":"presence:update","data":{"status":"online"}}{"event":"presence:update","data":{"status":"away"}}', "$"),
    ('{"data":{"cafeId":"x"},"ref":"r"}', "$"), ('{"event":"message:delete","data":{"messageId":"the last"}}', "data.messageId"),
]  # fmt: skip


async def test_what_is_not_a_frame_of_ours(house: House, cafe: Cafe, witness: Wire) -> None:
    for at, (text, path) in enumerate(NOT_OURS):
        if at % 15 == 0:
            wire = await house.enter(await house.guest(cafe))
        await wire.send(frame(text))
        answer = await wire.next()
        assert answer["event"] == "error", text
        assert set(answer["data"]) == {"code", "detail", "errors"}
        assert answer["data"]["code"] == "invalid_request"
        assert [error["path"] for error in answer["data"]["errors"]] == [path], answer
        assert all(set(error) == {"path", "detail"} for error in answer["data"]["errors"])
        assert await wire.ask("presence:update", {"status": "online"}) == {}, text


REFS = [
    ('{"event":1,"data":{},"ref":"r"}', "r"), ('{"event":null,"ref":7}', 7), ('{"ref":"r"}', "r"), ('{"ref":"r","event":"nope"}', "r"),
    ('{"event":"join:cafe","data":{"cafeId":1},"ref":-3}', -3), ('{"event":"join:cafe","data":{"cafeId":"x"},"ref":"r","more":1}', "r"),
    ('{"event":"presence:update","data":{"status":"online"},"ref":"%s"}' % ("x" * 65), "x" * 65),
    ('{"event":"presence:update","data":{"status":"dead"},"ref":"%s"}' % ("x" * 10_000), "x" * 10_000),
    ('{"event":"presence:update","data":{"status":"online"},"ref":true}', None), ('{"event":"presence:update","data":{},"ref":{"ref":"r"}}', None),
    ('{"event":"presence:update","data":{"status":"dead"},"ref":"r"', None), ('["presence:update",{"ref":"r"}]', None),
]  # fmt: skip


async def test_a_bad_frame_is_answered_with_its_ref_where_that_can_be_read(wire: Wire, witness: Wire) -> None:
    for text, ref in REFS:
        await wire.send(frame(text))
        answer = await wire.next()
        assert (answer["event"], answer["data"]["code"]) == ("error", "invalid_request"), text
        assert answer.get("ref") == ref, text


async def test_a_json_bomb(wire: Wire, witness: Wire) -> None:
    for bomb in ["[" * 10_000, '{"a":' * 3_000, '{"event":"join:cafe","data":' + "[" * 10_000, '{"event":"x","ref":' + "[" * 10_000, "[" * 8_000 + "]" * 8_000]:
        for text in (bomb, bomb + "1" + "]" * bomb.count("[") + "}" * bomb.count("{")):
            if len(text) <= FRAME_MAX:
                await wire.send(frame(text))
                assert (await wire.heard("error"))["code"] == "invalid_request"
    assert await wire.ask("presence:update", {"status": "online"}) == {}


async def test_numbers_nobody_can_hold(wire: Wire, witness: Wire) -> None:
    for number in ["1e999999", "-1e999999", "9" * 4000, "9" * 16_000, "0." + "9" * 10_000, "1" + "0" * 5000 + "e-5000"]:
        await wire.send(frame(f'{{"event":"presence:update","data":{{"status":"online"}},"ref":{number}}}'))
        answer = await wire.next()
        assert answer["event"] in ("error", "reply")
    assert await wire.ask("presence:update", {"status": "online"}) == {}


async def test_binary_frames_are_not_understood(wire: Wire, witness: Wire) -> None:
    for payload in [b"", b"\0\xff", said("presence:update", {"status": "away"})]:
        await wire.send(frame(payload, BINARY))
        assert (await wire.heard("error"))["code"] == "invalid_request"
    await wire.send(frame(b"\0", BINARY, fin=False) + frame(b"\1", CONTINUE, fin=False) + frame(b"", PING) + frame(b"", CONTINUE))
    assert (await wire.heard("error"))["code"] == "invalid_request"
    assert await wire.ask("presence:update", {"status": "online"}) == {}


async def test_twenty_bad_frames_in_a_minute_close_the_socket(wire: Wire, witness: Wire) -> None:
    await wire.send(frame("{") * 25)
    code, reason = await wire.closed()
    assert code == 1008
    assert reason
    assert [one["event"] for one in wire.inbox].count("error") == 20


async def test_every_kind_of_bad_frame_counts(wire: Wire, witness: Wire) -> None:
    await wire.send((frame("{") + frame(b"\0", BINARY) + said("nope") + said("join:cafe", {})) * 5)
    assert (await wire.closed())[0] == 1008


async def test_refused_requests_are_not_bad_frames(wire: Wire, witness: Wire, cafe: Cafe) -> None:
    await wire.send(said("message:send", {"cafeId": cafe.id, "content": ""}) * 30 + said("leave:cafe", {"cafeId": "elsewhere"}) * 30)
    assert await wire.ask("presence:update", {"status": "online"}) == {}
    assert [one["event"] for one in await wire.settle()] == ["error"] * 60


async def test_nineteen_bad_frames_a_minute_are_borne(house: House, cafe: Cafe, flow: MockClock) -> None:
    wire = await house.enter(await house.guest(cafe))
    for _ in range(4):
        await wire.send(frame("{") * 19)
        assert [one["event"] for one in await wire.settle()] == ["error"] * 19
        for _ in range(2):
            flow.jump(30.1)
            await wire.settle()


async def test_the_window_has_no_seam(house: House, cafe: Cafe, flow: MockClock) -> None:
    """Twenty within any minute, not within the minutes of some clock."""
    wire = await house.enter(await house.guest(cafe))
    await wire.send(frame("{"))
    await wire.settle()
    for seconds in (29, 29):
        flow.jump(seconds)
        await wire.settle()
    await wire.send(frame("{") * 10)
    await wire.settle()
    flow.jump(4)
    await wire.send(frame("{") * 10)
    assert (await wire.closed())[0] == 1008


BROKEN = {
    "unmasked text": (frame("{}", masked=False), 1002),
    "unmasked ping": (frame("", PING, masked=False), 1002),
    "unmasked close": (frame(b"\x03\xe8", CLOSE, masked=False), 1002),
    "rsv1": (frame("{}", rsv=4), 1002),
    "rsv2": (frame("{}", rsv=2), 1002),
    "rsv3": (frame("{}", rsv=1), 1002),
    "rsv on a ping": (frame("", PING, rsv=4), 1002),
    "opcode 3": (frame("", 3), 1002),
    "opcode 7": (frame("", 7), 1002),
    "opcode 11": (frame("", 11), 1002),
    "opcode 15": (frame("", 15), 1002),
    "a ping of 126 bytes": (frame("x" * 126, PING), 1002),
    "a pong of 200 bytes": (frame("x" * 200, PONG), 1002),
    "a close of 126 bytes": (frame(b"\x03\xe8" + b"x" * 124, CLOSE), 1002),
    "a fragmented ping": (frame("x", PING, fin=False), 1002),
    "a close of one byte": (frame(b"\x03", CLOSE), 1002),
    "close code 999": (frame((999).to_bytes(2, "big"), CLOSE), 1002),
    "close code 1005": (frame((1005).to_bytes(2, "big"), CLOSE), 1002),
    "close code 1006": (frame((1006).to_bytes(2, "big"), CLOSE), 1002),
    "close code 2999": (frame((2999).to_bytes(2, "big"), CLOSE), 1002),
    "close code 65535": (frame((65535).to_bytes(2, "big"), CLOSE), 1002),
    "a close reason that is not UTF-8": (frame(b"\x03\xe8\xff\xfe", CLOSE), 1007),
    "a continuation of nothing": (frame("x", CONTINUE), 1002),
    "a message within a message": (frame("x", fin=False) + frame("{}"), 1002),
    "a message within an empty one": (frame("", fin=False) + frame("{}"), 1002),
    "binary within text": (frame("x", fin=False) + frame(b"x", BINARY), 1002),
    "a length in too many bytes": (b"\x81\xfe\x00\x02" + b"\0\0\0\0{}", 1002),
    "a length in far too many bytes": (b"\x81\xff" + (2).to_bytes(8, "big") + b"\0\0\0\0{}", 1002),
    "not UTF-8": (frame(b'{"event":"\xff"}'), 1007),
    "an overlong form": (frame(b"\xc0\xaf"), 1007),
    "a surrogate in UTF-8": (frame(b'"\xed\xa0\x80"'), 1007),
    "beyond Unicode": (frame(b"\xf4\x90\x80\x80"), 1007),
    "half a character": (frame(b'"\xe2\x82'), 1007),
    "half a character over fragments": (frame(b'"\xe2\x82', fin=False) + frame(b'"', CONTINUE), 1007),
    "one byte too many": (frame("x" * (FRAME_MAX + 1)), 1009),
    "ten megabytes": (frame("", size=10_000_000), 1009),
    "a ping of ten megabytes": (frame("", PING, size=10_000_000), None),
    "a negative length": (frame("", size=2**63 + 5), None),
    "the largest length": (frame("", size=2**64 - 1), None),
    "too much in fragments": (frame("x" * 10_000, fin=False) + frame("x" * 10_000, CONTINUE), 1009),
    "too much in small fragments": (frame("x", fin=False) + frame("x" * 1000, CONTINUE, fin=False) * 17, 1009),
    "a flood of fragments": (frame("x", fin=False) + frame("x", CONTINUE, fin=False) * 100, 1008),
    "a flood of empty fragments": (frame("", fin=False) + frame("", CONTINUE, fin=False) * 1000, 1008),
    "a flood of empty binary fragments": (frame("", BINARY, fin=False) + frame("", CONTINUE, fin=False) * 1000, 1008),
}  # fmt: skip


async def test_what_breaks_the_protocol_ends_its_socket_with_the_right_code(house: House, cafe: Cafe, witness: Wire) -> None:
    people = await house.guests(cafe, len(BROKEN))
    for person, (name, (data, expected)) in zip(people, BROKEN.items(), strict=True):
        wire = await house.enter(person)
        await wire.send(data)
        try:
            with trio.fail_after(2.5):  # whoever answers the close frame is let go at once
                code, reason = await wire.closed()
        except trio.TooSlowError:
            pytest.fail(name)
        assert code in ((1002, 1009) if expected is None else (expected,)), (name, code, reason)
        assert len(reason.encode()) <= 123
        assert [one for one in wire.inbox if one["event"] in ("error", "reply")] == [], name
        await witness.settle()
    assert len(house.parts.sockets) == 1


async def test_strangers_are_told_what_they_broke_too(house: House, cafe: Cafe, witness: Wire) -> None:
    for name in ("unmasked text", "rsv1", "opcode 3", "not UTF-8", "ten megabytes", "a flood of empty fragments", "close code 999"):
        wire = await house.open()
        await wire.send(BROKEN[name][0])
        assert (await wire.closed())[0] == BROKEN[name][1], name
    assert len(house.parts.sockets) == 1


async def test_ten_megabytes_are_refused_by_their_header(house: House, cafe: Cafe, witness: Wire) -> None:
    """None of it is waited for, and the client learns why although it is still sending."""
    wire = await house.enter(await house.guest(cafe))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                with contextlib.suppress(trio.BrokenResourceError):
                    await wire.send(frame("x" * 10_000_000))

            nursery.start_soon(pour)
            with pytest.raises(Closed) as closed:
                await wire.heard("nothing")
            assert closed.value.code == 1009
            nursery.cancel_scope.cancel()


async def test_the_largest_frame_is_taken(wire: Wire, witness: Wire, cafe: Cafe) -> None:
    text = json.dumps({"event": "message:send", "ref": "r", "data": {"cafeId": cafe.id, "content": "\U0001f375" * 1000}})
    assert len(text) > 12_000
    await wire.send(frame(text + " " * (FRAME_MAX - len(text))))
    assert (await wire.answer("r"))["event"] == "reply"
    await wire.settle(), await witness.settle()


async def test_a_message_in_fragments_is_a_message(wire: Wire, witness: Wire, cafe: Cafe) -> None:
    raw = json.dumps({"event": "message:send", "ref": "r", "data": {"cafeId": cafe.id, "content": "in pieces: €\U0001f375"}}, ensure_ascii=False).encode()
    cuts = [0, 1, *range(5, len(raw), 7), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(cuts)]
    data = b"".join(frame(piece, TEXT if at == 0 else CONTINUE, fin=at == len(pieces) - 1) + frame(f"{at}", PING) for at, piece in enumerate(pieces))
    await wire.send(data)
    assert (await wire.answer("r"))["event"] == "reply"
    assert (await wire.heard("message:new"))["message"]["content"] == "in pieces: €\U0001f375"
    assert wire.pongs == [str(at).encode() for at in range(len(pieces))]
    await witness.settle()


async def test_a_ping_is_answered_with_what_it_carried(wire: Wire) -> None:
    for payload in [b"", b"x", bytes(range(125))]:
        await wire.send(frame(payload, PING))
        await wire.settle()
        assert payload in wire.pongs
    await wire.send(frame("nobody asked", PONG))
    assert await wire.settle() == []


async def test_a_whole_session_byte_by_byte(house: House, cafe: Cafe, ann: Person) -> None:
    wire = await house.connect(ann)
    data = said("join:cafe", {"cafeId": cafe.id}, 1) + frame("p", PING) + said("message:send", {"cafeId": cafe.id, "content": "s l o w"}, 2)
    for at in range(len(data)):
        await wire.send(data[at : at + 1])
        if at % 16 == 0:
            await trio.sleep(0)
    assert (await wire.answer(1))["event"] == "reply"
    assert (await wire.answer(2))["event"] == "reply"
    assert wire.pongs == [b"p"]


async def test_nothing_is_heard_from_a_socket_after_its_goodbye(house: House, cafe: Cafe, witness: Wire) -> None:
    wire = await house.enter(await house.guest(cafe))
    late = said("message:send", {"cafeId": cafe.id, "content": "one more thing"}, "late")
    await wire.send(frame(b"\x03\xe8", CLOSE) + late)
    assert (await wire.closed())[0] == 1000
    broken = await house.enter(await house.guest(cafe))
    await broken.send(frame("{}", masked=False) + late * 3)
    assert (await broken.closed())[0] == 1002
    assert "late" not in [one.get("ref") for one in [*wire.inbox, *broken.inbox]]


async def test_garbage_ends_its_own_socket_only(house: House, cafe: Cafe, witness: Wire) -> None:
    import random

    chance = random.Random(11)
    people = await house.guests(cafe, 40)

    async def babble(person: Any) -> None:
        wire = await house.enter(person)
        try:
            for _ in range(20):
                await wire.send(chance.randbytes(chance.randrange(1, 400)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await wire.aclose()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for person in people:
                nursery.start_soon(babble, person)
        while len(house.parts.sockets) > 1:
            await trio.sleep(0.01)
