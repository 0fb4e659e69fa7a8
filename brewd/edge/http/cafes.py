"""What anyone may know of a café, and what its members may."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.edge.http.endpoint import Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id


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
    menu: Annotated[list[Any], Meta(description="for the café's own users and staff")] | UnsetType = UNSET


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
    )


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
