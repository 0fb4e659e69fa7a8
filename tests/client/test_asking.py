"""The client's way to the agent, against the real daemon and a server that speaks the Messages API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from brewd.client import Rejected, Unreachable, agent
from tests.agent.upstream import ANSWER, Script, Upstream, open_upstream
from tests.edge.ws.house import House, Person, house_config, open_house

SAID = "".join(ANSWER)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@pytest.fixture
async def house(upstream: Upstream, tmp_path: Path, postgres_dsn: str, redis_url: str) -> AsyncIterator[House]:
    key = tmp_path / "key"
    key.write_text("sk-test")
    config = house_config(tmp_path, postgres_dsn, redis_url)
    async with open_house(replace(config, agent=replace(config.agent, base_url=upstream.url, api_key_file=str(key)))) as house:
        yield house


@pytest.fixture
async def ann(house: House) -> Person:
    return await house.guest(await house.cafe())


async def test_an_answer_is_iterated_over(house: House, ann: Person, upstream: Upstream) -> None:
    async with agent(house.parts.urls[0], token=ann.token) as asking:
        assert (await asking.watch())["available"] is True
        answer = await asking.ask("What do people love here?", personality="historian")
        texts = [text async for text in answer]
        assert "".join(texts) == SAID
        assert answer.next_index == len(texts)
        assert answer.started is not None
        assert answer.complete is not None
        assert (answer.started["cached"], answer.complete["fullResponse"]) == (False, SAID)
        assert [text async for text in answer] == []
        assert await (await asking.resume(answer.query_id, 0)).text() == SAID
        with pytest.raises(Rejected) as refused:
            await asking.ask("Too soon?")
        assert refused.value.code == "rate_limited"


async def test_what_ends_an_answer_is_raised(house: House, ann: Person, upstream: Upstream) -> None:
    upstream.script = Script(held=True)
    async with agent(house.parts.urls[0], token=ann.token) as asking:
        answer = await asking.ask("What do people love here?")
        upstream.let()
        assert await anext(answer) == ANSWER[0]
        house.parts.sockets.close_user(ann.id, 4003, "kicked")
        with pytest.raises(Unreachable, match="4003"):
            await answer.text()
    async with agent(house.parts.urls[0], token=ann.token) as asking:
        again = await asking.resume(answer.query_id, answer.next_index)
        await asking.cancel(again.query_id)
        assert await again.text() == ""
    with trio.fail_after(2):
        while upstream.streaming:
            await trio.sleep(0.01)


async def test_who_is_not_let_in_is_told(house: House) -> None:
    with pytest.raises(Rejected) as refused:
        async with agent(house.parts.urls[0], token="nobody"):
            pass
    assert refused.value.code == "unauthorized"
    with pytest.raises(Unreachable):
        async with agent("http://127.0.0.1:1", token="nobody"):
            pass
    with pytest.raises(KeyError):
        async with agent(house.parts.urls[0], token=house.staff(await house.cafe(), "barista").token):
            raise KeyError("what happens inside comes out as it is")
