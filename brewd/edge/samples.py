"""An example of any shape of the contract, made from its JSON schema: the OpenAPI and AsyncAPI documents show one beside each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_ID: Final = "01a20587-a3f3-7f0a-bb30-19a73724ed15"
_AT: Final = "2026-11-24T15:18:03.386Z"
_TIMES: Final = ("At", "Time", "until", "lastSeen", "hour")

_NAMED: Final[Mapping[str, Any]] = {
    "action": "join",
    "amountCents": 150,
    "badge": "regular",
    "badgeStatus": "regular",
    "cached": False,
    "clientMsgId": "a",
    "code": "rate_limited",
    "content": "Hello!",
    "currency": "EUR",
    "dailyBudgetCents": 200,
    "detail": "The next one may go in 30 s.",
    "duplicate": False,
    "durationS": 3600,
    "epoch": _ID,
    "fullResponse": "Rain goes well with an espresso.",
    "from": 41,
    "index": 2,
    "inputTokens": 400,
    "interest": "jazz",
    "interests": "jazz",
    "joinToken": "6R88-44B8-07SF1",
    "latitude": 52.52,
    "limit": 20,
    "longitude": 13.405,
    "message": "The walnut cake is fresh.",
    "monthlyBudgetCents": 2000,
    "name": "Flat white",
    "outputTokens": 60,
    "persona": "bartender",
    "personality": "historian",
    "proactivity": "occasional",
    "query": "What goes well with rain?",
    "reason": "Please be kind.",
    "receiptId": "till-4711",
    "reconnectInMs": 2000,
    "ref": "1",
    "retryAfterMs": 30000,
    "seq": 42,
    "sharedInterest": "jazz",
    "sharedInterests": "jazz",
    "since": 41,
    "sources": "menu",
    "status": "online",
    "text": "Rain goes well ",
    "to": 42,
    "topic": "jazz",
    "userCount": 12,
    "username": "QuietCrane2143",
    "wifiSsid": "Anker",
}
"""What a field of this name holds, where its schema allows it."""

_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}


def sample(schema: Mapping[str, Any], components: Mapping[str, Any], name: str = "") -> Any:
    """A value that fits `schema`, whose references are among `components`. `name`: of the field it is for."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rpartition("/")[2]], components, name)
    if "anyOf" in schema:
        return sample(next(each for each in schema["anyOf"] if each.get("type") != "null"), components, name)
    if "const" in schema:
        return schema["const"]
    known = _NAMED.get(name)
    if "enum" in schema:
        return known if known in schema["enum"] else schema["enum"][0]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        return {key: sample(inner, components, key) for key, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema["items"], components, name)] if schema.get("items") else []
    if "format" not in schema and "pattern" not in schema and isinstance(known, _KINDS.get(kind, ())):
        return known
    return _plain(kind, schema, name)


def _plain(kind: str, schema: Mapping[str, Any], name: str) -> Any:
    if kind == "boolean":
        return schema.get("default", True)
    if kind in ("integer", "number"):
        return schema.get("default", max(1, schema.get("minimum", 1)))
    if kind != "string":
        return None
    if schema.get("format") == "uuid" or name == "id" or name.endswith("Id"):
        return _ID
    if schema.get("format") == "date-time" or name.endswith(_TIMES):
        return _AT
    return schema.get("default", "…")
