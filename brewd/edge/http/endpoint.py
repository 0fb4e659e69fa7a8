"""A route as data: what it takes, who may use it, what it answers. The server and the OpenAPI page are both made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct
from quart import Request, Response, request
from quart_trio import QuartTrio

from brewd.edge.http import body
from brewd.edge.http.parts import HttpParts
from brewd.errors import Rejected
from brewd.people.network import Network, client_address, parse_networks
from brewd.people.tokens import Identity

B = TypeVar("B")
Q = TypeVar("Q")

USER: Final = frozenset({"user"})
BARISTA: Final = frozenset({"barista"})
STAFF: Final = frozenset({"barista", "moderator"})
MEMBER: Final = USER | STAFF

_JSON: Final = "application/json"


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A route that takes no query."""


class Call(Struct, Generic[B, Q], frozen=True):
    """One request, checked: what came, from whom, from where. `ids` are those in the path."""

    identity: Identity | None
    body: B
    query: Q
    ids: dict[str, str]
    address: str | None

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
    """`path` has `<uuid:camelName>` for ids. `roles` None: anyone, though a token that is sent is checked where `greets` is set."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    roles: frozenset[str] | None = None
    greets: bool = False
    body: type[Any] | None = None
    query: type[Any] = NoQuery
    answer: Any = None
    status: int = 200
    codes: tuple[str, ...] = ()


def install(app: QuartTrio, parts: HttpParts, endpoints: Sequence[Endpoint]) -> None:
    """Give the app a view for each endpoint."""
    trusted = parse_networks(parts.config.server.trusted_proxies)
    for endpoint in endpoints:
        name = f"{endpoint.method} {endpoint.path}".replace(".", " ")
        app.add_url_rule(endpoint.path, name, _view(parts, endpoint, trusted), methods=[endpoint.method])


def _view(parts: HttpParts, endpoint: Endpoint, trusted: tuple[Network, ...]) -> Callable[..., Awaitable[Response]]:
    decode = body.decoder(endpoint.body) if endpoint.body is not None else None
    encode = msgspec.json.Encoder().encode

    async def view(**path: UUID) -> Response:
        incoming: Request = request._get_current_object()  # type: ignore[attr-defined]
        # Who asks is settled before a byte of the body is awaited: strangers cost nothing.
        identity = _identity(parts, endpoint, incoming)
        call = Call(
            identity=identity,
            query=body.query(incoming, endpoint.query),
            body=decode(await body.read(incoming)) if decode is not None else None,
            ids={name: str(value) for name, value in path.items()},
            address=_address(incoming, trusted),
        )
        answer = await endpoint.handler(parts, call)
        if answer is None:
            return Response(b"", 204)
        return Response(encode(answer), endpoint.status, content_type=_JSON)

    return view


def _identity(parts: HttpParts, endpoint: Endpoint, incoming: Request) -> Identity | None:
    """The bearer of the access token. Raises `Rejected`: `unauthorized`, `token_expired`, `user_expired`, `forbidden`."""
    if endpoint.roles is None and not endpoint.greets:
        return None
    header = incoming.headers.get("Authorization")
    if header is None:
        if endpoint.roles is None:
            return None
        raise Rejected("unauthorized", "This needs an access token, as Authorization: Bearer ….")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Rejected("unauthorized", "This needs an access token, as Authorization: Bearer ….")
    identity = parts.sessions.identify(token.strip())
    if endpoint.roles is not None and identity.role not in endpoint.roles:
        raise Rejected("forbidden", f"This is for {' and '.join(sorted(endpoint.roles))} only.")
    return identity


def _address(incoming: Request, trusted: tuple[Network, ...]) -> str | None:
    client = incoming.scope.get("client")
    return client_address(client[0] if client else None, incoming.headers.getlist("X-Forwarded-For"), trusted)
