"""Who asks, from where, and whether they may: settled for every request before its route and its body.

A request without a good access token counts for its address, whatever it asks for and however it is answered. Not counted are the
health probes, a browser's preflight, and what is judged by its outcome instead: logins, joins and refreshes. Of those, the ones
that could not be judged at all count here (a body that is no join is a request like any other).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from quart import Request, Response, g, request
from quart_trio import QuartTrio

from brewd.edge.http.parts import HttpParts
from brewd.edge.standing import Standing, headers
from brewd.errors import Rejected
from brewd.people.network import Network, client_address, parse_networks
from brewd.people.tokens import Identity


class Caller(Struct, frozen=True):
    """`identity`: of a good access token. `refusal`: what was wrong with the one that was sent. `told`: the limits this request was counted for.

    `barred`: whose token it is, when nothing is wrong with it but that they are banned. To nearly everything they are a stranger like any other.
    """

    address: str | None
    identity: Identity | None
    refusal: Rejected | None
    told: list[Standing]
    barred: Identity | None = None


def install(app: QuartTrio, parts: HttpParts, uncounted: frozenset[str]) -> None:
    """`uncounted`: names of the routes that are not counted."""
    trusted = parse_networks(parts.config.server.trusted_proxies)

    async def admit() -> None:
        incoming: Request = request._get_current_object()  # type: ignore[attr-defined]
        g.caller = caller = _caller(parts, incoming, trusted)
        if caller.identity is None and incoming.endpoint not in uncounted:
            count(parts, caller)

    async def tell(response: Response) -> Response:
        told: Sequence[Standing] = g.caller.told if "caller" in g else ()
        if "RateLimit" not in response.headers:  # else it is a refusal, and says which limit it was
            response.headers.extend(headers(told))
        return response

    app.before_request(admit)
    app.after_request(tell)


def caller() -> Caller:
    """Who sent the request at hand."""
    found: Caller = g.caller
    return found


def count(parts: HttpParts, caller: Caller) -> None:
    """One request without a token. Raises `OverLimit`."""
    standing = parts.guard.limits.anonymous(caller.address)
    if standing is not None:
        caller.told.append(standing)


def _caller(parts: HttpParts, incoming: Request, trusted: tuple[Network, ...]) -> Caller:
    client = incoming.scope.get("client")
    address = client_address(client[0] if client else None, incoming.headers.getlist("X-Forwarded-For"), trusted)
    identity, refusal, barred = None, None, None
    scheme, _, token = incoming.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        try:
            identity = parts.sessions.identify(token.strip())
        except Rejected as rejected:
            refusal = rejected
            barred = parts.sessions.barred(token.strip()) if rejected.code == "banned" else None
    elif scheme:
        refusal = Rejected("unauthorized", "This needs an access token, as Authorization: Bearer ….")
    return Caller(address, identity, refusal, [], barred)
