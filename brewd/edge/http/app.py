"""The HTTP edge: a quart-trio app over the parts it is given. Owns no state; every route is an `Endpoint`."""

from __future__ import annotations

from quart_trio import QuartTrio

from brewd.edge.http import auth, body, cafes, chat, endpoint, headers, health, openapi, pages, problem, users
from brewd.edge.http.parts import Directory, HttpParts, Ref

__all__ = ["Directory", "HttpParts", "Ref", "create_app"]

_ANSWER_MAX_S = 30  # to a client that does not read


def create_app(parts: HttpParts) -> QuartTrio:
    """The ASGI app. It starts no task and needs no lifespan events."""
    app = QuartTrio("brewd.edge.http", static_folder=None, template_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=body.SIZE_MAX_BYTES,
        BODY_TIMEOUT=body.TIMEOUT_S,
        RESPONSE_TIMEOUT=_ANSWER_MAX_S,
        PROVIDE_AUTOMATIC_OPTIONS=False,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    endpoints = (*health.ENDPOINTS, *auth.ENDPOINTS, *users.ENDPOINTS, *chat.ENDPOINTS, *cafes.ENDPOINTS)
    problem.install(app, parts.ids)
    headers.install(app, origins=parts.config.server.origins, https=parts.config.public_url.startswith("https:"))
    endpoint.install(app, parts, endpoints)
    pages.install(app, endpoints, openapi.document(endpoints, parts.config.public_url))
    return app
