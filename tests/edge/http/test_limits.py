"""The limits as a client over HTTP meets them: what is counted, what an answer says of it, and what one too many is told."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from brewd.config import EdgeLimits, Server
from tests.edge.http.site import Answer, Site, is_problem, make_site

JOIN = "/api/auth/join"
LOGIN = "/api/auth/staff/login"
RECEIPT = "/api/auth/barista/generate-username"
REFRESH = "/api/auth/refresh"

STATED = EdgeLimits(anonymous_per_15min=3, failures_per_15min=2, receipts_per_hour=2)


@pytest.fixture
async def limited(site: Site) -> Site:
    """With few of everything."""
    return await make_site(site.world, edge=STATED)


def limits(answer: Answer) -> tuple[str | None, str | None]:
    return answer.headers.get("RateLimit-Policy"), answer.headers.get("RateLimit")


def is_over(answer: Answer, limit: str, wait_ms: int) -> bool:
    """True for a 429 of that limit, the wait in the body and, in whole seconds, in both headers."""
    assert is_problem(answer, 429, "rate_limited")
    assert (answer.json["limit"], answer.json["retryAfterMs"]) == (limit, wait_ms)
    assert answer.headers["Retry-After"] == str(-(-wait_ms // 1000))
    assert answer.headers["RateLimit"] == f'"{limit}";r=0;t={-(-wait_ms // 1000)}'
    assert answer.headers["RateLimit-Policy"].startswith(f'"{limit}";q=')
    return True


async def test_requests_without_a_token_are_counted_whatever_they_ask_for(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    for left, path in enumerate(("/docs", "/nothing", f"/api/cafes/{cafe.id}")):
        answer = await limited.get(path)
        assert limits(answer) == ('"anonymous";q=3;w=900', f'"anonymous";r={2 - left};t=300')
    assert is_over(await limited.get("/join"), "anonymous", 300_000)
    assert is_over(await limited.get("/api/users/me"), "anonymous", 300_000)
    assert is_over(await limited.call("POST", "/docs"), "anonymous", 300_000)
    assert (await limited.get("/join", peer="192.0.2.8")).status == 200
    mock_clock.jump(299.999)
    assert is_over(await limited.get("/join"), "anonymous", 1)
    mock_clock.jump(0.001)
    assert (await limited.get("/join")).status == 200


async def test_a_token_that_is_not_good_is_none(limited: Site, mock_clock: MockClock) -> None:
    elsewhere = "192.0.2.9"  # where the join came from is the café's network now
    customer = await limited.customer(await limited.world.cafe())
    for token in ("a.b.c", customer["refreshToken"], customer["accessToken"][:-3]):
        assert is_problem(await limited.get("/api/users/me", token=token, peer=elsewhere), 401, "unauthorized")
    assert is_over(await limited.get("/api/users/me", token="a.b.c", peer=elsewhere), "anonymous", 300_000)
    for _ in range(10):
        answer = await limited.get("/api/users/me", token=customer["accessToken"], peer=elsewhere)
        assert answer.status == 200
        assert limits(answer) == (None, None)
    mock_clock.jump(3600)
    for _ in range(3):
        assert is_problem(await limited.get("/api/users/me", token=customer["accessToken"], peer=elsewhere), 401, "token_expired")
    assert is_over(await limited.get("/api/users/me", token=customer["accessToken"], peer=elsewhere), "anonymous", 300_000)


async def test_health_is_never_counted(limited: Site, mock_clock: MockClock) -> None:
    for path in ("/api/health", "/api/health/live", "/api/health/ready") * 5:
        answer = await limited.get(path)
        assert answer.status == 200
        assert limits(answer) == (None, None)
    assert (await limited.get("/join")).headers["RateLimit"] == '"anonymous";r=2;t=300'


async def test_failed_logins_joins_and_refreshes_are_one_count_and_successes_none(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    await limited.barista(cafe)
    for number in range(10):
        joined = await limited.customer(cafe, f"r-{number}")
    good = await limited.post(REFRESH, {"refreshToken": joined["refreshToken"]}, peer="192.0.2.9")
    assert (good.status, *limits(good)) == (200, '"failures";q=2;w=900', '"failures";r=2')
    wrong = await limited.post(LOGIN, {"cafeId": cafe.id, "name": "Ana barista", "password": "wrong"}, peer="192.0.2.9")
    assert is_problem(wrong, 401, "unauthorized")
    assert limits(wrong) == ('"failures";q=2;w=900', '"failures";r=1;t=900')
    wrong = await limited.post(REFRESH, {"refreshToken": "a.b.c"}, peer="192.0.2.9")
    assert limits(wrong) == ('"failures";q=2;w=900', '"failures";r=0;t=900')
    mock_clock.jump(1)
    printed = await limited.world.receipt(cafe, "r-x")
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token}
    assert is_over(await limited.post(JOIN, body, peer="192.0.2.9"), "failures", 899_000)
    assert is_over(await limited.post(LOGIN, {"cafeId": cafe.id, "name": "x", "password": "x"}, peer="192.0.2.9"), "failures", 899_000)
    assert (await limited.post(JOIN, body, peer="192.0.2.10")).status == 201
    # A genuine token is no guess, whoever else guesses at this address; one that was used before is spent.
    again = await limited.post(REFRESH, {"refreshToken": good.json["refreshToken"]}, peer="192.0.2.9")
    assert again.status == 200
    assert is_over(await limited.post(REFRESH, {"refreshToken": "a.b.c"}, peer="192.0.2.9"), "failures", 899_000)
    for _ in range(2):
        spent = await limited.post(REFRESH, {"refreshToken": good.json["refreshToken"]}, peer="192.0.2.9")
        assert spent.status in (401, 429)
    assert spent.status == 429, "a session that was ended for it is not looked at again and again"


async def test_attempts_are_judged_by_their_outcome_and_not_counted_as_requests(limited: Site, mock_clock: MockClock) -> None:
    """A guest whose address has used up its requests can still join; what is no attempt at all is a request like any other."""
    cafe = await limited.world.cafe(cidrs=("203.0.113.0/24",))
    strange = {"peer": "192.0.2.77"}
    for left, answer in enumerate(
        [
            await limited.post(JOIN, {"cafeId": cafe.id}, **strange),
            await limited.post(LOGIN, {"cafeId": "x"}, **strange),
            await limited.call("POST", REFRESH, data=b"{}", headers={"Content-Type": "text/plain"}, **strange),
        ]
    ):
        assert answer.status in (400, 415)
        assert limits(answer)[1] == f'"anonymous";r={2 - left};t=300'
    assert is_over(await limited.post(JOIN, {"cafeId": cafe.id}, **strange), "anonymous", 300_000)
    assert is_over(await limited.get("/join", **strange), "anonymous", 300_000)
    open_cafe = await limited.world.cafe(name="Open")
    printed = await limited.world.receipt(open_cafe)
    body = {"cafeId": open_cafe.id, "username": printed.username, "joinToken": printed.join_token}
    assert (await limited.post(JOIN, body, **strange)).status == 201


async def test_half_a_place_is_a_request_and_no_failure(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    answer = await limited.post(JOIN, {"cafeId": cafe.id, "username": "x", "joinToken": "0", "latitude": 1.5})
    assert is_problem(answer, 400, "invalid_request")
    assert limits(answer) == ('"anonymous";q=3;w=900', '"anonymous";r=2;t=300')


async def test_a_barista_makes_so_many_receipts_an_hour(limited: Site, mock_clock: MockClock) -> None:
    cafe = await limited.world.cafe()
    barista = await limited.barista(cafe)
    await limited.world.staff.add(cafe.id, "Ben", "barista", "correct horse")
    login = await limited.post(LOGIN, {"cafeId": cafe.id, "name": "Ben", "password": "correct horse"})
    first = await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "1"}, token=barista)
    assert limits(first) == ('"receipts";q=2;w=3600', '"receipts";r=1;t=3600')
    assert is_problem(await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "1"}, token=barista), 409, "conflict")
    mock_clock.jump(600)
    assert (await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "2"}, token=barista)).status == 201
    assert is_over(await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "3"}, token=barista), "receipts", 3_000_000)
    assert (await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "3"}, token=login.json["accessToken"])).status == 201
    mock_clock.jump(2999)
    assert is_over(await limited.post(RECEIPT, {"cafeId": cafe.id, "receiptId": "4"}, token=barista), "receipts", 1000)


async def test_the_address_is_the_one_a_trusted_proxy_names(site: Site, mock_clock: MockClock) -> None:
    proxied = await make_site(site.world, Server(trusted_proxies=["10.0.0.0/24"]), STATED)
    for number in range(10):
        assert (await proxied.get("/join", peer="10.0.0.1", headers={"X-Forwarded-For": f"192.0.2.{number}"})).status == 200
    for number in range(4):
        answer = await proxied.get("/join", peer="198.51.100.1", headers={"X-Forwarded-For": f"192.0.2.{number}"})
    assert is_over(answer, "anonymous", 300_000)
    for number in range(4):
        answer = await proxied.get("/join", peer="10.0.0.1", headers={"X-Forwarded-For": f"192.0.2.{number}, 198.51.100.1"})
    assert is_over(answer, "anonymous", 300_000)


async def test_behind_a_unix_socket_only_addresses_that_are_named_are_counted(limited: Site, mock_clock: MockClock) -> None:
    for _ in range(10):
        assert (await limited.get("/join", scope={"client": None})).status == 200
    for _ in range(4):
        answer = await limited.get("/join", scope={"client": None}, headers={"X-Forwarded-For": "192.0.2.50"})
    assert is_over(answer, "anonymous", 300_000)


async def test_guests_of_a_cafe_are_many_at_one_address(limited: Site, mock_clock: MockClock) -> None:
    """Known by its network, or by the first good join."""
    await limited.get(f"/api/cafes/{(await limited.world.cafe(cidrs=('203.0.113.0/24',))).id}", peer="192.0.2.1")
    for left in range(10):
        assert (await limited.get("/join", peer="203.0.113.5")).headers["RateLimit"] == f'"anonymous";r={149 - left};t=6'
    cafe = await limited.world.cafe(name="Other", wifi_ssid="Corner")
    assert (await limited.get("/join")).headers["RateLimit-Policy"] == '"anonymous";q=3;w=900'
    printed = await limited.world.receipt(cafe)
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token, "wifiSsid": "corner"}
    assert (await limited.post(JOIN, body)).status == 201
    assert (await limited.get("/join")).headers["RateLimit-Policy"] == '"anonymous";q=150;w=900'
    assert (await limited.post(JOIN, body)).headers["RateLimit-Policy"] == '"failures";q=100;w=900'


async def test_a_preflight_is_free_and_foreign_pages_may_read_the_headers(site: Site, mock_clock: MockClock) -> None:
    open_site = await make_site(site.world, Server(origins=["https://menu.example"]), STATED)
    asking = {"Origin": "https://menu.example", "Access-Control-Request-Method": "POST"}
    for _ in range(10):
        assert (await open_site.call("OPTIONS", JOIN, headers=asking)).status == 204
    answer = await open_site.get("/api/nothing", headers={"Origin": "https://menu.example"})
    assert answer.headers["RateLimit"] == '"anonymous";r=2;t=300'
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After, RateLimit, RateLimit-Policy, Erasure-Receipt"


async def test_without_limits_nothing_is_said_of_them(site: Site) -> None:
    for answer in (await site.get("/join"), await site.post(REFRESH, {"refreshToken": "a.b.c"})):
        assert limits(answer) == (None, None)


async def test_the_contract_names_the_refusal_wherever_it_may_come(site: Site) -> None:
    document: Any = (await site.get("/api/openapi.json")).json
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("429" in operation["responses"]) is not path.startswith("/api/health"), path
    over = document["paths"]["/api/users/me"]["get"]["responses"]["429"]
    assert over["headers"].keys() == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert {"limit", "retryAfterMs"} <= document["components"]["schemas"]["Problem"]["properties"].keys()
