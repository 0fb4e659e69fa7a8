"""What the agent may cost: the arithmetic, and a budget of one cent under fifty askers, over a restart too."""

from __future__ import annotations

import math
from datetime import date, timedelta
from fractions import Fraction

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from brewd.agent import accounts
from brewd.agent.accounts import Summary
from brewd.agent.agent import STATUS_S
from brewd.agent.budget import MICROCENTS, Budget, Period, cost_microcents, expected_microcents, price_of
from brewd.agent.calling import Status
from brewd.agent.calls import Meter
from brewd.agent.context import local_time
from brewd.agent.pieces import Complete, Usage
from brewd.agent.rows import STARTED, Entry, put_rows
from brewd.agent.settings import AgentConfig
from brewd.config_agent import PRICES, Price
from brewd.errors import Rejected
from tests.agent.conftest import Open
from tests.agent.table import Table, hear, until
from tests.agent.upstream import ANSWER, Script

SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
DAY = Period(date(2026, 11, 22))


def test_prices_are_exact_whole_micro_cents() -> None:
    # 1,000 tokens in for $2, 500 out for $10, 10,000 read from the cache for $0.20, 1,000 written to it for $2.50 a million: 1.15 cents
    assert cost_microcents(PRICES[SONNET], Usage(1000, 500, 10_000, 1000)) == 1_150_000
    assert cost_microcents(PRICES[HAIKU], Usage(1, 1, 1, 1)) == 74  # 10 + 50 + 1 + 12.5, rounded up
    assert cost_microcents(PRICES[SONNET], Usage()) == 0


tokens = st.integers(0, 10**7)
usd = st.integers(0, 10**6).map(lambda n: n / 1000)


@given(usage=st.builds(Usage, tokens, tokens, tokens, tokens), price=st.builds(Price, input_usd=usd, output_usd=usd, cache_read_usd=usd, cache_write_usd=usd))
def test_a_cost_is_never_less_than_it_was_and_less_than_one_more(usage: Usage, price: Price) -> None:
    pairs = (
        (usage.input_tokens, price.input_usd),
        (usage.output_tokens, price.output_usd),
        (usage.cache_read_tokens, price.cache_read_usd),
        (usage.cache_write_tokens, price.cache_write_usd),
    )
    exact = sum(Fraction(round(dollars * 1000), 1000) * 100 * MICROCENTS * count / 10**6 for count, dollars in pairs)
    assert exact <= cost_microcents(price, usage) < exact + 1


def test_no_model_is_free_by_mistake() -> None:
    own = Price(input_usd=7)
    assert price_of({SONNET: own}, SONNET) is own
    assert price_of({}, HAIKU) is PRICES[HAIKU]
    assert price_of({"x": own}, "claude-new") is PRICES[SONNET]
    assert expected_microcents(Price(), input_tokens=0, max_tokens=0) == 1


amounts = st.integers(1, 900_000) | st.sampled_from([1, 250_000, 500_000, 1_000_000])
calls = st.lists(st.tuples(amounts, st.just(0) | amounts), max_size=40)


@given(daily=st.none() | st.integers(0, 3), monthly=st.none() | st.integers(0, 3), wanted=calls, width=st.integers(1, 8))
@example(daily=1, monthly=None, wanted=[(500_000, 500_000)] * 3, width=8)
def test_spending_exceeds_a_budget_by_no_more_than_the_calls_in_flight(
    daily: int | None, monthly: int | None, wanted: list[tuple[int, int]], width: int
) -> None:
    """What is reserved for them counts as spent: with honest reservations it is one call that goes beyond."""
    budget = Budget(DAY)
    budget.daily_cents, budget.monthly_cents = daily, monthly
    limit = min([cents * MICROCENTS for cents in (daily, monthly) if cents is not None], default=math.inf)
    flying: list[tuple[int, int]] = []
    most: float = 0
    for reserve, cost in wanted:
        let_in = budget.verdict(80) in ("ok", "economy")
        assert let_in is (budget.spent_month + sum(reserved for reserved, _ in flying) < limit)
        if let_in:
            most = limit + cost + sum(cost - reserved for reserved, cost in flying)
            budget.reserve(reserve)
            flying.append((reserve, cost))
        if len(flying) >= width:
            budget.settle(*flying.pop(0))
        if budget.spent_month >= limit:
            assert budget.verdict(80) == "spent"
    for one in flying:
        budget.settle(*one)
    assert budget.reserved == 0
    assert budget.spent_month <= most


