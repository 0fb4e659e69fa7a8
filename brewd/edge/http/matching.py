"""Discovery over HTTP."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from msgspec import Meta, Struct

from brewd.edge.http.endpoint import USER, Call, Endpoint
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id
from brewd.social.matching import LIMIT_MAX


class DiscoverQuery(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`cafeId` can only be your own café. An `offset` goes on in the order of the last page with `offset` 0, for 5 minutes."""

    cafe_id: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 20
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class MatchShape(Struct, frozen=True, rename="camel"):
    user_id: Id
    username: str
    shared_interests: tuple[str, ...]
    total_shared_interests: int
    online: bool


class DiscoverAnswer(Struct, frozen=True):
    """Most shared first, then who is in the room, then by name. `count`: on all pages together. Whoever left meanwhile is missing from their page."""

    matches: list[MatchShape]
    count: int


async def discover(parts: HttpParts, call: Call[None, DiscoverQuery]) -> DiscoverAnswer:
    if call.query.cafe_id is not None:
        call.own_cafe(str(call.query.cafe_id))
    page = await parts.matching.discover(call.who, limit=call.query.limit, offset=call.query.offset)
    return DiscoverAnswer([MatchShape(one.user_id, one.username, one.shared, len(one.shared), one.online) for one in page.found], page.count)


ENDPOINTS: Final = (
    Endpoint(
        method="GET", path="/api/matching/discover", handler=discover, tag="matching", summary="Who shares interests with me", roles=USER,
        query=DiscoverQuery, answer=DiscoverAnswer, codes=("not_in_cafe", "cafe_unavailable", "mailbox_full"), event="matching:discover",
    ),
)  # fmt: skip
