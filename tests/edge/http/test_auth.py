"""Login, receipts, joining, refreshing and logging out, over HTTP."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import trio
import trio.testing

from tests.edge.http.site import Site, is_problem
from tests.people.world import JOIN_TTL_S, USER_TTL_S

JOIN = "/api/auth/join"
LOGIN = "/api/auth/staff/login"
RECEIPT = "/api/auth/barista/generate-username"


async def test_a_barista_prints_a_receipt_and_a_customer_joins_with_it(site: Site) -> None:
    cafe = await site.world.cafe()
    barista = await site.barista(cafe)
    body = {"cafeId": cafe.id, "receiptId": "R-1", "items": [{"name": "Melange", "quantity": 2}]}
    printed = await site.post(RECEIPT, body, token=barista)
    assert printed.status == 201
    assert printed.json.keys() == {"username", "joinToken", "expiresAt", "joinUrl", "qrSvg"}
    link = urlsplit(printed.json["joinUrl"])
    assert (link.scheme, link.netloc, link.path) == ("https", "cafe.example", "/join")
    assert parse_qs(link.fragment) == {"cafe": [cafe.id], "name": [printed.json["username"]], "token": [printed.json["joinToken"]]}
    assert ElementTree.fromstring(printed.json["qrSvg"]).tag == "{http://www.w3.org/2000/svg}svg"

    joined = await site.post(JOIN, {"cafeId": cafe.id, "username": printed.json["username"], "joinToken": printed.json["joinToken"]})
    assert joined.status == 201
    assert joined.json.keys() == {"accessToken", "refreshToken", "user", "patronKey"}
    user = joined.json["user"]
    assert user.keys() == {"id", "username", "cafeId", "badgeStatus", "interests", "pokeEnabled", "createdAt", "expiresAt"}
    assert (user["username"], user["cafeId"], user["interests"], user["pokeEnabled"]) == (printed.json["username"], cafe.id, [], True)
    assert user["createdAt"].endswith("Z")
    me = await site.get("/api/users/me", token=joined.json["accessToken"])
    assert me.json == {"user": user}


async def test_a_login_says_who_it_is_and_until_when(site: Site) -> None:
    cafe = await site.world.cafe()
    await site.world.staff.add(cafe.id, "Béla", "moderator", "correct horse")
    answer = await site.post(LOGIN, {"cafeId": cafe.id.upper(), "name": "béla", "password": "correct horse"})
    assert answer.json["staff"] == {"id": answer.json["staff"]["id"], "name": "Béla", "role": "moderator", "cafeId": cafe.id}
    identity = site.world.tokens.verify_access(answer.json["accessToken"])
    assert (identity.role, identity.cafe_id, identity.username) == ("moderator", cafe.id, "Béla")


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"name": "nobody"}, {"cafeId": "01890000-0000-7000-8000-000000000000"}])
async def test_a_wrong_login_does_not_say_what_was_wrong(site: Site, change: dict[str, str]) -> None:
    cafe = await site.world.cafe()
    await site.world.staff.add(cafe.id, "Ana", "barista", "correct horse")
    answer = await site.post(LOGIN, {"cafeId": cafe.id, "name": "Ana", "password": "correct horse", **change})
    assert is_problem(answer, 401, "unauthorized")
    assert answer.json["detail"] == "The name or the password is wrong."


async def test_only_a_barista_of_the_cafe_prints_receipts(site: Site) -> None:
    cafe, other = await site.world.cafe(), await site.world.cafe(name="Other")
    customer = await site.customer(cafe)
    body = {"cafeId": cafe.id, "receiptId": "R-1"}
    assert is_problem(await site.post(RECEIPT, body), 401, "unauthorized")
    assert is_problem(await site.post(RECEIPT, body, token=customer["accessToken"]), 403, "forbidden")
    assert is_problem(await site.post(RECEIPT, body, token=await site.barista(cafe, "moderator")), 403, "forbidden")
    assert is_problem(await site.post(RECEIPT, body, token=await site.barista(other)), 403, "not_in_cafe")


async def test_a_receipt_id_is_good_for_one_name_also_when_raced(site: Site) -> None:
    cafe, other = await site.world.cafe(), await site.world.cafe(name="Other")
    baristas = {cafe.id: await site.barista(cafe), other.id: await site.barista(other)}
    codes: Counter[Any] = Counter()

    async def issue(cafe_id: str) -> None:
        answer = await site.post(RECEIPT, {"cafeId": cafe_id, "receiptId": "R-1"}, token=baristas[cafe_id])
        codes[cafe_id, answer.status, answer.json.get("code")] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(issue, cafe.id)
    await issue(other.id)
    assert codes == {(cafe.id, 201, None): 1, (cafe.id, 409, "conflict"): 7, (other.id, 201, None): 1}


async def test_fifty_joins_at_once_with_one_token_make_one_customer(site: Site) -> None:
    cafe = await site.world.cafe()
    printed = await site.world.receipt(cafe)
    answers: Counter[Any] = Counter()

    async def join() -> None:
        answer = await site.post(JOIN, {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token})
        answers[answer.status, answer.json.get("code")] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(join)
    assert answers == {(201, None): 1, (409, "join_token_used"): 49}
    assert len(await site.world.users.list(cafe.id)) == 1


async def test_a_join_outside_the_network_is_refused_without_using_up_the_token(site: Site) -> None:
    cafe = await site.world.cafe(wifi_ssid="Corner Guests", latitude=48.2, longitude=16.37, radius_meters=80, cidrs=("203.0.113.0/24",))
    printed = await site.world.receipt(cafe)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token}
    for extra in ({}, {"wifiSsid": "Elsewhere"}, {"latitude": 48.21, "longitude": 16.37}):
        refused = await site.post(JOIN, {**body, **extra}, peer="198.51.100.4")
        assert is_problem(refused, 403, "network_check_failed")
        assert b"Corner" not in refused.raw
        assert refused.json["missing"] == ["wifi", "location", "network"]
    joined = await site.post(JOIN, {**body, "wifiSsid": "corner guests-5G"}, peer="198.51.100.4")
    assert joined.status == 201


@pytest.mark.parametrize(
    ("extra", "peer"),
    [({"wifiSsid": "CORNER GUESTS"}, "198.51.100.4"), ({"latitude": 48.2001, "longitude": 16.3702}, "198.51.100.4"), ({}, "203.0.113.9")],
)
async def test_any_one_proof_is_enough(site: Site, extra: dict[str, Any], peer: str) -> None:
    cafe = await site.world.cafe(wifi_ssid="Corner Guests", latitude=48.2, longitude=16.37, radius_meters=80, cidrs=("203.0.113.0/24",))
    printed = await site.world.receipt(cafe)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, **extra}
    assert (await site.post(JOIN, body, peer=peer)).status == 201


async def test_an_expired_join_token_says_so(site: Site, mock_clock: trio.testing.MockClock) -> None:
    cafe = await site.world.cafe()
    printed = await site.world.receipt(cafe)
    mock_clock.jump(JOIN_TTL_S)
    answer = await site.post(JOIN, {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token})
    assert is_problem(answer, 401, "token_expired")


async def test_wrong_tokens_are_counted_and_end_the_receipt(site: Site) -> None:
    cafe = await site.world.cafe()
    printed = await site.world.receipt(cafe)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": "0000-0000-00000"}
    answers: Counter[Any] = Counter()

    async def guess() -> None:
        answer = await site.post(JOIN, body)
        answers[answer.status, answer.json["code"]] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(guess)
    assert answers == {(401, "unauthorized"): 10, (429, "rate_limited"): 20}
    late = await site.post(JOIN, {**body, "joinToken": printed.join_token})
    assert is_problem(late, 429, "rate_limited")
    assert 0 < late.json["retryAfterMs"] <= JOIN_TTL_S * 1000
    assert int(late.headers["Retry-After"]) == -(-late.json["retryAfterMs"] // 1000)


async def test_an_unknown_name_and_an_unknown_cafe_are_refused(site: Site) -> None:
    cafe = await site.world.cafe()
    answer = await site.post(JOIN, {"cafeId": cafe.id, "username": "Nobody1234", "joinToken": "0000-0000-00000"})
    assert is_problem(answer, 401, "unauthorized")
    answer = await site.post(JOIN, {"cafeId": "01890000-0000-7000-8000-000000000000", "username": "Nobody1234", "joinToken": "0"})
    assert is_problem(answer, 404, "not_found")


async def test_half_a_place_is_no_place(site: Site) -> None:
    cafe = await site.world.cafe()
    answer = await site.post(JOIN, {"cafeId": cafe.id, "username": "x", "joinToken": "0", "latitude": 1.5})
    assert is_problem(answer, 400, "invalid_request")
    assert answer.json["errors"][0]["path"] == "longitude"


async def test_refreshing_rotates_and_reuse_ends_the_session(site: Site) -> None:
    told: list[Any] = []
    site.world.sessions.on_revoke.append(lambda *what: told.append(what))
    cafe = await site.world.cafe()
    joined = await site.customer(cafe)
    first = await site.post("/api/auth/refresh", {"refreshToken": joined["refreshToken"]})
    assert first.status == 200
    assert first.json.keys() == {"accessToken", "refreshToken", "user"}
    assert first.json["refreshToken"] != joined["refreshToken"]
    assert first.json["user"] == joined["user"]
    assert (await site.get("/api/users/me", token=joined["accessToken"])).status == 200

    reused = await site.post("/api/auth/refresh", {"refreshToken": joined["refreshToken"]})
    assert is_problem(reused, 401, "unauthorized")
    session_id = site.world.tokens.verify_access(joined["accessToken"]).session_id
    assert told == [(session_id, joined["user"]["id"], 4002)]
    for token in (joined["accessToken"], first.json["accessToken"]):
        assert is_problem(await site.get("/api/users/me", token=token), 401, "unauthorized")
    assert is_problem(await site.post("/api/auth/refresh", {"refreshToken": first.json["refreshToken"]}), 401, "unauthorized")


async def test_an_access_token_does_not_refresh_and_a_refresh_token_does_not_open(site: Site) -> None:
    joined = await site.customer(await site.world.cafe())
    assert is_problem(await site.post("/api/auth/refresh", {"refreshToken": joined["accessToken"]}), 401, "unauthorized")
    assert is_problem(await site.get("/api/users/me", token=joined["refreshToken"]), 401, "unauthorized")


async def test_logging_out_ends_the_session_and_says_so(site: Site) -> None:
    told: list[Any] = []
    site.world.sessions.on_revoke.append(lambda *what: told.append(what))
    joined = await site.customer(await site.world.cafe())
    answer = await site.call("POST", "/api/auth/logout", token=joined["accessToken"])
    assert (answer.status, answer.raw) == (204, b"")
    assert [what[1:] for what in told] == [(joined["user"]["id"], 4002)]
    assert is_problem(await site.get("/api/users/me", token=joined["accessToken"]), 401, "unauthorized")
    assert is_problem(await site.post("/api/auth/refresh", {"refreshToken": joined["refreshToken"]}), 401, "unauthorized")


async def test_access_ends_after_an_hour_and_the_user_after_a_day(site: Site, mock_clock: trio.testing.MockClock) -> None:
    joined = await site.customer(await site.world.cafe())
    mock_clock.jump(3600)
    expired = await site.get("/api/users/me", token=joined["accessToken"])
    assert is_problem(expired, 401, "token_expired")
    assert expired.headers["WWW-Authenticate"].startswith("Bearer")
    fresh = await site.post("/api/auth/refresh", {"refreshToken": joined["refreshToken"]})
    assert fresh.status == 200
    mock_clock.jump(USER_TTL_S - 3600)
    assert is_problem(await site.get("/api/users/me", token=fresh.json["accessToken"]), 401, "user_expired")
    assert is_problem(await site.post("/api/auth/refresh", {"refreshToken": fresh.json["refreshToken"]}), 401, "user_expired")


async def test_a_disabled_barista_is_out_at_once(site: Site) -> None:
    cafe = await site.world.cafe()
    barista = await site.barista(cafe)
    staff = await site.world.staff.list(cafe.id)
    await site.world.staff.disable(staff[0].id)
    assert is_problem(await site.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "R-1"}, token=barista), 401, "unauthorized")
    again = await site.post(LOGIN, {"cafeId": cafe.id, "name": staff[0].name, "password": "correct horse"})
    assert is_problem(again, 401, "unauthorized")
