"""Whatever is wrong with a request, the answer is a problem that says so."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from quart_trio.testing.connections import TestHTTPConnection as Connection

from brewd.edge.http.body import decoder
from brewd.errors import Rejected, StoreError
from tests.edge.http.site import Site, is_problem

JOIN = "/api/auth/join"
CAFE = "01890000-0000-7000-8000-000000000000"
GOOD: dict[str, Any] = {"cafeId": CAFE, "username": "MellowOtter4821", "joinToken": "4G7K-PQ2M-X0Z3T"}
JSON = {"Content-Type": "application/json"}


def errors(answer: Any) -> list[str]:
    assert is_problem(answer, 400, "invalid_request")
    assert all(error["detail"] for error in answer.json["errors"])
    return [error["path"] for error in answer.json["errors"]]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"surprise": 1}, "surprise"),
        ({"username": None}, "username"),
        ({"username": ""}, "username"),
        ({"username": "x" * 65}, "username"),
        ({"joinToken": 7}, "joinToken"),
        ({"cafeId": "corner"}, "cafeId"),
        ({"latitude": 90.5, "longitude": 0}, "latitude"),
        ({"latitude": "48", "longitude": 0}, "latitude"),
        ({"patronKey": "k" * 129}, "patronKey"),
        ({"username": "Mellow\0Otter"}, "username"),
        ({"wifiSsid": "\0"}, "wifiSsid"),
    ],
)
async def test_a_wrong_field_is_named(site: Site, change: dict[str, Any], path: str) -> None:
    answer = await site.post(JOIN, {**GOOD, **change})
    assert errors(answer) == [path]
    assert path in answer.json["detail"]


async def test_a_missing_field_is_named(site: Site) -> None:
    answer = await site.post(JOIN, {"cafeId": CAFE, "username": "x"})
    assert errors(answer) == ["joinToken"]


@pytest.mark.parametrize(
    ("items", "path"),
    [
        ([{"name": "Melange", "size": 3}], "items[0].size"),
        ([{"name": "a"}, {"name": "b", "quantity": 0}], "items[1].quantity"),
        ([{"name": "\0"}], "items[0].name"),
    ],
)
async def test_a_wrong_field_deep_inside_is_named_by_its_path(site: Site, items: Any, path: str) -> None:
    cafe = await site.world.cafe()
    body = {"cafeId": cafe.id, "receiptId": "R-1", "items": items}
    assert errors(await site.post("/api/auth/barista/generate-username", body, token=await site.barista(cafe))) == [path]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"cafeId": NaN}',
        b"[" * 10_000 + b"]" * 10_000,
        b'{"username":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"x":' + b'{"x":' * 10_000 + b"1" + b"}" * 10_001,
        b'{"username":"\xff\xfe"}',
        b'{"username":"\xed\xa0\x80"}',
        b'{"username":"\\ud800"}',
        b'{"username":"\\ud800\\u0041 and some more"}',
        b'{"username":"\\udc00"}',
        b'{"\\ud800":1}',
        b'{"latitude":1' + b"0" * 60_000 + b"}",
    ],
)
async def test_hostile_json_is_answered(site: Site, body: bytes) -> None:
    answer = await site.call("POST", JOIN, data=body, headers=JSON)
    assert is_problem(answer, 400, "invalid_request")
    assert len(answer.raw) < 1000


class Anything(msgspec.Struct):
    value: Any


def test_json_nested_deeply_where_anything_is_allowed_is_answered() -> None:
    """No route takes free-form JSON yet; the first one that does must not be felled by a deep one."""
    decode = decoder(Anything)
    with pytest.raises(Rejected, match="nested too deeply"):
        decode(b'{"value":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
    with pytest.raises(Rejected, match=r"value\[0\]\.a\[1\]"):
        decode(b'{"value":[{"a":["", "\\u0000"]}]}')
    assert decode(b'{"value":"\\\\u0000"}').value == "\\u0000"


async def test_a_long_unknown_field_is_not_echoed_in_full(site: Site) -> None:
    answer = await site.post(JOIN, {"x" * 50_000: 1})
    assert is_problem(answer, 400, "invalid_request")
    assert len(answer.raw) < 1000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_body_that_says_it_is_not_json_is_refused(site: Site, kind: str) -> None:
    answer = await site.call("POST", JOIN, data=json.dumps(GOOD), headers={"Content-Type": kind})
    assert is_problem(answer, 415, "unsupported_media_type")


async def test_a_compressed_body_is_refused(site: Site) -> None:
    answer = await site.call("POST", JOIN, data=json.dumps(GOOD), headers={**JSON, "Content-Encoding": "gzip"})
    assert is_problem(answer, 415, "unsupported_media_type")


async def test_a_large_body_is_refused(site: Site) -> None:
    answer = await site.call("POST", JOIN, data=b" " * (64 * 1024 + 1), headers=JSON)
    assert is_problem(answer, 413, "payload_too_large")


async def test_a_body_at_the_limit_is_read(site: Site) -> None:
    body = json.dumps(GOOD).encode()
    answer = await site.call("POST", JOIN, data=body + b" " * (64 * 1024 - len(body)), headers=JSON)
    assert is_problem(answer, 404, "not_found")


async def send_slowly(site: Site, chunks: int, headers: dict[str, str]) -> Any:
    """Twenty megabytes, a chunk at a time, unless the answer comes first."""
    client = site.app.test_client()
    sent = 0
    connection: Connection
    async with client.request(JOIN, method="POST", headers={**JSON, **headers}) as connection:  # type: ignore[assignment]
        for _ in range(chunks):
            with trio.move_on_after(1):
                await connection.send(b" " * 262_144)
                sent += 1
            if connection.status_code is not None:
                break
        if connection.status_code is None:
            await connection.send_complete()
    return await connection.as_response(), sent


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(20 * 1024 * 1024)}])
async def test_twenty_megabytes_are_not_read(site: Site, headers: dict[str, str]) -> None:
    response, sent = await send_slowly(site, 80, headers)
    assert response.status_code == 413
    assert response.content_type == "application/problem+json"
    assert sent < 20


async def test_a_body_that_does_not_come_is_given_up_on(site: Site, autojump_clock: trio.testing.MockClock) -> None:
    client = site.app.test_client()
    async with client.request(JOIN, method="POST", headers=JSON) as connection:
        await connection.send(b"{")
        await trio.sleep(11)
    response: Any = await connection.as_response()
    assert response.status_code == 408
    assert (await response.get_json(force=True))["code"] == "request_timeout"


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/nothing", "/api/cafes/corner", "/api/users/me/nothing", "/api//health", "/static/x", "/api/%00", "/api/cafes/..%2f"]
)
async def test_an_unknown_address_is_not_found(site: Site, path: str) -> None:
    assert is_problem(await site.get(path), 404, "not_found")


@pytest.mark.parametrize(("target", "status"), [("http://cafe.example/api/health", 200), ("http://[/api/health", 404), ("*", 404), ("http://x", 302)])
async def test_a_target_that_is_not_a_path_is_taken_for_one(site: Site, target: str, status: int) -> None:
    assert (await site.call("GET", "/", scope={"path": target})).status == status


@pytest.mark.parametrize(("method", "path"), [("GET", JOIN), ("PUT", "/api/users/me"), ("OPTIONS", "/api/health"), ("POST", "/docs"), ("BREW", "/api/health")])
async def test_another_method_is_refused_and_the_right_ones_are_named(site: Site, method: str, path: str) -> None:
    answer = await site.call(method, path)
    assert is_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"] or "GET" in answer.headers["Allow"]


async def test_a_bug_is_an_incident_without_a_stack_trace(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    joined = await site.customer(cafe := await site.world.cafe())
    site.room.answer = ZeroDivisionError("the secret of the cellar")
    answer = await site.get(f"/api/chat/presence/{cafe.id}", token=joined["accessToken"])
    assert is_problem(answer, 500, "internal")
    assert b"cellar" not in answer.raw
    assert b"Zero" not in answer.raw
    assert answer.json["incident"] in "".join(capsys.readouterr())


async def test_a_store_that_is_away_says_when_to_come_back(site: Site) -> None:
    joined = await site.customer(cafe := await site.world.cafe())
    site.room.answer = StoreError("no answer")
    answer = await site.get(f"/api/chat/presence/{cafe.id}", token=joined["accessToken"])
    assert is_problem(answer, 503, "storage_unavailable")
    assert answer.json["retryAfterMs"] == 1000
    assert answer.headers["Retry-After"] == "1"
    assert "no answer" not in answer.json["detail"]


async def test_what_a_refusal_carries_reaches_the_client(site: Site) -> None:
    joined = await site.customer(cafe := await site.world.cafe())
    site.room.answer = Rejected("mailbox_full", "Too busy.", retryAfterMs=1250, status="no", type="no")
    answer = await site.get(f"/api/chat/presence/{cafe.id}", token=joined["accessToken"])
    assert is_problem(answer, 429, "mailbox_full")
    assert (answer.json["retryAfterMs"], answer.headers["Retry-After"]) == (1250, "2")
    assert answer.json["type"] == "/docs#mailbox_full"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=101", "limit"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("before=-1", "before"),
        ("since=99999999999999999999", "since"),
        ("page=2", "page"),
        ("limit=1&limit=2", "limit"),
        ("a%00=1", "a\0"),
    ],
)
async def test_a_wrong_query_is_named(site: Site, query: str, path: str) -> None:
    joined = await site.customer(cafe := await site.world.cafe())
    assert errors(await site.get(f"/api/chat/messages/{cafe.id}?{query}", token=joined["accessToken"])) == [path]


async def test_a_stranger_is_refused_before_the_body_is_read(site: Site) -> None:
    answer = await site.call("POST", "/api/auth/barista/generate-username", data=b"x" * 100_000, headers=JSON)
    assert is_problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "Bearer a.b.c", "Bearer " + "x" * 5000, "Bearer é", "token"])
async def test_an_authorization_that_proves_nothing_is_refused(site: Site, value: str) -> None:
    answer = await site.get("/api/users/me", headers={"Authorization": value})
    assert is_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="brewd"'
