"""The agent of a café over HTTP: moderators set it, guests see who it is."""

from __future__ import annotations

from typing import Any

import pytest

from brewd.agent.agent import Status
from tests.edge.http.site import Site, is_problem


@pytest.fixture
async def path(site: Site) -> str:
    return f"/api/cafes/{(await site.world.cafe(menu=[{'name': 'Melange'}])).id}/agent"


async def moderator(site: Site, path: str, role: str = "moderator") -> str:
    return await site.barista(await site.world.cafes.get(path.split("/")[3]), role)


async def put(site: Site, path: str, token: str, body: Any) -> Any:
    return await site.call("PUT", path, token=token, json=body)


async def test_a_moderator_sets_what_they_name_and_the_rest_stays(site: Site, path: str) -> None:
    token = await moderator(site, path)
    before = await site.get(path, token=token)
    assert before.json == {
        "enabled": True, "persona": "bartender", "customText": "", "proactivity": "occasional", "monthlyBudgetCents": 2000, "dailyBudgetCents": 200,
        "menu": [{"name": "Melange"}], "state": "ok", "reason": "",
    }  # fmt: skip
    change = {"persona": "custom", "customText": "Like a pirate.", "dailyBudgetCents": None, "menu": [{"name": "Grog", "price": 4.5}]}
    after = await put(site, path, token, change)
    assert (after.status, after.json) == (200, {**before.json, **change})
    assert (await site.get(path, token=token)).json == after.json
    assert (await put(site, path, token, {})).json == after.json


@pytest.mark.parametrize(
    "body",
    [
        {"persona": "pirate"},
        {"proactivity": "loud"},
        {"dailyBudgetCents": -1},
        {"dailyBudgetCents": 1.5},
        {"customText": "x" * 1001},
        {"customText": "a\x1b"},
        {"persona": "custom"},
        {"menu": [{"price": 1}]},
        {"enabled": False, "menu": [{"name": "x", "more": 1}]},
        {"unknown": 1},
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(site: Site, path: str, body: Any) -> None:
    token = await moderator(site, path)
    before = await site.get(path, token=token)
    assert is_problem(await put(site, path, token, body), 400, "invalid_request")
    assert (await site.get(path, token=token)).json == before.json


async def test_an_unknown_word_is_answered_with_those_there_are(site: Site, path: str) -> None:
    answer = await put(site, path, await moderator(site, path), {"proactivity": "loud"})
    assert answer.json["detail"] == "proactivity: Invalid enum value 'loud'; it is one of active, hype, occasional, silent"


async def test_it_is_for_moderators_of_that_cafe(site: Site, path: str) -> None:
    elsewhere = f"/api/cafes/{(await site.world.cafe(name='Elsewhere')).id}/agent"
    token = await moderator(site, path)
    assert is_problem(await site.get(elsewhere, token=token), 403, "not_in_cafe")
    assert is_problem(await put(site, elsewhere, token, {"enabled": False}), 403, "not_in_cafe")
    assert is_problem(await site.get(path, token=await moderator(site, path, "barista")), 403, "forbidden")
    assert is_problem(await site.get(path), 401, "unauthorized")
    guest = await site.customer(await site.world.cafes.get(path.split("/")[3]))
    assert is_problem(await put(site, path, guest["accessToken"], {"enabled": False}), 403, "forbidden")


async def test_guests_see_who_it_is_and_whether_it_answers(site: Site, path: str) -> None:
    cafe_path = path.removesuffix("/agent")
    token = (await site.customer(await site.world.cafes.get(path.split("/")[3])))["accessToken"]

    async def seen() -> Any:
        return (await site.get(cafe_path, token=token)).json["agent"]

    assert await seen() == {"persona": "bartender", "name": "Bartender", "available": True}
    moderators = await moderator(site, path)
    await put(site, path, moderators, {"persona": "historian", "enabled": False})
    assert await seen() == {"persona": "historian", "name": "House Historian", "available": False}
    await put(site, path, moderators, {"enabled": True})
    site.state.agent = Status("unavailable", "the AI service refuses the API key")
    assert (await seen())["available"] is False
    site.state.agent = Status("unavailable", "the AI service refuses the API key", may_try=True)
    assert (await seen())["available"] is True  # else nobody would try
    assert "agent" not in (await site.get(cafe_path)).json
