"""How a query ends, if not with its answer: cancelled, lost and taken up again, failed upstream, drained, sent away."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from brewd.agent.agent import Agent
from brewd.config import Config
from brewd.people.records import Cafe
from tests.agent.upstream import ANSWER, Script, Upstream
from tests.edge.ws.agent.queries import CUT_S, HELD, SAID, STOPPED_S, ask, completed, connect, failed, until
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Closed, Wire, upgrade


async def test_a_cancelled_query_stops_the_call(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    assert await wire.ask("query:cancel", {"queryId": query_id}) == {"queryId": query_id}
    await until(lambda: upstream.gone == 1 and not upstream.streaming, STOPPED_S)
    assert [one["event"] for one in await wire.settle()] == ["query:start"]
    assert (await wire.refused("query:cancel", {"queryId": query_id}))["code"] == "not_found"
    assert (await wire.refused("query:resume", {"queryId": query_id}))["code"] == "not_found"


async def test_a_query_cancelled_on_one_socket_ends_on_the_others(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    one, other = await connect(house, ann), await connect(house, ann)
    query_id = await ask(one, ann)
    upstream.let()
    await one.heard("query:chunk")
    await other.ask("query:resume", {"queryId": query_id, "index": 1})
    await one.ask("query:cancel", {"queryId": query_id})
    assert (await failed(other, query_id))[1]["code"] == "conflict"


async def test_a_lost_socket_stops_the_call(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    await wire.aclose()
    await until(lambda: upstream.gone == 1 and not upstream.streaming, STOPPED_S)
    await until(lambda: not len(house.parts.sockets))


async def test_whoever_shares_the_call_hears_the_rest(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    bob = await house.guest(cafe)
    anns, bobs = await connect(house, ann), await connect(house, bob)
    await ask(anns, ann)
    upstream.let()
    await anns.heard("query:chunk")
    query_id = await ask(bobs, bob)
    await bobs.heard("query:chunk")
    await anns.aclose()
    await until(lambda: len(house.parts.sockets) == 1)
    answer = house.parts.agent.agent.resume(query_id, bob.id).answer
    await until(lambda: len(answer.askers) == 1, STOPPED_S)  # Ann is given up; had nobody shared it, the call would be, too
    upstream.let(3)
    assert await completed(bobs, query_id, index=1) == SAID.removeprefix(ANSWER[0])
    assert (len(upstream.requests), upstream.gone) == (1, 0)


async def test_a_reconnect_gets_the_rest(house: House, cafe: Cafe, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    await wire.aclose()
    again = await connect(house, ann)
    assert await again.ask("query:resume", {"queryId": query_id, "index": 1}) == {"queryId": query_id}
    upstream.let(3)
    assert await completed(again, query_id, index=1) == SAID.removeprefix(ANSWER[0])
    await again.ask("query:resume", {"queryId": query_id})  # all of it, after its end
    assert await completed(again, query_id) == SAID
    assert len(upstream.requests) == 1


async def test_a_query_resumed_where_it_is_heard_is_heard_once(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    await wire.ask("query:resume", {"queryId": query_id, "index": 1})
    upstream.let(3)
    assert await completed(wire, query_id, index=1) == SAID.removeprefix(ANSWER[0])
    assert [one for one in await wire.settle() if one["event"] != "query:start"] == []


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        (Script(cut_after=2, gap_s=0.05), ANSWER[0] + ANSWER[1], "agent_unavailable"),
        (Script(error_after="overloaded_error"), SAID, "agent_unavailable"),
        (Script(status=429), "", "agent_unavailable"),
        (Script(status=529), "", "agent_unavailable"),
        (Script(status=500), "", "agent_unavailable"),
    ],
)
async def test_what_goes_wrong_upstream_is_told(house: House, ann: Person, upstream: Upstream, script: Script, text: str, code: str) -> None:
    upstream.script = script
    wire = await connect(house, ann)
    came, error = await failed(wire, await ask(wire, ann))
    assert (came, error["code"], error.get("partial")) == (text, code, bool(text))
    assert error["detail"]
    upstream.script = Script()
    assert await completed(wire, await ask(wire, ann, "And now?")) == SAID


async def test_a_wrong_key_shows_in_health_and_is_one_line_in_the_log(config: Config, upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.script = Script(status=401)
    async with open_house(config) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire = await connect(house, ann)
        assert (await failed(wire, await ask(wire, ann)))[1]["code"] == "agent_unavailable"
        assert (await wire.refused("query:stream", {"cafeId": cafe.id, "query": "And now?"}))["code"] == "agent_unavailable"
        health = (await house.api("GET", "/api/health")).json
        assert (health["status"], health["checks"]["agent"]) == ("degraded", "unavailable")
        assert (await wire.ask("cafe:join", {"cafeId": cafe.id}))["available"] is False
        assert (await house.send(await house.enter(ann), cafe.id, "hello"))["message"]["seq"] == 1  # the room goes on
    logged = [line for line in capsys.readouterr().err.splitlines() if '"level":"error"' in line]
    assert len(logged) == 1
    assert "refuses the API key" in logged[0]


@pytest.mark.parametrize("where", ["look", "ask"])
async def test_a_bug_is_one_error_with_a_number_and_the_next_question_is_answered(
    config: Config, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug, and somebody's words")

    async with open_house(config) as house:
        ann = await house.guest(await house.cafe())
        wire = await connect(house, ann)
        with monkeypatch.context() as patch:
            patch.setattr(Agent, where, broken)
            error = await wire.refused("query:stream", {"cafeId": ann.cafe_id, "query": "Is it open?"})
        assert (error["code"], "a bug" in str(error)) == ("internal", False)
        assert await completed(wire, await ask(wire, ann, "Is it open?")) == SAID
    assert error["incident"] in capsys.readouterr().err


async def test_without_a_key_everything_else_works(config: Config, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with open_house(replace(config, agent=replace(config.agent, api_key_file=""))) as house:
        ann = await house.guest(await house.cafe())
        wire = await connect(house, ann)
        error = await wire.refused("query:stream", {"cafeId": ann.cafe_id, "query": "Hello?"})
        assert error["code"] == "agent_unavailable"
        assert "key" in error["detail"]
        assert "key" in (await wire.ask("cafe:join", {"cafeId": ann.cafe_id}))["reason"]
        health = (await house.api("GET", "/api/health")).json
        assert (health["status"], health["checks"]["agent"]) == ("ok", "off")
    assert not upstream.requests


async def test_a_drain_ends_every_query(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    house.parts.stop()
    wait_ms = (await wire.heard("server:draining"))["reconnectInMs"]
    _, error = await failed(wire, query_id)
    assert (error["code"], error["retryAfterMs"]) == ("agent_unavailable", wait_ms)
    assert await wire.closed() == (1012, "restarting")
    await until(lambda: not upstream.streaming)


async def test_after_a_reconnect_what_came_before_it_is_part_of_the_answer(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    query_id = await ask(wire, ann)
    upstream.let()
    await wire.heard("query:chunk")
    again = await connect(house, ann)
    await again.ask("query:resume", {"queryId": query_id, "index": 1})
    house.parts.stop()
    came, error = await failed(again, query_id)
    assert (came, error["code"], error.get("partial")) == ("", "agent_unavailable", True)


async def test_a_guest_who_has_to_go_hears_no_more(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    await ask(wire, ann)
    await until(lambda: upstream.streaming == 1)
    house.parts.sockets.close_user(ann.id, 4003, "kicked")
    await until(lambda: upstream.gone == 1, CUT_S)  # though nobody answers the goodbye
    assert await wire.closed() == (4003, "kicked")


async def test_a_socket_that_does_not_read_is_sent_away_and_its_call_stops(config: Config, upstream: Upstream) -> None:
    upstream.script = Script(texts=("word " * 1000,) * 1000, gap_s=0.01)
    async with open_house(replace(config, room=replace(config.room, outbox_max_bytes=4096))) as house:
        ann = await house.guest(await house.cafe())
        wire = await Wire.open(await house.stream(read_buffer_bytes=2048), upgrade("/ws/agent", authorization=f"Bearer {ann.token}"))
        await wire.say("query:stream", {"cafeId": ann.cafe_id, "query": "Tell me everything."}, "q")
        await until(lambda: all(one.outbox.closed for one in house.parts.sockets.all()))
        await until(lambda: upstream.gone == 1, CUT_S)
        with pytest.raises(Closed) as closed:
            await wire.heard("nothing")
        assert closed.value.code == 4008
