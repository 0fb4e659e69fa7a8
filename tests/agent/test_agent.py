"""Questions and their answers, over the real stores and an API that speaks over real sockets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from brewd.agent.pieces import Chunk, Complete, Failed, Usage
from brewd.agent.rows import STARTED, put_rows
from brewd.cafe.commands import Who
from brewd.errors import Rejected, StoreError
from brewd.people.erasure import FORGOTTEN_KEY
from tests.agent.conftest import Open
from tests.agent.table import Table, hear, listening, until
from tests.agent.upstream import ANSWER, Script

TEXT = "".join(ANSWER)
ANNA, BEN = Who("00000000-0000-4000-8000-00000000000a", "Anna"), Who("00000000-0000-4000-8000-00000000000b", "Ben")


async def test_a_question_is_answered_in_chunks_and_whole(table: Table) -> None:
    cafe = await table.cafe(menu=[{"name": "Flat white", "price": 4.2}])
    text, end = await table.heard(cafe)
    assert text == TEXT
    assert end == Complete(TEXT, False, ("menu",), Usage(400, 60, 0, 0))
    assert table.agent.status.state == "ok"


async def test_the_same_question_again_comes_from_the_cache_and_costs_no_token(table: Table) -> None:
    cafe = await table.cafe()
    await table.heard(cafe, "What is good here?")
    asked = await table.ask(cafe, "  what is GOOD here ", ANNA)
    assert asked.cached
    assert await hear(asked) == (TEXT, Complete(TEXT, True, (), Usage()))
    assert (len(table.upstream.requests), len(table.rooms.ref(cafe.id).taken)) == (1, 1)
    assert await table.logged("outcome, cached") == [("answered", False), ("cached", True)]


async def test_what_is_under_way_or_in_memory_is_found_without_asking_anybody(table: Table) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    inquiry, elsewhere = table.inquiry(cafe.id), table.inquiry(other.id)
    assert table.agent.look(inquiry) is None  # nothing is known of the café
    await table.heard(other, "something else")
    first = await table.ask(cafe)
    shared = table.agent.look(inquiry)
    assert shared is not None
    assert (shared.answer, shared.cached, table.agent.look(elsewhere)) == (first.answer, False, None)
    assert await hear(shared) == await hear(first)
    again = table.agent.look(table.inquiry(cafe.id, "What is GOOD here"))
    assert again is not None
    assert again.cached
    assert await hear(again) == (TEXT, Complete(TEXT, True, (), Usage()))
    assert table.agent.resume(again.query_id, again.user_id) is again
    assert sorted(await table.logged("outcome, cached")) == [("answered", False), ("answered", False), ("cached", True), ("shared", True)]


async def test_what_an_answer_rests_on_is_looked_at_each_time(table: Table) -> None:
    cafe = await table.cafe()
    await table.heard(cafe)
    inquiry = table.inquiry(cafe.id)
    assert table.agent.look(inquiry) is not None
    assert table.agent.look(table.inquiry(cafe.id, personality="historian")) is None
    with pytest.raises(Rejected, match="no persona 'pirate'"):
        table.agent.look(table.inquiry(cafe.id, personality="pirate"))
    with pytest.raises(Rejected, match="nothing in it to read"):
        table.agent.look(table.inquiry(cafe.id, " "))
    await table.cafes.set(cafe.id, menu=[{"name": "Tea"}])
    assert table.agent.look(inquiry) is None
    await table.heard(cafe)
    assert table.agent.look(inquiry) is not None
    table.cafes.forget(cafe.id)
    assert table.agent.look(inquiry) is None
    await table.configs.set(cafe.id, enabled=False)
    with pytest.raises(Rejected, match="off in this café"):
        table.agent.look(inquiry)


async def test_the_cache_outlives_a_restart_in_redis_for_an_hour(opened: Open) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        await table.heard(cafe)
        await table.mirror.flush()
        (key,) = (await table.redis.pipeline([("KEYS", "agent:cache:*")]))[0]
        assert key.startswith(f"agent:cache:{cafe.id}:")
        assert 3_590_000 < (await table.redis.pipeline([("PTTL", key)]))[0] <= 3_600_000
    async with opened() as table:
        assert (await table.ask(cafe)).cached
    assert len(table.upstream.requests) == 1


async def test_what_only_redis_remembers_is_not_answered_again_once_somebody_is_erased(opened: Open) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        await table.heard(cafe)
        await table.mirror.flush()
    async with opened() as table:
        table.agent.forget(cafe.id, {"somebody"})
        assert not (await table.ask(cafe)).cached


@pytest.mark.parametrize(("mark", "cached"), [(None, True), (b"rubbish", True), (0, True), (1 << 60, False)])
async def test_an_erasure_that_a_process_before_has_marked_counts_too(opened: Open, mark: bytes | int | None, cached: bool) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        await table.heard(cafe)
        await table.mirror.flush()
    async with opened() as table:
        if mark is not None:
            await table.redis.pipeline([("SET", FORGOTTEN_KEY.replace("{id}", cafe.id), mark)])
        assert (await table.ask(cafe)).cached is cached


@pytest.mark.parametrize("change", ["persona", "menu", "crowd", "cafe", "query"])
async def test_another_cafe_persona_crowd_or_menu_is_another_answer(table: Table, change: str) -> None:
    cafe = await table.cafe()
    await table.heard(cafe)
    other, query = cafe, "what is good here?"
    if change == "persona":
        await table.configs.set(cafe.id, persona="historian")
    elif change == "menu":
        await table.cafes.set(cafe.id, menu=[{"name": "Cake"}])
    elif change == "crowd":
        table.rooms.ref(cafe.id).members = 30
    elif change == "cafe":
        other = await table.cafe()
    else:
        query = "what is bad here?"
    assert not (await table.ask(other, query)).cached


async def test_many_who_ask_the_same_at_once_share_a_call_and_one_of_them_pays(table: Table) -> None:
    cafe = await table.cafe()
    table.rooms.ref(cafe.id).takes_max = 1  # the gap of the café lets nobody else through
    table.upstream.script = Script(held=True)
    heard: list[str] = []

    async def one() -> None:
        heard.append((await table.heard(cafe))[0])

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(one)
        await until(lambda: table.upstream.streaming)
        await trio.testing.wait_all_tasks_blocked(0.02)  # else who is late is answered from memory
        table.upstream.let(len(ANSWER))
    assert heard == [TEXT] * 30
    assert len(table.upstream.requests) == 1
    assert Counter(row[0] for row in await table.logged()) == {"answered": 1, "shared": 29}


async def test_two_hundred_askers_with_twenty_questions_make_twenty_calls(opened: Open) -> None:
    async with opened(in_flight_max=20, in_flight_cafe_max=20) as table:
        cafe = await table.cafe()
        table.upstream.script = lambda request: Script(texts=(f"About {request.body['messages'][0]['content'][1]['text'][-20:]}",), gap_s=0.01)
        answers: dict[int, set[str]] = {number: set() for number in range(20)}

        async def one(number: int) -> None:
            text, end = await table.heard(cafe, f"what about number {number}?")
            assert isinstance(end, Complete)
            answers[number].add(text)

        async with trio.open_nursery() as nursery:
            for asker in range(200):
                nursery.start_soon(one, asker % 20)
        assert len(table.upstream.requests) == 20
        assert all(len(texts) == 1 for texts in answers.values())
        assert len(set.union(*answers.values())) == 20


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "nothing in it to read"),
        (" \n\t ", "nothing in it to read"),
        ("\u200b\u2800", "nothing in it to read"),
        ("\ue000\u0378" * 3, "nothing in it to read"),
        ("x" * 501, "501 characters"),
        ("x" * 10_240, "10240 characters"),
        ("what\x00now", "control characters"),
        ("\x1b[31mred", "control characters"),
        ("half a sign \ud800", "control characters"),
    ],
    ids=["empty", "blank", "invisible", "unassigned", "501", "10 kB", "NUL", "escape", "surrogate"],
)
async def test_a_query_nobody_could_answer_is_refused_and_costs_nothing(table: Table, query: str, problem: str) -> None:
    cafe = await table.cafe()
    with pytest.raises(Rejected, match=problem) as caught:
        await table.ask(cafe, query)
    assert caught.value.code == "invalid_request"
    assert not table.rooms.ref(cafe.id).taken
    assert not table.upstream.requests


async def test_a_persona_is_one_of_those_there_are(table: Table) -> None:
    cafe = await table.cafe()
    with pytest.raises(Rejected, match="bartender, quirky"):
        await table.ask(cafe, personality="pirate")
    with pytest.raises(Rejected, match="no persona of its own"):
        await table.ask(cafe, personality="custom")
    await table.configs.set(cafe.id, custom_text="Talk like a sailor.", persona="custom")
    await table.heard(cafe, personality="sarcastic")
    await table.heard(cafe)
    first, second = (request.body["system"][0]["text"] for request in table.upstream.requests)
    assert "deadpan" in first
    assert "Talk like a sailor." in second


async def test_a_cafe_that_is_not_there_and_one_that_is_off_are_told(table: Table) -> None:
    cafe = await table.cafe()
    await table.configs.set(cafe.id, enabled=False)
    with pytest.raises(Rejected, match="off in this café"):
        await table.ask(cafe)
    with pytest.raises(Rejected) as caught:
        await table.agent.ask(table.inquiry(table.ids.uuid7()))
    assert caught.value.code == "not_found"


async def test_a_limit_or_a_mute_of_the_room_is_passed_on_and_costs_nothing(table: Table) -> None:
    cafe = await table.cafe()
    for code in ("rate_limited", "muted"):
        table.rooms.ref(cafe.id).refuses = Rejected(code, "No.", retryAfterMs=5)
        with pytest.raises(Rejected) as caught:
            await table.ask(cafe)
        assert caught.value.code == code
    assert not table.upstream.requests
    assert await table.logged() == []
    table.rooms.ref(cafe.id).refuses = None
    assert (await table.heard(cafe))[0] == TEXT


async def test_a_full_house_waits_briefly_and_is_then_told(opened: Open) -> None:
    async with opened(in_flight_max=3, in_flight_cafe_max=2, queue_s=0.05) as table:
        table.upstream.script = Script(held=True)
        cafe, other = await table.cafe(), await table.cafe()
        asked = [await table.ask(cafe, f"question {number}") for number in range(2)]
        with pytest.raises(Rejected, match="answers others") as caught:
            await table.ask(cafe, "one too many here")
        assert (caught.value.code, caught.value.extras) == ("agent_unavailable", {"retryAfterMs": 3000})
        asked.append(await table.ask(other, "still room for another café"))
        with pytest.raises(Rejected, match="answers others"):
            await table.ask(other, "one too many in all")
        assert len(table.rooms.ref(other.id).taken) == 1
        table.upstream.let(3 * len(ANSWER))
        assert [(await hear(one))[0] for one in asked] == [TEXT] * 3
        assert (await table.ask(cafe, "one too many here")).query == "one too many here"


async def test_who_waits_gets_the_place_that_comes_free(opened: Open) -> None:
    async with opened(in_flight_max=1) as table:
        cafe = await table.cafe()
        table.upstream.script = Script(held=True)
        first = await table.ask(cafe, "first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(table.heard, cafe, "second")
            await until(lambda: table.upstream.requests and table.agent._calls._slots._waiting)
            assert len(table.upstream.requests) == 1
            table.upstream.let(2 * len(ANSWER))
            await hear(first)
        assert len(table.upstream.requests) == 2


@pytest.mark.parametrize(
    ("script", "code", "partial"),
    [
        (Script(status=429, headers=(("retry-after", "9"),)), "agent_unavailable", False),
        (Script(status=529), "agent_unavailable", False),
        (Script(status=500), "agent_unavailable", False),
        (Script(status=400), "agent_unavailable", False),
        (Script(cut_after=2), "agent_unavailable", True),
        (Script(error_after="overloaded_error"), "agent_unavailable", True),
        (Script(stop_reason="refusal"), "invalid_request", True),
        (Script(texts=(), stop_reason="refusal"), "invalid_request", False),
        (Script(texts=(), stop_reason="max_tokens"), "agent_unavailable", False),
        (Script(texts=()), "agent_unavailable", False),
    ],
    ids=["429", "529", "500", "400", "cut", "error in the stream", "refusal", "refusal at once", "no room", "nothing"],
)
async def test_what_goes_wrong_is_told_and_what_came_stays(opened: Open, script: Script, code: str, partial: bool) -> None:
    async with opened(retries=0) as table:
        cafe = await table.cafe()
        table.upstream.script = script
        text, end = await table.heard(cafe)
        assert isinstance(end, Failed)
        assert (end.code, end.partial) == (code, partial)
        assert bool(text) is partial
        if script.status == 429:
            assert end.retry_after_ms == 9000
            with pytest.raises(Rejected, match="asks for a pause"):
                await table.ask(cafe, "at once?")
            return
        table.upstream.script = Script()
        assert (await table.heard(cafe))[0] == TEXT  # a failure is never cached


async def test_an_answer_that_reached_its_length_is_marked_and_not_kept(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(stop_reason="max_tokens")
    _, end = await table.heard(cafe)
    assert isinstance(end, Complete)
    assert end.truncated
    assert not (await table.ask(cafe)).cached


async def test_what_the_rooms_would_feel_waits_for_them(table: Table) -> None:
    cafe = await table.cafe()
    room = table.rooms.ref(cafe.id)
    seen: list[tuple[int, int, list[Any]]] = []
    async with trio.open_nursery() as nursery:
        way = table.way = trio.Event()
        nursery.start_soon(table.heard, cafe)
        for _ in range(6):  # before all; before the same answer is looked for; its facts; what comes of them; the call is written down; its end is
            await until(lambda: table.gave_way > len(seen))
            outcomes = [row["outcome"] for row in await table.row("SELECT outcome FROM agent_queries")]
            seen.append((len(room.taken), len(table.upstream.requests), outcomes))
            way, table.way = table.way, trio.Event()
            way.set()
        table.way.set()
    assert seen == [(0, 0, [])] * 4 + [(1, 0, []), (1, 1, ["started"])]
    assert await table.logged() == [("answered",)]


async def test_nobody_waits_for_a_call_to_be_written_down_but_the_call(table: Table) -> None:
    cafe = await table.cafe()
    written = trio.Event()

    async def put(rows: bytes) -> None:
        await written.wait()
        await put_rows(table.pg, rows)

    with table.log.writer.written_by(put):
        asked = [await table.ask(cafe, who=who) for who in (ANNA, BEN)]
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not table.upstream.requests
        written.set()
        for one in asked:
            assert (await hear(one))[0] == "".join(ANSWER)
    assert len(table.upstream.requests) == 1


async def test_a_call_that_could_not_be_written_down_is_not_made_and_costs_nothing(table: Table) -> None:
    cafe = await table.cafe()
    account = await table.log.account(cafe.id, await table.configs.get(cafe.id))

    async def away(rows: bytes) -> None:
        if STARTED.encode() in rows:
            assert account.budget.reserved > 0
            raise StoreError("away")
        await put_rows(table.pg, rows)

    with table.log.writer.written_by(away):
        text, end = await table.heard(cafe)
        assert isinstance(end, Failed)
        assert (text, end.code, end.retry_after_ms, end.partial) == ("", "storage_unavailable", 1000, False)
        assert account.budget.reserved == 0
        assert await table.logged("outcome, cost_microcents") == [("unwritten", 0)]
    assert not table.upstream.requests
    assert isinstance((await table.heard(cafe))[1], Complete)


async def test_the_first_chunk_is_there_right_after_the_api_sent_it(table: Table) -> None:
    """Ten times, the median: less than 10 ms, whatever else the machine does."""
    cafe = await table.cafe()
    table.upstream.script = Script(gap_s=0.001)
    took_s: list[float] = []
    for number in range(11):
        asked = await table.ask(cafe, f"question {number}")
        sent = len(table.upstream.texts_sent)
        async with listening(asked) as pieces:
            assert isinstance(await anext(pieces), Chunk)
            took_s.append(trio.current_time() - table.upstream.texts_sent[sent][0])
            async for _ in pieces:
                pass
    assert sorted(took_s)[5] < 0.010


async def test_stopping_the_agent_ends_every_answer_and_leaves_no_connection(opened: Open) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        table.upstream.script = Script(held=True)
        asked = [await table.ask(cafe, f"question {number}") for number in range(4)]
        await until(lambda: table.upstream.streaming == 4)
    await until(lambda: not table.upstream.connections)
    for one in asked:
        _, end = await hear(one)
        assert isinstance(end, Failed)
