"""Speaking in a room: stored before it is told, told once, deleted for everyone; typing, statuses and topics on the side."""

from __future__ import annotations

import pytest

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Broadcast, Refuse, Reply, Wake
from brewd.cafe.pending import WAITERS_MAX
from brewd.cafe.room import TOPICS_LATEST_MS, confirmed, depart, fall_silent, next_deadline_ms, taken_back
from brewd.runtime.clock import rfc3339
from brewd.runtime.quota import Quota
from tests.cafe.rooms import (
    ANN,
    BOB,
    CAFE,
    CID,
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
    told,
    typing,
)

# Speaking


def test_nothing_is_told_before_it_is_stored_and_then_the_message_comes_before_the_reply() -> None:
    cafe = room(messages(1, 3))
    play(cafe, *JOINS)
    assert play(cafe, send(1, ANN, "hi", name="k")) == [Wake()]
    batch = depart(cafe, 1000)
    assert batch is not None
    stored = batch.entries[0].message
    assert (stored.seq, stored.content, stored.created_at) == (4, "hi", rfc3339(NOW_MS))
    said, replied = confirmed(cafe, 1, {}, NOW_MS)
    assert said == Broadcast(e.MessageNew(stored, "k"))
    assert replied == Reply(1, "r", e.SendAnswer(e.SentMessage("id-1", 4, rfc3339(NOW_MS)), duplicate=False))


def test_the_house_speaks_without_being_there_and_without_limits_and_is_told_like_anybody() -> None:
    cafe = room(messages(1, 3), quota=Quota(2))
    play(cafe, *JOINS)
    house = c.Who("house", "Corner")
    assert [type(effect) for effect in play(cafe, c.Announce(house, "We close at six.", -1))] == [Wake]
    play(cafe, c.Announce(house, "We close at six.", -2))
    effects = commit(cafe)
    assert [(event.message.seq, event.message.user_id, event.message.content) for event in told(effects, e.MessageNew)] == [
        (4, "house", "We close at six."),
        (5, "house", "We close at six."),
    ]
    assert (answer(effects, -1).message.seq, answer(effects, -2).message.seq) == (4, 5)
    assert cafe.quota.used == 0
    assert refusal(play(cafe, c.Announce(house, " \u200b", -3)), -3) == "invalid_request"
    assert refusal(play(cafe, c.Announce(house, "x" * 1001, -4)), -4) == "invalid_request"
    play(cafe, c.Announce(house, "one", -5), c.Announce(house, "two", -6))
    assert refusal(play(cafe, c.Announce(house, "three", -7)), -7) == "storage_unavailable"


def test_numbers_taken_back_are_given_again_and_the_generation_is_the_new_one() -> None:
    cafe = room(messages(1, 3))
    play(cafe, *JOINS, send(1, ANN, "hi"), send(2, BOB, "oh"))
    first = depart(cafe, 1000)
    assert taken_back(cafe, 2, {}) == [Wake()]
    second = depart(cafe, 1000)
    assert first is not None
    assert second is not None
    assert (first.generation, second.generation) == (1, 2)
    assert first.entries == second.entries


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (send(5, CID), "not_in_cafe"),
        (send(1, ANN, "x" * 1001), "invalid_request"),
        (send(1, ANN, " \n\t"), "invalid_request"),
        (send(1, ANN, ""), "invalid_request"),
        (send(1, ANN, "\u200b"), "invalid_request"),
        (c.SetStatus(5, "away", "r"), "not_in_cafe"),
        (c.Delete(ANN, "m2", 1, "r"), "forbidden"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_rule(command: c.Send | c.SetStatus | c.Delete, code: str) -> None:
    cafe = room([message(1, ANN), message(2, BOB)])
    play(cafe, *JOINS)
    assert refusal(play(cafe, command), command.to) == code
    assert len(cafe.pending) == 0


def test_a_refusal_says_what_is_wrong_with_the_content() -> None:
    cafe = room()
    (refuse,) = play(cafe, c.Join(1, ANN), send(1, ANN, "x" * 1001))
    assert isinstance(refuse, Refuse)
    assert refuse.extras == {"errors": [{"path": "data.content", "detail": "1001 characters; at most 1000 are allowed."}]}


def test_a_resend_of_a_stored_message_gets_its_first_answer() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, name="k"))
    commit(cafe)
    (reply,) = play(cafe, send(1, ANN, "something else", name="k", ref="again"))
    assert reply == Reply(1, "again", e.SendAnswer(e.SentMessage("id-1", 1, rfc3339(NOW_MS)), duplicate=True))
    assert play(cafe, send(2, BOB, name="k")) == [Wake()], "another person's name for a message is another name"


def test_a_resend_of_a_message_that_waits_waits_for_the_same() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, name="k"), c.Join(3, ANN))
    assert play(cafe, send(3, ANN, name="k", ref="again")) == []
    depart(cafe, 1000)
    assert play(cafe, send(3, ANN, name="k", ref="and again")) == []
    taken_back(cafe, 2, {})
    effects = commit(cafe)
    assert len(told(effects, e.MessageNew)) == 1
    assert [(effect.ref, effect.data.duplicate) for effect in only(effects, Reply)] == [("r", False), ("again", True), ("and again", True)]


