"""Asking on `/ws/agent`: a query is sent, and what comes of it is heard to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from msgspec.structs import replace

from brewd import config as cfg
from brewd.config import Config
from tests.agent.upstream import ANSWER, Script, Upstream
from tests.edge.ws.house import House, Person
from tests.edge.ws.wire import Wire
from tests.patience import PATIENCE

SAID = "".join(ANSWER)
HELD = Script(held=True)
NO_QUERY = "01890000-0000-7000-8000-000000000000"
STOPPED_S = 1.0 * PATIENCE
"""Within this a call that nobody listens to is stopped."""

CUT_S = 2.5
"""Sooner than a socket that does not answer a goodbye is cut."""


def unlimited(config: Config, upstream: Upstream, tmp_path: Path) -> Config:
    """No limit on how often anybody asks, and a key that the upstream takes."""
    key = tmp_path / "key"
    key.write_text("sk-test\n")
    free = cfg.Bucket(per_hour=1_000_000, burst=1_000_000, gap_s=0)
    asking = cfg.PerSession(per_session=1000, gap_s=0)
    return replace(
        config,
        agent=replace(config.agent, base_url=upstream.url, api_key_file=str(key), retries=0, in_flight_max=40, in_flight_cafe_max=40),
        limits=replace(config.limits, profiles={"standard": cfg.Profile(message=free, badge_message=free, agent=asking, badge_agent=asking)}),
    )


async def connect(house: House, person: Person) -> Wire:
    wire = await house.open("/ws/agent", authorization=f"Bearer {person.token}")
    await wire.heard("connected")
    return wire


async def ask(wire: Wire, person: Person, query: str = "What do people love here?", **more: Any) -> str:
    """The id of a query that was taken."""
    answer = await wire.ask("query:stream", {"cafeId": person.cafe_id, "query": query, **more})
    assert answer.keys() == {"queryId"}
    return str(answer["queryId"])


async def heard_to_the_end(wire: Wire, query_id: str) -> tuple[list[Any], dict[str, Any]]:
    """The chunks of a query, and its last event."""
    chunks: list[Any] = []
    while True:
        one = await wire._first(lambda one: one["event"].startswith("query:") and one["data"].get("queryId") == query_id)
        if one["event"] == "query:chunk":
            chunks.append(one["data"])
        elif one["event"] != "query:start":
            return chunks, one


async def completed(wire: Wire, query_id: str, *, index: int = 0) -> str:
    """The text of a query that ends well, its chunks from `index` on without a gap."""
    chunks, end = await heard_to_the_end(wire, query_id)
    assert end["event"] == "query:complete", end
    assert [one["index"] for one in chunks] == list(range(index, index + len(chunks)))
    text = "".join(one["text"] for one in chunks)
    assert str(end["data"]["fullResponse"]).endswith(text)
    return text


async def failed(wire: Wire, query_id: str) -> tuple[str, Any]:
    """What came of a query that ends badly: its text, and the error."""
    chunks, end = await heard_to_the_end(wire, query_id)
    assert end["event"] == "query:error", end
    return "".join(one["text"] for one in chunks), end["data"]


async def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    with trio.fail_after(within_s):
        while not true():
            await trio.sleep(0.005)
