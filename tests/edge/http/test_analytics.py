"""`GET /api/cafes/:cafeId/analytics`: what staff see of their café, hour by hour."""

from __future__ import annotations

import pytest

from brewd.runtime.clock import as_datetime
from brewd.store.pool import Tx
from tests.conftest import START_MS
from tests.edge.http.site import Site, is_problem


async def counted(site: Site, cafe_id: str, *hours: int) -> None:
    async def work(tx: Tx) -> None:
        for hour in hours:
            at = as_datetime(START_MS + hour * 3_600_000)
            await tx._connection.execute("INSERT INTO cafe_analytics (cafe_id, hour, messages, authors, joins) VALUES ($1, $2, 5, 2, 1)", cafe_id, at)

    await site.world.pg.transaction(work)


async def test_staff_see_the_hours_of_their_cafe(site: Site) -> None:
    cafe = await site.world.cafe()
    await counted(site, cafe.id, -30, -2, -1, 3)
    for role in ("barista", "moderator"):
        token = await site.barista(cafe, role)
        answer = await site.get(f"/api/cafes/{cafe.id}/analytics", token=token)
        assert answer.status == 200, answer
        assert [row["hour"] for row in answer.json["rows"]] == ["2026-11-22T08:00:00.000Z", "2026-11-22T09:00:00.000Z"]
        assert answer.json["rows"][0] == {
            "hour": "2026-11-22T08:00:00.000Z", "messages": 5, "authors": 2, "joins": 1, "pokes": 0, "matches": 0, "agentQueries": 0,
        }  # fmt: skip
    query = "from=2026-11-21T00:00:00Z&to=2026-11-22T09:00:00%2B00:00"
    answer = await site.get(f"/api/cafes/{cafe.id}/analytics?{query}", token=token)
    assert [row["hour"] for row in answer.json["rows"]] == ["2026-11-21T04:00:00.000Z", "2026-11-22T08:00:00.000Z"]
    answer = await site.get(f"/api/cafes/{cafe.id}/analytics?from=2026-11-22T13:00:00%2B01:00", token=token)
    assert [row["hour"] for row in answer.json["rows"]] == ["2026-11-22T13:00:00.000Z"]


async def test_nobody_else_does(site: Site) -> None:
    cafe, other = await site.world.cafe(), await site.world.cafe()
    path = f"/api/cafes/{cafe.id}/analytics"
    assert is_problem(await site.get(path), 401, "unauthorized")
    (guest,) = await site.world.users.add_many(cafe.id, 1)
    assert is_problem(await site.get(path, token=guest.access_token), 403, "forbidden")
    assert is_problem(await site.get(path, token=await site.barista(other)), 403, "not_in_cafe")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("from=yesterday", "from"),
        ("from=2026-11-22T09:00:00", "from"),
        ("to=1", "to"),
        ("to=2026-11-22", "to"),
        ("from=0001-01-01T00:00:00Z", "from"),
        ("to=9999-12-31T23:59:59Z&from=2026-11-22T09:00:00Z", "to"),
        ("from=2026-11-22T09:00:00Z&to=2026-11-22T09:00:00Z", "to"),
        ("from=2026-10-01T00:00:00Z&to=2026-11-22T09:00:00Z", "from"),
        ("since=2026-10-01T00:00:00Z", "since"),
    ],
)
async def test_a_span_that_makes_no_sense_is_refused_by_its_field(site: Site, query: str, path: str) -> None:
    cafe = await site.world.cafe()
    answer = await site.get(f"/api/cafes/{cafe.id}/analytics?{query}", token=await site.barista(cafe))
    assert is_problem(answer, 400, "invalid_request")
    assert [error["path"].split(".")[-1] for error in answer.json["errors"]] == [path]
