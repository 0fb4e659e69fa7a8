"""The HTTP contract as OpenAPI 3.1, made from the endpoints that serve it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from brewd import __version__
from brewd.edge.http.endpoint import Endpoint
from brewd.edge.http.problem import Problem
from brewd.edge.refusal import MEDIA_TYPE, title_of
from brewd.edge.samples import sample
from brewd.errors import STATUS

_IDS: Final = re.compile(r"<uuid:(\w+)>")
_TEMPLATE: Final = "#/components/schemas/{name}"
_LIMIT_HEADERS: Final = {
    "Retry-After": {"description": "Seconds until it is worth trying again; `retryAfterMs` is exact.", "schema": {"type": "integer"}},
    "RateLimit": {"description": 'What is left of the limit, and for how long no more: `"anonymous";r=0;t=9`.', "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": 'The limit itself: `"anonymous";q=100;w=900`.', "schema": {"type": "string"}},
}
"""Of draft-ietf-httpapi-ratelimit-headers; answers that were counted and are not refused carry the last two as well."""

_ANYWHERE: Final = ("internal", "storage_unavailable")


def document(endpoints: Sequence[Endpoint], public_url: str) -> dict[str, Any]:
    """The OpenAPI object."""
    kinds = [kind for endpoint in endpoints for kind in (endpoint.body, endpoint.query, endpoint.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template=_TEMPLATE)
    schema_of = {id(kind): schema for kind, schema in zip([*kinds, Problem], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        path = _IDS.sub(r"{\1}", endpoint.path)
        paths[path][endpoint.method.lower()] = _operation(endpoint, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "brewd", "version": __version__, "description": "A realtime community of a café. Errors are RFC 9457 problems."},
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def codes_of(endpoint: Endpoint) -> list[str]:
    """Every refusal the endpoint knows, in the order of their status."""
    codes = {*endpoint.codes, *_ANYWHERE}
    if endpoint.strangers != "free":
        codes.add("rate_limited")
    if endpoint.roles is not None:
        codes |= {"unauthorized", "token_expired", "user_expired", "banned", "forbidden"}
    if endpoint.body is not None:
        codes |= {"invalid_request", "payload_too_large", "unsupported_media_type", "request_timeout"}
    if endpoint.query.__struct_fields__:
        codes.add("invalid_request")
    return sorted(codes, key=lambda code: (STATUS[code], code))


def _operation(endpoint: Endpoint, schema_of: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "operationId": endpoint.handler.__name__,
        "responses": _responses(endpoint, schema_of),
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}} for name in _IDS.findall(endpoint.path)
    ]
    query = components.get(endpoint.query.__name__, {})
    parameters += [
        {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema} for name, schema in query.get("properties", {}).items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.roles is not None:
        operation["security"] = [{"accessToken": []}]
        operation["description"] = f"For: {', '.join(sorted(endpoint.roles))}."
    elif endpoint.greets:
        operation["security"] = [{}, {"accessToken": []}]
    if endpoint.body is not None:
        schema = schema_of[id(endpoint.body)]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema, "example": sample(schema, components)}}}
    return operation


def _responses(endpoint: Endpoint, schema_of: dict[int, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done"}
    if endpoint.answer is not None:
        done["content"] = {"application/json": {"schema": schema_of[id(endpoint.answer)]}}
    responses: dict[str, Any] = {str(endpoint.status): done}
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in codes_of(endpoint):
        by_status[STATUS[code]].append(code)
    for status, codes in by_status.items():
        description = "; ".join(f"{code}: {title_of(code)}" for code in codes)
        responses[str(status)] = {"description": description, "content": {MEDIA_TYPE: {"schema": schema_of[id(Problem)]}}}
        if status == 429:
            responses["429"]["headers"] = _LIMIT_HEADERS
    return responses
