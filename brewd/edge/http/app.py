"""The HTTP edge: a quart-trio app over the parts it is given. Owns no state; every route is an `Endpoint`."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlsplit

from hypercorn.typing import HTTPScope
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection

from brewd.edge.http import (  # fmt: skip
    agent,
    analytics,
    auth,
    badges,
    body,
    cafes,
    calls,
    chat,
    dm,
    endpoint,
    headers,
    health,
    interests,
    matching,
    moderation,
    openapi,
    pages,
    pokes,
    problem,
    ratelimit,
    spam,
    users,
)
from brewd.edge.http.parts import Directory, HttpParts, Ref
from brewd.edge.ws import asyncapi

__all__ = ["ENDPOINTS", "Directory", "HttpParts", "Ref", "create_app"]

_FEATURES: Final = (health, auth, users, chat, cafes, analytics, ratelimit, spam, moderation, badges, interests, matching, pokes, dm, agent)

ENDPOINTS: Final = tuple(endpoint for feature in _FEATURES for endpoint in feature.ENDPOINTS)

_ANSWER_MAX_S: Final = 30  # to a client that does not read


class _Connection(TrioASGIHTTPConnection):
    """Takes a request target with a host in it (RFC 9112, section 3.2.2) for its path, and one that is none for a wrong path."""

    def __init__(self, app: QuartTrio, scope: Any) -> None:
        super().__init__(app, cast("HTTPScope", {**scope, "path": _path_of(scope["path"])}))


def _path_of(target: str) -> str:
    if target.startswith("/"):
        return target
    try:
        return urlsplit(target).path or "/"
    except ValueError:
        return "/?"  # no route has this path


def create_app(parts: HttpParts) -> QuartTrio:
    """The ASGI app. It starts no task and needs no lifespan events."""
    app = QuartTrio("brewd.edge.http", static_folder=None, template_folder=None)
    app.asgi_http_class = _Connection  # type: ignore[assignment]
    app.config.update(
        MAX_CONTENT_LENGTH=body.SIZE_MAX_BYTES,
        BODY_TIMEOUT=body.TIMEOUT_S,
        RESPONSE_TIMEOUT=_ANSWER_MAX_S,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    problem.install(app, parts.ids)
    headers.install(app, origins=parts.config.server.origins, https=parts.config.public_url.startswith("https:"))
    endpoint.install(app, parts, ENDPOINTS)
    url = parts.config.public_url
    pages.install(app, ENDPOINTS, openapi.document(ENDPOINTS, url), asyncapi.document(url, calls.shapes(ENDPOINTS)))
    return app
