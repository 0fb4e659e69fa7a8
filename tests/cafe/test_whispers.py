"""What the room has to say about a message to one other alone: mutes and spam rules hold, and nothing of the text is kept or told."""

from __future__ import annotations

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Broadcast, Effect, Record, Refuse, Reply, TellUser
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.looks import index_of
from brewd.cafe.room import Room, fall_silent, next_deadline_ms
from brewd.cafe.signs import RATE
from brewd.cafe.spam import SpamRules
from brewd.cafe.standing import Standing
from brewd.cafe.whispers import SAID_MAX, Whispers
from brewd.config import Profile
from brewd.runtime.clock import rfc3339
from tests.cafe.rooms import ANN, BOB, CID, JOINS, NOW_MS, answer, commit, only, play, refusal, room, send

TERMS = Terms(limits_of(Profile()), SpamRules(words=index_of(["gold coins"])))
LONG = "Come to the back door at nine and bring what we spoke of"


def hall(terms: Terms = TERMS) -> Room:
    cafe = room(standing=Standing(terms))
    play(cafe, *JOINS)
    return cafe


def whisper(content: str, who: c.Who = ANN, other: c.Who = BOB, channel_id: str = "ab") -> c.Whisper:
    return c.Whisper(who, other.user_id, channel_id, content, -1)


def warned(effects: list[Effect]) -> list[str]:
    """The rules the author is warned of, in the answer and on every socket."""
    told = [violation.type for tell in only(effects, TellUser) if isinstance(tell.event, e.Warned) for violation in tell.event.violations]
    assert told == [violation.type for violation in answer(effects, -1)]
    return told


def test_who_is_muted_does_not_whisper_either() -> None:
    cafe = hall()
    play(cafe, c.Mute(ANN.user_id, NOW_MS + 60_000, "too loud"))
    (refuse,) = play(cafe, whisper("psst"), at_ms=NOW_MS + 1000)
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.extras) == ("muted", {"until": rfc3339(NOW_MS + 60_000), "reason": "too loud", "retryAfterMs": 59_000})
    play(cafe, c.Unmute(ANN.user_id))
    assert play(cafe, whisper("psst")) == [Reply(-1, None, ())]


def test_saying_the_same_to_the_same_is_a_repetition_and_to_another_it_is_not() -> None:
    cafe = hall()
    assert warned(play(cafe, whisper("Hello"))) == []
    assert warned(play(cafe, whisper("Hello", other=CID, channel_id="ac"))) == []
    assert warned(play(cafe, whisper("Hello", BOB, ANN))) == []
    assert warned(play(cafe, whisper("hello"))) == ["duplicate"]
    assert warned(play(cafe, whisper("Hello"), at_ms=NOW_MS + 300_000)) == []


def test_what_is_not_stored_was_not_said() -> None:
    cafe = hall()
    for _ in range(5):
        assert warned(play(cafe, whisper("Hello"))) == []
        play(cafe, c.Unsay(ANN.user_id, "ab", "Hello", warned=False))
    for _ in range(5):
        assert warned(play(cafe, whisper("H" * 12))) == ["capitals", "repeats"]
        play(cafe, c.Unsay(ANN.user_id, "ab", "H" * 12, warned=True))


def test_warnings_and_what_was_not_sent_count_together_with_those_in_the_room() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, "AAAAAAAAAAAA"))
    assert warned(play(cafe, whisper("BBBBBBBBBBBB"))) == ["capitals", "repeats"]
    assert refusal(play(cafe, send(1, ANN, "CCCCCCCCCCCC")), 1) == "spam_blocked"
    assert refusal(play(cafe, whisper("gold coins")), -1) == "spam_blocked"
    effects = play(cafe, whisper("gold coins"))
    assert refusal(effects, -1) == "spam_blocked"
    assert [record.action for record in only(effects, Record)] == ["block", "mute"]
    assert refusal(play(cafe, whisper("psst")), -1) == refusal(play(cafe, send(1, ANN, "hello")), 1) == "muted"


def test_of_a_whisper_that_is_stopped_nothing_is_kept_but_the_rule() -> None:
    cafe = hall()
    effects = [effect for n in range(3) for effect in play(cafe, whisper(f"{n} gold coins"))]
    assert [record.action for record in only(effects, Record)] == ["block", "block", "block", "mute"]
    assert [record.rule for record in only(effects, Record)] == ["words", "words", "words", "blocks"]
    for kept in (*only(effects, Record), *only(effects, Broadcast), cafe.mutes.get(ANN.user_id, NOW_MS)):
        assert "gold" not in repr(kept)
    assert "gold coins" in only(effects, Refuse)[0].detail  # its author is told


def test_a_room_in_which_a_thousand_whisper_the_same_does_not_take_it_for_a_raid() -> None:
    cafe = hall()
    for n in range(1000):
        who = c.Who(f"user-{n}", f"name-{n}")
        assert warned(play(cafe, whisper(LONG, who, BOB, f"channel-{n}"))) == []
    commit_of = play(cafe, send(1, ANN, LONG))
    assert only(commit_of, Refuse) == []
    (reply,) = only(commit(cafe), Reply)
    assert reply.data.warnings == ()
    assert play(cafe, c.SpamQuery(CID.user_id, LONG, -3)) == [Reply(-3, None, e.SpamAnswer(False, "allow", ()))]