def test_near_the_end_the_cheaper_model_is_asked_for() -> None:
    budget = Budget(DAY)
    budget.daily_cents, budget.monthly_cents = 1, 100
    assert budget.verdict(80) == "ok"
    budget.reserve(799_999)
    assert budget.verdict(80) == "ok"
    budget.reserve(1)
    assert (budget.verdict(80), budget.verdict(100)) == ("economy", "ok")
    budget.reserve(200_000)
    assert budget.verdict(80) == "busy"
    budget.settle(1_000_000, 1_000_000)
    assert (budget.verdict(80), budget.exhausted()) == ("spent", "today")


def test_a_new_day_and_a_new_month_begin_anew_and_an_old_one_does_not() -> None:
    budget = Budget(DAY, spent_today=5, spent_month=9)
    budget.turn(Period(DAY.day - timedelta(days=1)))
    assert (budget.spent_today, budget.spent_month) == (5, 9)
    budget.turn(Period(DAY.day + timedelta(days=1)))
    assert (budget.spent_today, budget.spent_month) == (0, 9)
    budget.settle(0, 4)
    budget.turn(Period(date(2026, 12, 1)))
    assert (budget.spent_today, budget.spent_month) == (0, 0)


def test_what_the_api_counted_takes_the_place_of_guesses() -> None:
    meter = Meter()
    assert meter.usage == Usage()
    meter.start(10, 20, 30, 1)
    meter.said("x" * 31)
    assert meter.usage == Usage(10, 11, 20, 30)
    meter.total(None, None, 40, 5)
    assert meter.usage == Usage(10, 5, 20, 40)


async def ask_all(table: Table, cafe_id: str, first: int, count: int) -> tuple[int, list[str]]:
    """How many were answered, and how the others were refused."""
    cafe = await table.cafes.get(cafe_id)
    answered, refused = 0, list[str]()

    async def one(number: int) -> None:
        nonlocal answered
        try:
            _, end = await table.heard(cafe, f"question {number}")
        except Rejected as rejected:
            refused.append(rejected.code)
        else:
            answered += isinstance(end, Complete)

    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            nursery.start_soon(one, number)
    return answered, refused


async def test_one_cent_and_fifty_askers_over_a_restart(opened: Open) -> None:
    """Each call costs 0.14 cents: seven fit, and four may be in flight when the cent is reached."""
    cost, in_flight = cost_microcents(PRICES[SONNET], Usage(400, 60)), 4
    assert cost == 140_000
    limits = {"in_flight_cafe_max": in_flight, "economy_percent": 100, "max_tokens": 64, "thinking_tokens": 0, "queue_s": 5}
    async with opened(**limits) as table:
        cafe = await table.cafe()
        await table.configs.set(cafe.id, daily_budget_cents=1)
        answered, refused = await ask_all(table, cafe.id, 0, 4)
        assert (answered, refused) == (4, [])
        await table.settled()
    async with opened(**limits) as table:
        answered, refused = await ask_all(table, cafe.id, 100, 50)
        assert refused == ["agent_budget_spent"] * (50 - answered)
        assert (await table.log.summary(cafe.id)).cost_today_microcents == len(table.upstream.requests) * cost
        more = 0
        while (await ask_all(table, cafe.id, 200 + more, 1))[0]:  # some were refused because of what was reserved for others
            more += 1
        calls = len(table.upstream.requests)
        assert answered + more == calls - 4
        assert MICROCENTS <= (await table.log.summary(cafe.id)).cost_today_microcents == calls * cost < MICROCENTS + in_flight * cost
    async with opened(**limits) as table:
        assert await ask_all(table, cafe.id, 300, 5) == (0, ["agent_budget_spent"] * 5)
        assert len(table.upstream.requests) == calls


async def test_a_call_whose_end_was_never_written_counts_as_the_most_it_can_have_cost(opened: Open) -> None:
    """As after a kill right after it."""
    limits = {"max_tokens": 200, "thinking_tokens": 0}
    async with opened(**limits) as table:
        cafe = await table.cafe()
        await table.configs.set(cafe.id, daily_budget_cents=1)
        table.upstream.script = Script(input_tokens=0, cache_write_tokens=500, output_tokens=200)

        async def put(rows: bytes) -> None:
            if STARTED.encode() in rows:
                await put_rows(table.pg, rows)

        with table.log.writer.written_by(put):
            for number in range(3):
                await table.heard(cafe, f"question {number}")
            (account,) = table.log._accounts.values()
            spent = account.budget.spent_today
            await table.settled()
    async with opened(**limits) as table:
        assert spent == 3 * cost_microcents(PRICES[SONNET], Usage(0, 200, 0, 500))
        assert spent <= (await table.log.summary(cafe.id)).cost_today_microcents < 2 * spent
        with pytest.raises(Rejected) as caught:
            await table.heard(cafe, "one more")
        assert caught.value.code == "agent_budget_spent"


