"""People who are gone, as a room forgets them, and messages that are too old."""

from __future__ import annotations

from brewd.cafe import commands as c
from brewd.cafe.forgetting import NOBODY
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.room import Room, confirmed, depart
from brewd.cafe.spam import SpamRules
from brewd.cafe.standing import Standing
from brewd.config import Bucket, Profile
from brewd.runtime.clock import rfc3339
from tests.cafe.rooms import ANN, BOB, CID, JOINS, NOW_MS, answer, commit, message, messages, play, room, send, typing, updates

FORGET = c.Forget(((ANN.user_id, "alias-1"), ("user-who-was-never-here", "alias-2")), -1)
FREE = Terms(limits_of(Profile(message=Bucket(per_hour=60, burst=60, gap_s=0))), SpamRules())


def hall(terms: Terms = FREE) -> Room:
    cafe = room([message(1, ANN), message(2, BOB), message(3, ANN, deleted=True)], standing=Standing(terms))
    play(cafe, *JOINS)
    return cafe


def knows(cafe: Room, user_id: str) -> bool:
    """Whether the user is anywhere in the room's memory."""
    held = [cafe.history._messages, cafe.history._redacted, cafe.history._keys, cafe.presence.members, cafe.typing, cafe.signs._held, cafe.mutes._by_user]
    held += [cafe.mutes.changed, [draft.who for draft in cafe.pending], cafe.pending._by_key]
    if cafe.buckets is not None:
        held += [cafe.buckets.messages, cafe.buckets.rare, cafe.buckets.changed, cafe.buckets.changed_rare]
    if cafe.spam is not None:
        held += [cafe.spam.latest, cafe.spam._newer, cafe.spam._older, cafe.spam._warnings, cafe.spam._blocks]
    return user_id in repr(held)


def test_what_they_said_is_nobodys_and_the_rest_of_them_is_gone() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, "one cup please", name="n-1"), c.Typing(1, on=True))
    commit(cafe)
    play(cafe, c.Take("poke", ANN, "s-1"), c.Take("agent", ANN, "s-1"), c.Mute(ANN.user_id, NOW_MS + 1000, "loud"))
    assert knows(cafe, ANN.user_id)
    redactions = cafe.history.redactions
    effects = play(cafe, FORGET)
    assert answer(effects, -1).out == 0
    assert not knows(cafe, ANN.user_id)
    assert [(m.user_id, m.username, m.badge) for m in cafe.history.tail(9) if m.user_id != BOB.user_id] == [("alias-1", NOBODY, None)] * 3
    assert [m.content for m in cafe.history.tail(9)] == ["said before", "said before", "", "one cup please"]
    assert cafe.history.redactions > redactions  # the mirror shows it anew


def test_to_the_others_it_is_a_farewell() -> None:
    cafe = hall()
    play(cafe, c.Typing(1, on=True))
    effects = play(cafe, FORGET)
    assert (updates(effects), typing(effects)) == ([("leave", "ann", 1)], [("ann", False)])
    assert updates(play(cafe, FORGET)) == []
    assert [view.username for view in cafe.presence.views()] == ["bob"]


def test_the_others_keep_what_is_theirs() -> None:
    cafe = hall()
    play(cafe, send(2, BOB, "two cups please", name="n-1"))
    commit(cafe)
    play(cafe, c.Mute(CID.user_id, NOW_MS + 1000, "loud"))
    before = cafe.buckets.messages[BOB.user_id] if cafe.buckets else None
    play(cafe, FORGET)
    assert cafe.buckets is not None
    assert (cafe.buckets.messages[BOB.user_id], CID.user_id in cafe.mutes) == (before, True)
    assert cafe.history.sent_as((BOB.user_id, "n-1")) is not None


def test_what_waits_is_stored_as_nobodys() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, "one cup please", name="n-1"))
    assert answer(play(cafe, FORGET), -1).out == 0
    batch = depart(cafe, 10)
    assert batch is not None
    (entry,) = batch.entries
    assert (entry.message.user_id, entry.message.username, entry.client_msg_id) == ("alias-1", NOBODY, None)
    confirmed(cafe, cafe.generation, {}, NOW_MS)
    assert not knows(cafe, ANN.user_id)


def test_what_is_out_is_said_to_be_and_is_nobodys_when_asked_again() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, "one cup please", name="n-1"))
    assert depart(cafe, 10) is not None
    assert answer(play(cafe, FORGET), -1).out == 1
    confirmed(cafe, cafe.generation, {}, NOW_MS)
    assert knows(cafe, ANN.user_id)
    assert answer(play(cafe, FORGET), -1).out == 0
    assert not knows(cafe, ANN.user_id)


def test_it_costs_the_next_speaker_nothing_and_a_copy_is_still_one() -> None:
    """Raids are made of authors: that one of them is gone changes nothing about the rest."""
    cafe = hall()
    for to, who in ((1, ANN), (2, BOB)):
        play(cafe, send(to, who, "buy these golden coins at the corner now"))
        commit(cafe)
    play(cafe, FORGET, c.Join(3, CID))
    (refused,) = [effect for effect in play(cafe, send(3, CID, "buy these golden coins at the corner now")) if getattr(effect, "code", "") == "spam_blocked"]
    assert refused.extras["rule"] == "raid"  # type: ignore[union-attr]


def test_old_messages_are_let_go_and_the_numbers_stay() -> None:
    old = [message(seq) for seq in (1, 2, 3)]
    cafe = room(old)
    play(cafe, *JOINS)
    play(cafe, send(1, ANN, "later", name="n-4"), at_ms=NOW_MS + 60_000)
    commit(cafe, at_ms=NOW_MS + 60_000)
    play(cafe, c.Discard(rfc3339(NOW_MS + 60_000)))
    assert [m.seq for m in cafe.history.tail(9)] == [4]
    assert (cafe.history.first, cafe.history.last, cafe.history.get("m2")) == (4, 4, None)
    assert cafe.history.after(2) is None
    assert cafe.history.sent_as((ANN.user_id, "n-4")) is not None
    play(cafe, c.Discard(rfc3339(NOW_MS + 120_000)))
    assert (cafe.history.tail(9), cafe.history.first, cafe.history.last) == ([], 5, 4)
    play(cafe, send(1, ANN, "still here", name="n-5"), at_ms=NOW_MS + 120_000)
    commit(cafe, at_ms=NOW_MS + 120_000)
    assert [m.seq for m in cafe.history.tail(9)] == [5]


def test_nothing_is_let_go_that_is_young_enough() -> None:
    cafe = room(messages(1, 3))
    redactions = cafe.history.redactions
    play(cafe, c.Discard(rfc3339(NOW_MS)))
    assert (len(cafe.history.tail(9)), cafe.history.redactions) == (3, redactions)
