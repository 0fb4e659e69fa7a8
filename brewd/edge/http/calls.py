"""Routes as events: what a route does can also be asked for on a WebSocket, by a frame that names it and carries a `ref`.

The same handler answers with the same checks and the same refusals. A frame's `data` is everything the route takes, wherever HTTP
has it: the ids of the path, the query and the body, as one object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import trio
from msgspec import Struct

from brewd.edge.http import body
from brewd.edge.http.endpoint import Call, Endpoint, allowed
from brewd.edge.http.parts import HttpParts
from brewd.edge.refusal import internal
from brewd.edge.ws.asyncapi import Shape
from brewd.edge.ws.plain import FrameRef
from brewd.errors import Rejected, StoreError, storage_unavailable
from brewd.people.tokens import Identity
from brewd.runtime.log import get_logger

log = get_logger("brewd.edge.calls")

ANSWER_S: Final = 5.0
"""From when the frame was heard, so that calls which wait for each other do not add up. Handlers have deadlines of their own besides."""

_ID: Final = re.compile(r"<uuid:(\w+)>")


class _Route(Struct, frozen=True):
    endpoint: Endpoint
    ids: tuple[str, ...]
    data: type[Struct]
    decode: Any


class Calls:
    """Every route that has an `event`. `event in calls` says whether there is such a one."""

    def __init__(self, parts: HttpParts, endpoints: Sequence[Endpoint]) -> None:
        self._parts = parts
        self._routes = {endpoint.event: _route(endpoint) for endpoint in endpoints if endpoint.event is not None}

    def __contains__(self, event: object) -> bool:
        return event in self._routes

    async def perform(self, event: str, data: bytes, identity: Identity, heard_s: float) -> Any:
        """Do what `event` asks for, in the name of `identity`; what its reply says. `heard_s`: when the frame came, on trio's clock.

        Raises `Rejected`, whatever goes wrong, within `ANSWER_S` from then.
        """
        route = self._routes[event]
        allowed(route.endpoint, identity)
        call = _call(route, route.decode(data), identity)
        try:
            if trio.current_time() >= heard_s + ANSWER_S:
                raise StoreError("calls before it took all of its time")
            with trio.fail_at(heard_s + ANSWER_S):
                answer = await route.endpoint.handler(self._parts, call)
        except StoreError as error:
            log.debug("store unavailable for a call", reason=str(error))
            raise storage_unavailable() from None
        except trio.TooSlowError:
            raise Rejected("storage_unavailable", "This took too long; whether it was done is not known.", retryAfterMs=1000) from None
        except Rejected:
            raise
        except Exception as error:
            incident = self._parts.ids.uuid4()
            log.error("a call failed", incident=incident, call=event, exc_info=error)
            raise internal(incident) from None
        return {} if answer is None else answer


def shapes(endpoints: Sequence[Endpoint]) -> Sequence[Shape]:
    """What there is to call, for the page that lists it."""
    return [_shape(endpoint, endpoint.event) for endpoint in endpoints if endpoint.event is not None]


def _route(endpoint: Endpoint) -> _Route:
    data = _data(endpoint)
    return _Route(endpoint, tuple(_ID.findall(endpoint.path)), data, body.decoder(data))


def _shape(endpoint: Endpoint, event: str) -> Shape:
    fields: list[Any] = [("data", _data(endpoint)), ("ref", FrameRef, None)]
    frame = msgspec.defstruct(f"{_words(event)}Frame", fields, tag=event, tag_field="event", forbid_unknown_fields=True, frozen=True)
    return Shape(event, frame, endpoint.answer, endpoint.summary)


def _data(endpoint: Endpoint) -> type[Struct]:
    """One struct of all that the route takes."""
    fields: list[Any] = [(name, UUID) for name in _ID.findall(endpoint.path)]
    names = {name: name for name in _ID.findall(endpoint.path)}
    for kind in (endpoint.body, endpoint.query):
        for info in msgspec.structs.fields(kind) if kind is not None else ():
            names[info.name] = info.encode_name
            if info.default_factory is not msgspec.NODEFAULT:
                fields.append((info.name, info.type, msgspec.field(default_factory=info.default_factory)))
            elif info.default is not msgspec.NODEFAULT:
                fields.append((info.name, info.type, info.default))
            else:
                fields.append((info.name, info.type))
    return msgspec.defstruct(f"{_words(endpoint.event or '')}Data", fields, rename=names, kw_only=True, forbid_unknown_fields=True, frozen=True)


def _call(route: _Route, data: Struct, identity: Identity) -> Call[Any, Any]:
    endpoint = route.endpoint
    return Call(
        identity=identity,
        query=_part(endpoint.query, data),
        body=None if endpoint.body is None else _part(endpoint.body, data),
        ids={name: str(getattr(data, name)) for name in route.ids},
        address=None,
        tell=lambda _standing: None,  # what is left of a limit is told in headers, and in refusals
    )


def _part(kind: type[Any], data: Struct) -> Any:
    return kind(**{name: getattr(data, name) for name in kind.__struct_fields__})


def _words(event: str) -> str:
    """`pokes:send` → `PokesSend`."""
    return "".join(word.capitalize() for word in re.split(r"[:\-_]", event))
