"""The room over HTTP: pages of history from Postgres, everything else asked of the room."""

from __future__ import annotations

from typing import Any

import pytest

from brewd.cafe.commands import Delete, PresenceQuery, TopicsQuery, Who
from brewd.cafe.events import DeleteAnswer, PresenceAnswer, TopicsAnswer, TopicView, UserView
from brewd.errors import Rejected
from brewd.store.messages import Messages
from brewd.store.records import Batch, Entry, Message, Redaction
from tests.edge.http.site import Site, is_problem


async def fill(site: Site, cafe_id: str, count: int) -> None:
    """Messages 1…count, as the journal would write them."""
    store = Messages(lane=site.world.pg, pool=site.world.pg, timeout_s=5)
    line = await store.open_line(cafe_id)
    assert line is not None
    ids, now_ms = site.world.ids, site.world.clock.now_ms()
    entries = tuple(
        Entry(Message(ids.uuid7(), cafe_id, seq, ids.uuid7(), "MellowOtter4821", None, f"message {seq}", ""), None, now_ms) for seq in range(1, count + 1)
    )
    await store.commit([Batch(cafe_id, line.generation, 1, entries)])


@pytest.mark.parametrize(
    ("query", "expected", "has_more"),
    [
        ("", list(range(11, 61)), True),
        ("limit=3", [58, 59, 60], True),
        ("limit=60", list(range(1, 61)), False),
        ("limit=100", list(range(1, 61)), False),
        ("before=4", [1, 2, 3], False),
        ("before=5&limit=3", [2, 3, 4], True),
        ("before=1", [], False),
        ("since=57", [58, 59, 60], False),
        ("since=0&limit=2", [1, 2], True),
        ("since=60", [], False),
        ("since=10&before=14", [11, 12, 13], False),
        ("since=10&before=14&limit=2", [11, 12], True),
    ],
)
async def test_pages_of_messages(site: Site, query: str, expected: list[int], has_more: bool) -> None:
    cafe = await site.world.cafe()
    await fill(site, cafe.id, 60)
    joined = (await site.world.users.add_many(cafe.id, 1))[0]
    answer = await site.get(f"/api/chat/messages/{cafe.id}?{query}", token=joined.access_token)
    assert answer.status == 200
    assert [message["seq"] for message in answer.json["messages"]] == expected
    assert answer.json["hasMore"] is has_more
    assert answer.json["epoch"] == await site.world.cafes.epoch(cafe.id)
    for message in answer.json["messages"][:1]:
        assert message.keys() == {"id", "cafeId", "seq", "userId", "username", "badge", "content", "createdAt", "deleted"}


async def test_what_was_deleted_shows_no_content(site: Site) -> None:
    cafe = await site.world.cafe()
    await fill(site, cafe.id, 2)
    message_id = (await Messages(lane=site.world.pg, pool=site.world.pg, timeout_s=5).recent(cafe.id, 1)).messages[0].id
    store = Messages(lane=site.world.pg, pool=site.world.pg, timeout_s=5)
    line = await store.open_line(cafe.id)
    assert line is not None
    await store.commit([Batch(cafe.id, line.generation, 3, (), (Redaction(message_id, None, site.world.clock.now_ms()),))])
    token = await site.barista(cafe)
    messages = (await site.get(f"/api/chat/messages/{cafe.id}", token=token)).json["messages"]
    assert [(message["content"], message["deleted"]) for message in messages] == [("message 1", False), ("", True)]


@pytest.mark.parametrize("what", ["messages", "presence", "topics"])
async def test_nothing_of_one_cafe_is_readable_from_another(site: Site, what: str) -> None:
    cafe, other = await site.world.cafe(), await site.world.cafe(name="Other")
    stranger = (await site.world.users.add_many(other.id, 1))[0]
    for token in (stranger.access_token, await site.barista(other, "moderator")):
        assert is_problem(await site.get(f"/api/chat/{what}/{cafe.id}", token=token), 403, "not_in_cafe")
    assert is_problem(await site.get(f"/api/chat/{what}/{cafe.id}"), 401, "unauthorized")
    assert site.room.asked == []


async def test_presence_and_topics_are_asked_of_the_room(site: Site) -> None:
    cafe = await site.world.cafe()
    joined = (await site.world.users.add_many(cafe.id, 1))[0]
    site.room.answer = PresenceAnswer(cafe.id, 1, [UserView(joined.id, joined.username, "online", None, "2026-11-22T10:00:00.000Z")])
    presence = await site.get(f"/api/chat/presence/{cafe.id}", token=joined.access_token)
    user = {"id": joined.id, "username": joined.username, "status": "online", "badge": None, "lastSeen": "2026-11-22T10:00:00.000Z"}
    assert presence.json == {"cafeId": cafe.id, "userCount": 1, "users": [user]}
    site.room.answer = TopicsAnswer(cafe.id, [TopicView("espresso", 2.5)])
    topics = await site.get(f"/api/chat/topics/{cafe.id}?limit=50", token=joined.access_token)
    assert topics.json == {"cafeId": cafe.id, "topics": [{"topic": "espresso", "score": 2.5}]}
    assert site.room.asked == [(cafe.id, PresenceQuery()), (cafe.id, TopicsQuery(50))]


async def test_a_deletion_is_asked_of_the_callers_own_room(site: Site) -> None:
    cafe = await site.world.cafe()
    joined = (await site.world.users.add_many(cafe.id, 1))[0]
    message_id = site.world.ids.uuid7()
    gone = Message(message_id, cafe.id, 7, joined.id, joined.username, None, "", "2026-11-22T10:00:00.000Z", deleted=True)
    site.room.answer = DeleteAnswer(gone)
    answer = await site.call("DELETE", f"/api/chat/messages/{message_id}", token=joined.access_token)
    assert (answer.status, answer.json["message"]["deleted"]) == (200, True)
    await site.call("DELETE", f"/api/chat/messages/{message_id}", token=await site.barista(cafe, "moderator"))
    asked: list[Any] = [command for _, command in site.room.asked]
    assert asked[0] == Delete(Who(joined.id, joined.username), message_id)
    assert (asked[1].who.staff, asked[1].who.moderator) == (True, True)


async def test_what_the_room_refuses_is_refused(site: Site) -> None:
    cafe = await site.world.cafe()
    joined = (await site.world.users.add_many(cafe.id, 1))[0]
    site.room.answer = Rejected("forbidden", "Only its author or a moderator can delete a message.")
    answer = await site.call("DELETE", f"/api/chat/messages/{site.world.ids.uuid7()}", token=joined.access_token)
    assert is_problem(answer, 403, "forbidden")
