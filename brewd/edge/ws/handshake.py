"""The opening handshake (RFC 6455, section 4.2), and who a client says it is in it.

A token comes in the `Authorization` header or, from browsers, as a subprotocol; in the URL it would end up in logs. A page of a
foreign origin is refused, since a browser would lend it its user's network, and with it the proof of being in the café.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

import orjson
from msgspec import Struct
from wsproto.utilities import generate_accept_token

from brewd.edge import standing
from brewd.edge.head import Head
from brewd.edge.refusal import MEDIA_TYPE, problem_body
from brewd.edge.standing import OverLimit
from brewd.errors import Rejected

VERSION = "13"
PROTOCOL = "brewd.v1"
BEARER = "brewd.bearer."


class Upgrade(Struct, frozen=True):
    """An acceptable handshake: where it knocked, the bytes that accept it, and the token it carried, if any."""

    path: str
    accept: bytes
    token: str | None


def check(head: Head, *, origins: frozenset[str], paths: Collection[str]) -> Upgrade:
    """Check an upgrade request to one of `paths`. Raises `Rejected`: `not_found`, `invalid_request`, `forbidden`."""
    path = _path(head.target)
    if path not in paths:
        raise Rejected("not_found", f"WebSockets are served at {' and '.join(paths)}.")
    headers = head.headers
    if head.method != "GET" or headers.get("sec-websocket-version") != VERSION:
        raise Rejected("invalid_request", f"This is not a WebSocket handshake of version {VERSION}.")
    _check_origin(headers, origins)
    key = headers.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise Rejected("invalid_request", "Sec-WebSocket-Key must be 16 bytes in base64.")
    except ValueError:  # not base64, or not even ASCII
        raise Rejected("invalid_request", "Sec-WebSocket-Key must be 16 bytes in base64.") from None
    offered = [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",") if name.strip()]
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + generate_accept_token(key.encode()),
    ]
    if PROTOCOL in offered:
        lines.append(b"Sec-WebSocket-Protocol: " + PROTOCOL.encode())
    return Upgrade(path, b"\r\n".join(lines) + b"\r\n\r\n", _token(headers, offered))


def _path(target: str) -> str:
    try:
        return urlsplit(target).path
    except ValueError:  # a host in brackets that does not end
        return ""


def refusal(rejected: Rejected, status: int | None = None) -> bytes:
    """A complete HTTP answer that says no and ends the connection."""
    code = status or rejected.status
    phrase = HTTPStatus(code).phrase
    problem = problem_body(rejected.code, rejected.detail, rejected.extras, code)
    body = orjson.dumps(problem)
    lines = [f"HTTP/1.1 {code} {phrase}", f"Content-Type: {MEDIA_TYPE}", f"Content-Length: {len(body)}", "Cache-Control: no-store"]
    lines += [f"Sec-WebSocket-Version: {VERSION}", "Connection: close"]
    if "retryAfterMs" in problem:
        lines.append(f"Retry-After: {math.ceil(problem['retryAfterMs'] / 1000)}")
    if isinstance(rejected, OverLimit):
        lines += [f"{name}: {value}" for name, value in standing.headers([rejected.standing])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _check_origin(headers: dict[str, str], origins: frozenset[str]) -> None:
    origin = headers.get("origin")
    if origin is None or origin in origins:
        return
    netloc = origin.lower().partition("://")[2]
    if not netloc or netloc != headers.get("host", "").lower():
        raise Rejected("forbidden", "Pages of this origin may not connect here.")


def _token(headers: dict[str, str], offered: list[str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return next((name.removeprefix(BEARER) for name in offered if name.startswith(BEARER)), None)
