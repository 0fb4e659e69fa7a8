"""What an operator can set about the agent: the section `agent` of the config. See `brewd/agent` for what it does with it."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from brewd.config_file import Inline, Section

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Price(Inline, frozen=True, kw_only=True):
    """What a million tokens cost, in US dollars."""

    input_usd: Annotated[float, Meta(ge=0, le=10_000)] = 0
    output_usd: Annotated[float, Meta(ge=0, le=10_000)] = 0
    cache_read_usd: Annotated[float, Meta(ge=0, le=10_000)] = 0
    cache_write_usd: Annotated[float, Meta(ge=0, le=10_000)] = 0


PRICES: Final = {
    "claude-sonnet-5-5": Price(input_usd=2, output_usd=10, cache_read_usd=0.2, cache_write_usd=2.5),
    "claude-haiku-5-5": Price(input_usd=0.1, output_usd=0.5, cache_read_usd=0.01, cache_write_usd=0.125),
}


class Agent(Section, frozen=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1, description="the model that answers")] = "claude-sonnet-5-5"
    economy_model: Annotated[str, Meta(min_length=1, description="the one that answers when most of a café's budget is spent")] = "claude-haiku-5-5"
    economy_percent: Annotated[int, Meta(ge=1, le=100, description="… from so much of it on; 100 = never")] = 80
    base_url: Annotated[str, Meta(description="another endpoint of the same API; empty: Anthropic's")] = ""
    api_key_file: Annotated[str, Meta(description="empty: ANTHROPIC_API_KEY in the environment; neither: the agent is off")] = ""
    max_tokens: Annotated[Count, Meta(le=64_000, description="length of one answer")] = 512
    thinking_tokens: Annotated[int, Meta(ge=0, le=64_000, description="room for what the model thinks before it answers")] = 1024
    timeout_s: Annotated[Seconds, Meta(description="one answer may take this long")] = 30
    retries: Annotated[int, Meta(ge=0, le=10, description="tries more after a failure that may pass, before the first word")] = 1
    in_flight_max: Annotated[Count, Meta(le=1000, description="answers being made at once, over all cafés")] = 8
    in_flight_cafe_max: Annotated[Count, Meta(le=1000, description="… and in one café")] = 4
    queue_s: Annotated[float, Meta(ge=0, le=60, description="a question waits this long for its turn")] = 3
    prices: Annotated[dict[str, Price], Meta(description="US dollars per million tokens, by model; what is not listed costs as much as the dearest")] = field(
        default_factory=lambda: dict(PRICES)
    )
