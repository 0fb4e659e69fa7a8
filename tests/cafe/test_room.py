"""Coming into a room, leaving it, and coming back to it with nothing missed."""

from __future__ import annotations

import pytest

from brewd.cafe import commands as c
from brewd.cafe.company import RESUME_CHARS_MAX
from brewd.cafe.effects import Attach, Broadcast, Detach, Reply, Seen
from brewd.cafe.history import HELD_MAX
from brewd.cafe.room import Rules, next_deadline_ms
from tests.cafe.rooms import (
    ANN,
    BOB,
    CAFE,
    CID,
    EPOCH,
    JOINS,
    MOD,
    NOW_MS,
    answer,
    commit,
    message,
    messages,
    only,
    play,
    refusal,
    room,
    send,
    typing,
    updates,
)

# Entering and leaving


def test_a_join_is_told_to_the_others_and_answered_with_everything_there_is() -> None:
    cafe = room(messages(1, 3))
    play(cafe, c.Join(1, ANN))
    effects = play(cafe, c.Join(2, BOB, "r"))
    assert updates(effects) == [("join", "bob", 2)]
    assert [type(effect) for effect in effects] == [Broadcast, Attach, Reply, Seen]
    joined = answer(effects, 2)
    assert (joined.cafe_id, joined.epoch, joined.seq, joined.user_count, joined.recovered) == (CAFE, EPOCH, 3, 2, False)
    assert [user.username for user in joined.users] == ["ann", "bob"]
    assert joined.messages == messages(1, 3)


def test_the_first_look_shows_the_latest_messages_only() -> None:
    cafe = room(messages(1, 80), rules=Rules(history=50))
    assert [m.seq for m in answer(play(cafe, c.Join(1, ANN, "r")), 1).messages] == list(range(31, 81))


def test_a_second_device_comes_and_goes_in_silence() -> None:
    cafe = room()
    play(cafe, c.Join(1, ANN))
    assert updates(play(cafe, c.Join(2, ANN))) == []
    assert updates(play(cafe, c.Leave(1))) == []
    assert updates(play(cafe, c.Leave(2))) == [("leave", "ann", 0)]


def test_one_who_leaves_is_deaf_before_the_others_are_told() -> None:
    cafe = room()
    effects = play(cafe, *JOINS, c.Leave(1, "r"))
    assert [type(effect) for effect in effects] == [Detach, Broadcast, Reply]
    assert answer(effects, 1) == {}
    assert updates(effects) == [("leave", "ann", 1)]


def test_a_leave_is_answered_even_when_there_is_nothing_to_leave() -> None:
    assert answer(play(room(), c.Leave(9, "r")), 9) == {}


def test_one_who_is_lost_stays_for_the_grace_time() -> None:
    cafe = room()
    play(cafe, *JOINS)
    assert play(cafe, c.Drop(1)) == [Detach(1)]
    assert next_deadline_ms(cafe) == NOW_MS + 30_000
    assert play(cafe, c.Tick(), at_ms=NOW_MS + 29_999) == []
    assert updates(play(cafe, c.Tick(), at_ms=NOW_MS + 30_000)) == [("leave", "ann", 1)]


def test_two_who_were_lost_together_are_counted_one_after_the_other() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Join(3, CID), c.Drop(1), c.Drop(2))
    assert updates(play(cafe, c.Tick(), at_ms=NOW_MS + 30_000)) == [("leave", "ann", 2), ("leave", "bob", 1)]


def test_a_return_in_time_is_silent() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Drop(1))
    assert updates(play(cafe, c.Join(3, ANN, "r"), at_ms=NOW_MS + 29_000)) == []
    assert play(cafe, c.Tick(), at_ms=NOW_MS + 60_000) == []
    assert len(cafe.presence) == 2


def test_one_whose_time_is_over_is_gone_at_once_from_every_device() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Join(3, ANN), c.Typing(1, on=True))
    effects = play(cafe, c.Remove(ANN.user_id))
    assert {effect.to for effect in only(effects, Detach)} == {1, 3}
    assert updates(effects) == [("leave", "ann", 1)]
    assert typing(effects) == [("ann", False)]
    assert play(cafe, c.Remove(ANN.user_id)) == []


def test_staff_watch_without_being_there_and_do_not_speak() -> None:
    cafe = room()
    play(cafe, c.Join(1, ANN))
    effects = play(cafe, c.Join(9, MOD, "r"))
    assert updates(effects) == []
    assert answer(effects, 9).user_count == 1
    assert refusal(play(cafe, send(9, MOD)), 9) == "forbidden"
    assert not cafe.idle
    assert updates(play(cafe, c.Leave(9, "r"))) == []
    play(cafe, c.Drop(1))
    assert play(cafe, c.Typing(9, on=True)) == []


