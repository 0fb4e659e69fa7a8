"""Which questions can be resumed."""

from __future__ import annotations

from brewd.agent.answers import Answer, Asked
from brewd.agent.kept import KEPT_MAX, KEPT_USER_MAX, Kept
from brewd.runtime.clock import Clock


async def test_of_too_many_the_first_are_forgotten_first(clock: Clock) -> None:
    over: set[str] = set()
    kept = Kept(lambda asked: asked.query_id in over)

    def add(query_id: str, user_id: str) -> None:
        kept.add(Asked(query_id=query_id, query="", cafe_id="c", user_id=user_id, answer=Answer(clock)))

    def of(user_id: str) -> list[str]:
        return [asked.query_id for asked in kept.of([user_id])]

    for number in range(KEPT_USER_MAX + 2):
        add(f"ann{number}", "ann")
    assert of("ann") == [f"ann{number}" for number in range(2, KEPT_USER_MAX + 2)]
    assert kept.get("ann1") is None
    assert kept.get("ann2") is not None
    over.update({"ann2", "ann3", "ann5"})
    assert kept.get("ann2") is None
    add("bob0", "bob")
    assert of("ann")[:2] == ["ann4", "ann5"]  # what is over goes from the front
    kept.pop("bob0")
    kept.pop("bob0")
    assert kept.of(["bob", "nobody"]) == []
    for number in range(KEPT_MAX):
        add(f"many{number}", f"user{number}")
    assert len(kept) == KEPT_MAX
    assert of("ann") == []
    over.update(f"many{number}" for number in range(KEPT_MAX))
    over.add("last")
    add("last", "bob")
    assert len(kept) == 0
