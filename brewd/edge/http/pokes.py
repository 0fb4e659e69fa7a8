"""Pokes over HTTP, and as events: sent, answered, and listed to either side."""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.interests import Interest
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Id, Time
from brewd.runtime.clock import rfc3339

Status = Literal["pending", "matched", "declined", "expired"]


class SendBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`sharedInterest`: one of your own."""

    to_user_id: UUID
    shared_interest: Interest


class RespondBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    poke_id: UUID
    action: Literal["accept", "decline"]


class PokeShape(Struct, frozen=True, rename="camel"):
    id: Id
    status: Status
    expires_at: Time


class PokeAnswer(Struct, frozen=True, rename="camel"):
    """`channelId` when it matched. A poke that reaches nobody is answered as one that does."""

    poke: PokeShape
    matched: bool
    channel_id: Id | UnsetType = UNSET


class PendingShape(Struct, frozen=True, rename="camel"):
    """Times are whole hours. `sharedInterest` is a neutral text where the interest could tell who it was."""

    id: Id
    shared_interest: str
    created_at: Time
    expires_at: Time


class PendingAnswer(Struct, frozen=True):
    """In no order that means anything."""

    pokes: list[PendingShape]


class SentShape(Struct, frozen=True, rename="camel"):
    """`pending` until `expiresAt`, whether it was declined, not looked at, or could not be delivered."""

    id: Id
    to_user_id: Id
    shared_interest: str
    status: Literal["pending", "matched", "expired"]
    created_at: Time
    expires_at: Time
    channel_id: Id | UnsetType = UNSET


class SentAnswer(Struct, frozen=True):
    """Newest first."""

    pokes: list[SentShape]


async def send(parts: HttpParts, call: Call[SendBody, NoQuery]) -> PokeAnswer:
    outcome = await parts.pokes.send(call.who, str(call.body.to_user_id), call.body.shared_interest)
    poke = PokeShape(outcome.id, "matched" if outcome.matched else "pending", rfc3339(outcome.expires_ms))
    return PokeAnswer(poke, outcome.matched, UNSET if outcome.channel_id is None else outcome.channel_id)


async def respond(parts: HttpParts, call: Call[RespondBody, NoQuery]) -> PokeAnswer:
    answer = await parts.pokes.respond(call.who, str(call.body.poke_id), call.body.action)
    status: Status = "matched" if answer.status == "matched" else "declined"
    channel_id = UNSET if status == "declined" or answer.channel_id is None else answer.channel_id
    return PokeAnswer(PokeShape(answer.id, status, rfc3339(answer.expires_ms)), status == "matched", channel_id)


async def pending(parts: HttpParts, call: Call[Any, NoQuery]) -> PendingAnswer:
    pokes = await parts.pokes.pending(call.who)
    return PendingAnswer([PendingShape(one.id, one.interest, rfc3339(one.created_ms), rfc3339(one.expires_ms)) for one in pokes])


async def sent(parts: HttpParts, call: Call[Any, NoQuery]) -> SentAnswer:
    return SentAnswer(
        [
            SentShape(
                one.id, one.to_user_id, one.interest, one.status, rfc3339(one.created_ms), rfc3339(one.expires_ms),
                UNSET if one.channel_id is None else one.channel_id,
            )
            for one in await parts.pokes.sent(call.who)
        ]
    )  # fmt: skip


_FROM_THE_ROOM: Final = ("cafe_unavailable", "mailbox_full")

ENDPOINTS: Final = (
    Endpoint(
        method="POST", path="/api/pokes/send", handler=send, tag="pokes", summary="Poke somebody, who does not hear who it was", roles=USER,
        body=SendBody, answer=PokeAnswer, status=201, codes=(*_FROM_THE_ROOM, "muted", "rate_limited"), event="pokes:send",
    ),
    Endpoint(
        method="POST", path="/api/pokes/respond", handler=respond, tag="pokes", summary="Accept a poke, or decline it without a word to its sender", roles=USER,
        body=RespondBody, answer=PokeAnswer, codes=(*_FROM_THE_ROOM, "muted", "not_found", "conflict"), event="pokes:respond",
    ),
    Endpoint(
        method="GET", path="/api/pokes/pending", handler=pending, tag="pokes", summary="Who poked me, without saying who", roles=USER,
        answer=PendingAnswer, codes=_FROM_THE_ROOM, event="pokes:pending",
    ),
    Endpoint(
        method="GET", path="/api/pokes/sent", handler=sent, tag="pokes", summary="Whom I poked", roles=USER,
        answer=SentAnswer, event="pokes:sent",
    ),
)  # fmt: skip
