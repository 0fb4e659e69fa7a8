"""What happened in a café, hour by hour, for its staff."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from brewd.edge.http.endpoint import STAFF, Call, Endpoint
from brewd.edge.http.parts import HttpParts
from brewd.edge.http.shapes import Time
from brewd.people.analytics import Hour
from brewd.people.records import invalid
from brewd.runtime.clock import as_ms, rfc3339

_When = Annotated[str, Meta(description="RFC 3339, with its offset from UTC", extra_json_schema={"format": "date-time"})]


class AnalyticsQuery(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """The hours that begin from `from` on and before `to`, at most 31 days; one alone: a day from there, or up to there; none: the last day."""

    from_: _When | None = None
    to: _When | None = None


class HourShape(Struct, frozen=True, rename="camel"):
    hour: Time
    messages: int
    authors: Annotated[int, Meta(description="how many people wrote them")]
    joins: int
    pokes: int
    matches: int
    agent_queries: int


class AnalyticsAnswer(Struct, frozen=True):
    """Ascending. An hour is there some minutes after it is over; one in which nothing happened is not."""

    rows: list[HourShape]


async def show(parts: HttpParts, call: Call[Any, AnalyticsQuery]) -> AnalyticsAnswer:
    cafe_id, asked = call.own_cafe(call.ids["cafeId"]), call.query
    return AnalyticsAnswer([_shape(hour) for hour in await parts.analytics.rows(cafe_id, _ms("from", asked.from_), _ms("to", asked.to))])


def _ms(path: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text.upper().replace(" ", "+"))  # a plus in a query is read as a space
    except ValueError:
        when = None
    if when is None or when.tzinfo is None or not 1971 <= when.year <= 9000:
        raise invalid(path, "must be a time like 2026-11-22T10:00:00Z")
    return as_ms(when)


def _shape(hour: Hour) -> HourShape:
    return HourShape(rfc3339(hour.at_ms), hour.messages, hour.authors, hour.joins, hour.pokes, hour.matches, hour.agent_queries)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/cafes/<uuid:cafeId>/analytics",
        handler=show,
        tag="cafes",
        summary="What happened in a café, hour by hour",
        roles=STAFF,
        query=AnalyticsQuery,
        answer=AnalyticsAnswer,
        codes=("not_in_cafe",),
    ),
)
