"""Lunch: a full house comes in through one address in ten minutes, and somebody among them guesses join tokens as fast as they can."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from brewd.config import Config, EdgeLimits
from brewd.edge.control.client import ControlClient
from brewd.people.receipts import Printed
from brewd.people.records import Cafe
from tests.edge.ws.house import House, Person, open_house
from tests.edge.ws.wire import Raw, Response

GUESTS = 200
GUESSES = 10_000
RUSH_S = 600


@pytest.fixture
async def house(config: Config, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    """With the limits everybody has."""
    async with open_house(replace(config, limits=replace(config.limits, edge=EdgeLimits()))) as house:
        yield house
    assert '"level":"error"' not in capsys.readouterr().err


def request(method: str, path: str, body: Any = None, token: str | None = None) -> bytes:
    sent = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: cafe.test\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
    bearer = "" if token is None else f"Authorization: Bearer {token}\r\n"
    return f"{head}{bearer}\r\n".encode() + sent


async def ask(line: Raw, method: str, path: str, body: Any = None, token: str | None = None) -> Response:
    """One request on a connection that stays open."""
    await line.send(request(method, path, body, token))
    return await line.response()


async def printed(house: House, cafe: Cafe, count: int) -> list[Printed]:
    return [await house.parts.receipts.issue(cafe.id, f"r-{number}") for number in range(count)]


async def visit(house: House, cafe: Cafe, receipt: Printed, wifi_ssid: str | None = None) -> list[Response]:
    """What a guest's phone does between the receipt and the room; every answer it got."""
    line = await house.raw()
    answers = [await ask(line, "GET", path) for path in ("/join", "/join.js", "/pages.css", f"/api/cafes/{cafe.id}")]
    body = {"cafeId": cafe.id, "username": receipt.username, "joinToken": receipt.join_token, "wifiSsid": wifi_ssid}
    joined = await ask(line, "POST", "/api/auth/join", body)
    answers.append(joined)
    if joined.status == 201:
        token = joined.json["accessToken"]
        wire = await house.enter(Person(joined.json["user"]["id"], receipt.username, token, cafe.id))
        answers.append(wire.response)
        answers += [await ask(line, "GET", path, token=token) for path in ("/api/users/me", f"/api/chat/messages/{cafe.id}", f"/api/chat/presence/{cafe.id}")]
    await line.aclose()
    return answers


class Guesser:
    """Never twice the same guess: at names that nobody has, and at those in `known`, in turn."""

    def __init__(self, house: House, cafe: Cafe, known: list[str]) -> None:
        self.answers: Counter[Any] = Counter()
        self.known = known
        self._house = house
        self._cafe = cafe
        self._number = 0

    async def guess(self, times: int) -> None:
        """So many in one go, without waiting for an answer in between."""
        line = await self._house.raw()
        await line.send(b"".join(self._next() for _ in range(times)))
        for _ in range(times):
            answer = await line.response()
            self.answers[answer.status, answer.json["code"]] += 1
        await line.aclose()

    def _next(self) -> bytes:
        self._number += 1
        name = (f"QuietCrane{self._number}", self.known[self._number % len(self.known)])[self._number % 2]
        return request("POST", "/api/auth/join", {"cafeId": self._cafe.id, "username": name, "joinToken": f"{self._number:013d}"})


async def test_a_lunch_rush_while_somebody_at_the_same_address_guesses_ten_thousand_times(house: House, flow: MockClock) -> None:
    """The guesser tries names of guests who are in, names nobody has, and the one receipt that was seen lying about."""
    cafe = await house.parts.cafes.add(name="Corner", cidrs=("127.0.0.0/8",))
    *receipts, seen_by_others = await printed(house, cafe, GUESTS + 1)
    guesser = Guesser(house, cafe, [seen_by_others.username])
    seen: Counter[int] = Counter()
    for receipt in receipts:
        seen.update(answer.status for answer in await visit(house, cafe, receipt))
        await guesser.guess(GUESSES // GUESTS)
        guesser.known.append(receipt.username)
        flow.jump(RUSH_S / GUESTS)
    assert seen == {200: GUESTS * 7, 201: GUESTS, 101: GUESTS}
    assert sum(guesser.answers.values()) == GUESSES
    assert guesser.answers.keys() == {(401, "unauthorized"), (429, "rate_limited")}
    assert guesser.answers[401, "unauthorized"] == EdgeLimits().failures_per_cafe_per_15min
    assert len(await house.parts.users.list(cafe.id)) == GUESTS


async def test_a_network_counts_from_the_moment_it_is_configured(house: House) -> None:
    def call(method: str, **params: Any) -> Any:
        with ControlClient(house.parts.config.control_path, timeout_s=10) as control:
            return control.call(method, **params)

    async def quota() -> str:
        line = await house.raw()
        return (await ask(line, "GET", "/join")).headers["ratelimit-policy"]

    assert await quota() == '"anonymous";q=100;w=900'
    cafe = await trio.to_thread.run_sync(lambda: call("cafe.add", name="Corner", cidrs=["127.0.0.0/8"]))
    assert await quota() == '"anonymous";q=5000;w=900'
    await trio.to_thread.run_sync(lambda: call("cafe.set", cafeId=cafe["cafe"]["id"], cidrs=["192.0.2.0/24"]))
    assert await quota() == '"anonymous";q=100;w=900'


async def test_a_rush_at_a_cafe_that_is_known_by_its_wifi_only(house: House) -> None:
    """The first guest who shows it opens the way for the others; they may come all at once after that."""
    cafe = await house.parts.cafes.add(name="Corner", wifi_ssid="Corner")
    receipts = await printed(house, cafe, 60)
    seen: Counter[int] = Counter()
    for receipt in receipts:
        seen.update(answer.status for answer in await visit(house, cafe, receipt, "corner-5G"))
    assert seen == {200: 60 * 7, 201: 60, 101: 60}
