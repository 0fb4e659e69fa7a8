"""The agent speaks first, in the real daemon: to whom, when, and as a message like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.agent.context import agent_user_id
from brewd.agent.proactive import AT_ONCE, ROUND_S
from brewd.agent.settings import AgentConfig
from brewd.config import Config
from brewd.config_agent import Agent
from brewd.people.records import Cafe
from tests.agent.upstream import Script, Upstream
from tests.edge.ws.house import House, Person, house_config, open_house
from tests.edge.ws.wire import WAIT_S, Wire

MINUTE_S = 60.0


@pytest.fixture
def config(tmp_path: Path, postgres_dsn: str, redis_url: str) -> Config:
    return house_config(tmp_path / "data", postgres_dsn, redis_url)


@pytest.fixture
async def house(config: Config, upstream: Upstream, key_file: str) -> AsyncIterator[House]:
    config = replace(config, agent=Agent(base_url=upstream.url, api_key_file=key_file, retries=0), room=replace(config.room, presence_grace_s=0))
    async with open_house(config) as house:
        yield house


@pytest.fixture
def flow() -> MockClock:
    """Time that passes slowly, and can be jumped over."""
    return MockClock(rate=0.2)


async def crowd(house: House, cafe: Cafe, count: int = 2) -> list[tuple[Person, Wire]]:
    return [(person, await house.enter(person)) for person in await house.guests(cafe, count)]


def say(upstream: Upstream, *texts: str) -> None:
    upstream.script = Script(texts=texts)


async def round_of(house: House) -> int:
    with trio.fail_after(20):
        return await house.parts.agent.proactive.round()


async def test_it_speaks_as_a_message_with_a_number_of_its_own(house: House, upstream: Upstream, flow: MockClock) -> None:
    cafe = await house.cafe()
    heard: list[tuple[str, str]] = []
    house.parts.agent.proactive.listeners.append(lambda cafe_id, text, created_ms: heard.append((cafe_id, text)))
    (anna, wire), (_, other) = await crowd(house, cafe)
    await house.send(wire, cafe.id, "good morning")
    say(upstream, "Has anyone tried ", "the new lemon cake?")
    assert await round_of(house) == 1
    for one in (wire, other):
        assert (await one.heard("message:new"))["message"]["seq"] == 1
        message = (await one.heard("message:new"))["message"]
        assert (message["seq"], message["content"], message["userId"], message["username"], message["badge"]) == (
            2, "Has anyone tried the new lemon cake?", agent_user_id(cafe.id), "Bartender", None,
        )  # fmt: skip
    assert heard == [(cafe.id, "Has anyone tried the new lemon cake?")]
    history = await house.api("GET", f"/api/chat/messages/{cafe.id}", by=anna)
    assert [message["content"] for message in history.json["messages"]] == ["good morning", "Has anyone tried the new lemon cake?"]
    summary = await house.parts.agent.log.summary(cafe.id)
    assert (summary.queries_today, summary.cost_today_microcents) == (0, 140_000)


async def test_it_waits_for_its_gap_and_never_says_the_same_twice(house: House, upstream: Upstream, flow: MockClock) -> None:
    cafe = await house.cafe()
    await crowd(house, cafe)
    say(upstream, "Who is up for a round of chess?")
    assert await round_of(house) == 1
    flow.jump(9 * MINUTE_S)
    await crowd(house, cafe)  # sockets do not live through a jump
    assert await round_of(house) == 0
    assert len(upstream.requests) == 1
    flow.jump(1.1 * MINUTE_S)
    await crowd(house, cafe)
    say(upstream, "who is up for a game of chess?")
    assert await round_of(house) == 0  # asked for, and thrown away
    assert "Who is up for a round of chess?" in upstream.requests[1].body["messages"][0]["content"][1]["text"]
    say(upstream, "Rain outside: a good hour for cocoa.")
    assert await round_of(house) == 1
    await house.parts.agent.configs.set(cafe.id, proactivity="hype")
    flow.jump(2.1 * MINUTE_S)
    await crowd(house, cafe)
    say(upstream, "The oven is warm, the croissants come soon.")
    assert await round_of(house) == 1


async def test_of_many_that_it_speaks_in_at_once_each_is_counted(house: House, upstream: Upstream, flow: MockClock) -> None:
    for _ in range(AT_ONCE):
        await crowd(house, await house.cafe())
    say(upstream, "Has anyone tried the new lemon cake?")
    assert await round_of(house) == AT_ONCE


async def test_a_cafe_that_hangs_leaves_the_round_in_time_to_be_counted(
    house: House, upstream: Upstream, flow: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, spoken = house.parts.agent.configs, trio.Event()
    house.parts.supervisor.discard("jobs")  # nobody else makes a round
    fine, bad = await house.cafe(), await house.cafe()
    get = configs.get

    async def get_or_hang(cafe_id: str) -> AgentConfig:
        if cafe_id == bad.id:
            await trio.sleep_forever()
        return await get(cafe_id)

    monkeypatch.setattr(configs, "get", get_or_hang)
    house.parts.agent.proactive.listeners.append(lambda cafe_id, text, created_ms: spoken.set())
    for cafe in (fine, bad):
        await crowd(house, cafe)
    say(upstream, "Has anyone tried the new lemon cake?")
    outcomes: list[Any] = []

    async def work() -> None:
        scheduler = house.parts.keeping.scheduler
        outcomes.append(await scheduler._outcome(scheduler._jobs["proactiveMessages"]))

    with trio.fail_after(ROUND_S + WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            with trio.fail_after(WAIT_S / 5):
                await spoken.wait()
            flow.jump(ROUND_S)
    assert outcomes == [("ok", {"messages": 1})]


async def test_what_the_model_says_has_no_sign_in_it_that_no_message_has(house: House, upstream: Upstream, flow: MockClock) -> None:
    cafe = await house.cafe()
    (anna, wire), _ = await crowd(house, cafe)
    say(upstream, "Good\0 mor\x1b[2Jning,\n\u202eca\u200bfé\x85 \u2068🧑\u200d🍳\x07!")
    assert await round_of(house) == 1
    assert (await wire.heard("message:new"))["message"]["content"] == "Good mor[2Jning, café 🧑\u200d🍳!"
    assert await house.send(wire, cafe.id, "good morning")  # the room is as it was
    flow.jump(11 * MINUTE_S)
    await crowd(house, cafe)
    say(upstream, "\0\x1b", "\u200b")
    assert await round_of(house) == 0
    history = await house.api("GET", f"/api/chat/messages/{cafe.id}", by=anna)
    assert len(history.json["messages"]) == 2


async def quiet_because(house: House, upstream: Upstream, reason: str) -> int:
    """A café in which there is a reason to be silent."""
    cafe = await house.cafe()
    guests = await crowd(house, cafe, 1 if reason == "one guest" else 2)
    changed: dict[str, dict[str, Any]] = {"silent": {"proactivity": "silent"}, "off": {"enabled": False}, "no budget": {"daily_budget_cents": 0}}
    changes = changed.get(reason, {})
    await house.parts.agent.configs.set(cafe.id, **changes)
    if reason == "a lively talk":
        for number in range(5):
            await house.send(guests[number % 2][1], cafe.id, f"word number {number}")
    if reason == "an error":
        upstream.script = Script(status=500)
    return await round_of(house)


@pytest.mark.parametrize("reason", ["one guest", "silent", "off", "no budget", "a lively talk", "an error"])
async def test_it_is_silent_when_it_should_be(house: House, upstream: Upstream, reason: str, flow: MockClock) -> None:
    assert await quiet_because(house, upstream, reason) == 0
    assert len(upstream.requests) == (reason == "an error")


async def test_an_announcement_of_the_operator_is_a_message_of_the_house(house: House) -> None:
    from brewd.people.moderation import Moderator, house_user_id

    cafe = await house.cafe("Corner")
    ((_, wire),) = await crowd(house, cafe, 1)
    sent = await house.parts.moderation.announce(Moderator(cafe.id, "operator"), cafe.name, "We close at six.")
    message = (await wire.heard("message:new"))["message"]
    assert (message["id"], message["seq"], message["username"], message["userId"]) == (sent.id, 1, "Corner", house_user_id(cafe.id))
    (row,) = await house.parts.moderation._pg.fetch("message_before", cafe.id, 2**62, 5)
    assert row["content"] == "We close at six."
