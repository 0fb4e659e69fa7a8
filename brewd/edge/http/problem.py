"""Every refusal over HTTP is an RFC 9457 problem: one shape, whatever went wrong and wherever it was noticed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect

from brewd.edge.refusal import MEDIA_TYPE, internal, problem_body
from brewd.edge.standing import OverLimit, headers
from brewd.errors import STATUS, Rejected, StoreError, storage_unavailable
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger

_OF_STATUS: Final = {
    404: ("not_found", "There is nothing here."),
    405: ("method_not_allowed", "This address does not answer this method."),
    408: ("request_timeout", "The request's body took too long to arrive."),
    413: ("payload_too_large", "The request's body is too large."),
    415: ("unsupported_media_type", "The body has to be plain JSON: Content-Type application/json, no Content-Encoding."),
}
"""What HTTP itself refuses: status → code and detail."""


class Problem(msgspec.Struct, rename="camel"):
    """RFC 9457. `code` is the machine-readable name of the refusal; some codes carry further fields."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET
    retry_after_ms: int | msgspec.UnsetType = msgspec.UNSET
    limit: str | msgspec.UnsetType = msgspec.UNSET
    incident: str | msgspec.UnsetType = msgspec.UNSET


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request; `path` is empty when the request as a whole is meant."""

    path: str
    detail: str


def problem(code: str, detail: str, extras: Mapping[str, Any] | None = None, *, status: int | None = None) -> Response:
    """The answer for a refusal; `status`: when it is not the one of the code. 429 and 503 always say when to come back."""
    status = status or STATUS[code]
    body = problem_body(code, detail, extras or {}, status)
    response = Response(msgspec.json.encode(body), status, content_type=MEDIA_TYPE)
    if status in (429, 503):
        response.headers["Retry-After"] = str(math.ceil(body["retryAfterMs"] / 1000))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="brewd"' + ("" if code == "unauthorized" else ', error="invalid_token"')
    return response


def _of(refused: Rejected) -> Response:
    return problem(refused.code, refused.detail, refused.extras)


def install(app: QuartTrio, ids: Ids) -> None:
    """Make problems of everything that a request can raise."""
    log = get_logger("brewd.edge.http")

    async def on_rejected(error: Rejected) -> Response:
        response = _of(error)
        if isinstance(error, OverLimit):
            response.headers.extend(headers([error.standing]))
        return response

    async def on_store_error(error: StoreError) -> Response:
        log.debug("store unavailable for a request", reason=str(error))
        return _of(storage_unavailable())

    async def on_http(error: HTTPException) -> Response | HTTPException:
        if isinstance(error, RequestRedirect) or error.response is not None:
            return error
        code, detail = _OF_STATUS.get(error.code or 400, ("invalid_request", "The request makes no sense."))
        response = problem(code, detail)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    async def on_bug(error: Exception) -> Response:
        incident = ids.uuid4()
        log.error("a request failed", incident=incident, exc_info=error)
        return _of(internal(incident))

    app.register_error_handler(Rejected, on_rejected)
    app.register_error_handler(StoreError, on_store_error)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(Exception, on_bug)
