"""The WebSocket contract as AsyncAPI 3.0, made from the structs that decode and encode its frames."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from brewd import __version__
from brewd.cafe import events as e
from brewd.edge.samples import sample
from brewd.edge.ws import agent_frames, plain
from brewd.edge.ws.hello import Hello
from brewd.errors import STATUS

_TEMPLATE: Final = "#/components/schemas/{name}"

CLOSE_CODES: Final = {
    1000: ("bye", False),
    1001: ("the peer was silent for too long, or the server stops for good", True),
    1002: ("a frame broke RFC 6455", False),
    1007: ("a text frame was not UTF-8", False),
    1008: ("policy: no auth in time, 20 frames in a minute that were not understood, or 200 in a minute over the limit of frames a second", False),
    1009: ("a message over the size limit", False),
    1012: ("restart: reconnect after `reconnectInMs` of `server:draining`", True),
    1013: ("try again later: too many sockets of this user are open", True),
    4001: ("the access token has expired, or its user's time here is over: refresh it, then reconnect; if it cannot be refreshed, it is over", True),
    4002: ("the session was ended", False),
    4003: ("kicked by a moderator: do not come back by yourself", False),
    4004: ("banned by a moderator", False),
    4008: ("too slow: reconnect and join with `since`, or resume the query", True),
}
"""Close code → what it means, and whether to reconnect."""

REPLIES: Final[dict[type[Struct], type[Struct] | None]] = {
    plain.AuthFrame: Hello,
    plain.JoinFrame: e.JoinAnswer,
    plain.LeaveFrame: None,
    plain.SendFrame: e.SendAnswer,
    plain.DeleteFrame: None,
    plain.TypingStartFrame: None,
    plain.TypingStopFrame: None,
    plain.StatusFrame: None,
    plain.RefreshFrame: plain.RefreshAnswer,
}
"""What the `data` of the reply to each frame is; None: an empty object."""

_NOTES: Final[dict[type[Struct], str]] = {
    plain.SendFrame: (
        "A `clientMsgId` stands for the first message its user sent with it. Sending with it again, on any socket, is answered with that message and `duplicate: true`, "
        "and shows nothing: the content that comes along is not looked at, even if it is another. Take a new one for every new message, an edited one too."
    )
}
"""What the shapes of a frame do not say."""

_TOLD: Final[tuple[type[e.Event], ...]] = (
    e.MessageNew, e.MessageDeleted, e.UsersUpdate, e.TypingIndicator, e.TopicsUpdate, e.Lagged, e.Warned, e.Muted, e.Unmuted, e.BadgeAwarded,
    e.PokeReceived, e.PokeMatched, e.DmMessage, e.DmDeleted, e.DmRead, e.DmTyping, e.Draining,
)  # fmt: skip


class Shape(Struct, frozen=True):
    """A route as an event: `frame` is the whole of it, `answer` the data of its reply (None: an empty object)."""

    event: str
    frame: type[Struct]
    answer: Any
    summary: str


class _Channel(Struct, frozen=True):
    """One path: what is said to it, each frame with the data of its reply, and what it tells."""

    name: str
    address: str
    replies: Mapping[type[Struct], Any]
    told: Sequence[type[e.Event]]
    notes: Mapping[type[Struct], str]

    @property
    def answers(self) -> list[Any]:
        return list(dict.fromkeys(answer for answer in self.replies.values() if answer is not None))


def document(public_url: str, calls: Sequence[Shape]) -> dict[str, Any]:
    """The AsyncAPI object. `calls`: the routes that can be called by a frame."""
    replies = {**REPLIES, **{call.frame: call.answer for call in calls}}
    notes = {**_NOTES, **{call.frame: f"{call.summary}. As over HTTP: the same checks, the same refusals." for call in calls}}
    channels = (_Channel("ws", "/ws", replies, _TOLD, notes), _Channel("agent", "/ws/agent", agent_frames.REPLIES, (*agent_frames.TOLD, e.Draining), {}))
    kinds = list(dict.fromkeys(kind for channel in channels for kind in (*channel.replies, *channel.told, *channel.answers, Hello)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE)
    schema_of = dict(zip(kinds, schemas, strict=True))
    messages = {channel.name: _messages(channel, schema_of) for channel in channels}
    for message in (message for sides in messages.values() for side in sides for message in side.values()):
        message["examples"] = _examples(message["payload"], components)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "brewd", "version": __version__, "description": _DESCRIPTION},
        "servers": {"brewd": {"host": public_url.partition("://")[2], "protocol": "wss" if public_url.startswith("https:") else "ws"}},
        "channels": {
            channel.name: {
                "address": channel.address,
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for side in messages[channel.name] for key in side},
            }
            for channel in channels
        },
        "operations": {
            name: _operation(action, channel.name, messages[channel.name][side])
            for channel in channels
            for side, (name, action) in enumerate(_operations(channel))
        },
        "components": {
            "messages": {key: message for sides in messages.values() for side in sides for key, message in side.items()},
            "schemas": components,
        },
        "x-close-codes": [{"code": code, "meaning": meaning, "reconnect": reconnect} for code, (meaning, reconnect) in CLOSE_CODES.items()],
    }


def _examples(payload: Mapping[str, Any], components: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One of each kind that the `data` of the message can be."""
    data = payload.get("properties", {}).get("data", {})
    whole = sample(payload, components)
    return [{"payload": {**whole, "data": sample(kind, components)}} for kind in data.get("anyOf", ())] or [{"payload": whole}]


