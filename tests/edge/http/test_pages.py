"""Health, café pages, headers, the contract for machines and the few pages for people."""

from __future__ import annotations

import re
from typing import Any

import pytest

from brewd.config import Server
from tests.edge.http.site import Site, is_problem, make_site


async def test_health_is_passed_on(site: Site) -> None:
    answer = await site.get("/api/health")
    assert (answer.status, answer.json["status"]) == (200, "ok")
    assert (await site.get("/api/health/live")).json == {"status": "ok"}
    assert (await site.get("/api/health/ready")).json == {"status": "ok"}


async def test_a_process_that_starts_or_drains_is_not_ready(site: Site) -> None:
    site.state.is_ready = site.state.is_live = False
    answer = await site.get("/api/health/ready")
    assert is_problem(answer, 503, "cafe_unavailable")
    assert answer.headers["Retry-After"]
    assert (await site.get("/api/health/live")).status == 503


SECRETS = {"wifi_ssid": "Corner Guests", "latitude": 48.2012, "longitude": 16.3701, "cidrs": ("203.0.113.0/24",), "menu": ({"name": "Melange"},)}


async def test_a_cafe_shows_what_a_join_needs_and_never_the_values(site: Site) -> None:
    cafe = await site.world.cafe(address="Main Street 1", **SECRETS)
    anyone = await site.get(f"/api/cafes/{cafe.id}")
    assert anyone.json == {
        "id": cafe.id,
        "name": "Corner",
        "address": "Main Street 1",
        "timezone": "UTC",
        "wifi": True,
        "location": True,
        "network": True,
        "needs": "any",
    }
    joined = (await site.world.users.add_many(cafe.id, 1))[0]
    for token in (joined.access_token, await site.barista(cafe)):
        member = await site.get(f"/api/cafes/{cafe.id}", token=token)
        assert member.json == {
            **anyone.json,
            "menu": [{"name": "Melange"}],
            "agent": {"persona": "bartender", "name": "Bartender", "available": True},
        }
        assert not re.search(rb"Guests|48\.2|16\.37|203\.0", member.raw)
    other = await site.world.cafe(name="Other")
    stranger = (await site.world.users.add_many(other.id, 1))[0]
    assert (await site.get(f"/api/cafes/{cafe.id}", token=stranger.access_token)).json == anyone.json
    assert is_problem(await site.get(f"/api/cafes/{cafe.id}", token="nonsense"), 401, "unauthorized")


async def test_a_cafe_that_asks_for_nothing_says_so(site: Site) -> None:
    cafe = await site.world.cafe()
    answer = await site.get(f"/api/cafes/{cafe.id}")
    assert (answer.json["wifi"], answer.json["location"], answer.json["network"], answer.json["needs"]) == (False, False, False, "none")
    assert is_problem(await site.get("/api/cafes/01890000-0000-7000-8000-000000000000"), 404, "not_found")


@pytest.mark.parametrize("path", ["/api/health", "/api/nothing", "/docs", "/join"])
async def test_every_answer_tells_browsers_what_not_to_do(site: Site, path: str) -> None:
    headers = (await site.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Strict-Transport-Security"]


ASKING = {"Origin": "https://menu.example", "Access-Control-Request-Method": "POST"}


async def test_without_origins_there_is_no_cors(site: Site) -> None:
    assert is_problem(await site.call("OPTIONS", "/api/auth/join", headers=ASKING), 405, "method_not_allowed")


async def test_a_page_that_may_call_gets_a_preflight_and_others_do_not(site: Site) -> None:
    open_site = await make_site(site.world, Server(origins=["https://menu.example"]))
    preflight = await open_site.call("OPTIONS", "/api/auth/join", headers=ASKING)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://menu.example"
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    refused = await open_site.call("OPTIONS", "/api/auth/join", headers={**ASKING, "Origin": "https://evil.example"})
    assert is_problem(refused, 405, "method_not_allowed")
    for origin, allowed in (("https://menu.example", "https://menu.example"), ("https://evil.example", None)):
        answer = await open_site.get("/api/nothing", headers={"Origin": origin})
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("203.0.113.9", None, 201),
        ("198.51.100.4", "203.0.113.9", 403),
        ("10.0.0.1", "203.0.113.9", 201),
        ("10.0.0.1", "203.0.113.9, 198.51.100.4", 403),
        ("10.0.0.1", "198.51.100.4, 203.0.113.9, 10.0.0.2", 201),
    ],
)
async def test_a_forwarded_address_is_believed_from_trusted_proxies_only(site: Site, peer: str, forwarded: str | None, status: int) -> None:
    proxied = await make_site(site.world, Server(trusted_proxies=["10.0.0.0/24"]))
    cafe = await site.world.cafe(cidrs=("203.0.113.0/24",))
    printed = await site.world.receipt(cafe)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    body = {"cafeId": cafe.id, "username": printed.username, "joinToken": printed.join_token}
    assert (await proxied.post("/api/auth/join", body, peer=peer, headers=headers)).status == status


