"""The newest messages of a room: held within bounds, found by number and by id, and by what the client called them."""

from __future__ import annotations

import pytest

from brewd.cafe.history import HELD_MAX, KEYS_MAX, REDACTED_MAX, History
from brewd.store.records import Key
from tests.cafe.rooms import ANN, message, messages


def seqs(history: History, after: int) -> list[int] | None:
    found = history.after(after)
    return None if found is None else [m.seq for m in found]


def test_an_empty_room_holds_nothing_and_knows_where_it_stands() -> None:
    history = History(41)
    assert (history.first, history.last, history.tail(50)) == (42, 41, [])
    assert seqs(history, 41) == []
    assert seqs(history, 40) is None
    assert seqs(history, 42) is None


def test_messages_follow_each_other_without_a_gap() -> None:
    history = History(0)
    history.append(message(1), None)
    history.append(message(2), None)
    for seq in (2, 4):
        with pytest.raises(AssertionError):
            history.append(message(seq), None)
    assert [m.seq for m in history.tail(50)] == [1, 2]


def test_everything_after_a_number_or_nothing_when_that_would_leave_a_gap() -> None:
    history = History(20, messages(11, 20))
    assert seqs(history, 18) == [19, 20]
    assert seqs(history, 20) == []
    assert seqs(history, 10) == list(range(11, 21))
    assert seqs(history, 9) is None
    assert seqs(history, 21) is None


def test_the_tail_is_as_long_as_asked_for() -> None:
    history = History(20, messages(11, 20))
    assert [m.seq for m in history.tail(3)] == [18, 19, 20]
    assert history.tail(0) == []
    assert len(history.tail(1000)) == 10


def test_it_holds_at_most_twice_the_bound_and_at_least_the_bound() -> None:
    history = History(0)
    for seq in range(1, 5 * HELD_MAX):
        history.append(message(seq), None)
        held = history.last + 1 - history.first
        assert min(seq, HELD_MAX) <= held <= 2 * HELD_MAX
        assert history.get(f"m{history.first}") == message(history.first)
        assert history.get(f"m{history.first - 1}") is None


def test_a_message_is_found_by_its_id_and_forgets_what_it_said() -> None:
    history = History(20, messages(11, 20))
    redacted = message(15, deleted=True)
    history.redact(redacted)
    assert history.get("m15") == redacted
    assert history.get("m99") is None
    assert history.redactions == 1
    history.redact(message(5, deleted=True))
    assert history.redactions == 1
    assert history.deleted_upto(14) == []
    assert history.deleted_upto(15) == ["m15"]
    assert history.deleted_upto(3) == []


def test_what_was_deleted_lately_is_known_though_it_is_not_held() -> None:
    history = History(20, messages(11, 20))
    for seq in (5, 20):
        history.redact(message(seq, deleted=True))
    for seq in range(21, 4 * HELD_MAX):
        history.append(message(seq), None)
    assert history.first > 20
    assert [history.get(f"m{seq}") for seq in (5, 20, 6)] == [message(5, deleted=True), message(20, deleted=True), None]
    assert seqs(history, history.last) == []
    for n in range(REDACTED_MAX):
        history.redact(message(n, deleted=True, id=f"other {n}"))
    assert history.get("m5") is None


def test_what_clients_called_their_messages_is_remembered_within_a_bound() -> None:
    history = History(0)
    keys: list[Key] = [(ANN.user_id, f"k{n}") for n in range(KEYS_MAX + 5)]
    for seq, key in enumerate(keys, 1):
        history.append(message(seq), key)
    assert history.sent_as(keys[-1]) == message(len(keys))
    assert history.sent_as(keys[5]) == message(6)
    assert history.sent_as(keys[4]) is None


def test_older_names_can_be_learnt_again_and_again_within_the_same_bound() -> None:
    history = History(0, keys={(ANN.user_id, f"k{n}"): message(n) for n in range(KEYS_MAX)})
    for n in range(10):
        history.learn({(ANN.user_id, f"old{n}"): message(n)})
        assert history.sent_as((ANN.user_id, f"old{n}")) == message(n)
    assert len(history._keys) == KEYS_MAX


def test_rows_that_are_gone_for_good_leave_no_gap_in_what_is_held() -> None:
    history = History(20, [*messages(5, 10), *messages(14, 20)])
    assert history.first == 14
    assert history.get("m16") == message(16)
    assert history.get("m7") is None
    assert History(20, messages(5, 10)).first == 21
