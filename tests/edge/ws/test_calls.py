"""Routes as events: the same answers and the same refusals as over HTTP, each with the `ref` of its frame."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from brewd.edge.http.calls import ANSWER_S, Calls
from brewd.edge.http.endpoint import USER, Call, Endpoint, NoQuery
from brewd.edge.http.ratelimit import ResetBody
from brewd.edge.http.users import ENDPOINTS
from brewd.errors import Rejected, StoreError
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from tests.edge.ws.house import House
from tests.edge.ws.wire import frame, said

ANN = Identity(
    user_id="01900000-0000-7000-8000-000000000001", cafe_id="01900000-0000-7000-8000-00000000000c", role="user",
    session_id="01900000-0000-7000-8000-00000000000a", jti="j", username="ann", badge=None, expires_ms=2**60, user_expires_ms=2**60,
)  # fmt: skip


@pytest.fixture
async def cafe(house: House) -> Cafe:
    return await house.cafe()


async def test_a_call_is_answered_as_its_route_answers(house: House, cafe: Cafe) -> None:
    ann = await house.guest(cafe)
    wire = await house.connect(ann)  # in the café's room or not
    over_http = (await house.api("GET", "/api/users/me", by=ann)).json
    assert await wire.ask("users:me", {}) == over_http
    await wire.send(frame('{"event":"users:me","ref":7}'))
    assert await wire.next() == {"event": "reply", "ref": 7, "data": over_http}


async def test_without_a_ref_a_call_is_not_answered_unless_it_is_refused(house: House, cafe: Cafe) -> None:
    wire = await house.connect(await house.guest(cafe))
    await wire.send(said("users:me", {}) + said("users:me", {"no": 1}))
    assert (await wire.next())["data"]["code"] == "invalid_request"
    assert await wire.ask("users:me", {})


async def test_what_is_wrong_with_a_call_is_said(house: House, cafe: Cafe) -> None:
    wire = await house.connect(await house.guest(cafe))
    for text, path in (
        ('{"event":"users:me","data":{"no":1},"ref":"r"}', "no"),
        ('{"event":"users:me","data":[],"ref":"r"}', ""),
        ('{"event":"users:me","data":{},"more":1,"ref":"r"}', "$"),
        ('{"event":["users:me"],"data":{},"ref":"r"}', "event"),
    ):
        await wire.send(frame(text))
        answer = await wire.next()
        assert (answer["event"], answer["ref"], answer["data"]["errors"][0]["path"]) == ("error", "r", path), text


async def test_staff_are_told_that_a_call_is_not_for_them(house: House, cafe: Cafe) -> None:
    wire = await house.connect(house.staff(cafe, "barista"))
    await wire.send(said("users:me", {}, "r"))
    answer = await wire.next()
    assert (answer["event"], answer["data"]["code"]) == ("error", "forbidden")


async def test_the_page_lists_every_call(house: House) -> None:
    page = (await house.api("GET", "/api/asyncapi.json")).json
    message = page["components"]["messages"]["users_me"]
    assert message["summary"] == "Reply: UserAnswer"
    assert page["channels"]["ws"]["messages"]["users_me"]


class _Parts:
    class ids:
        @staticmethod
        def uuid4() -> str:
            return "incident-1"


def _calls(handler: Any, **more: Any) -> Calls:
    endpoint = Endpoint(method="POST", path="/x/<uuid:channelId>", handler=handler, tag="x", summary="X", roles=USER, event="x:do", **more)
    return Calls(_Parts(), [endpoint])  # type: ignore[arg-type]


async def test_ids_query_and_body_come_from_one_object() -> None:
    seen: list[Call[Any, Any]] = []

    async def handler(parts: Any, call: Call[Any, Any]) -> None:
        seen.append(call)

    calls = _calls(handler, body=ResetBody)
    data = {"channelId": ANN.cafe_id, "userId": ANN.user_id}
    assert await calls.perform("x:do", json.dumps(data).encode(), ANN, trio.current_time()) == {}
    (call,) = seen
    assert (call.ids, str(call.body.user_id), call.body.action, call.query, call.who) == ({"channelId": ANN.cafe_id}, ANN.user_id, None, NoQuery(), ANN)
    with pytest.raises(Rejected, match="channelId"):
        await calls.perform("x:do", b"{}", ANN, trio.current_time())


@pytest.mark.parametrize(
    ("error", "code"), [(StoreError("down"), "storage_unavailable"), (ValueError("a bug"), "internal"), (Rejected("muted", "No."), "muted")]
)
async def test_whatever_goes_wrong_is_an_answer(error: Exception, code: str) -> None:
    async def handler(parts: Any, call: Call[Any, Any]) -> None:
        raise error

    with pytest.raises(Rejected) as refused:
        await _calls(handler).perform("x:do", json.dumps({"channelId": ANN.cafe_id}).encode(), ANN, trio.current_time())
    assert refused.value.code == code
    assert ("incident" in refused.value.extras) == (code == "internal")


async def test_calls_that_wait_for_each_other_do_not_add_up(autojump_clock: MockClock) -> None:
    async def handler(parts: Any, call: Call[Any, Any]) -> None:
        await trio.sleep(60)

    data, heard_s = json.dumps({"channelId": ANN.cafe_id}).encode(), trio.current_time()
    for _ in range(20):
        with pytest.raises(Rejected) as refused:
            await _calls(handler).perform("x:do", data, ANN, heard_s)
        assert refused.value.code == "storage_unavailable"
    assert trio.current_time() == heard_s + ANSWER_S


def test_events_have_names_of_their_own() -> None:
    assert "users:me" in Calls(_Parts(), ENDPOINTS)  # type: ignore[arg-type]
    assert "message:send" not in Calls(_Parts(), ENDPOINTS)  # type: ignore[arg-type]
