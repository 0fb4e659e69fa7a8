"""What is said on `/ws/agent`: frames and events of the contract, with the framing of the plain dialect."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from brewd.agent.pieces import Usage
from brewd.agent.words import QUERY_MAX_CHARS
from brewd.cafe.events import Event
from brewd.edge.ws import plain
from brewd.edge.ws.hello import Hello
from brewd.edge.ws.plain import CafeData, CafeId, FrameRef, Id


class _Data(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class LeaveData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    cafe_id: CafeId | None = None


class QueryData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    cafe_id: CafeId
    query: Annotated[str, Meta(min_length=1, max_length=QUERY_MAX_CHARS, description="not blank; no control characters but line breaks and tabs")]
    personality: Annotated[str, Meta(max_length=40, description="another persona than the café's own, for this question")] | None = None


class CancelData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    query_id: Id


class ResumeData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    query_id: Id
    index: Annotated[int, Meta(ge=0, le=1_000_000, description="of the first chunk that is missing: the number of chunks that have come")] = 0


class _Frame(Struct, frozen=True, forbid_unknown_fields=True, tag_field="event"):
    pass


class EnterFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="cafe:join"):
    data: CafeData
    ref: FrameRef = None


class ExitFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="cafe:leave"):
    data: LeaveData = LeaveData()
    ref: FrameRef = None


class QueryFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="query:stream"):
    data: QueryData
    ref: FrameRef = None


class CancelFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="query:cancel"):
    data: CancelData
    ref: FrameRef = None


class ResumeFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="query:resume"):
    data: ResumeData
    ref: FrameRef = None


Frame = plain.AuthFrame | plain.RefreshFrame | EnterFrame | ExitFrame | QueryFrame | CancelFrame | ResumeFrame
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)

EVENTS: Final = tuple(str(frame.__struct_config__.tag) for frame in (EnterFrame, ExitFrame, QueryFrame, CancelFrame, ResumeFrame))
"""What can be said here, and not on `/ws`."""

_UNKNOWN: Final = f"/ws/agent knows {', '.join(EVENTS)}, auth and token:refresh; the room is at /ws"


def decode(text: str) -> Frame:
    """The frame, or `BadFrame`."""
    return plain.decoded(_decoder, text, _UNKNOWN)


class QueryAnswer(Struct, frozen=True, rename="camel"):
    """The reply to a frame about a query."""

    query_id: str


class EnterAnswer(Struct, frozen=True, rename="camel"):
    """The reply to `cafe:join`. `available`: whether the agent takes questions at the moment; `reason`: why it does not."""

    cafe_id: str
    persona: str
    available: bool
    reason: str | UnsetType = UNSET


class QueryStart(Event, frozen=True, rename="camel"):
    """`cached`: the answer was there already."""

    name: ClassVar[str] = "query:start"
    query_id: str
    query: str
    cached: bool


class QueryChunk(Event, frozen=True, rename="camel"):
    """`index` counts from 0 without a gap."""

    name: ClassVar[str] = "query:chunk"
    query_id: str
    index: int
    text: str


class QueryComplete(Event, frozen=True, rename="camel"):
    """`sources`: what the answer was made from, like `menu`. `usage` is all 0 for one that was there already. `truncated`: it reached its greatest length."""

    name: ClassVar[str] = "query:complete"
    query_id: str
    full_response: str
    cached: bool
    sources: tuple[str, ...]
    usage: Usage
    truncated: bool = False


class QueryError(Event, frozen=True, rename="camel"):
    """The answer ends here. `partial`: what has come of it stays, and is all there will be."""

    name: ClassVar[str] = "query:error"
    query_id: str
    code: str
    detail: str
    retry_after_ms: int | UnsetType = UNSET
    partial: bool = False


class ProactiveMessage(Event, frozen=True, rename="camel"):
    """The agent says something by itself. The room has it as a message, too."""

    name: ClassVar[str] = "proactive:message"
    cafe_id: str
    message: str
    created_at: str


REPLIES: Final[dict[type[Struct], type[Struct] | None]] = {
    plain.AuthFrame: Hello,
    plain.RefreshFrame: plain.RefreshAnswer,
    EnterFrame: EnterAnswer,
    ExitFrame: None,
    QueryFrame: QueryAnswer,
    CancelFrame: QueryAnswer,
    ResumeFrame: QueryAnswer,
}
"""What the `data` of the reply to each frame is; None: an empty object."""

TOLD: Final[tuple[type[Event], ...]] = (QueryStart, QueryChunk, QueryComplete, QueryError, ProactiveMessage)
