"""What an owner chose, and what the café's own numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio

from brewd.agent.context import agent_user_id
from brewd.agent.settings import AgentConfig
from brewd.errors import Rejected
from brewd.people.moderation import house_user_id
from brewd.people.records import Cafe
from brewd.runtime.clock import as_datetime
from tests.agent.table import Table, hear
from tests.late import Late

DAY_MS = 86_400_000


async def test_a_cafe_is_as_the_defaults_say_until_it_is_changed(table: Table) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    assert await table.configs.get(cafe.id) == AgentConfig()
    changed = await table.configs.set(cafe.id, persona="custom", custom_text="Talk\nlike a pirate.", monthly_budget_cents=None)
    assert changed == AgentConfig(persona="custom", custom_text="Talk\nlike a pirate.", monthly_budget_cents=None)
    assert await table.configs.set(cafe.id, proactivity="hype", daily_budget_cents=5) == msgspec.structs.replace(
        changed, proactivity="hype", daily_budget_cents=5
    )
    table.configs._cached.clear()
    assert (await table.configs.get(cafe.id)).proactivity == "hype"
    assert await table.configs.get(other.id) == AgentConfig()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"persona": "pirate"}, "persona"),
        ({"persona": "custom"}, "customText"),
        ({"custom_text": "x" * 1001}, "customText"),
        ({"custom_text": "a\x00b"}, "customText"),
        ({"proactivity": "loud"}, "proactivity"),
        ({"monthly_budget_cents": -1}, "monthlyBudgetCents"),
        ({"daily_budget_cents": "5"}, "dailyBudgetCents"),
        ({"daily_budget_cents": 1.5}, "dailyBudgetCents"),
        ({"enabled": None}, "enabled"),
        ({"temperature": 1}, "temperature"),
    ],
    ids=str,
)
async def test_a_change_that_makes_no_sense_is_named_and_not_made(table: Table, changes: dict[str, Any], path: str) -> None:
    cafe = await table.cafe()
    with pytest.raises(Rejected) as caught:
        await table.configs.set(cafe.id, **{"enabled": False, **changes})
    assert (caught.value.code, caught.value.extras["errors"][0]["path"]) == ("invalid_request", path)
    assert await table.configs.get(cafe.id) == AgentConfig()


async def test_a_cafe_that_is_not_there_has_nothing_to_set(table: Table) -> None:
    with pytest.raises(Rejected) as caught:
        await table.configs.set(table.ids.uuid7(), enabled=False)
    assert caught.value.code == "not_found"


async def test_of_two_changes_that_overlap_the_later_stays_whoever_hears_of_it_first(table: Table) -> None:
    cafe = await table.cafe()
    await table.configs.get(cafe.id)
    late = Late(table.pg)
    table.configs._pg = late  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: table.configs.set(cafe.id, proactivity="hype"))
        await late.done.wait()
        later = await table.configs.set(cafe.id, daily_budget_cents=5)
        late.told.set()
    assert await table.configs.get(cafe.id) == later == AgentConfig(proactivity="hype", daily_budget_cents=5)


async def test_a_change_that_is_given_up_when_it_was_made_already_holds(table: Table) -> None:
    cafe = await table.cafe()
    await table.configs.get(cafe.id)
    late = Late(table.pg)
    table.configs._pg = late  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: table.configs.set(cafe.id, enabled=False))
        await late.done.wait()
        nursery.cancel_scope.cancel()
    assert await table.configs.get(cafe.id) == AgentConfig(enabled=False)


async def test_popular_is_what_was_bought_most_within_a_week_here(table: Table) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    often = ("Flat White", " flat  white ", "Cake", "Espresso", " ")
    bought = [
        (cafe, 1, [{"name": "Flat White", "quantity": 2}, {"name": "Espresso", "quantity": 1}]),
        (cafe, 6, [{"name": " flat  white ", "quantity": 3}, {"name": "Cake", "quantity": 4}, {"name": " ", "quantity": 99}]),
        *((cafe, 5, [{"name": name, "quantity": 0} for name in often]),) * 3,
        *((cafe, 8, [{"name": "Mulled wine", "quantity": 50}]),) * 3,
        *((other, 1, [{"name": "Beer", "quantity": 50}]),) * 3,
    ]
    await receipts(table, bought)
    await table.heard(cafe)
    assert "<popular_drinks>Flat White, Cake, Espresso</popular_drinks>" in table.upstream.requests[0].body["system"][0]["text"]


async def test_what_is_on_fewer_than_three_receipts_is_nobody_elses_business(table: Table) -> None:
    cafe = await table.cafe()
    special = [{"name": "Birthday cake for Anna Müller, table 4", "quantity": 9}]
    await receipts(table, [(cafe, 1, special * 3), (cafe, 2, [*special, {"name": "Latte"}]), (cafe, 3, [{"name": "latte"}]), (cafe, 4, [{"name": "Latte "}])])
    await table.heard(cafe)
    assert "<popular_drinks>Latte</popular_drinks>" in table.upstream.requests[0].body["system"][0]["text"]


async def receipts(table: Table, bought: Sequence[tuple[Cafe, int, list[dict[str, Any]]]]) -> None:
    """Of that café, so many days ago, with these items on them."""
    for number, (cafe, days, items) in enumerate(bought):
        at = as_datetime(table.clock.now_ms() - days * DAY_MS)
        await table.row(
            "INSERT INTO receipt (id, cafe_id, receipt_id, username, token_hash, items, created_at, expires_at) VALUES ($1, $2, $3, $3, '', $4, $5, $5)",
            table.ids.uuid7(), cafe.id, f"r{number}", msgspec.json.encode(items).decode(), at,
        )  # fmt: skip


async def test_an_interest_is_told_only_when_three_who_are_here_share_it(table: Table) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    for interests in (("jazz", "chess"), ("jazz", "chess"), ("jazz", "knitting")):
        await table.guest(cafe, interests=interests)
    await table.guest(other, interests=("chess",))
    gone = await table.guest(cafe, interests=("chess",))
    await table.row("UPDATE customer SET ended_at = now() WHERE id = $1", gone.user_id)
    late = await table.guest(cafe, interests=("chess",))
    await table.row("UPDATE customer SET expires_at = '2026-11-22T09:59:00Z' WHERE id = $1", late.user_id)
    await table.heard(cafe)
    text = table.upstream.requests[0].body["system"][0]["text"]
    assert "<interests_of_guests>jazz</interests_of_guests>" in text
    assert "chess" not in text


async def test_the_hour_is_the_cafes_own_and_people_are_a_number(table: Table) -> None:
    cafe = await table.cafe(timezone="Asia/Kolkata", address="Main Street 1")
    room = table.rooms.ref(cafe.id)
    room.members, room.topics = 12, ["espresso", "rain"]
    await table.heard(cafe)
    live = table.upstream.requests[0].body["messages"][0]["content"][0]["text"]
    assert "<local_time>Sunday, 22 November 2026, 15:30</local_time>" in live
    assert "<people_around>12</people_around>" in live
    assert "<topics>espresso, rain</topics>" in live


async def test_what_a_customer_asked_is_gone_with_them_and_the_numbers_stay(table: Table) -> None:
    cafe = await table.cafe()
    anna, ben = await table.guest(cafe), await table.guest(cafe)
    await table.heard(cafe, "where is the piano?", who=anna)
    asked = await table.ask(cafe, "is there cake?", who=ben)
    await hear(asked)
    await table.settled()
    assert [row[1] for row in await table.logged("user_id::text, query")] == ["where is the piano?", "is there cake?"]
    assert await table.log.expire() == 0
    table.agent.forget(cafe.id, {ben.user_id})
    assert await table.pg.count("erase_user_agent_queries", [ben.user_id], 10) == 1
    with pytest.raises(Rejected):
        table.agent.resume(asked.query_id, ben.user_id)
    assert [row[0] for row in await table.logged("query")] == ["where is the piano?", None]
    await table.row("UPDATE agent_queries SET expires_at = '2026-11-22T10:00:00Z'")
    assert await table.log.expire() == 1
    assert await table.logged("user_id, session_id, query, input_tokens > 0") == [(None, None, None, True)] * 2
    assert not (await table.ask(cafe, "where is the piano?", who=anna)).cached  # what was answered here may speak of who is gone


async def test_what_arrives_late_of_one_who_is_being_erased_is_nobodys(table: Table) -> None:
    cafe = await table.cafe()
    ben = await table.guest(cafe)
    await table.row("UPDATE customer SET ended_at = created_at WHERE id = $1::uuid", ben.user_id)
    await table.heard(cafe, "is there cake?", who=ben)
    assert await table.logged("user_id, session_id, query, input_tokens > 0") == [(None, None, None, True)]


async def test_the_agent_and_the_house_have_an_id_of_their_own_in_each_cafe(table: Table) -> None:
    cafe, other = await table.cafe(), await table.cafe()
    ids = {f(one.id) for f in (agent_user_id, house_user_id) for one in (cafe, other)}
    assert len(ids) == 4
    assert agent_user_id(cafe.id) == agent_user_id(cafe.id)
