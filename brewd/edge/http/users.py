"""Customers about themselves."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from quart import Response

from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.headers import ERASURE_RECEIPT
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import UserAnswer, user_shape


async def me(parts: HttpParts, call: Call[Any, NoQuery]) -> UserAnswer:
    return UserAnswer(user_shape(await parts.users.me(call.who)))


async def erase(parts: HttpParts, call: Call[Any, NoQuery]) -> Response:
    """A 204 has no body, so its receipt is a header: rows by table, and keys by pattern."""
    receipt = await parts.erasure.user(call.who.user_id, call.who.cafe_id)
    said = msgspec.json.encode({"tables": receipt.tables, "keys": receipt.keys, "backups": receipt.backups}).decode()
    return Response(b"", 204, {ERASURE_RECEIPT: said})


ENDPOINTS: Final = (
    Endpoint(method="GET", path="/api/users/me", handler=me, tag="users", summary="Who I am", roles=USER, answer=UserAnswer, event="users:me"),
    Endpoint(
        method="DELETE",
        path="/api/users/me",
        handler=erase,
        tag="users",
        summary="Erase everything about me, at once; what I said stays for a while, as nobody's. The header Erasure-Receipt says what was removed where",
        roles=USER,
        barred=True,  # to be forgotten does not depend on good conduct
        status=204,
    ),
)