@pytest.mark.parametrize(("script", "costs"), [(Script(before_s=30), True), (Script(status=500), False), (Script(status=429), False)])
async def test_a_call_the_api_has_said_nothing_of_costs_its_question(opened: Open, script: Script, costs: bool) -> None:
    async with opened(retries=0) as table:
        cafe = await table.cafe()
        table.upstream.script = script
        asked = await table.ask(cafe)
        await until(lambda: table.upstream.requests)
        if costs:
            asked.cancel()
        else:
            await hear(asked)
        await until(lambda: asked.answer.end)
        ((tokens, cost),) = await table.logged("input_tokens, cost_microcents")
        size = len(table.upstream.requests[0].raw)
        assert (size // 6 < tokens < size // 2, cost == cost_microcents(PRICES[SONNET], Usage(tokens))) == (costs, True)


async def test_the_row_is_there_before_the_call_is_made(table: Table) -> None:
    cafe = await table.cafe()
    table.upstream.script = Script(held=True)
    asked = await table.ask(cafe)
    await until(lambda: table.upstream.requests)
    ((outcome, cost),) = [tuple(row.values()) for row in await table.row("SELECT outcome, cost_microcents FROM agent_queries")]
    assert outcome == "started"
    assert cost > 0
    asked.cancel()


async def test_most_of_a_budget_spent_asks_the_economy_model(opened: Open) -> None:
    async with opened(max_tokens=64, thinking_tokens=0, economy_percent=10) as table:
        cafe = await table.cafe()
        await table.configs.set(cafe.id, daily_budget_cents=1)
        await table.heard(cafe, "first")
        await table.heard(cafe, "second")
        assert [request.body["model"] for request in table.upstream.requests] == [SONNET, HAIKU]


@pytest.mark.parametrize("budget", [{"daily_budget_cents": 0}, {"monthly_budget_cents": 0}])
async def test_a_budget_of_nothing_allows_nothing_and_none_has_no_end(table: Table, budget: dict[str, int]) -> None:
    cafe = await table.cafe()
    await table.configs.set(cafe.id, **budget)
    with pytest.raises(Rejected) as caught:
        await table.ask(cafe)
    assert caught.value.code == "agent_budget_spent"
    assert not table.rooms.ref(cafe.id).taken
    period = "today" if "daily_budget_cents" in budget else "this month"
    assert await table.agent.status_of(cafe.id) == Status("unavailable", f"what it may cost this café {period} is spent")
    assert await table.agent.status_of((await table.cafe()).id) == table.agent.status == Status("ok")
    await table.configs.set(cafe.id, daily_budget_cents=None, monthly_budget_cents=None)
    await table.heard(cafe)
    assert (await table.agent.status_of(cafe.id)).state == "ok"


@pytest.mark.parametrize(
    ("timezone", "budget", "hours"),
    [
        ("UTC", {"daily_budget_cents": 0}, 14),
        ("Pacific/Auckland", {"daily_budget_cents": 0}, 1),
        ("UTC", {"monthly_budget_cents": 0}, 8 * 24 + 14),
        ("America/Los_Angeles", {"daily_budget_cents": 0, "monthly_budget_cents": 0}, 8 * 24 + 22),
    ],
)
async def test_whoever_is_refused_hears_when_the_budget_begins_anew(table: Table, flow: MockClock, timezone: str, budget: dict[str, int], hours: int) -> None:
    """It is 10:00 UTC on the 22nd."""
    cafe = await table.cafe(timezone=timezone)
    await table.configs.set(cafe.id, **budget)
    with pytest.raises(Rejected) as caught:
        await table.ask(cafe)
    assert caught.value.code == "agent_budget_spent"
    assert 0 <= hours * 3_600_000 - caught.value.extras["retryAfterMs"] < 60_000  # time flows, if slowly


zones = st.sampled_from(["UTC", "Europe/Vienna", "Asia/Beirut", "Africa/Cairo", "America/Havana", "Pacific/Chatham", "Atlantic/Azores"])


@settings(deadline=None)  # a zone is read from a file
@given(day=st.dates(date(2026, 1, 1), date(2030, 12, 31)), timezone=zones, monthly=st.booleans())
def test_a_budget_begins_anew_with_the_first_moment_of_a_day_wherever_it_is(day: date, timezone: str, monthly: bool) -> None:
    """Where clocks are changed at midnight, too."""
    account = accounts.Account(Period(day), timezone, Summary(0, 0, 0, 0, 0, 0))
    account.turn(Period(day), timezone, AgentConfig(daily_budget_cents=0, monthly_budget_cents=0 if monthly else None))
    before, first = (Period(local_time(account.renewed_ms() - late_ms, timezone).date()) for late_ms in (1, 0))
    assert first.day == before.day + timedelta(days=1)
    assert before.month == Period(day).month
    assert first.day.day == 1 if monthly else before.day == day


async def test_who_only_wants_to_know_how_it_is_does_not_wait_for_a_budget_that_cannot_be_read(
    table: Table, flow: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cafe = await table.cafe()

    async def hang(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(table.log, "account", hang)
    found: list[Status] = []

    async def look() -> None:
        found.append(await table.agent.status_of(cafe.id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await table.configs.get(cafe.id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not found
        flow.jump(STATUS_S)
    assert found == [Status("ok")]


async def test_the_summary_counts_by_the_cafes_own_calendar(table: Table) -> None:
    """It is 10:00 UTC on the 22nd: in Auckland the 22nd began 11 hours before, in Los Angeles it is two in the morning."""
    cafe = await table.cafe(timezone="America/Los_Angeles")
    await table.heard(cafe, "one")
    await table.heard(cafe, "one")
    await table.heard(cafe, "two", who=await table.guest(cafe))
    await table.settled()
    await table.row("UPDATE agent_queries SET at = '2026-11-22T07:59:00Z' WHERE query = 'two'")  # late on the 21st there
    summary = await table.log.summary(cafe.id)
    assert (summary.cost_today_microcents, summary.cost_month_microcents) == (140_000, 280_000)
    assert (summary.queries_today, summary.queries_month, summary.cached_today, summary.cached_month) == (2, 3, 1, 1)
    assert summary.hit_rate == 0.3333
    await table.mirror.flush()
    (found,) = await table.redis.pipeline([("HGETALL", f"agent:analytics:{cafe.id}")])
    analytics = dict(zip(found[::2], found[1::2], strict=True)) if isinstance(found, list) else found
    assert analytics == {
        "day": "2026-11-22", "queriesToday": "3", "cachedToday": "1", "costTodayMicrocents": "280000",
        "queriesMonth": "3", "cachedMonth": "1", "costMonthMicrocents": "280000",
    }  # fmt: skip
    assert 0 < (await table.redis.pipeline([("TTL", f"agent:analytics:{cafe.id}")]))[0] <= 32 * 86_400


async def test_a_flush_waits_for_what_was_made_anonymous_meanwhile(table: Table) -> None:
    cafe = await table.cafe()
    await table.settled()
    guest = await table.guest(cafe)
    entry = Entry(
        id=table.ids.uuid7(), cafe_id=cafe.id, user_id=guest.user_id, session_id=None, staff=False, query="?", persona="bartender", model="",
        at_ms=table.clock.now_ms(), outcome="cached",
    )  # fmt: skip
    table.log.end(entry)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.settled)
        await trio.testing.wait_all_tasks_blocked()
        table.log.writer.forget([guest.user_id])
    assert await table.row("SELECT outcome FROM agent_queries WHERE id = $1", entry.id)


async def test_a_cafe_has_one_budget_though_its_account_was_let_go_while_it_waited(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(in_flight_max=1, queue_s=60) as table:
        table.upstream.script = Script(held=True)
        busy, waiting, new = await table.cafe(), await table.cafe(), await table.cafe()
        await table.ask(busy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(table.ask, waiting)
            while waiting.id not in table.log._accounts:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.02)
            monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 0)
            await table.log.account(new.id, await table.configs.get(new.id))
            assert waiting.id not in table.log._accounts
            monkeypatch.undo()
            table.upstream.let(len(ANSWER))
        account = await table.log.account(waiting.id, await table.configs.get(waiting.id))
        assert account.budget.reserved > 0