def test_what_the_room_says_does_not_weigh_on_a_whisper() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, LONG), send(2, BOB, LONG))
    commit(cafe)
    assert warned(play(cafe, whisper(LONG))) == []
    assert warned(play(cafe, whisper(LONG, CID, BOB, "cb"))) == []


def test_a_whisper_is_not_held_by_the_room_and_the_mirror_has_nothing_to_show_of_it() -> None:
    cafe = hall()
    play(cafe, whisper(LONG))
    assert (cafe.history.last, len(cafe.pending), cafe.topics.top(50, NOW_MS)) == (0, 0, [])
    assert cafe.spam is not None
    assert cafe.spam.latest == {}
    assert cafe.buckets is not None
    assert cafe.buckets.changed == cafe.mutes.changed == set()  # nor is a message to all taken from its author


def test_thirty_at_once_and_one_a_second() -> None:
    cafe = hall()
    for n in range(RATE.burst):
        assert play(cafe, whisper(f"word {n}")) == [Reply(-1, None, ())]
    (refuse,) = play(cafe, whisper("one more"))
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.extras) == ("rate_limited", {"retryAfterMs": 1000, "limit": "dm"})
    assert play(cafe, whisper("Bob's own", BOB, ANN)) == [Reply(-1, None, ())]
    assert refusal(play(cafe, whisper("one more"), at_ms=NOW_MS + 999), -1) == "rate_limited"
    assert warned(play(cafe, whisper("one more"), at_ms=NOW_MS + 1000)) == []  # what was refused was not said
    assert play(hall(Terms()), *(whisper(f"word {n}") for n in range(100))) == [Reply(-1, None, ())]  # where nothing is limited


def test_texts_are_forgotten_in_the_order_in_which_they_were_said_last() -> None:
    whispers = Whispers()
    for text in (*range(SAID_MAX), 0, SAID_MAX):
        whispers.remember(text, text)
    assert (whispers.said_ms(0), whispers.said_ms(1), whispers.said_ms(2)) == (0, None, 2)


# Typing


def types(on: bool = True, who: c.Who = ANN, other: c.Who = BOB, channel_id: str = "ab") -> c.WhisperTyping:
    return c.WhisperTyping(who.user_id, other.user_id, channel_id, on)


def told(*, on: bool, other: c.Who = BOB, channel_id: str = "ab") -> TellUser:
    return TellUser(other.user_id, e.DmTyping(channel_id, on))


def test_typing_is_told_to_the_other_alone_and_stops_by_itself_after_three_seconds() -> None:
    cafe = hall()
    assert play(cafe, types()) == [told(on=True)]
    assert play(cafe, types(), at_ms=NOW_MS + 2000) == []
    assert next_deadline_ms(cafe) == NOW_MS + 5000
    assert play(cafe, c.Tick(), at_ms=NOW_MS + 4999) == []
    assert play(cafe, c.Tick(), at_ms=NOW_MS + 5000) == [told(on=False)]
    assert play(cafe, types(on=False)) == []


def test_typing_ends_with_the_message_with_a_word_and_with_the_actor() -> None:
    cafe = hall()
    play(cafe, types(), types(channel_id="ac", other=CID), types(who=BOB, other=ANN))
    assert play(cafe, whisper("done")) == [told(on=False), Reply(-1, None, ())]
    assert play(cafe, types(on=False, channel_id="ac", other=CID)) == [told(on=False, other=CID, channel_id="ac")]
    assert fall_silent(cafe) == [told(on=False, other=ANN)]
    assert fall_silent(cafe) == []


def test_a_room_that_nobody_is_in_stays_awake_for_who_types() -> None:
    cafe = room(standing=Standing(TERMS))
    play(cafe, types())
    assert not cafe.idle
    play(cafe, c.Tick(), at_ms=NOW_MS + 3000)
    assert cafe.idle


def test_who_is_muted_does_not_seem_to_type() -> None:
    cafe = hall()
    play(cafe, c.Mute(ANN.user_id, NOW_MS + 60_000, ""))
    assert play(cafe, types()) == []


def test_a_typing_flood_is_told_as_often_as_there_are_signs() -> None:
    cafe = hall()
    flood = [effect for _ in range(500) for effect in [*play(cafe, types()), *play(cafe, types(on=False))]]
    assert len(flood) == 2 * (RATE.burst - 1)  # one was for coming in


# Who is there


def test_the_company_is_whom_the_others_see_and_who_is_muted() -> None:
    cafe = hall()
    play(cafe, c.Drop(2), c.Mute(ANN.user_id, NOW_MS + 60_000, ""))
    assert answer(play(cafe, c.CompanyQuery(-4)), -4) == e.CompanyAnswer(frozenset({BOB.user_id}), frozenset({ANN.user_id}))
    play(cafe, c.Unmute(ANN.user_id))
    assert answer(play(cafe, c.CompanyQuery(-4)), -4) == e.CompanyAnswer(frozenset({ANN.user_id, BOB.user_id}), frozenset())
