"""Questions on `/ws/agent`, through the real daemon, to a server that speaks the Messages API."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from brewd import config as cfg
from brewd.agent import calling
from brewd.agent.agent import Agent
from brewd.agent.calls import GiveWay, Opening
from brewd.agent.remote import WorkerProcess, open_worker
from brewd.config import Config
from brewd.people.records import Cafe
from brewd.store.journal import Journal
from tests.agent.upstream import ANSWER, Script, Upstream, open_upstream
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import UUID, WAIT_S, Closed, Wire, frame, upgrade
from tests.patience import PATIENCE

SAID = "".join(ANSWER)
HELD = Script(held=True)
NO_QUERY = "01890000-0000-7000-8000-000000000000"
STOPPED_S = 1.0 * PATIENCE
"""Within this a call that nobody listens to is stopped."""

CUT_S = 2.5
"""Sooner than a socket that does not answer a goodbye is cut."""


class Workers:
    """Real ones, in the order in which they were started."""

    def __init__(self) -> None:
        self.started: list[WorkerProcess] = []

    @asynccontextmanager
    async def open(self, opening: Opening, give_way: GiveWay) -> AsyncIterator[WorkerProcess]:
        async with open_worker(opening, give_way) as worker:
            self.started.append(worker)
            yield worker


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """A busy machine takes long to start one."""
    monkeypatch.setattr(calling, "OPENING_S", WAIT_S)
    return Workers()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream
        with trio.fail_after(2):
            while upstream.streaming or upstream.connections:
                await trio.sleep(0.01)


@pytest.fixture
def config(config: Config, upstream: Upstream, tmp_path: Path) -> Config:
    return unlimited(config, upstream, tmp_path)


def unlimited(config: Config, upstream: Upstream, tmp_path: Path) -> Config:
    """No limit on how often anybody asks, and a key that the upstream takes."""
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    free = cfg.Bucket(per_hour=1_000_000, burst=1_000_000, gap_s=0)
    asking = cfg.PerSession(per_session=1000, gap_s=0)
    return replace(
        config,
        agent=replace(config.agent, base_url=upstream.url, api_key_file=str(key), retries=0, in_flight_max=40, in_flight_cafe_max=40),
        limits=replace(config.limits, profiles={"standard": cfg.Profile(message=free, badge_message=free, agent=asking, badge_agent=asking)}),
    )


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


@pytest.fixture
async def ann(house: House, cafe: Cafe) -> Person:
    return await house.guest(cafe)


async def connect(house: House, person: Person) -> Wire:
    wire = await house.open("/ws/agent", authorization=f"Bearer {person.token}")
    await wire.heard("connected")
    return wire


async def ask(wire: Wire, person: Person, query: str = "What do people love here?", **more: Any) -> str:
    """The id of a query that was taken."""
    answer = await wire.ask("query:stream", {"cafeId": person.cafe_id, "query": query, **more})
    assert answer.keys() == {"queryId"}
    return str(answer["queryId"])


async def heard_to_the_end(wire: Wire, query_id: str) -> tuple[list[Any], dict[str, Any]]:
    """The chunks of a query, and its last event."""
    chunks: list[Any] = []
    while True:
        one = await wire._first(lambda one: one["event"].startswith("query:") and one["data"].get("queryId") == query_id)
        if one["event"] == "query:chunk":
            chunks.append(one["data"])
        elif one["event"] != "query:start":
            return chunks, one


async def completed(wire: Wire, query_id: str, *, index: int = 0) -> str:
    """The text of a query that ends well, its chunks from `index` on without a gap."""
    chunks, end = await heard_to_the_end(wire, query_id)
    assert end["event"] == "query:complete", end
    assert [one["index"] for one in chunks] == list(range(index, index + len(chunks)))
    text = "".join(one["text"] for one in chunks)
    assert str(end["data"]["fullResponse"]).endswith(text)
    return text


async def failed(wire: Wire, query_id: str) -> tuple[str, Any]:
    """What came of a query that ends badly: its text, and the error."""
    chunks, end = await heard_to_the_end(wire, query_id)
    assert end["event"] == "query:error", end
    return "".join(one["text"] for one in chunks), end["data"]


async def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    with trio.fail_after(within_s):
        while not true():
            await trio.sleep(0.005)


# An answer


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


# Its end


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


async def test_when_what_makes_the_calls_is_killed_it_is_started_again(
    config: Config, upstream: Upstream, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real worker. Who was waiting is told, who asks meanwhile is answered, and no call is forgotten."""
    put, puts = WorkerProcess.put, list[tuple[WorkerProcess, bytes]]()

    async def noting(worker: WorkerProcess, rows: bytes) -> None:
        await put(worker, rows)
        puts.append((worker, rows))

    monkeypatch.setattr(WorkerProcess, "put", noting)

    upstream.script = HELD
    async with open_house(config, open_client=workers.open) as house:
        cafe = await house.cafe()
        ann = await house.guest(cafe)
        wire = await connect(house, ann)
        query_id = await ask(wire, ann)
        upstream.let()
        await wire.heard("query:chunk")
        os.kill(workers.started[0].pid, signal.SIGKILL)
        text, error = await failed(wire, query_id)
        assert (text, error["code"], error["partial"]) == ("", "agent_unavailable", True)
        health = (await house.api("GET", "/api/health")).json
        assert (health["status"], health["checks"]["agent"]) == ("degraded", "unavailable")
        upstream.script = Script()
        assert await completed(wire, await ask(wire, ann)) == SAID
        assert (await house.api("GET", "/api/health")).json["checks"]["agent"] == "ok"
        await house.enter(ann)
        summary = await house.parts.agent.log.summary(cafe.id)
        assert (summary.queries_today, summary.cached_today) == (2, 0)
    assert len(workers.started) == 2
    assert [worker for worker, rows in puts if b'"started"' in rows] == workers.started  # each has written down its call


async def test_who_asks_while_what_makes_the_calls_dies_hears_that_the_agent_is_away_and_not_the_store(
    config: Config, upstream: Upstream, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to write the call down; the store is well."""
    put, beginning = WorkerProcess.put, trio.Event()

    async def noting(worker: WorkerProcess, rows: bytes) -> None:
        if b"And now?" in rows:
            beginning.set()
        await put(worker, rows)

    monkeypatch.setattr(WorkerProcess, "put", noting)

    async with open_house(config, open_client=workers.open) as house:
        ann = await house.guest(await house.cafe())
        wire = await connect(house, ann)
        await completed(wire, await ask(wire, ann, "Are you there?"))
        os.kill(workers.started[0].pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            async def refused() -> None:
                _, error = await failed(wire, await ask(wire, ann, "And now?"))
                assert error["code"] == "agent_unavailable"  # and not that the store is
                assert error["retryAfterMs"] > 0

            nursery.start_soon(refused)
            with trio.fail_after(WAIT_S):
                await beginning.wait()
            os.kill(workers.started[0].pid, signal.SIGKILL)


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


async def test_a_guest_who_has_to_go_hears_no_more(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = HELD
    wire = await connect(house, ann)
    await ask(wire, ann)
    await until(lambda: upstream.streaming == 1)
    house.parts.sockets.close_user(ann.id, 4003, "kicked")
    await until(lambda: upstream.gone == 1, CUT_S)  # though nobody answers the goodbye
    assert await wire.closed() == (4003, "kicked")


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
