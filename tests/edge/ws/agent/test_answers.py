"""Questions on `/ws/agent` and their answers, through the real daemon, to a server that speaks the Messages API; and questions that are none."""

from __future__ import annotations

import pytest
import trio

from brewd.config import Config
from brewd.people.records import Cafe
from brewd.store.journal import Journal
from tests.agent.upstream import ANSWER, Script, Upstream
from tests.edge.ws.agent.queries import HELD, NO_QUERY, SAID, ask, completed, connect, heard_to_the_end, until
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import UUID, WAIT_S, frame


async def test_an_answer_comes_as_it_is_made(house: House, ann: Person, upstream: Upstream) -> None:
    wire = await connect(house, ann)
    await wire.say("query:stream", {"cafeId": ann.cafe_id, "query": "  What do people\nlove here? "}, "q")
    reply, start = await wire.next(), await wire.next()
    assert (reply["event"], reply["ref"]) == ("reply", "q")
    query_id = reply["data"]["queryId"]
    assert UUID.fullmatch(query_id)
    assert start["event"] == "query:start"
    assert (start["data"]["queryId"], start["data"]["cached"]) == (query_id, False)
    assert start["data"]["query"].split() == ["What", "do", "people", "love", "here?"]
    chunks, end = await heard_to_the_end(wire, query_id)
    assert [one["index"] for one in chunks] == list(range(len(chunks)))
    assert "".join(one["text"] for one in chunks) == SAID
    assert end["event"] == "query:complete"
    assert (end["data"]["fullResponse"], end["data"]["cached"]) == (SAID, False)
    assert end["data"]["usage"]["outputTokens"] == 60
    assert isinstance(end["data"]["sources"], list)
    assert await wire.settle() == []


