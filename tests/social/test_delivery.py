"""Late delivery: each at its moment, bounded, and not at all when it is out of date."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.cafe.events import Event, PokeReceived
from brewd.runtime.clock import Clock
from brewd.social.delivery import Delivery


async def test_each_is_told_at_its_moment(clock: Clock, mock_clock: MockClock, nursery: trio.Nursery) -> None:
    told: list[str] = []

    def notify(cafe_id: str, user_id: str, event: Event) -> None:
        told.append(user_id)

    delivery, now_ms = Delivery(clock=clock, notify=notify, waiting_max=4), clock.now_ms()
    delivery.later("early", now_ms + 100, "c", "before it runs", PokeReceived("p", "x"))
    nursery.start_soon(delivery.run)
    await wait_all_tasks_blocked()
    for id, after_ms in (("late", 900), ("soon", 500), ("dropped", 600), ("one too many", 10)):
        delivery.later(id, now_ms + after_ms, "c", id, PokeReceived("p", "x"))
    delivery.drop("dropped")
    delivery.drop("unknown")
    assert len(delivery) == 3
    for seconds, expected in ((0.099, []), (0.001, ["before it runs"]), (0.4, ["soon"]), (0.399, []), (0.001, ["late"])):
        told.clear()
        mock_clock.jump(seconds)
        await wait_all_tasks_blocked()
        assert told == expected
    assert len(delivery) == 0
    delivery.later("again", clock.now_ms(), "c", "at once", PokeReceived("p", "x"))
    await wait_all_tasks_blocked()
    assert told[-1] == "at once"
    nursery.cancel_scope.cancel()