def test_so_many_may_wait_for_one_message_and_no_more() -> None:
    cafe = room()
    play(cafe, *JOINS, *(send(1, ANN, name="k") for _ in range(WAITERS_MAX)))
    assert refusal(play(cafe, send(1, ANN, name="k")), 1) == "storage_unavailable"
    assert len(only(commit(cafe), Reply)) == WAITERS_MAX


def test_what_postgres_knew_before_is_a_duplicate_now_and_the_next_time_without_asking() -> None:
    cafe = room(messages(1, 3))
    play(cafe, *JOINS, send(1, ANN, name="old"), send(1, ANN, name="new", ref="n"))
    depart(cafe, 1000)
    effects = taken_back(cafe, 1, {(ANN.user_id, "old"): message(2)})
    assert [(effect.ref, effect.data.message.seq, effect.data.duplicate) for effect in only(effects, Reply)] == [("r", 2, True)]
    assert effects[-1] == Wake()
    assert [event.message.seq for event in told(commit(cafe), e.MessageNew)] == [4]
    assert answer(play(cafe, send(1, ANN, name="old", ref="again")), 1).message.seq == 2
    assert cafe.quota.used == 0


def test_when_postgres_is_silent_for_long_the_sender_is_told_and_what_has_not_left_is_given_up() -> None:
    quota = Quota(10)
    cafe = room(quota=quota)
    play(cafe, *JOINS, send(1, ANN, ref="out"))
    depart(cafe, 1000)
    play(cafe, send(2, BOB, ref="waits"))
    assert next_deadline_ms(cafe) == NOW_MS + 5000
    effects = play(cafe, c.Tick(), at_ms=NOW_MS + 5000)
    assert [(effect.ref, effect.code, effect.extras["retryAfterMs"]) for effect in only(effects, Refuse)] == [
        ("out", "storage_unavailable", 1000),
        ("waits", "storage_unavailable", 1000),
    ]
    assert quota.used == 1, "what has left may still be stored"
    assert taken_back(cafe, 2, {}) == []
    assert (quota.used, cafe.idle) == (0, False)
    assert depart(cafe, 1000) is None


def test_what_left_before_its_sender_was_told_may_still_appear() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, name="k"))
    depart(cafe, 1000)
    play(cafe, c.Tick(), at_ms=NOW_MS + 5000)
    assert play(cafe, send(1, ANN, name="k", ref="again"), at_ms=NOW_MS + 6000) == []
    assert next_deadline_ms(cafe) == NOW_MS + 11_000


def test_cafes_share_one_bound_on_what_waits() -> None:
    quota = Quota(1)
    one, two = room(quota=quota), room(quota=quota)
    play(one, *JOINS, send(1, ANN))
    assert refusal(play(two, *JOINS, send(1, ANN)), 1) == "storage_unavailable"
    assert refusal(play(two, c.Delete(ANN, "m1", 1, "r")), 1) == "storage_unavailable"
    commit(one)
    assert play(two, send(1, ANN)) == [Wake()]


def test_a_batch_that_is_out_is_not_asked_to_leave_twice() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN))
    depart(cafe, 1000)
    assert play(cafe, send(1, ANN, "more")) == []
    assert confirmed(cafe, 1, {}, NOW_MS)[-1] == Wake()


# Deleting


def test_a_deletion_is_told_once_and_answered() -> None:
    cafe = room([message(1, ANN), message(2, BOB)])
    play(cafe, *JOINS)
    assert play(cafe, c.Delete(ANN, "m1", 1, "a"), c.Delete(MOD, "m1", -7, None)) == [Wake()]
    gone = message(1, ANN, deleted=True)
    effects = commit(cafe, {"m1": gone})
    assert told(effects, e.MessageDeleted) == [e.MessageDeleted("m1", CAFE, 1)]
    assert answer(effects, 1) == {}
    assert answer(effects, -7) == e.DeleteAnswer(gone)
    assert answer(play(cafe, c.Join(3, CID, "r")), 3).messages[0] == gone


def test_a_moderator_may_delete_anything_and_a_guest_their_own() -> None:
    cafe = room([message(1, ANN), message(2, BOB)])
    play(cafe, *JOINS)
    assert play(cafe, c.Delete(MOD, "m1", 9, "r")) == [Wake()]
    assert play(cafe, c.Delete(BOB, "m2", 2, "r")) == [Wake()]
    assert refusal(play(cafe, c.Delete(BOB, "m1", 2, "r")), 2) == "forbidden"


def test_a_message_that_is_not_held_is_for_postgres_to_find() -> None:
    cafe = room()
    assert play(cafe, c.Delete(ANN, "from long ago", 1, "r")) == [Wake()]
    assert refusal(commit(cafe), 1) == "not_found"
    play(cafe, c.Delete(ANN, "from long ago", 1, "r"))
    effects = commit(cafe, {"from long ago": message(7, ANN, id="from long ago", deleted=True)})
    assert told(effects, e.MessageDeleted) == [e.MessageDeleted("from long ago", CAFE, 7)]