async def test_the_contract_for_machines_is_whole(site: Site) -> None:
    document = (await site.get("/api/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    defined = set(document["components"]["schemas"])
    assert {ref.removeprefix("#/components/schemas/") for ref in refs(document)} <= defined
    assert {rule.rule.replace("<uuid:", "{").replace(">", "}") for rule in site.app.url_map.iter_rules() if rule.rule.startswith("/api/")} == {
        *document["paths"],
        "/api/openapi.json",
        "/api/asyncapi.json",
    }
    join = document["paths"]["/api/auth/join"]["post"]
    assert {"201", "400", "401", "403", "404", "409", "413", "429", "500", "503"} <= join["responses"].keys()
    assert document["components"]["schemas"]["JoinBody"]["additionalProperties"] is False
    page = document["paths"]["/api/chat/messages/{cafeId}"]["get"]
    assert [parameter["name"] for parameter in page["parameters"]] == ["cafeId", "limit", "before", "since"]
    assert page["security"] == [{"accessToken": []}]


def refs(node: Any) -> set[str]:
    if isinstance(node, dict):
        return {value for key, value in node.items() if key == "$ref"}.union(*(refs(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(refs(value) for value in node))
    return set()


async def test_the_documentation_is_a_page_without_scripts(site: Site) -> None:
    home = await site.get("/")
    assert (home.status, home.headers["Location"]) == (302, "/docs")
    docs = await site.get("/docs")
    assert docs.headers["Content-Type"].startswith("text/html")
    assert b"/api/auth/join" in docs.raw
    assert b'id="join_token_used"' in docs.raw
    assert b"<script" not in docs.raw
    assert not re.search(rb"(src|href)=\"https?:", docs.raw)


async def test_the_link_on_a_receipt_leads_somewhere(site: Site) -> None:
    page = await site.get("/join")
    assert page.status == 200
    assert b'<script src="/join.js" defer>' in page.raw
    script = await site.get("/join.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert b"textContent" in script.raw
    assert b"innerHTML" not in script.raw
    assert (await site.get("/pages.css")).status == 200


async def test_the_websocket_is_described_from_its_frames(site: Site) -> None:
    document = (await site.get("/api/asyncapi.json")).json
    messages = document["components"]["messages"]
    assert {"join_cafe", "message_send", "message_new", "lagged", "server_draining", "reply", "error"} <= messages.keys()
    send = document["components"]["schemas"]["SendData"]
    assert send["required"] == ["cafeId", "content"]
    assert send["additionalProperties"] is False
    assert "the content that comes along is not looked at" in messages["message_send"]["description"]
    by_code = {close["code"]: close["reconnect"] for close in document["x-close-codes"]}
    assert {"query_stream", "query_chunk", "proactive_message", "agent_reply"} <= document["channels"]["agent"]["messages"].keys()
    assert document["channels"]["agent"]["address"] == "/ws/agent"
    assert (by_code[1012], by_code[4008], by_code[4002]) == (True, True, False)
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', (await site.get("/api/asyncapi.json")).raw.decode()))
    assert references <= document["components"]["schemas"].keys()
    page = (await site.get("/docs")).raw
    assert b"message:send" in page
    assert b"the content that comes along is not looked at" in page


async def test_a_request_without_an_upgrade_is_told_that_there_is_a_websocket(site: Site) -> None:
    for path in ("/ws", "/ws/agent"):
        answer = await site.get(path)
        assert (answer.status, answer.headers["Upgrade"], answer.json["code"]) == (426, "websocket", "invalid_request")
