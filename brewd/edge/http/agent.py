"""A moderator's hand on the agent of their café: how it talks, how often by itself, what it may cost, and what is on the menu."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.agent.calling import State
from brewd.agent.personas import CUSTOM_MAX_CHARS, Persona
from brewd.agent.settings import AgentConfig, Cents, Proactivity
from brewd.edge.http.endpoint import MODERATOR, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.people import menu as menus

Custom = Annotated[str, Meta(max_length=CUSTOM_MAX_CHARS, description="how the persona `custom` talks")]
Budget = Annotated[Cents | None, Meta(description="null: no end; 0: nothing")]
Menu = Annotated[list[Any], Meta(max_length=menus.ITEMS_MAX, description="items of {name, price?, note?}")]


class AgentBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is absent stays as it is."""

    enabled: bool | UnsetType = UNSET
    persona: Persona | UnsetType = UNSET
    custom_text: Custom | UnsetType = UNSET
    proactivity: Proactivity | UnsetType = UNSET
    monthly_budget_cents: Budget | UnsetType = UNSET
    daily_budget_cents: Budget | UnsetType = UNSET
    menu: Menu | UnsetType = UNSET


class AgentAnswer(Struct, frozen=True, rename="camel"):
    """As it is set, and how the agent is: `reason` says why it does not answer anybody."""

    enabled: bool
    persona: Persona
    custom_text: str
    proactivity: Proactivity
    monthly_budget_cents: int | None
    daily_budget_cents: int | None
    menu: Menu
    state: State
    reason: str


async def show_agent(parts: HttpParts, call: Call[Any, NoQuery]) -> AgentAnswer:
    cafe_id = call.own_cafe(call.ids["cafeId"])
    return await _answer(parts, cafe_id, await parts.agent_configs.get(cafe_id))


async def set_agent(parts: HttpParts, call: Call[AgentBody, NoQuery]) -> AgentAnswer:
    cafe_id = call.own_cafe(call.ids["cafeId"])
    given = {name: value for name in AgentBody.__struct_fields__ if (value := getattr(call.body, name)) is not UNSET}
    menu = menus.checked(given.pop("menu")) if "menu" in given else None
    config = await parts.agent_configs.set(cafe_id, **given) if given else await parts.agent_configs.get(cafe_id)
    if menu is not None:
        await parts.cafes.set(cafe_id, menu=menu)
    return await _answer(parts, cafe_id, config)


async def _answer(parts: HttpParts, cafe_id: str, config: AgentConfig) -> AgentAnswer:
    cafe, status = await parts.cafes.get(cafe_id), await parts.agent_status(cafe_id)
    return AgentAnswer(
        enabled=config.enabled,
        persona=config.persona,
        custom_text=config.custom_text,
        proactivity=config.proactivity,
        monthly_budget_cents=config.monthly_budget_cents,
        daily_budget_cents=config.daily_budget_cents,
        menu=list(cafe.menu),
        state=status.state,
        reason=status.reason,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/cafes/<uuid:cafeId>/agent",
        handler=show_agent,
        tag="agent",
        summary="How the café's agent is set, and whether it answers",
        roles=MODERATOR,
        answer=AgentAnswer,
        codes=("not_found", "not_in_cafe"),
    ),
    Endpoint(
        method="PUT",
        path="/api/cafes/<uuid:cafeId>/agent",
        handler=set_agent,
        tag="agent",
        summary="Set the café's agent: from the next question on; what is absent stays",
        roles=MODERATOR,
        body=AgentBody,
        answer=AgentAnswer,
        codes=("not_found", "not_in_cafe"),
    ),
)
