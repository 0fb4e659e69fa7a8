"""Who is there: one presence for all the devices of a user, and thirty seconds for the lost to come back."""

from __future__ import annotations

from brewd.cafe import commands as c
from brewd.cafe.presence import VIEWS_MAX, Presence
from brewd.runtime.clock import rfc3339
from tests.cafe.rooms import ANN, BOB, CID, MOD, NOW_MS

GRACE_MS = 30_000


def presence() -> Presence:
    return Presence(GRACE_MS)


def test_several_devices_of_one_user_are_one_presence() -> None:
    here = presence()
    assert here.enter(1, ANN, NOW_MS) is not None
    assert here.enter(2, ANN, NOW_MS) is None
    assert (len(here), len(here.devices)) == (1, 2)
    assert here.leave(1) is None
    gone = here.leave(2)
    assert gone is not None
    assert gone.who == ANN
    assert (len(here), len(here.devices)) == (0, 0)


def test_the_same_device_may_enter_twice_and_leaves_once() -> None:
    here = presence()
    here.enter(1, ANN, NOW_MS)
    assert here.enter(1, ANN, NOW_MS) is None
    assert here.leave(1) is not None


def test_staff_watch_and_are_not_counted() -> None:
    here = presence()
    assert here.enter(7, MOD, NOW_MS) is None
    assert (len(here), here.watchers, here.views()) == (0, {7}, [])
    assert here.leave(7) is None
    here.enter(8, MOD, NOW_MS)
    here.drop(8, NOW_MS)
    assert here.watchers == set()


def test_the_last_device_lost_starts_the_grace_time_and_the_end_of_it_is_the_end() -> None:
    here = presence()
    here.enter(1, ANN, NOW_MS)
    here.enter(2, ANN, NOW_MS)
    here.drop(1, NOW_MS + 10)
    assert here.next_expiry_ms() is None
    here.drop(2, NOW_MS + 20)
    assert here.next_expiry_ms() == NOW_MS + 20 + GRACE_MS
    assert list(here.expire(NOW_MS + 19 + GRACE_MS)) == []
    assert len(here) == 1
    assert [member.who for member in here.expire(NOW_MS + 20 + GRACE_MS)] == [ANN]
    assert (len(here), here.next_expiry_ms()) == (0, None)


def test_a_return_within_the_grace_time_is_silent_and_the_next_loss_has_the_whole_of_it_again() -> None:
    here = presence()
    here.enter(1, ANN, NOW_MS)
    here.drop(1, NOW_MS)
    assert here.enter(2, ANN, NOW_MS + 29_000) is None
    assert here.next_expiry_ms() is None
    here.drop(2, NOW_MS + 40_000)
    assert here.next_expiry_ms() == NOW_MS + 40_000 + GRACE_MS


def test_the_lost_go_in_the_order_in_which_they_were_lost() -> None:
    here = presence()
    for to, who in ((1, ANN), (2, BOB), (3, CID)):
        here.enter(to, who, NOW_MS)
    here.drop(2, NOW_MS + 1)
    here.drop(3, NOW_MS + 2)
    here.drop(1, NOW_MS + 3)
    here.enter(4, BOB, NOW_MS + 4)
    assert [member.who for member in here.expire(NOW_MS + GRACE_MS + 2)] == [CID]
    assert here.next_expiry_ms() == NOW_MS + GRACE_MS + 3


def test_a_removed_user_is_gone_at_once_with_every_device_and_without_grace() -> None:
    here = presence()
    here.enter(1, ANN, NOW_MS)
    here.enter(2, ANN, NOW_MS)
    gone = here.remove(ANN.user_id)
    assert gone is not None
    assert gone.devices == {1, 2}
    assert (len(here), here.devices) == (0, {})
    here.enter(3, BOB, NOW_MS)
    here.drop(3, NOW_MS)
    here.remove(BOB.user_id)
    assert here.next_expiry_ms() is None
    assert here.remove(BOB.user_id) is None


def test_strangers_change_nothing() -> None:
    here = presence()
    assert here.leave(99) is None
    here.drop(99, NOW_MS)
    assert (len(here), here.next_expiry_ms()) == (0, None)


def test_a_status_shows_and_says_whether_it_is_new() -> None:
    here = presence()
    ann = here.enter(1, ANN, NOW_MS)
    assert ann is not None
    assert not ann.set_status("online")
    assert ann.set_status("away")
    assert [(view.username, view.status) for view in here.views()] == [("ann", "away")]


def test_one_answer_lists_a_bounded_number_of_users() -> None:
    here = presence()
    for n in range(VIEWS_MAX + 10):
        here.enter(n, c.Who(f"user-{n}", f"guest{n}"), NOW_MS)
    assert len(here.views()) == VIEWS_MAX
    assert len(here) == VIEWS_MAX + 10


def test_when_a_user_was_last_seen_now_or_when_the_last_device_was_lost() -> None:
    here = presence()
    here.enter(1, ANN, NOW_MS)
    here.enter(2, BOB, NOW_MS)
    here.drop(2, NOW_MS + 1000)
    assert [(view.username, view.last_seen) for view in here.seen_views(NOW_MS + 5000)] == [("ann", rfc3339(NOW_MS + 5000)), ("bob", rfc3339(NOW_MS + 1000))]
    assert [view.badge for view in here.views()] == [None, "regular"]
