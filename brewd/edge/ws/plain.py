"""The plain dialect: one JSON object per text frame, as the contract words it.

Outwards it is the `Dialect` every fan-out encodes with; inwards, `decode` turns a text frame into one of the frozen structs below,
checked once and completely. What is wrong with a frame is said with the path of the field.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from brewd.cafe.commands import Ref
from brewd.cafe.events import Event
from brewd.errors import Rejected

_TEXT_FIN = 0x81
_LEN_16 = 126
_LEN_64 = 127
_ECHO_MAX_CHARS = 66

encode = msgspec.json.Encoder().encode

F = TypeVar("F")

CafeId = Annotated[str, Meta(min_length=1, max_length=64)]
Token = Annotated[str, Meta(min_length=1, max_length=4096)]
ClientMsgId = Annotated[str, Meta(min_length=1, max_length=64)]
FrameRef = Annotated[str, Meta(max_length=64)] | int | None

# The length as well, since Python's $ lets a line break follow.
Id = Annotated[str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", max_length=36)]
"""Of a message or a query. The only text of a frame that has a pattern."""


class _Data(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    pass


class JoinData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    cafe_id: CafeId
    since: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    epoch: Annotated[str, Meta(max_length=64)] | None = None


class CafeData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    cafe_id: CafeId


class SendData(_Data, frozen=True, gc=False, forbid_unknown_fields=True, rename="camel"):
    cafe_id: CafeId
    content: str
    client_msg_id: ClientMsgId | None = None


class DeleteData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    message_id: Id


class StatusData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    status: Literal["online", "away", "busy"]


class TokenData(_Data, frozen=True, forbid_unknown_fields=True, rename="camel"):
    token: Token


class _Frame(Struct, frozen=True, forbid_unknown_fields=True, tag_field="event"):
    pass


class AuthFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="auth"):
    data: TokenData
    ref: FrameRef = None


class JoinFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="join:cafe"):
    data: JoinData
    ref: FrameRef = None


class LeaveFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="leave:cafe"):
    data: CafeData
    ref: FrameRef = None


class SendFrame(_Frame, frozen=True, gc=False, forbid_unknown_fields=True, tag_field="event", tag="message:send"):
    data: SendData
    ref: FrameRef = None


class DeleteFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="message:delete"):
    data: DeleteData
    ref: FrameRef = None


class TypingStartFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="typing:start"):
    data: CafeData
    ref: FrameRef = None


class TypingStopFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="typing:stop"):
    data: CafeData
    ref: FrameRef = None


class StatusFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="presence:update"):
    data: StatusData
    ref: FrameRef = None


class RefreshFrame(_Frame, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="token:refresh"):
    data: TokenData
    ref: FrameRef = None


class RefreshAnswer(Struct, frozen=True, rename="camel"):
    """The reply to `token:refresh`."""

    expires_at: str


class CallFrame(Struct, frozen=True, forbid_unknown_fields=True):
    """One that names a call. What it takes is for the call to say."""

    event: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    ref: FrameRef = None


Frame = AuthFrame | JoinFrame | LeaveFrame | SendFrame | DeleteFrame | TypingStartFrame | TypingStopFrame | StatusFrame | RefreshFrame
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)
_call_decoder = msgspec.json.Decoder(CallFrame)


class _Mark(Struct):
    """As much of a frame as is needed to answer it, whatever else is wrong with it: a ref of any length, too."""

    ref: Ref = None
    event: Any = None


_mark_decoder = msgspec.json.Decoder(_Mark)


class BadFrame(Rejected):
    """A frame that was not understood; `ref` is what its answer should carry."""

    def __init__(self, path: str, problem: str, ref: Ref = None) -> None:
        where = "" if path == "$" else f"{path}: "
        super().__init__("invalid_request", f"The frame was not understood: {where}{problem}", errors=[{"path": path, "detail": problem}])
        self.ref = ref


def decode(text: str, calls: Container[str] = (), agent: Container[str] = ()) -> Frame | CallFrame:
    """The frame, or `BadFrame`. `calls`: names of events that are calls; `agent`: of those that belong to the other socket."""
    try:
        try:
            return _decoder.decode(text)
        except msgspec.ValidationError:
            event = _mark(text).event
            if not isinstance(event, str) or event not in calls:
                raise
            return _call_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        event = _mark(text).event
        there = isinstance(event, str) and event in agent
        raise _bad(error, text, "this event belongs to /ws/agent" if there else "there is no such event on /ws; /docs lists those there are") from None


def decoded(decoder: msgspec.json.Decoder[F], text: str, unknown: str) -> F:
    """A frame of another set than this one, or `BadFrame`; `unknown` is what is wrong with an event that is not in the set."""
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad(error, text, unknown) from None


def _bad(error: Exception, text: str, unknown: str) -> BadFrame:
    if isinstance(error, msgspec.ValidationError):
        problem, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".") or "$"
        if path == "event" and problem.startswith("Invalid value"):
            problem = f"{unknown}: {problem.removeprefix('Invalid value ')[:_ECHO_MAX_CHARS]}"
        elif "matching regex" in problem:
            problem = "Expected an id as the server gave it, like 0192f3a4-5b6c-7d8e-9f01-23456789abcd"
        return BadFrame(path, problem, ref_of(text))
    return BadFrame("$", "JSON is nested too deeply" if isinstance(error, RecursionError) else str(error))


def ref_of(text: str) -> Ref:
    """The `ref` of a frame that is not decoded any further, if it has one."""
    return _mark(text).ref


def _mark(text: str) -> _Mark:
    try:
        return _mark_decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _Mark()


class _Told(Struct, frozen=True):
    event: str
    data: Any


class _Answer(Struct, frozen=True, omit_defaults=True):
    event: str
    data: Any
    ref: Ref = None


class Plain:
    """`Dialect` of `/ws`. Has no state: one instance serves every socket."""

    def event(self, event: Event) -> bytes:
        return text_frame(encode(_Told(event.name, event)))

    def reply(self, ref: Ref, data: Any) -> bytes:
        return text_frame(encode(_Answer("reply", data, ref)))

    def error(self, ref: Ref, data: dict[str, Any]) -> bytes:
        return text_frame(encode(_Answer("error", data, ref)))


def text_frame(payload: bytes) -> bytes:
    """An unmasked, final text frame (RFC 6455, section 5.2): what a server sends, once for all members."""
    size = len(payload)
    if size < _LEN_16:
        return bytes((_TEXT_FIN, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT_FIN, _LEN_16, size >> 8, size & 255)) + payload
    return bytes((_TEXT_FIN, _LEN_64)) + size.to_bytes(8, "big") + payload