def _operations(channel: _Channel) -> tuple[tuple[str, str], tuple[str, str]]:
    where = "" if channel.name == "ws" else channel.name.capitalize()
    return (f"clientSends{where}", "receive"), (f"serverTells{where}", "send")


def _messages(channel: _Channel, schema_of: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client sends, and what the server tells, by their keys. What two channels say alike has one key."""
    sent = {
        _name(_tag(frame)): _message(_tag(frame), schema_of[frame], _reply_note(answer), channel.notes.get(frame, ""))
        for frame, answer in channel.replies.items()
    }
    told = {
        _told_key(event.name, sent): _message(event.name, _enveloped(event.name, schema_of[event]), "droppable" if event.droppable else "")
        for event in channel.told
    }
    told["connected"] = _message("connected", _enveloped("connected", schema_of[Hello]), "The first event on every authenticated socket.")
    answers = {"anyOf": [schema_of[answer] for answer in channel.answers]}
    told["reply" if channel.name == "ws" else f"{channel.name}_reply"] = _message(
        "reply", _enveloped("reply", answers, ref=True), f"The answer to a frame with a `ref` on {channel.address}."
    )
    told["error"] = _message("error", _enveloped("error", _error_schema(), ref=True), "A refused frame.")
    return sent, told


_DESCRIPTION: Final = (
    "One JSON object per text frame. A client frame is {event, data, ref?}; one with a `ref` gets exactly one `reply` or `error` that carries it. "
    "Authenticate with `Authorization: Bearer …`, with the subprotocols `brewd.v1, brewd.bearer.<token>`, or with a first frame `auth` within 5 s; never in the URL. "
    "The handshake must be the first request of its connection. "
    "`message:new` comes in `seq` order without a gap. Events marked droppable may be withheld from a slow socket, which is then told `lagged`: catch up with `join:cafe` and `since`. "
    "A user is gone at once when their last socket says `leave:cafe` or is closed by the client with 1000 or without a code. When it ends in any other way, "
    "with 1001 too, which browsers send for a page that is left or reloaded, the user stays for the grace time (30 s unless configured otherwise), and a return within it is silent to the others. "
    "A join answer lists at most 500 users; `userCount` counts them all. Its `deleted` names messages up to `since` that were deleted meanwhile. "
    "What HTTP can do for a guest beside the room can be asked for by a frame with the name of the call; its `data` is everything the route takes, and the reply what the route answers. "
    "`dm_message` comes in the `seq` order of its channel, on every socket of both, in the room or not; what came while nobody was connected is found with `dm:messages`. "
    "Frames over the limit of a socket (20 a second by default) are not looked at: with a `ref` they are answered `rate_limited` with `retryAfterMs`, without one they are dropped. "
    "What the others are told of one user (coming, typing, a status) may be 30 things at once and one more a second; after that a `join:cafe` or `presence:update` is "
    "answered `rate_limited` with `retryAfterMs`, and typing is not told. "
    "A handshake over a limit (without a token, or too many sockets of one address or user) is answered 429, with `Retry-After`. "
    "Somebody who gets a badge that messages show, or whose badge ends, is told of as `users:update` with the action `status`; from then on it counts for their limits, "
    "on every socket. "
    "On `/ws/agent` guests ask the agent, and nobody is present by it: `query:stream` is replied with a `queryId`, then comes `query:start`, chunks in the order of their "
    "`index`, and one `query:complete` or `query:error`. A socket that is lost ends its queries; on another one `query:resume` gets the chunks from `index` on, for two minutes. "
    "After `cafe:join` what the agent says by itself comes as `proactive:message`. "
    "A muted guest hears everything, is not listed and not counted, and is told `moderation:muted` when it begins and with every join until `moderation:unmuted`."
)


def _tag(frame: type[Struct]) -> str:
    return str(frame.__struct_config__.tag)


def _name(event: str) -> str:
    return event.replace(":", "_")


def _told_key(event: str, sent: Container[str]) -> str:
    """Some things are said to the server, and told by it, under one name."""
    key = _name(event)
    return f"{key}_told" if key in sent else key


def _reply_note(answer: Any) -> str:
    return "Reply: " + (answer.__name__ if answer is not None else "{}")


def _message(name: str, payload: dict[str, Any], summary: str, description: str = "") -> dict[str, Any]:
    said = {key: text for key, text in (("summary", summary), ("description", description)) if text}
    return {"name": name, "contentType": "application/json", **said, "payload": payload}


def _enveloped(name: str, data: dict[str, Any], *, ref: bool = False) -> dict[str, Any]:
    properties: dict[str, Any] = {"event": {"const": name}, "data": data}
    if ref:
        properties["ref"] = {"type": ["string", "integer"]}
    return {"type": "object", "required": ["event", "data"], "properties": properties}


def _error_schema() -> dict[str, Any]:
    return {"type": "object", "required": ["code", "detail"], "properties": {"code": {"enum": sorted(STATUS)}, "detail": {"type": "string"}}}


def _operation(action: str, channel: str, messages: Collection[str]) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": [{"$ref": f"#/channels/{channel}/messages/{key}"} for key in messages]}
