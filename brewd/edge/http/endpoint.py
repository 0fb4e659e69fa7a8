"""A route as data: what it takes, who may use it, what it answers. The server and the OpenAPI page are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from quart import Request, Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from brewd.edge.http import body, gate
from brewd.edge.http.parts import HttpParts
from brewd.edge.standing import Standing
from brewd.errors import Rejected
from brewd.people.tokens import Identity

B = TypeVar("B")
Q = TypeVar("Q")

USER: Final = frozenset({"user"})
BARISTA: Final = frozenset({"barista"})
MODERATOR: Final = frozenset({"moderator"})
STAFF: Final = BARISTA | MODERATOR
MEMBER: Final = USER | STAFF

_JSON: Final = "application/json"


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A route that takes no query."""


class Call(Struct, Generic[B, Q], frozen=True):
    """One request, checked: what came, from whom, from where. `ids` are those in the path; `tell` takes what the answer says of limits."""

    identity: Identity | None
    body: B
    query: Q
    ids: dict[str, str]
    address: str | None
    tell: Callable[[Standing], None]

    @property
    def who(self) -> Identity:
        """The caller, on a route that has `roles`."""
        assert self.identity is not None
        return self.identity

    def own_cafe(self, cafe_id: str) -> str:
        """The café id itself, or `Rejected` (`not_in_cafe`): nothing of one café is readable from another."""
        if self.who.cafe_id != cafe_id:
            raise Rejected("not_in_cafe", "This belongs to a café you are not in.")
        return cafe_id


Handler = Callable[[HttpParts, Call[Any, Any]], Awaitable[Any]]


class Endpoint(Struct, frozen=True, kw_only=True):
    """`path` has `<uuid:camelName>` for ids. `roles` None: anyone, though a token that is sent is checked where `greets` is set.

    `strangers`: what becomes of a request without a token: it is counted for its address, judged by the handler, or free.
    `barred`: also for somebody who is banned, whose token is good otherwise. `event`: by that name it can also be called on a WebSocket (see `calls`); no two of its ids, body and query have a name in common.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    roles: frozenset[str] | None = None
    greets: bool = False
    barred: bool = False
    strangers: Literal["counted", "judged", "free"] = "counted"
    body: type[Any] | None = None
    query: type[Any] = NoQuery
    answer: Any = None
    status: int = 200
    codes: tuple[str, ...] = ()
    event: str | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}".replace(".", " ")


def install(app: QuartTrio, parts: HttpParts, endpoints: Sequence[Endpoint]) -> None:
    """Give the app a view for each endpoint, and a gate before all of them."""
    gate.install(app, parts, frozenset(endpoint.name for endpoint in endpoints if endpoint.strangers != "counted"))
    for endpoint in endpoints:
        app.add_url_rule(endpoint.path, endpoint.name, _view(parts, endpoint), methods=[endpoint.method])


def _view(parts: HttpParts, endpoint: Endpoint) -> Callable[..., Awaitable[Response]]:
    decode = body.decoder(endpoint.body) if endpoint.body is not None else None
    encode = msgspec.json.Encoder().encode

    async def answered(caller: gate.Caller, path: dict[str, UUID]) -> Any:
        incoming: Request = request._get_current_object()  # type: ignore[attr-defined]
        # Who asks is settled before a byte of the body is awaited: strangers cost nothing.
        identity = _identity(endpoint, caller)
        call = Call(
            identity=identity,
            query=body.query(incoming, endpoint.query),
            body=decode(await body.read(incoming)) if decode is not None else None,
            ids={name: str(value) for name, value in path.items()},
            address=caller.address,
            tell=caller.told.append,
        )
        return await endpoint.handler(parts, call)

    async def view(**path: UUID) -> Response:
        caller = gate.caller()
        try:
            answer = await answered(caller, path)
        except (HTTPException, Rejected) as refused:
            if endpoint.strangers == "judged" and caller.identity is None and not (isinstance(refused, Rejected) and refused.code != "invalid_request"):
                gate.count(parts, caller)
            raise
        if answer is None:
            return Response(b"", 204)
        if isinstance(answer, Response):
            return answer
        return Response(encode(answer), endpoint.status, content_type=_JSON)

    return view


def _identity(endpoint: Endpoint, caller: gate.Caller) -> Identity | None:
    """Who the endpoint has to do with. Raises `Rejected`: `unauthorized`, `token_expired`, `user_expired`, `banned`, `forbidden`."""
    if endpoint.roles is None and not endpoint.greets:
        return None
    identity = caller.barred if endpoint.barred and caller.barred is not None else caller.identity
    if identity is None and caller.refusal is not None:
        raise caller.refusal
    if endpoint.roles is None:
        return identity
    if identity is None:
        raise Rejected("unauthorized", "This needs an access token, as Authorization: Bearer ….")
    allowed(endpoint, identity)
    return identity


def allowed(endpoint: Endpoint, identity: Identity) -> None:
    """Raises `Rejected` (`forbidden`) when the endpoint is for others."""
    if endpoint.roles is not None and identity.role not in endpoint.roles:
        raise Rejected("forbidden", f"This is for {' and '.join(sorted(endpoint.roles))} only.")
