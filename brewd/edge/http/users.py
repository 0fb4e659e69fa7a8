"""Customers about themselves."""

from __future__ import annotations

from typing import Any, Final

from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import UserAnswer, user_shape


async def me(parts: HttpParts, call: Call[Any, NoQuery]) -> UserAnswer:
    return UserAnswer(user_shape(await parts.users.me(call.who)))


ENDPOINTS: Final = (Endpoint(method="GET", path="/api/users/me", handler=me, tag="users", summary="Who I am", roles=USER, answer=UserAnswer, event="users:me"),)
