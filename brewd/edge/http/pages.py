"""The few pages brewd shows by itself: the API's documentation, and where the link on a receipt leads.

Plain HTML with one style sheet and, for the join page, one small script. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any, Final

import msgspec
from quart import Response
from quart_trio import QuartTrio

from brewd.edge.http.endpoint import Endpoint
from brewd.edge.http.openapi import codes_of
from brewd.edge.http.problem import problem
from brewd.edge.refusal import title_of
from brewd.errors import STATUS

_HTML: Final = "text/html; charset=utf-8"
_FILES: Final = (
    ("/join", "join.html", _HTML),
    ("/join.js", "join.js", "text/javascript; charset=utf-8"),
    ("/pages.css", "pages.css", "text/css; charset=utf-8"),
)


def install(app: QuartTrio, endpoints: Sequence[Endpoint], openapi: Mapping[str, Any], asyncapi: Mapping[str, Any]) -> None:
    """Serve the pages, the OpenAPI and AsyncAPI documents, and `/`, which leads to the documentation."""
    folder = resources.files("brewd.edge.http") / "pages"
    for path, name, kind in _FILES:
        app.add_url_rule(path, path, _fixed((folder / name).read_bytes(), kind), methods=["GET"])
    app.add_url_rule("/docs", "/docs", _fixed(_docs(endpoints, openapi, asyncapi).encode(), _HTML), methods=["GET"])
    app.add_url_rule("/api/openapi.json", "openapi", _fixed(msgspec.json.encode(openapi), "application/json"), methods=["GET"])
    app.add_url_rule("/api/asyncapi.json", "asyncapi", _fixed(msgspec.json.encode(asyncapi), "application/json"), methods=["GET"])
    app.add_url_rule("/", "/", _home, methods=["GET"])
    for path in ("/ws", "/ws/agent"):
        app.add_url_rule(path, path, _no_upgrade, methods=["GET"])


def _fixed(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        return Response(content, 200, content_type=kind)

    return view


async def _no_upgrade() -> Response:
    """Whoever asks without an upgrade: curl, mostly."""
    response = problem("invalid_request", "This is a WebSocket: connect with a WebSocket client, as ws:// or wss://.", status=426)
    response.headers["Upgrade"] = "websocket"
    return response


async def _home() -> Response:
    return Response(b"", 302, headers={"Location": "/docs"})


def _docs(endpoints: Sequence[Endpoint], openapi: Mapping[str, Any], asyncapi: Mapping[str, Any]) -> str:
    """The documentation as one page."""
    sections: list[str] = []
    for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints):
        sections.append(f"<h2>{escape(tag.capitalize())}</h2>")
        sections += [_endpoint(endpoint, openapi) for endpoint in endpoints if endpoint.tag == tag]
    rows = "".join(f'<tr id="{code}"><td><code>{code}</code></td><td>{status}</td><td>{escape(title_of(code))}</td></tr>' for code, status in STATUS.items())
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{_pretty(schema)}</pre></details>'
        for name, schema in openapi["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>brewd: HTTP API</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/pages.css"></head><body><main>'
        f"<h1>brewd {escape(openapi['info']['version'])}</h1>"
        '<p>JSON over HTTP, and WebSockets at <code>/ws</code> and <code>/ws/agent</code>. For machines: <a href="/api/openapi.json">openapi.json</a>, <a href="/api/asyncapi.json">asyncapi.json</a>.</p>'
        f"{''.join(sections)}{_websocket(asyncapi)}<h2>Shapes</h2>{schemas}"
        f"<h2>Errors</h2><p>Every error is an RFC 9457 problem with one of these codes.</p><table>{rows}</table>"
        "</main></body></html>"
    )


def _endpoint(endpoint: Endpoint, openapi: Mapping[str, Any]) -> str:
    path = endpoint.path.replace("<uuid:", "{").replace(">", "}")
    operation = openapi["paths"][path][endpoint.method.lower()]
    who = "anyone" if endpoint.roles is None else ", ".join(sorted(endpoint.roles))
    takes = "".join(
        f"<li>query <code>{escape(parameter['name'])}</code>: {_pretty(parameter['schema'])}</li>"
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    )
    if endpoint.body is not None:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        takes += f"<li>body: {_link(endpoint.body)}, like <code>{_compact(example)}</code></li>"
    answers = "nothing" if endpoint.answer is None else _link(endpoint.answer)
    codes = " ".join(f'<a href="#{code}"><code>{code}</code></a>' for code in codes_of(endpoint))
    return (
        f"<section><h3><code>{endpoint.method} {escape(path)}</code></h3><p>{escape(endpoint.summary)}.</p>"
        f"<ul><li>for: {escape(who)}</li>{takes}<li>answer {endpoint.status}: {answers}</li><li>errors: {codes}</li></ul></section>"
    )


def _websocket(asyncapi: Mapping[str, Any]) -> str:
    """The frames of the WebSockets both ways, and what each close code asks of a client."""
    messages = "".join(
        f"<details><summary><code>{escape(message['name'])}</code> {escape(message.get('summary', ''))}</summary>"
        f"<pre>{_compact(message['examples'][0]['payload'])}</pre><pre>{_pretty(message['payload'])}</pre>{escape(message.get('description', ''))}</details>"
        for message in asyncapi["components"]["messages"].values()
    )
    schemas = "".join(
        f"<details><summary><code>{escape(name)}</code></summary><pre>{_pretty(schema)}</pre></details>"
        for name, schema in asyncapi["components"]["schemas"].items()
    )
    codes = "".join(
        f"<tr><td>{close['code']}</td><td>{escape(close['meaning'])}</td><td>{'reconnect' if close['reconnect'] else 'do not reconnect'}</td></tr>"
        for close in asyncapi["x-close-codes"]
    )
    return (
        f"<h2>WebSocket</h2><p>{escape(asyncapi['info']['description'])}</p>{messages}"
        f"<h3>Close codes</h3><table>{codes}</table><h3>Shapes of the WebSocket</h3>{schemas}"
    )


def _link(kind: Any) -> str:
    name = escape(kind.__name__)
    return f'<a href="#{name}"><code>{name}</code></a>'


def _compact(value: Any) -> str:
    return escape(msgspec.json.encode(value).decode())


def _pretty(schema: Any) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())
