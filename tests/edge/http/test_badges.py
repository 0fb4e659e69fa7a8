"""Tips and badges over HTTP: who may do what, what comes back, and what one too many is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.config import EdgeLimits
from tests.edge.http.site import Answer, Site, is_problem, make_site

TIP = "/api/badges/record-tip"
STATUS = "/api/badges/status"
NO_ONE = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def limited(site: Site) -> Site:
    """With the limits there are by default."""
    return await make_site(site.world, edge=EdgeLimits())


async def tips(site: Site, barista: str, user_id: str, count: int) -> list[Answer]:
    return [await site.post(TIP, {"userId": user_id, "amountCents": 200}, token=barista) for _ in range(count)]


async def test_five_tips_and_what_is_said_of_them(site: Site) -> None:
    cafe = await site.world.cafe()
    barista, ann = await site.barista(cafe), await site.customer(cafe)
    first = (await site.post(TIP, {"userId": ann["user"]["id"], "amountCents": 200, "currency": "chf"}, token=barista)).json
    assert first["tip"].keys() == {"id", "cafeId", "userId", "staffId", "amountCents", "currency", "createdAt"}
    assert (first["tip"]["currency"], first["tip"]["amountCents"], first["tip"]["cafeId"]) == ("CHF", 200, cafe.id)
    assert first["eligibility"] == {"eligible": False, "tipsInWindow": 1, "tipsNeeded": 4, "tipThreshold": 5, "windowDays": 7}
    assert "badge" not in first
    status = (await site.get(STATUS, token=ann["accessToken"])).json
    assert (status["badgeStatus"], status["badges"], status["eligibility"]) == ("none", [], first["eligibility"])
    assert status["perks"] == {
        "message": {"perHour": 30.0, "burst": 30, "cooldownMs": 30_000},
        "poke": {"perDay": 5},
        "agent": {"perSession": 2, "cooldownMs": 120_000},
    }
    last = (await tips(site, barista, ann["user"]["id"], 4))[-1]
    assert last.status == 201
    assert last.json["eligibility"] == {"eligible": True, "tipsInWindow": 5, "tipsNeeded": 0, "tipThreshold": 5, "windowDays": 7}
    assert last.json["badge"].keys() == {"type", "awardedAt", "expiresAt"}
    status = (await site.get(STATUS, token=ann["accessToken"])).json
    assert (status["badgeStatus"], status["badges"]) == ("regular", [last.json["badge"]])
    assert status["perks"]["message"] == {"perHour": 60.0, "burst": 60, "cooldownMs": 15_000}
    assert (status["perks"]["poke"], status["perks"]["agent"]) == ({"perDay": 10}, {"perSession": 5, "cooldownMs": 60_000})
    assert (await site.get("/api/users/me", token=ann["accessToken"])).json["user"]["badgeStatus"] == "regular"


async def test_the_badge_comes_back_with_the_patron_key(site: Site) -> None:
    cafe = await site.world.cafe()
    barista, ann = await site.barista(cafe), await site.customer(cafe)
    await tips(site, barista, ann["user"]["id"], 5)
    printed = await site.world.receipt(cafe, "r-2")
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, "patronKey": ann["patronKey"]}
    back = (await site.post("/api/auth/join", body)).json
    assert (back["user"]["badgeStatus"], back["patronKey"]) == ("regular", ann["patronKey"])
    assert (await site.get(STATUS, token=back["accessToken"])).json["badgeStatus"] == "regular"
    assert (await site.post("/api/auth/refresh", {"refreshToken": back["refreshToken"]})).json["user"]["badgeStatus"] == "regular"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"amountCents": 0}, "amountCents"), ({"amountCents": -5}, "amountCents"), ({"amountCents": 100_001}, "amountCents"),
        ({"amountCents": 10**30}, "amountCents"), ({"amountCents": 1.5}, "amountCents"), ({"amountCents": "5"}, "amountCents"),
        ({"amountCents": True}, "amountCents"), ({"amountCents": None}, "amountCents"), ({"currency": "EURO"}, "currency"),
        ({"currency": "ZZZ"}, "currency"), ({"currency": ""}, "currency"), ({"currency": None}, "currency"), ({"currency": 7}, "currency"),
        ({"userId": "ann"}, "userId"), ({"userId": None}, "userId"), ({"clientTipId": "a"}, "clientTipId"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_named(site: Site, fields: dict[str, Any], path: str) -> None:
    cafe = await site.world.cafe()
    barista, ann = await site.barista(cafe), await site.customer(cafe)
    answer = await site.post(TIP, {"userId": ann["user"]["id"], "amountCents": 200, **fields}, token=barista)
    assert is_problem(answer, 400, "invalid_request")
    assert answer.json["errors"][0]["path"] == path
    assert (await site.get(STATUS, token=ann["accessToken"])).json["eligibility"]["tipsInWindow"] == 0


async def test_only_a_barista_of_the_café_records_tips_of_who_is_there(site: Site, mock_clock: MockClock) -> None:
    cafe, other = await site.world.cafe(), await site.world.cafe(name="Other")
    ann, bob = await site.customer(cafe), await site.customer(cafe, "r-2")
    barista, elsewhere, moderator = await site.barista(cafe), await site.barista(other), await site.barista(cafe, "moderator")
    body = {"userId": ann["user"]["id"], "amountCents": 200}
    assert is_problem(await site.post(TIP, body, token=moderator), 403, "forbidden")
    assert is_problem(await site.post(TIP, body, token=ann["accessToken"]), 403, "forbidden")
    assert is_problem(await site.post(TIP, body), 401, "unauthorized")
    assert is_problem(await site.get(STATUS, token=barista), 403, "forbidden")
    assert is_problem(await site.get(STATUS), 401, "unauthorized")
    await site.world.users.expire(bob["user"]["id"])
    refusals = [
        await site.post(TIP, body, token=elsewhere),
        await site.post(TIP, {**body, "userId": NO_ONE}, token=barista),
        await site.post(TIP, {**body, "userId": bob["user"]["id"]}, token=barista),
    ]
    assert all(is_problem(answer, 404, "not_found") for answer in refusals)
    assert len({answer.raw for answer in refusals}) == 1  # nothing of one café is readable from another
    assert is_problem(await site.get(STATUS, token=bob["accessToken"]), 401, "user_expired")


async def test_three_tips_a_minute_of_one_user_by_one_barista(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    barista, ann, bob = await limited.barista(cafe), await limited.customer(cafe), await limited.customer(cafe, "r-2")
    await limited.world.staff.add(cafe.id, "Ben", "barista", "pw")
    ben = (await limited.post("/api/auth/staff/login", {"cafeId": cafe.id, "name": "Ben", "password": "pw"})).json["accessToken"]
    assert is_problem((await tips(limited, barista, NO_ONE, 1))[0], 404, "not_found")
    first = await tips(limited, barista, ann["user"]["id"], 1)
    assert (first[0].headers["RateLimit-Policy"], first[0].headers["RateLimit"]) == ('"tips";q=3;w=60', '"tips";r=2;t=60')
    mock_clock.jump(10)
    await tips(limited, barista, ann["user"]["id"], 2)
    (over,) = await tips(limited, barista, ann["user"]["id"], 1)
    assert is_problem(over, 429, "rate_limited")
    assert (over.json["limit"], over.json["retryAfterMs"], over.headers["Retry-After"]) == ("tips", 50_000, "50")
    assert [answer.status for answer in await tips(limited, barista, bob["user"]["id"], 1) + await tips(limited, ben, ann["user"]["id"], 2)] == [201] * 3
    mock_clock.jump(49.999)
    assert [answer.status for answer in await tips(limited, barista, ann["user"]["id"], 1)] == [429]
    mock_clock.jump(0.001)
    assert [answer.status for answer in await tips(limited, barista, ann["user"]["id"], 1)] == [201]


async def test_what_was_not_recorded_is_not_counted(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    barista = await limited.barista(cafe)
    assert [answer.status for answer in await tips(limited, barista, NO_ONE, 5)] == [404] * 5


async def test_sent_at_one_instant_they_are_limited_all_the_same(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    barista, ann = await limited.barista(cafe), await limited.customer(cafe)
    found: list[int] = []

    async def one() -> None:
        found.append((await tips(limited, barista, ann["user"]["id"], 1))[0].status)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sorted(found) == [201] * 3 + [429] * 5


async def test_the_contract_lists_them(site: Site) -> None:
    paths = (await site.get("/api/openapi.json")).json["paths"]
    assert {"201", "400", "403", "404", "429"} <= paths[TIP]["post"]["responses"].keys()
    assert "200" in paths[STATUS]["get"]["responses"]
    messages = (await site.get("/api/asyncapi.json")).json["components"]["messages"]
    assert {"badge_awarded", "badges_status"} <= messages.keys()
    assert "badges_record-tip" not in messages