def test_a_room_is_idle_when_nobody_is_there_or_waits() -> None:
    cafe = room()
    idle = [cafe.idle]
    play(cafe, c.Join(1, ANN), send(1, ANN), c.Leave(1))
    idle.append(cafe.idle)
    commit(cafe)
    idle.append(cafe.idle)
    play(cafe, c.Join(9, MOD))
    idle.append(cafe.idle)
    play(cafe, c.Drop(9))
    assert [*idle, cafe.idle] == [True, False, True, False, True]


# Resuming


@pytest.mark.parametrize(("since", "missed"), [(3, []), (1, [2, 3]), (0, [1, 2, 3])])
def test_a_resume_tells_everything_that_was_missed(since: int, missed: list[int]) -> None:
    joined = answer(play(room(messages(1, 3)), c.Join(1, ANN, "r", since, EPOCH)), 1)
    assert joined.recovered
    assert [m.seq for m in joined.messages] == missed


@pytest.mark.parametrize(("since", "epoch"), [(4, EPOCH), (1, "another line")])
def test_a_resume_that_cannot_be_complete_says_so(since: int, epoch: str) -> None:
    joined = answer(play(room(messages(1, 3)), c.Join(1, ANN, "r", since, epoch)), 1)
    assert not joined.recovered
    assert [m.seq for m in joined.messages] == [1, 2, 3]


def test_a_resume_from_before_what_is_held_needs_the_earlier_messages() -> None:
    stored = messages(1, HELD_MAX + 10)
    cafe = room(stored)
    assert not answer(play(cafe, c.Join(1, ANN, "r", 5)), 1).recovered
    earlier = tuple(stored[5:40])
    joined = answer(play(cafe, c.Join(1, ANN, "r", 5, None, earlier)), 1)
    assert joined.recovered
    assert joined.messages == stored[5:]


@pytest.mark.parametrize("earlier", [(7, 8, 9), (6, 8), (), (6, 7)], ids=str)
def test_earlier_messages_with_a_gap_are_no_recovery(earlier: tuple[int, ...]) -> None:
    cafe = room(messages(1, HELD_MAX + 10))
    assert not answer(play(cafe, c.Join(1, ANN, "r", 5, None, tuple(message(seq) for seq in earlier))), 1).recovered


def test_what_was_read_earlier_is_never_newer_than_what_the_room_has_told() -> None:
    cafe = room(messages(1, 3))
    joined = answer(play(cafe, c.Join(1, ANN, "r", 1, None, (message(2), message(3), message(4)))), 1)
    assert [m.seq for m in joined.messages] == [2, 3]


def test_what_was_deleted_after_it_was_read_stays_deleted() -> None:
    cafe = room(messages(1, 3))
    cafe.history.redact(message(2, deleted=True))
    joined = answer(play(cafe, c.Join(1, ANN, "r", 1, None, (message(2), message(3)))), 1)
    assert [(m.seq, m.content) for m in joined.messages] == [(2, ""), (3, "said before")]


def test_a_resume_names_what_was_deleted_among_what_the_client_has() -> None:
    cafe = room([message(1), message(2, deleted=True), message(3)])
    assert answer(play(cafe, c.Join(1, ANN, "r", 2)), 1).deleted == ["m2"]
    assert answer(play(cafe, c.Join(1, ANN, "r", 1)), 1).deleted == []
    assert answer(play(cafe, c.Join(1, ANN, "r")), 1).deleted == []


def test_a_resume_that_would_say_too_much_is_answered_with_the_latest() -> None:
    long = "x" * (RESUME_CHARS_MAX // 100)
    cafe = room([message(seq, content=long) for seq in range(1, 105)])
    assert answer(play(cafe, c.Join(1, ANN, "r", 4)), 1).recovered
    assert not answer(play(cafe, c.Join(1, ANN, "r", 3)), 1).recovered


def test_after_a_restart_the_others_notice_nothing() -> None:
    cafe = room(messages(1, 3))
    assert play(cafe, c.Rejoin(1, ANN, "away")) == []
    assert play(cafe, c.Rejoin(9, MOD)) == []
    assert [(view.username, view.status) for view in cafe.presence.views()] == [("ann", "away")]
    assert cafe.presence.watchers == {9}