# Typing, status, topics, questions


def test_typing_is_told_to_the_others_once_and_stops_by_itself() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Join(3, ANN))
    (told_on,) = play(cafe, c.Typing(1, on=True))
    assert isinstance(told_on, Broadcast)
    assert told_on.skip == {1, 3}
    assert typing([told_on]) == [("ann", True)]
    assert play(cafe, c.Typing(3, on=True), at_ms=NOW_MS + 2000) == []
    assert next_deadline_ms(cafe) == NOW_MS + 5000
    assert play(cafe, c.Tick(), at_ms=NOW_MS + 4999) == []
    assert typing(play(cafe, c.Tick(), at_ms=NOW_MS + 5000)) == [("ann", False)]
    assert next_deadline_ms(cafe) is None


def test_each_stops_typing_in_their_own_time() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Typing(1, on=True))
    play(cafe, c.Typing(2, on=True), at_ms=NOW_MS + 1000)
    play(cafe, c.Typing(1, on=True), at_ms=NOW_MS + 2000)
    assert typing(play(cafe, c.Tick(), at_ms=NOW_MS + 4000)) == [("bob", False)]
    assert typing(play(cafe, c.Tick(), at_ms=NOW_MS + 5000)) == [("ann", False)]


@pytest.mark.parametrize(
    "command", [c.Typing(1, on=False), c.Leave(1), c.Drop(1), c.Remove(ANN.user_id), send(1, ANN)], ids=lambda command: type(command).__name__
)
def test_typing_stops_with_whatever_ends_it(command: c.Command) -> None:
    cafe = room()
    play(cafe, *JOINS, c.Typing(1, on=True))
    assert typing(play(cafe, command)) == [("ann", False)]
    assert typing(play(cafe, c.Typing(1, on=False))) == []


def test_typing_on_one_device_outlives_the_loss_of_another() -> None:
    cafe = room()
    play(cafe, *JOINS, c.Join(3, ANN), c.Typing(1, on=True))
    assert typing(play(cafe, c.Drop(3))) == []
    assert typing(fall_silent(cafe)) == [("ann", False)]
    assert fall_silent(cafe) == []


def test_a_stranger_does_not_type() -> None:
    assert play(room(), c.Typing(9, on=True)) == []


def test_a_status_is_told_when_it_changes() -> None:
    cafe = room()
    play(cafe, *JOINS)
    effects = play(cafe, c.SetStatus(1, "away", "r"))
    assert [(update.action, update.user.status) for update in told(effects, e.UsersUpdate)] == [("status", "away")]
    assert answer(effects, 1) == {}
    assert play(cafe, c.SetStatus(1, "away", "r")) == [Reply(1, "r", {})]


def test_topics_are_told_with_a_message_and_at_most_once_a_second() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, "espresso"))
    (update,) = told(commit(cafe), e.TopicsUpdate)
    assert [(view.topic, view.score) for view in update.topics] == [("espresso", 1.0)]
    play(cafe, send(1, ANN, "crema"))
    assert told(commit(cafe, at_ms=NOW_MS + 500), e.TopicsUpdate) == []
    play(cafe, send(1, ANN, "so it is"))
    (update,) = told(commit(cafe, at_ms=NOW_MS + 1000), e.TopicsUpdate)
    assert {view.topic for view in update.topics} == {"espresso", "crema"}
    play(cafe, send(1, ANN, "so it is"))
    assert told(commit(cafe, at_ms=NOW_MS + 9000), e.TopicsUpdate) == [], "nothing new"


def test_topics_that_no_message_takes_along_are_told_by_themselves() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, "espresso"))
    commit(cafe)
    play(cafe, send(1, ANN, "crema"))
    commit(cafe, at_ms=NOW_MS + 500)
    assert next_deadline_ms(cafe) == NOW_MS + TOPICS_LATEST_MS
    assert len(told(play(cafe, c.Tick(), at_ms=NOW_MS + TOPICS_LATEST_MS), e.TopicsUpdate)) == 1
    assert next_deadline_ms(cafe) is None


def test_questions_from_outside_are_answered_from_memory() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, "espresso crema"))
    commit(cafe)
    who = answer(play(cafe, c.PresenceQuery(-1)), -1)
    assert (who.cafe_id, who.user_count, [view.username for view in who.users]) == (CAFE, 2, ["ann", "bob"])
    topics = answer(play(cafe, c.TopicsQuery(1, -2)), -2)
    assert (topics.cafe_id, [view.topic for view in topics.topics]) == (CAFE, ["crema"])


def test_what_was_said_last_can_be_asked_for() -> None:
    cafe = room()
    play(cafe, *JOINS, send(1, ANN, "espresso crema"), send(2, BOB, "with pleasure"))
    commit(cafe)
    talk = answer(play(cafe, c.TalkQuery(1, 1, -2)), -2)
    assert ([message.content for message in talk.messages], [view.topic for view in talk.topics]) == (["with pleasure"], ["crema"])
    assert answer(play(cafe, c.TalkQuery(0, 0, -2)), -2) == e.TalkAnswer([], [])
