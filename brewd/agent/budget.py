"""What the agent may cost a café, and what it did: whole micro-cents (1 cent = 1,000,000). Pure; periods are passed in.

A call is let in while what was spent, and what is reserved for the calls in flight, is less than the budget. So spending exceeds a
budget by no more than the calls in flight when it was reached. A reservation is an honest guess: one for the dearest answer there
could be would hold a small budget back from being spent at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from brewd.agent.pieces import Usage
from brewd.config_agent import PRICES, Price

MICROCENTS: Final = 1_000_000
"""… make a cent."""

_PER_MILLION: Final = 100 * MICROCENTS  # micro-cents in a dollar; a price is for a million tokens
_OUTPUT_SHARE: Final = 4
"""A reservation expects a fourth of the greatest length."""

Verdict = Literal["ok", "economy", "busy", "spent"]


def cost_microcents(price: Price, usage: Usage) -> int:
    """Rounded up: never less than it cost."""
    per_million = (
        (usage.input_tokens, price.input_usd),
        (usage.output_tokens, price.output_usd),
        (usage.cache_read_tokens, price.cache_read_usd),
        (usage.cache_write_tokens, price.cache_write_usd),
    )
    return -(-sum(tokens * round(usd * _PER_MILLION) for tokens, usd in per_million) // 1_000_000)


def price_of(prices: Mapping[str, Price], model: str) -> Price:
    """That of the config, else the one that is known, else, so that nothing is ever free by mistake, the dearest of all."""
    known = prices.get(model) or PRICES.get(model)
    return known or max((*prices.values(), *PRICES.values()), key=lambda price: (price.output_usd, price.input_usd))


def expected_microcents(price: Price, *, input_tokens: int, max_tokens: int) -> int:
    """What to reserve for a call; at least one."""
    return max(1, cost_microcents(price, Usage(input_tokens, -(-max_tokens // _OUTPUT_SHARE))))


def dearest_microcents(price: Price, *, input_tokens: int, max_tokens: int) -> int:
    """What a call counts as that nobody saw the end of: its greatest length, and a question that is new to the API's cache."""
    new = Usage(cache_write_tokens=input_tokens) if price.cache_write_usd > price.input_usd else Usage(input_tokens)
    return cost_microcents(price, replace(new, output_tokens=max_tokens))


class Period(Struct, frozen=True):
    """A day of a café, by its own clock; the month it is in comes with it."""

    day: date

    @property
    def month(self) -> date:
        return self.day.replace(day=1)

    @property
    def next_day(self) -> date:
        return self.day + timedelta(days=1)

    @property
    def next_month(self) -> date:
        return (self.month + timedelta(days=31)).replace(day=1)


class Budget:
    """Of one café. `daily` and `monthly` in cents; None has no end."""

    __slots__ = ("daily_cents", "monthly_cents", "period", "reserved", "spent_month", "spent_today")

    def __init__(self, period: Period, *, spent_today: int = 0, spent_month: int = 0) -> None:
        self.period = period
        self.daily_cents: int | None = None
        self.monthly_cents: int | None = None
        self.spent_today = spent_today
        self.spent_month = spent_month
        self.reserved = 0

    def turn(self, period: Period) -> None:
        """It is that day now. A day that was before stays: a clock that was set back gives nothing back."""
        if period.day <= self.period.day:
            return
        if period.month != self.period.month:
            self.spent_month = 0
        self.spent_today = 0
        self.period = period

    def verdict(self, economy_percent: int) -> Verdict:
        """`busy`: what is left is reserved for calls in flight, and some of it may come back."""
        verdicts = [self._verdict(spent, cents * MICROCENTS, economy_percent) for spent, cents in self._limits()]
        order: tuple[Verdict, ...] = ("spent", "busy", "economy")
        return next((one for one in order if one in verdicts), "ok")

    def exhausted(self) -> Literal["today", "this month"] | None:
        """Which budget is spent; of both, the longer one."""
        if self.monthly_cents is not None and self.spent_month >= self.monthly_cents * MICROCENTS:
            return "this month"
        if self.daily_cents is not None and self.spent_today >= self.daily_cents * MICROCENTS:
            return "today"
        return None

    def reserve(self, microcents: int) -> None:
        self.reserved += microcents

    def settle(self, reserved: int, cost: int) -> None:
        """A call is over: what it cost takes the place of what was reserved for it."""
        self.reserved -= reserved
        self.spent_today += cost
        self.spent_month += cost

    def _limits(self) -> list[tuple[int, int]]:
        pairs = ((self.spent_month, self.monthly_cents), (self.spent_today, self.daily_cents))
        return [(spent, cents) for spent, cents in pairs if cents is not None]

    def _verdict(self, spent: int, limit: int, economy_percent: int) -> Verdict:
        if spent >= limit:
            return "spent"
        if spent + self.reserved >= limit:
            return "busy"
        return "economy" if economy_percent < 100 and (spent + self.reserved) * 100 >= limit * economy_percent else "ok"
