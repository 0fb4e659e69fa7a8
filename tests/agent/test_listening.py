"""Who listens to an answer: lost and back, cancelled, shared; and the call that ends when nobody does."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from brewd.agent.answers import KEPT_S, LINGER_S
from brewd.agent.pieces import Chunk, Complete, Failed
from brewd.cafe.commands import Who
from brewd.errors import Rejected
from tests.agent.table import Table, hear, listening, until
from tests.agent.upstream import ANSWER, Script

TEXT = "".join(ANSWER)
ANNA, BEN = Who("00000000-0000-4000-8000-00000000000a", "Anna"), Who("00000000-0000-4000-8000-00000000000b", "Ben")


async def test_a_lost_socket_stops_the_call_within_a_second_and_what_came_can_be_resumed(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe, who=ANNA)
    table.upstream.let()
    async with listening(asked) as pieces:
        assert await anext(pieces) == Chunk(0, ANSWER[0])
    flow.jump(LINGER_S - 0.01)
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert table.upstream.streaming == 1
    assert LINGER_S < 1
    flow.jump(0.02)
    await until(lambda: not table.upstream.streaming)
    assert table.upstream.gone == 1
    text, end = await hear(table.agent.resume(asked.query_id, ANNA.user_id))
    assert text == ANSWER[0]
    assert isinstance(end, Failed)
    assert (end.code, end.partial) == ("agent_unavailable", True)
    assert await table.logged() == [("cancelled",)]


async def test_a_question_nobody_ever_listens_to_does_not_keep_its_call(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe, who=ANNA)
    await until(lambda: table.upstream.streaming)
    flow.jump(LINGER_S)
    assert asked.answer.stopping
    await until(lambda: not table.upstream.streaming)
    assert isinstance(asked.answer.end, Failed)
    assert await table.logged() == [("cancelled",)]


async def test_one_who_was_lost_and_came_back_is_waited_for_anew(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe, who=ANNA)
    await until(lambda: table.upstream.streaming)
    for _ in range(3):
        flow.jump(LINGER_S - 0.1)
        asked.listen(lambda piece: None).stop()
    listening_on = asked.listen(lambda piece: None)
    flow.jump(5)
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert table.upstream.streaming == 1
    for _ in range(2):  # the second changes nothing
        listening_on.stop()
        flow.jump(LINGER_S / 2)
    assert asked.answer.stopping
    await until(lambda: not table.upstream.streaming)


async def test_a_call_ends_when_the_last_wants_it_no_more_whether_lost_or_cancelled(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    lost, other = await table.ask(cafe, who=ANNA), await table.ask(cafe, who=BEN)
    await until(lambda: table.upstream.streaming)
    other.listen(lambda piece: None)
    lost.listen(lambda piece: None).stop()
    flow.jump(LINGER_S / 2)
    table.agent.cancel(other.query_id, BEN.user_id)
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert (table.upstream.streaming, lost.answer.askers) == (1, [lost])
    flow.jump(LINGER_S / 2)  # since she was lost, not since he cancelled
    assert lost.answer.stopping
    await until(lambda: not table.upstream.streaming)
    assert lost.answer.askers == []


async def test_who_stopped_listening_or_cancelled_is_told_no_more(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked, other = await table.ask(cafe, who=ANNA), await table.ask(cafe, who=BEN)
    stopped: list[object] = []
    cancelled: list[object] = []
    whole: list[object] = []
    first = asked.listen(stopped.append, 0, lambda: stopped.append("cut"))
    asked.listen(cancelled.append, 0, lambda: cancelled.append("cut"))
    other.listen(whole.append)
    table.upstream.let()
    await until(lambda: whole)
    first.stop()
    table.agent.cancel(asked.query_id, ANNA.user_id)
    asked.listen(cancelled.append, 0, lambda: cancelled.append("too late"))
    table.upstream.let(len(ANSWER) - 1)
    await until(lambda: isinstance(whole[-1], Complete))
    assert stopped == [Chunk(0, ANSWER[0])]
    assert cancelled == [Chunk(0, ANSWER[0]), "cut", "too late"]


async def test_one_listening_may_stop_another_while_a_piece_is_told(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe)
    told: list[object] = []
    asked.listen(lambda piece: second.stop())
    second = asked.listen(told.append)
    table.upstream.let(len(ANSWER))
    await until(lambda: asked.answer.end)
    assert told == []


async def test_listening_takes_no_task(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = [await table.ask(cafe)]
    table.upstream.let()
    await until(lambda: asked[0].answer.chunks)
    tasks = trio.lowlevel.current_statistics().tasks_living
    told: list[object] = []
    for _ in range(50):
        asked.append(await table.ask(cafe))
        asked[-1].listen(told.append)
    assert (trio.lowlevel.current_statistics().tasks_living, told) == (tasks, [Chunk(0, ANSWER[0])] * 50)


async def test_a_reconnect_in_time_gets_the_rest_of_the_answer(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe, who=ANNA)
    table.upstream.let()
    async with listening(asked) as pieces:
        await anext(pieces)
    table.upstream.let(len(ANSWER) - 1)
    assert (await hear(table.agent.resume(asked.query_id, ANNA.user_id), 1))[0] == "".join(ANSWER[1:])


async def test_a_shared_answer_goes_on_for_the_others_and_for_who_comes_back(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    lost, other = await table.ask(cafe, who=ANNA), await table.ask(cafe, who=BEN)
    heard: list[str] = []

    async def listen() -> None:
        heard.append((await hear(other))[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        table.upstream.let()
        async with listening(lost) as pieces:
            await anext(pieces)
        flow.jump(5)
        table.upstream.let(len(ANSWER) - 1)
    assert heard == [TEXT]
    assert (await hear(table.agent.resume(lost.query_id, ANNA.user_id), 1))[0] == "".join(ANSWER[1:])


async def test_cancelling_stops_the_call_at_once_unless_another_shares_it(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    first, second = await table.ask(cafe, who=ANNA), await table.ask(cafe, who=BEN)
    await until(lambda: table.upstream.streaming)
    table.agent.cancel(first.query_id, ANNA.user_id)
    async with listening(first) as pieces:
        assert [piece async for piece in pieces] == []
    await trio.testing.wait_all_tasks_blocked(0.02)
    assert table.upstream.streaming == 1
    table.agent.cancel(second.query_id, BEN.user_id)
    await until(lambda: not table.upstream.streaming)
    assert table.upstream.gone == 1
    with pytest.raises(Rejected) as caught:
        table.agent.resume(first.query_id, ANNA.user_id)
    assert caught.value.code == "not_found"
    table.upstream.script = Script()
    assert (await table.heard(cafe))[0] == TEXT  # nobody is stuck with an answer that was stopped


async def test_nobody_resumes_what_is_not_theirs_or_too_old(table: Table, flow: MockClock) -> None:
    cafe = await table.cafe()
    asked = await table.ask(cafe, who=ANNA)
    await hear(asked)
    said: list[str] = []
    for query_id, user_id in ((asked.query_id, BEN.user_id), (table.ids.uuid7(), ANNA.user_id)):
        with pytest.raises(Rejected) as caught:
            table.agent.resume(query_id, user_id)
        said.append(str(caught.value))
    assert said[0] == said[1]
    flow.jump(KEPT_S - 1)
    assert (await hear(table.agent.resume(asked.query_id, ANNA.user_id)))[0] == TEXT
    flow.jump(1)
    with pytest.raises(Rejected):
        table.agent.resume(asked.query_id, ANNA.user_id)


async def test_an_answer_has_no_control_characters_in_it(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(texts=("A\0 flat\x1b[2J", "\0", "\r\n\twhite\x85 \u202e🧑\u200d🍳 می\u200cخواهم"))
    text, end = await table.heard(cafe)
    assert text == "A flat[2J\n\twhite 🧑\u200d🍳 می\u200cخواهم"
    assert isinstance(end, Complete)
    assert end.full_response == text
    assert (await table.heard(cafe))[0] == text
    assert await table.logged("outcome, cached") == [("answered", False), ("cached", True)]
    table.upstream.script = Script(texts=("\0\x1b",))
    assert isinstance((await table.heard(cafe, "and else?"))[1], Failed)
