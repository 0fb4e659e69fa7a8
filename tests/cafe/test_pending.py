"""Drafts: numbered when they depart, in the order they came, and everybody who waits for one is answered."""

from __future__ import annotations

from brewd.cafe import commands as c
from brewd.cafe.pending import Draft, Pending, Waiter
from brewd.store.records import Batch, Redaction
from tests.cafe.rooms import ANN, CAFE, MOD, NOW_MS, message

TIMEOUT_MS = 5000


def draft(id: str, *, key: str | None = None, redaction: bool = False, at_ms: int = NOW_MS, who: c.Who = ANN, waits: bool = True) -> Draft:
    made = Draft(id=id, who=who, content=f"says {id}", client_msg_id=key, redaction=redaction, accepted_ms=at_ms, deadline_ms=at_ms + TIMEOUT_MS)
    if waits:
        made.waiters.append(Waiter(1, id))
    return made


def pending(*drafts: Draft) -> Pending:
    made = Pending()
    for one in drafts:
        made.add(one)
    return made


def leave(pending: Pending, *, first_seq: int = 1, rows_max: int = 1000) -> Batch | None:
    return pending.depart(CAFE, 7, first_seq, rows_max)


def numbers(batch: Batch | None) -> list[tuple[str, int]]:
    assert batch is not None
    return [(entry.message.id, entry.message.seq) for entry in batch.entries]


def due(pending: Pending) -> int | None:
    return pending.earliest_ms


def names(pending: Pending) -> list[str]:
    return [one.id for one in pending]


def test_a_batch_is_numbered_in_the_order_of_acceptance() -> None:
    waiting = pending(draft("a"), draft("b"))
    batch = leave(waiting, first_seq=41)
    assert numbers(batch) == [("a", 41), ("b", 42)]
    assert batch is not None
    assert (batch.cafe_id, batch.generation, batch.first_seq, batch.last_seq, batch.rows) == (CAFE, 7, 41, 42, 2)
    assert batch.entries[0].message.content == "says a"


def test_one_batch_is_out_at_a_time_and_what_came_later_waits() -> None:
    waiting = pending(draft("a"))
    leave(waiting)
    waiting.add(draft("b"))
    assert leave(waiting) is None
    assert len(waiting) == 2
    waiting.confirmed()
    assert numbers(leave(waiting, first_seq=2)) == [("b", 2)]


def test_nothing_departs_when_nothing_waits_or_there_is_no_room() -> None:
    assert leave(pending()) is None
    assert leave(pending(draft("a")), rows_max=0) is None


def test_no_more_departs_than_there_is_room_for() -> None:
    waiting = pending(*(draft(f"d{n}") for n in range(5)))
    assert numbers(leave(waiting, rows_max=3)) == [("d0", 1), ("d1", 2), ("d2", 3)]
    assert names(waiting) == ["d0", "d1", "d2", "d3", "d4"]


def test_deletions_depart_by_themselves_in_their_place() -> None:
    waiting = pending(draft("a"), draft("x", redaction=True), draft("y", redaction=True, who=MOD), draft("b"))
    assert numbers(leave(waiting)) == [("a", 1)]
    waiting.confirmed()
    batch = leave(waiting, first_seq=2)
    assert batch is not None
    assert batch.redactions == (Redaction("x", ANN.user_id, NOW_MS), Redaction("y", None, NOW_MS))
    assert batch.entries == ()
    assert [(one.id, entry) for one, entry in waiting.departed()] == [("x", None), ("y", None)]
    waiting.confirmed()
    assert numbers(leave(waiting, first_seq=2)) == [("b", 2)]


def test_a_batch_taken_back_waits_in_front_in_its_old_order() -> None:
    waiting = pending(draft("a"), draft("b"))
    leave(waiting)
    waiting.add(draft("c"))
    assert waiting.taken_back({}) == ([], [])
    assert numbers(leave(waiting, first_seq=5)) == [("a", 5), ("b", 6), ("c", 7)]


def test_what_was_stored_before_is_not_sent_again() -> None:
    waiting = pending(draft("a", key="k"), draft("b"))
    leave(waiting)
    known = {(ANN.user_id, "k"): message(3)}
    duplicates, dropped = waiting.taken_back(known)
    assert [(one.id, stored.seq) for one, stored in duplicates] == [("a", 3)]
    assert (dropped, names(waiting)) == ([], ["b"])
    assert waiting.resent((ANN.user_id, "k")) is None


def test_what_nobody_waits_for_is_dropped_when_it_is_taken_back() -> None:
    waiting = pending(draft("a", key="k"), draft("b"))
    leave(waiting)
    late, given_up = waiting.expire(NOW_MS + TIMEOUT_MS)
    assert ([w.ref for w in late], given_up) == (["a", "b"], [])
    again = waiting.resent((ANN.user_id, "k"))
    assert again is not None
    again.waiters.append(Waiter(2, "again"))
    duplicates, dropped = waiting.taken_back({})
    assert (duplicates, [one.id for one in dropped]) == ([], ["b"])
    assert names(waiting) == ["a"]


def test_those_who_wait_too_long_are_told_and_what_has_not_departed_is_given_up() -> None:
    waiting = pending(draft("a"), draft("b", at_ms=NOW_MS + 1000))
    assert due(waiting) == NOW_MS + TIMEOUT_MS
    late, given_up = waiting.expire(NOW_MS + TIMEOUT_MS)
    assert ([w.ref for w in late], [one.id for one in given_up], names(waiting)) == (["a"], ["a"], ["b"])
    assert due(waiting) == NOW_MS + 1000 + TIMEOUT_MS
    late, given_up = waiting.expire(NOW_MS + 1000 + TIMEOUT_MS)
    assert ([w.ref for w in late], [one.id for one in given_up], due(waiting)) == (["b"], ["b"], None)


def test_a_deadline_survives_being_taken_back() -> None:
    waiting = pending(draft("a"))
    leave(waiting)
    waiting.taken_back({})
    assert due(waiting) == NOW_MS + TIMEOUT_MS
    leave(waiting)
    assert [w.ref for w in waiting.expire(NOW_MS + TIMEOUT_MS)[0]] == ["a"]


def test_there_is_no_deadline_when_everything_is_stored() -> None:
    waiting = pending(draft("a"))
    leave(waiting)
    waiting.confirmed()
    assert (due(waiting), len(waiting)) == (None, 0)


def test_a_draft_is_found_by_its_name_until_it_is_stored() -> None:
    waiting = pending(draft("a", key="k"))
    assert waiting.resent((ANN.user_id, "k")) is not None
    leave(waiting)
    assert waiting.resent((ANN.user_id, "k")) is not None
    waiting.confirmed()
    assert waiting.resent((ANN.user_id, "k")) is None
