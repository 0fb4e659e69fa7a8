"""Getting in and out: staff login, receipts, joining, refreshing, logging out."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct

from brewd.edge.http.endpoint import BARISTA, MEMBER, Call, Endpoint, NoQuery
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import StaffShape, Time, UserShape, user_shape
from brewd.errors import Rejected
from brewd.people.join import JoinRequest
from brewd.people.network import Evidence
from brewd.people.receipts import Item
from brewd.runtime.clock import rfc3339


class StaffLoginBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cafe_id: UUID
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class StaffLoginAnswer(Struct, frozen=True, rename="camel"):
    access_token: str
    expires_at: Time
    staff: StaffShape


class ReceiptItem(Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    quantity: Annotated[int, Meta(ge=1, le=10_000)] = 1


class ReceiptBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cafe_id: UUID
    receipt_id: Annotated[str, Meta(min_length=1, max_length=128, description="the till's own number; good for one name")]
    items: Annotated[list[ReceiptItem], Meta(max_length=100)] = []


class ReceiptAnswer(Struct, frozen=True, rename="camel"):
    username: str
    join_token: str
    expires_at: Time
    join_url: str
    qr_svg: Annotated[str, Meta(description="an SVG image of joinUrl")]


class JoinBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    username: Annotated[str, Meta(min_length=1, max_length=64)]
    join_token: Annotated[str, Meta(min_length=1, max_length=64, description="in any case and grouping; O is 0, I and L are 1")]
    cafe_id: UUID
    wifi_ssid: Annotated[str, Meta(max_length=64)] | None = None
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    patron_key: Annotated[str, Meta(max_length=128, description="from an earlier join at this café")] | None = None


class JoinedAnswer(Struct, frozen=True, rename="camel"):
    access_token: str
    refresh_token: str
    user: UserShape
    patron_key: Annotated[str, Meta(description="the one that was sent, if it is known here; else a fresh one")]


class RefreshBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=4096)]


class RefreshAnswer(Struct, frozen=True, rename="camel"):
    access_token: str
    refresh_token: str
    user: UserShape


async def staff_login(parts: HttpParts, call: Call[StaffLoginBody, NoQuery]) -> StaffLoginAnswer:
    cafe_id = str(call.body.cafe_id)
    async with parts.guard.attempts.login(call.address, cafe_id, call.tell):
        member = await parts.staff.login(cafe_id, call.body.name, call.body.password)
    token, expires_ms = await parts.sessions.open_staff(member)
    return StaffLoginAnswer(token, rfc3339(expires_ms), StaffShape(member.id, member.name, member.role, member.cafe_id))


async def generate_username(parts: HttpParts, call: Call[ReceiptBody, NoQuery]) -> ReceiptAnswer:
    cafe_id = call.own_cafe(str(call.body.cafe_id))
    items = [Item(item.name, item.quantity) for item in call.body.items]
    with parts.guard.limits.receipt(call.who.user_id, call.tell):
        printed = await parts.receipts.issue(cafe_id, call.body.receipt_id, items, call.who.user_id)
    return ReceiptAnswer(printed.username, printed.join_token, rfc3339(printed.expires_ms), printed.join_url, printed.qr_svg)


async def join(parts: HttpParts, call: Call[JoinBody, NoQuery]) -> JoinedAnswer:
    given = call.body
    if (given.latitude is None) != (given.longitude is None):
        path = "latitude" if given.latitude is None else "longitude"
        detail = "latitude and longitude go together"
        raise Rejected("invalid_request", f"{path}: {detail}", errors=[{"path": path, "detail": detail}])
    request = JoinRequest(
        cafe_id=str(given.cafe_id),
        username=given.username,
        join_token=given.join_token,
        wifi_ssid=given.wifi_ssid,
        latitude=given.latitude,
        longitude=given.longitude,
        patron_key=given.patron_key,
    )
    evidence = Evidence(request.wifi_ssid, request.latitude, request.longitude, call.address)
    async with parts.guard.attempts.join(evidence, request.cafe_id, request.username, call.tell):
        joined = await parts.joins.join(request, call.address)
    return JoinedAnswer(joined.access_token, joined.refresh_token, user_shape(joined.user), joined.patron_key)


async def refresh(parts: HttpParts, call: Call[RefreshBody, NoQuery]) -> RefreshAnswer:
    token = call.body.refresh_token
    async with parts.guard.attempts.refresh(call.address, call.tell, genuine=parts.sessions.is_genuine(token)):
        renewed = await parts.sessions.refresh(token)
    return RefreshAnswer(renewed.access_token, renewed.refresh_token, user_shape(renewed.user))


async def logout(parts: HttpParts, call: Call[Any, NoQuery]) -> None:
    await parts.sessions.revoke(call.who.session_id, call.who.user_id)


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/api/auth/staff/login",
        handler=staff_login,
        tag="auth",
        summary="Log staff in",
        strangers="judged",
        body=StaffLoginBody,
        answer=StaffLoginAnswer,
        codes=("unauthorized",),
    ),
    Endpoint(
        method="POST",
        path="/api/auth/barista/generate-username",
        handler=generate_username,
        tag="auth",
        summary="A name and a join token for a receipt",
        roles=BARISTA,
        body=ReceiptBody,
        answer=ReceiptAnswer,
        status=201,
        codes=("not_in_cafe", "conflict"),
    ),
    Endpoint(
        method="POST",
        path="/api/auth/join",
        handler=join,
        tag="auth",
        summary="Become a customer of a café with the name and token of a receipt",
        strangers="judged",
        body=JoinBody,
        answer=JoinedAnswer,
        status=201,
        codes=("unauthorized", "token_expired", "join_token_used", "network_check_failed", "banned", "not_found", "conflict"),
    ),
    Endpoint(
        method="POST",
        path="/api/auth/refresh",
        handler=refresh,
        tag="auth",
        summary="The next pair of tokens; using a refresh token twice revokes its session",
        strangers="judged",
        body=RefreshBody,
        answer=RefreshAnswer,
        codes=("unauthorized", "user_expired", "banned"),
    ),
    Endpoint(
        method="POST",
        path="/api/auth/logout",
        handler=logout,
        tag="auth",
        summary="Revoke this session and close its sockets",
        roles=MEMBER,
        status=204,
    ),
)
