"""What happens to a question when something else happens meanwhile: another frame in the same segment, an erasure, a restart, a full house."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace

from brewd.agent import kept
from brewd.agent.agent import Inquiry
from brewd.cafe.commands import Who
from brewd.config import Config
from brewd.people.records import Cafe
from tests.agent.upstream import Script, Upstream
from tests.edge.ws.agent.queries import HELD, NO_QUERY, ask, completed, connect, heard_to_the_end, until
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Wire, said, upgrade


@pytest.fixture
def config(config: Config) -> Config:
    """One question at a time, and a short wait for it."""
    return replace(config, agent=replace(config.agent, in_flight_max=1, in_flight_cafe_max=1, queue_s=0.3))


async def held(house: House, who: Person, upstream: Upstream) -> tuple[Wire, str]:
    """A question whose answer has begun and waits."""
    upstream.script = HELD
    wire = await connect(house, who)
    query_id = await ask(wire, who)
    upstream.let()
    await wire.heard("query:chunk")
    return wire, query_id


async def test_two_resumes_in_one_segment_are_one_listening(house: House, ann: Person, upstream: Upstream) -> None:
    wire, query_id = await held(house, ann, upstream)
    await wire.send(b"".join(said("query:resume", {"queryId": query_id, "index": 1}, ref) for ref in ("a", "b", "c", "d", "e")))
    upstream.let(3)
    chunks, _ = await heard_to_the_end(wire, query_id)
    assert len({chunk["index"] for chunk in chunks}) == len(chunks)
    assert [told for told in await wire.settle() if told["event"] in ("query:chunk", "query:complete", "query:error")] == []


async def test_nothing_is_said_of_a_query_after_it_was_cancelled_in_the_segment_that_resumed_it(house: House, ann: Person, upstream: Upstream) -> None:
    wire, query_id = await held(house, ann, upstream)
    await wire.send(said("query:resume", {"queryId": query_id, "index": 1}, "a") + said("query:cancel", {"queryId": query_id}, "b"))
    told = [*await wire.settle(), *await wire.settle(), *await wire.settle()]
    at = next(at for at, one in enumerate(told) if one.get("ref") == "b")
    assert told[at]["event"] == "reply"
    assert [one["event"] for one in told[at:] if one["event"].startswith("query:")] == []


async def test_those_who_wait_with_the_same_question_wait_no_longer_than_one(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    await held(house, ann, upstream)
    wires = [(await connect(house, one)) for one in [await house.guest(cafe) for _ in range(6)]]
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for wire in wires:
            nursery.start_soon(wire.refused, "query:stream", {"cafeId": cafe.id, "query": "The same?"})
    assert trio.current_time() - began_s < 4 * 0.3  # one after the other it would be six times as long


async def test_a_drain_answers_a_question_whose_turn_has_not_come(config: Config, upstream: Upstream) -> None:
    async with open_house(replace(config, agent=replace(config.agent, queue_s=5.0))) as house:
        cafe = await house.cafe()
        ann, bob = [await house.guest(cafe) for _ in range(2)]
        await held(house, ann, upstream)
        bobs = await connect(house, bob)
        await bobs.send(said("query:stream", {"cafeId": cafe.id, "query": "When is it my turn?"}, "q"))
        await bobs.settle()
        house.parts.stop()
        wait_ms = (await bobs.heard("server:draining"))["reconnectInMs"]
        answer = await bobs.next()
        assert (answer["event"], answer["ref"]) == ("error", "q")
        assert (answer["data"]["code"], answer["data"]["retryAfterMs"]) == ("agent_unavailable", wait_ms)
        assert await bobs.closed() == (1012, "restarting")


async def test_a_socket_that_cannot_take_what_was_said_before_does_not_listen_on(config: Config, upstream: Upstream) -> None:
    """The goodbye comes while the listening begins, and no piece follows that could notice."""
    upstream.script = HELD
    async with open_house(replace(config, room=replace(config.room, outbox_max_bytes=4096))) as house:
        cafe = await house.cafe()
        ann, bob = [await house.guest(cafe) for _ in range(2)]
        asked = await house.parts.agent.agent.ask(Inquiry(cafe_id=cafe.id, who=Who(ann.id, ann.name), session_id=NO_QUERY, query="Tell me everything."))
        anns = asked.listen(lambda piece: None)
        asked.answer.chunks += ["word " * 1000] * 2000
        wire = await Wire.open(await house.stream(read_buffer_bytes=2048), upgrade("/ws/agent", authorization=f"Bearer {bob.token}"))
        await wire.say("query:stream", {"cafeId": cafe.id, "query": "Tell me everything."}, "q")
        await until(lambda: len(asked.answer.asked) == 2)
        assert [one.outbox.closed for one in house.parts.sockets.all()] == [True]
        assert list(asked.answer.listeners) == [anns]
        asked.cancel()


async def test_a_question_under_way_can_be_cancelled_however_many_came_after_it(
    house: House, cafe: Cafe, ann: Person, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT_USER_MAX", 3)
    wire = await connect(house, ann)
    await completed(wire, await ask(wire, ann, "Short?"))
    upstream.script = HELD
    query_id = await ask(wire, ann, "Long?")
    for _ in range(4):
        await completed(wire, await ask(wire, ann, "Short?"))
    assert await wire.ask("query:cancel", {"queryId": query_id}) == {"queryId": query_id}
    await until(lambda: not upstream.streaming)


async def test_a_question_that_waits_is_asked_with_what_is_true_when_its_turn_comes(config: Config, upstream: Upstream) -> None:
    async with open_house(replace(config, agent=replace(config.agent, queue_s=5.0))) as house:
        cafe = await house.cafe()
        ann, bob, carl = [await house.guest(cafe) for _ in range(3)]
        room = await house.enter(carl)
        sent = await house.send(room, cafe.id, "there is a purple llama")
        wire, query_id = await held(house, ann, upstream)
        bobs = await connect(house, bob)
        await bobs.send(said("query:stream", {"cafeId": cafe.id, "query": "What is new?"}, "q"))
        await bobs.settle()
        await room.ask("message:delete", {"messageId": sent["message"]["id"]})
        upstream.script = Script()
        upstream.let(3)
        await heard_to_the_end(wire, query_id)
        await bobs.heard("query:complete")
        assert "llama" not in upstream.requests[-1].raw.decode()


async def test_what_was_answered_before_a_message_was_deleted_is_not_answered_again(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    wire, room = await connect(house, ann), await house.enter(ann)
    sent = await house.send(room, cafe.id, "there is a purple llama")
    await completed(wire, await ask(wire, ann, "What is new?"))
    await room.ask("message:delete", {"messageId": sent["message"]["id"]})
    await completed(wire, await ask(wire, ann, "What is new?"))
    assert ["llama" in request.raw.decode() for request in upstream.requests] == [True, False]


@pytest.mark.parametrize("words", ["{} has gout", "gout has {}!", "({})"])
async def test_no_guest_is_named_to_the_api_whoever_they_are(house: House, cafe: Cafe, ann: Person, upstream: Upstream, words: str) -> None:
    silent, carl = await house.guest(cafe), await house.guest(cafe)
    carls, room = await house.enter(carl), await house.enter(ann)
    await house.send(carls, cafe.id, "hello")
    for name in (silent.name, carl.name, "MellowOtter4821"):
        await house.send(room, cafe.id, words.format(name))
    await carls.aclose()
    assert (await house.api("DELETE", "/api/users/me", by=carl)).status == 204
    wire = await connect(house, ann)
    await completed(wire, await ask(wire, ann, f"Who is {carl.name}?"))
    sent = upstream.requests[-1].raw.decode()
    assert "gout" in sent or "(" in sent
    assert not [name for name in (silent.name, carl.name, "MellowOtter4821") if name in sent]
