"""JSON-RPC 2.0 as the control socket speaks it: one object a line, and every error with the `code` and `detail` the HTTP API uses.

Pure: bytes in, structs out. Both ends use it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

LINE_MAX_BYTES: Final = 1024 * 1024
"""A longer request is refused. Answers may be longer: 100,000 users with their tokens are one line."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REFUSED: Final = -32000
"""The range JSON-RPC leaves to applications; `data.code` says what it was."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`id` absent means a notification: it is carried out and not answered. `params` is an object or absent."""

    jsonrpc: str
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET


class Failure(msgspec.Struct, frozen=True):
    code: int
    message: str
    data: dict[str, Any] = {}


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client decodes: exactly one of `result` and `error` is there."""

    jsonrpc: str
    id: int | str | None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Failure | msgspec.UnsetType = msgspec.UNSET


class BadRequest(Exception):
    """A line that is no request; `failure` is the answer. `id` is None: there is none that could be trusted."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure: Final = failure


def failure(number: int, code: str, detail: str, **extras: Any) -> Failure:
    """An error whose `message` is the sentence and whose `data` is what an HTTP client would see."""
    return Failure(number, detail, {"code": code, "detail": detail, **extras})


def parse_request(line: bytes) -> Request:
    """Raises `BadRequest`."""
    try:
        request = msgspec.json.decode(line, type=Request)
    except msgspec.ValidationError as error:
        raise BadRequest(failure(INVALID_REQUEST, "invalid_request", f"not a JSON-RPC 2.0 request object: {error}")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(failure(PARSE_ERROR, "invalid_request", f"not JSON: {error}")) from None
    except RecursionError:
        raise BadRequest(failure(PARSE_ERROR, "invalid_request", "JSON is nested too deeply")) from None
    if request.jsonrpc != "2.0":
        raise BadRequest(failure(INVALID_REQUEST, "invalid_request", 'jsonrpc must be "2.0"'))
    return request


def encode_result(request_id: int | str | None, result: Any) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "result": result}) + b"\n"


def encode_failure(request_id: int | str | None, error: Failure) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "error": error}) + b"\n"


def encode_request(request_id: int, method: str, params: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}) + b"\n"
