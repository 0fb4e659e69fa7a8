"""`agent.*`: the agent of a café as its owner sees it: how it is set, what it has cost, and whether it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from brewd.edge.control.server import Method, Params, method

if TYPE_CHECKING:
    from brewd.agent.parts import AgentParts
    from brewd.people.cafes import Cafes


class OneCafe(Params, frozen=True, kw_only=True):
    cafe_id: UUID


class SetAgent(Params, frozen=True, kw_only=True):
    """Absent leaves it as it is. A budget of null has no end, one of 0 allows nothing."""

    cafe_id: UUID
    enabled: bool | UnsetType = UNSET
    persona: str | UnsetType = UNSET
    custom_text: str | UnsetType = UNSET
    proactivity: str | UnsetType = UNSET
    monthly_budget_cents: int | UnsetType | None = UNSET
    daily_budget_cents: int | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        return {name: value for name in self.__struct_fields__ if name != "cafe_id" and (value := getattr(self, name)) is not UNSET}


def agent_methods(*, agent: AgentParts, cafes: Cafes) -> dict[str, Method]:
    async def answer(cafe_id: str) -> dict[str, Any]:
        summary = await agent.log.summary(cafe_id)
        return {
            "cafeId": cafe_id,
            "config": msgspec.to_builtins(await agent.configs.get(cafe_id)),
            "status": msgspec.to_builtins(await agent.agent.status_of(cafe_id)),
            "spent": {**msgspec.to_builtins(summary), "hitRate": summary.hit_rate},
        }

    async def show(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        return await answer(cafe.id)

    async def change(params: SetAgent) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        await agent.configs.set(cafe.id, **params.given())
        return await answer(cafe.id)

    return {"agent.show": method(OneCafe, show), "agent.set": method(SetAgent, change)}
