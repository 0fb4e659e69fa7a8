"""What a customer is interested in, and whether they may be poked."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import UserAnswer, user_shape
from brewd.people.records import User

Interest = Annotated[
    str, Meta(description="1 to 40 characters; kept in lower case, NFKC, with single spaces", extra_json_schema={"minLength": 1, "maxLength": 40})
]


class InterestsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """At most 10 different ones; one that is there twice counts once."""

    interests: list[Interest]


class InterestBody(Struct, frozen=True, forbid_unknown_fields=True):
    interest: Interest


class EnabledBody(Struct, frozen=True, forbid_unknown_fields=True):
    enabled: bool


class InterestsAnswer(Struct, frozen=True):
    interests: tuple[str, ...]


def _own(user: User) -> InterestsAnswer:
    return InterestsAnswer(user.interests)


async def interests_get(parts: HttpParts, call: Call[Any, NoQuery]) -> InterestsAnswer:
    return _own(await parts.users.me(call.who))


async def interests_set(parts: HttpParts, call: Call[InterestsBody, NoQuery]) -> InterestsAnswer:
    return _own(await parts.interests.set(call.who.user_id, call.body.interests))


async def interests_add(parts: HttpParts, call: Call[InterestBody, NoQuery]) -> InterestsAnswer:
    return _own(await parts.interests.add(call.who.user_id, call.body.interest))


async def interests_remove(parts: HttpParts, call: Call[InterestBody, NoQuery]) -> InterestsAnswer:
    return _own(await parts.interests.remove(call.who.user_id, call.body.interest))


async def users_interests(parts: HttpParts, call: Call[InterestsBody, NoQuery]) -> UserAnswer:
    return UserAnswer(user_shape(await parts.interests.set(call.who.user_id, call.body.interests)))


async def users_poke_enabled(parts: HttpParts, call: Call[EnabledBody, NoQuery]) -> UserAnswer:
    return UserAnswer(user_shape(await parts.interests.enable_pokes(call.who.user_id, call.body.enabled)))


ENDPOINTS: Final = (
    Endpoint(
        method="PUT", path="/api/users/me/interests", handler=users_interests, tag="users", summary="These are my interests and no others", roles=USER,
        body=InterestsBody, answer=UserAnswer, event="users:interests",
    ),
    Endpoint(
        method="PUT", path="/api/users/me/poke-enabled", handler=users_poke_enabled, tag="users", summary="Whether others find me and may poke me", roles=USER,
        body=EnabledBody, answer=UserAnswer, event="users:poke-enabled",
    ),
    Endpoint(
        method="GET", path="/api/matching/interests", handler=interests_get, tag="matching", summary="My interests", roles=USER,
        answer=InterestsAnswer, event="interests:get",
    ),
    Endpoint(
        method="POST", path="/api/matching/interests", handler=interests_set, tag="matching", summary="These are my interests and no others", roles=USER,
        body=InterestsBody, answer=InterestsAnswer, event="interests:set",
    ),
    Endpoint(
        method="POST", path="/api/matching/interests/add", handler=interests_add, tag="matching", summary="One interest more", roles=USER,
        body=InterestBody, answer=InterestsAnswer, event="interests:add",
    ),
    Endpoint(
        method="POST", path="/api/matching/interests/remove", handler=interests_remove, tag="matching", summary="One interest less", roles=USER,
        body=InterestBody, answer=InterestsAnswer, event="interests:remove",
    ),
)  # fmt: skip
