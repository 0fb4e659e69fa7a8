"""Headers that go with every answer: what a browser must not do with it, and which foreign pages may read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quart import Response, request
from quart_trio import QuartTrio

_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
_PAGE_POLICY: Final = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_METHODS: Final = "GET, HEAD, POST, PUT, DELETE"
_PREFLIGHT_S: Final = "600"
ERASURE_RECEIPT: Final = "Erasure-Receipt"


def install(app: QuartTrio, *, origins: Sequence[str], https: bool) -> None:
    """`origins`: foreign pages that may call; without any there is no CORS at all. `https`: whether customers come over TLS."""
    allowed = frozenset(origin.lower() for origin in origins)

    async def preflight() -> Response | None:
        """Answer a browser that asks before it sends, if the page may."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers or _origin(allowed) is None:
            return None
        response = Response(b"", 204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        response.headers["Access-Control-Max-Age"] = _PREFLIGHT_S
        return response

    async def protect(response: Response) -> Response:
        headers = response.headers
        is_page = response.mimetype == "text/html"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Content-Security-Policy"] = _PAGE_POLICY if is_page else _API_POLICY
        headers["X-Frame-Options"] = "DENY"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        if https:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        if request.path.startswith("/api") or is_page:
            headers["Cache-Control"] = "no-store"
        if allowed:
            headers.add("Vary", "Origin")
            origin = _origin(allowed)
            if origin is not None:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = f"Retry-After, RateLimit, RateLimit-Policy, {ERASURE_RECEIPT}"
        return response

    app.before_request(preflight)
    app.after_request(protect)


def _origin(allowed: frozenset[str]) -> str | None:
    """The page that asks, when it may."""
    origin = request.headers.get("Origin")
    return origin if origin is not None and origin.lower() in allowed else None