async def test_the_first_words_do_not_wait_for_the_others(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    assert await wire.heard("query:chunk") == {"queryId": query_id, "index": 0, "text": ANSWER[0]}
    assert upstream.streaming == 1
    upstream.let(3)
    assert await completed(wire, query_id, index=1) == SAID.removeprefix(ANSWER[0])


async def test_the_same_question_again_is_answered_from_memory(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    wire = await connect(house, ann)
    await completed(wire, await ask(wire, ann))
    other = await connect(house, bob := await house.guest(cafe))
    query_id = await ask(other, bob)
    assert (await other.heard("query:start"))["cached"] is True
    assert await completed(other, query_id) == SAID
    assert len(upstream.requests) == 1


async def test_without_a_ref_the_start_says_which_query_it_is(house: House, ann: Person) -> None:
    wire = await connect(house, ann)
    await wire.say("query:stream", {"cafeId": ann.cafe_id, "query": "Who are you?"})
    start = await wire.next()
    assert start["event"] == "query:start"
    assert await completed(wire, start["data"]["queryId"]) == SAID


async def test_two_hundred_askers_and_twenty_questions_are_twenty_calls(house: House, cafe: Cafe, upstream: Upstream) -> None:
    upstream.script = Script(before_s=1.0)
    people = await house.guests(cafe, 200)
    heard: list[str] = []

    async def one(number: int, person: Person) -> None:
        wire = await connect(house, person)
        heard.append(await completed(wire, await ask(wire, person, f"Question {number % 20}?")))
        await wire.bye()

    async with trio.open_nursery() as nursery:
        for number, person in enumerate(people):
            nursery.start_soon(one, number, person)
    assert heard == [SAID] * 200
    assert len(upstream.requests) == 20
    await until(lambda: not len(house.parts.sockets))


async def test_a_question_waits_while_a_message_is_under_way_and_no_message_waits_for_one(
    config: Config, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = trio.Event()
    way.set()
    waited: list[trio.Event] = []

    async def give_way(_: Journal) -> None:
        waited.append(way)
        await way.wait()

    monkeypatch.setattr(Journal, "give_way", give_way)
    async with open_house(config) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire, room = await connect(house, ann), await house.enter(ann)
        way = trio.Event()
        async with trio.open_nursery() as nursery:
            answered = trio.Event()

            async def join() -> None:
                await wire.ask("cafe:join", {"cafeId": cafe.id})
                answered.set()

            nursery.start_soon(join)
            with trio.fail_after(WAIT_S):
                while way not in waited:
                    await trio.sleep(0.01)
            assert (await house.send(room, cafe.id, "hello"))["message"]["seq"] == 1
            assert not answered.is_set()
            way.set()


# What is refused


@pytest.mark.parametrize("query", ["", "   \n\t ", "x" * 501, "x" * 10_000, "a\0b", "a\x1b[31mb", "a\x7fb"])
async def test_a_query_that_is_none_is_refused(house: House, ann: Person, upstream: Upstream, query: str) -> None:
    wire = await connect(house, ann)
    error = await wire.refused("query:stream", {"cafeId": ann.cafe_id, "query": query})
    assert (error["code"], error["errors"][0]["path"]) == ("invalid_request", "data.query")
    assert not upstream.requests


async def test_what_is_not_for_them_is_refused(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    elsewhere = await house.cafe("Elsewhere")
    bob = await house.guest(cafe)
    anns, bobs = await connect(house, ann), await connect(house, bob)
    for event, data in (("query:stream", {"query": "Hm?"}), ("cafe:join", {}), ("cafe:leave", {})):
        assert (await anns.refused(event, {"cafeId": elsewhere.id, **data}))["code"] == "not_in_cafe"
    query_id = await ask(anns, ann)
    for wire, one in ((bobs, query_id), (anns, NO_QUERY)):
        for event in ("query:resume", "query:cancel"):
            assert (await wire.refused(event, {"queryId": one}))["code"] == "not_found"
    assert (await anns.refused("query:stream", {"cafeId": cafe.id, "query": "Hm?", "personality": "pirate"}))["code"] == "invalid_request"
    upstream.let(4)
    assert await completed(anns, query_id) == SAID
    await house.parts.agent.configs.set(cafe.id, enabled=False)
    error = await anns.refused("query:stream", {"cafeId": cafe.id, "query": "And now?"})
    assert error["code"] == "agent_unavailable"


async def test_a_budget_that_is_spent_is_refused_with_the_time_of_the_next(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    await house.parts.agent.configs.set(cafe.id, daily_budget_cents=0)
    error = await (await connect(house, ann)).refused("query:stream", {"cafeId": cafe.id, "query": "Hello?"})
    assert error["code"] == "agent_budget_spent"
    assert 0 < error["retryAfterMs"] <= 25 * 3_600_000  # so long is a day at most
    assert not upstream.requests


async def test_a_socket_has_few_queries_under_way(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    queries = [await ask(wire, ann, f"Question {number}?") for number in range(3)]
    error = await wire.refused("query:stream", {"cafeId": ann.cafe_id, "query": "One more?"})
    assert (error["code"], error["limit"]) == ("rate_limited", "queries")
    upstream.let(12)
    for query_id in queries:
        assert await completed(wire, query_id) == SAID
    assert await ask(wire, ann, "One more?")


async def test_frames_that_are_not_understood_are_answered(house: House, ann: Person) -> None:
    wire = await connect(house, ann)
    for text, path in (
        ('{"event":"message:send","data":{},"ref":"r"}', "event"),
        ('{"event":"query:stream","data":{"cafeId":"c","query":"q","more":1},"ref":"r"}', "data"),
        ('{"event":"query:cancel","data":{"queryId":"x"},"ref":"r"}', "data.queryId"),
        ('{"event":"query:resume","data":{"queryId":"' + NO_QUERY + '","index":-1},"ref":"r"}', "data.index"),
    ):
        await wire.send(frame(text))
        answer = await wire.next()
        assert (answer["event"], answer["ref"], answer["data"]["code"]) == ("error", "r", "invalid_request")
        assert answer["data"]["errors"][0]["path"] == path, answer
    unknown = await house.open("/ws/agent")
    await unknown.say("cafe:join", {"cafeId": ann.cafe_id}, "r")
    assert (await unknown.answer("r"))["event"] == "error"
    assert (await unknown.closed())[0] == 1008


# The room


async def test_who_enters_a_cafe_whose_budget_is_spent_is_told_so(house: House, cafe: Cafe, ann: Person) -> None:
    await house.parts.agent.configs.set(cafe.id, monthly_budget_cents=0)
    wire, moderator = await connect(house, ann), house.staff(cafe, "moderator")
    assert await wire.ask("cafe:join", {"cafeId": cafe.id}) == {
        "cafeId": cafe.id, "persona": "bartender", "available": False, "reason": "what it may cost this café this month is spent",
    }  # fmt: skip
    shown = (await house.api("GET", f"/api/cafes/{cafe.id}/agent", by=moderator)).json
    assert (shown["state"], shown["reason"]) == ("unavailable", "what it may cost this café this month is spent")
    assert (await house.api("GET", f"/api/cafes/{cafe.id}", by=ann)).json["agent"]["available"] is False
    assert (await house.api("GET", "/api/health")).json["checks"]["agent"] == "ok"  # others go on


async def test_nobody_is_present_by_asking(house: House, cafe: Cafe, ann: Person) -> None:
    bob = await house.guest(cafe)
    room = await house.enter(bob)
    wire = await connect(house, ann)
    entered = await wire.ask("cafe:join", {"cafeId": cafe.id})
    assert entered == {"cafeId": cafe.id, "persona": "bartender", "available": True}
    await house.send(room, cafe.id, "hello")
    assert [one["event"] for one in await room.settle() if one["event"] == "users:update"] == []
    assert (await house.api("GET", f"/api/chat/presence/{cafe.id}", by=bob)).json["userCount"] == 1
    assert await wire.settle() == []


async def test_what_the_agent_says_by_itself_is_heard_by_those_who_joined(house: House, cafe: Cafe, ann: Person) -> None:
    elsewhere = await house.cafe("Elsewhere")
    people = [ann, house.staff(cafe, "moderator"), await house.guest(cafe), await house.guest(elsewhere)]
    joined, watching, silent, far = [await connect(house, person) for person in people]
    await joined.ask("cafe:join", {"cafeId": cafe.id})
    await watching.ask("cafe:join", {"cafeId": cafe.id})
    await far.ask("cafe:join", {"cafeId": elsewhere.id})
    house.parts.watchers.tell(cafe.id, "It rains. Cake?", house.parts.clock.now_ms())
    for wire in (joined, watching):
        (told,) = await wire.settle()
        assert (told["event"], told["data"]["cafeId"], told["data"]["message"]) == ("proactive:message", cafe.id, "It rains. Cake?")
        assert told["data"]["createdAt"].endswith("Z")
    await joined.ask("cafe:leave", {})
    house.parts.watchers.tell(cafe.id, "Still raining.", house.parts.clock.now_ms())
    assert [one["event"] for one in await watching.settle()] == ["proactive:message"]
    for wire in (joined, silent, far):
        assert await wire.settle() == []
