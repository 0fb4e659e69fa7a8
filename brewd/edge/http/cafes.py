"""What anyone may know of a café, and what its members may."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.agent.personas import MANNERS, Persona
from brewd.edge.http.endpoint import Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id


class AgentShape(Struct, frozen=True):
    """The café's agent to its guests. `name`: what it signs with in the room."""

    persona: Persona
    name: str
    available: bool


class CafeAnswer(Struct, frozen=True, rename="camel"):
    """`wifi`, `location`, `network`: whether a join can be proven that way; `needs`: whether one proof is enough. Never the values."""

    id: Id
    name: str
    address: str
    timezone: str
    wifi: bool
    location: bool
    network: bool
    needs: Literal["any", "all", "none"]
    menu: Annotated[list[Any], Meta(description="for the café's own users and staff, as is `agent`")] | UnsetType = UNSET
    agent: AgentShape | UnsetType = UNSET


async def show(parts: HttpParts, call: Call[Any, NoQuery]) -> CafeAnswer:
    cafe = await parts.cafes.get(call.ids["cafeId"])
    parts.guard.networks.learn(cafe.id, cafe.cidrs)
    proofs = cafe.policy().proofs()
    is_member = call.identity is not None and call.identity.cafe_id == cafe.id
    return CafeAnswer(
        cafe.id,
        cafe.name,
        cafe.address,
        cafe.timezone,
        wifi="wifi" in proofs,
        location="location" in proofs,
        network="network" in proofs,
        needs=cafe.join_policy if proofs else "none",
        menu=list(cafe.menu) if is_member else UNSET,
        agent=await _agent(parts, cafe.id) if is_member else UNSET,
    )


async def _agent(parts: HttpParts, cafe_id: str) -> AgentShape:
    config, status = await parts.agent_configs.get(cafe_id), await parts.agent_status(cafe_id)
    return AgentShape(config.persona, MANNERS[config.persona].name, config.enabled and status.takes_questions)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/cafes/<uuid:cafeId>",
        handler=show,
        tag="cafes",
        summary="A café, and what a join there needs",
        greets=True,
        answer=CafeAnswer,
        codes=("not_found",),
    ),
)
