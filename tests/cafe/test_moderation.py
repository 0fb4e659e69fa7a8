"""Who may not speak: mutes as the muted and the others see them, spam with its consequences, and what is kept of it."""

from __future__ import annotations

import pytest

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Broadcast, Record, Refuse, Reply, Tell, Wake
from brewd.cafe.limits import DAY_MS, Terms, limits_of
from brewd.cafe.looks import index_of
from brewd.cafe.moderation import REFUSED_MAX, RESENT_MS
from brewd.cafe.room import Room, next_deadline_ms
from brewd.cafe.signs import RATE
from brewd.cafe.spam import SpamRules
from brewd.cafe.standing import Act, Standing
from brewd.config import Profile
from brewd.runtime.clock import rfc3339
from tests.cafe.rooms import ANN, BOB, CID, JOINS, MOD, NOW_MS, answer, commit, message, only, play, refusal, room, send, told, typing, updates

UNTIL_MS = NOW_MS + 60_000
MUTE = c.Mute(ANN.user_id, UNTIL_MS, "too loud", -1)
SPAM = Terms(spam=SpamRules(words=index_of(["gold coins"])))


def hall(terms: Terms | None = None, acts: tuple[Act, ...] = ()) -> Room:
    """Ann on two sockets, and Bob."""
    cafe = room([message(1, ANN)], standing=Standing(terms or Terms(), acts=acts))
    play(cafe, *JOINS, c.Join(3, ANN))
    return cafe


def seen(cafe: Room) -> list[str]:
    return [view.username for view in answer(play(cafe, c.PresenceQuery(-9)), -9).users]


# Mutes


def test_a_mute_is_told_to_every_device_and_to_the_others_it_is_a_farewell() -> None:
    cafe = hall()
    play(cafe, c.Typing(1, on=True))
    effects = play(cafe, MUTE)
    assert typing(effects) == [("ann", False)]
    assert updates(effects) == [("leave", "ann", 1)]
    muted = e.Muted(rfc3339(UNTIL_MS), "too loud")
    assert only(effects, Tell) == [Tell(1, muted), Tell(3, muted)]
    assert effects[-1] == Reply(-1, None, {})


def test_the_company_is_who_is_seen_and_who_is_muted_until_their_time_is_over() -> None:
    cafe = hall()
    play(cafe, MUTE, c.Mute("somebody away", UNTIL_MS, "", -1), c.Join(9, MOD))
    company = answer(play(cafe, c.CompanyQuery(-9)), -9)
    assert company == e.CompanyAnswer(frozenset({BOB.user_id}), frozenset({ANN.user_id, "somebody away"}))
    assert answer(play(cafe, c.CompanyQuery(-9), at_ms=UNTIL_MS), -9).muted == frozenset()


def test_who_is_muted_is_not_heard_in_any_way() -> None:
    cafe = hall()
    play(cafe, MUTE)
    (refuse,) = play(cafe, send(3, ANN), at_ms=NOW_MS + 1000)
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.extras) == ("muted", {"until": rfc3339(UNTIL_MS), "reason": "too loud", "retryAfterMs": 59_000})
    for command in (c.Typing(1, on=True), c.SetStatus(1, "away", "r"), c.Leave(3, "r"), c.Drop(1), c.Join(1, ANN, "r"), c.Leave(1, "r"), c.Join(1, ANN, "r")):
        assert only(play(cafe, command), Broadcast) == [], command
    assert refusal(play(cafe, c.Take("poke", ANN, "s", -2)), -2) == "muted"
    assert refusal(play(cafe, c.Take("agent", ANN, "s", -2)), -2) == "muted"
    assert seen(cafe) == ["bob"]
    assert answer(play(cafe, c.Join(4, CID, "r")), 4).user_count == 2


def test_who_is_muted_hears_everything_and_is_told_with_every_join() -> None:
    cafe = hall()
    play(cafe, MUTE, send(2, BOB, "hello"))
    (said,) = only(commit(cafe), Broadcast)[:1]
    assert said.skip == frozenset()
    *_, reply, tell = play(cafe, c.Join(5, ANN, "r"))
    assert isinstance(reply, Reply)
    assert tell == Tell(5, e.Muted(rfc3339(UNTIL_MS), "too loud"))
    assert reply.data.user_count == 1


def test_a_resend_of_what_was_said_before_is_still_answered() -> None:
    cafe = hall()
    play(cafe, send(1, ANN, name="k"))
    play(cafe, MUTE)
    assert play(cafe, send(1, ANN, name="k", ref="again")) == []
    assert [(one.ref, one.data.duplicate) for one in only(commit(cafe), Reply)] == [("r", False), ("again", True)]


def test_an_unmute_is_felt_with_the_next_message() -> None:
    cafe = hall()
    play(cafe, MUTE)
    effects = play(cafe, c.Unmute(ANN.user_id, -1))
    assert updates(effects) == [("join", "ann", 2)]
    assert only(effects, Tell) == [Tell(1, e.Unmuted()), Tell(3, e.Unmuted())]
    assert play(cafe, send(1, ANN)) == [Wake()]
    assert seen(cafe) == ["ann", "bob"]
    assert play(cafe, c.Unmute(ANN.user_id, -1)) == [Reply(-1, None, {})]
    assert play(cafe, c.Unmute("nobody", -1)) == [Reply(-1, None, {})]


def test_a_mute_ends_by_itself_to_the_millisecond() -> None:
    cafe = hall()
    play(cafe, MUTE, c.Mute(BOB.user_id, UNTIL_MS + 5, "", -1))
    assert next_deadline_ms(cafe) == UNTIL_MS
    assert refusal(play(cafe, send(1, ANN), at_ms=UNTIL_MS - 1), 1) == "muted"
    assert play(cafe, c.Tick(), at_ms=UNTIL_MS - 1) == []
    effects = play(cafe, c.Tick(), at_ms=UNTIL_MS)
    assert updates(effects) == [("join", "ann", 1)]
    assert next_deadline_ms(cafe) == UNTIL_MS + 5
    play(cafe, c.Tick(), at_ms=UNTIL_MS + 5)
    assert next_deadline_ms(cafe) is None


def test_a_second_mute_replaces_the_first_also_by_a_shorter_one() -> None:
    cafe = hall()
    play(cafe, MUTE)
    effects = play(cafe, c.Mute(ANN.user_id, NOW_MS + 1000, "calm down", -1))
    assert (updates(effects), len(only(effects, Tell))) == ([], 2)
    assert len(only(play(cafe, c.Tick(), at_ms=NOW_MS + 1000), Tell)) == 2
    play(cafe, MUTE, c.Mute(ANN.user_id, UNTIL_MS + 1000, "longer", -1))
    assert play(cafe, c.Tick(), at_ms=UNTIL_MS) == []
    assert next_deadline_ms(cafe) == UNTIL_MS + 1000


def test_somebody_who_is_not_there_can_be_muted() -> None:
    cafe = hall()
    assert play(cafe, c.Mute(CID.user_id, UNTIL_MS, "", -1)) == [Reply(-1, None, {})]
    effects = play(cafe, c.Join(7, CID, "r"))
    assert only(effects, Broadcast) == []
    assert only(play(cafe, c.Tick(), at_ms=UNTIL_MS), Broadcast) != []


def test_a_mute_can_be_asked_about() -> None:
    cafe = hall()
    assert answer(play(cafe, c.MuteQuery(ANN.user_id, -1)), -1) == e.MuteAnswer(False)
    play(cafe, MUTE)
    assert answer(play(cafe, c.MuteQuery(ANN.user_id, -1)), -1) == e.MuteAnswer(True, rfc3339(UNTIL_MS), "too loud")
    assert answer(play(cafe, c.MuteQuery(ANN.user_id, -1), at_ms=UNTIL_MS), -1) == e.MuteAnswer(False)


def test_the_count_is_right_when_somebody_hidden_goes() -> None:
    cafe = hall()
    play(cafe, MUTE, c.Remove(ANN.user_id))
    assert updates(play(cafe, c.Join(8, CID, "r"))) == [("join", "cid", 2)]
    play(cafe, c.Join(9, ANN, "r"), c.Drop(9))
    assert updates(play(cafe, c.Tick(), at_ms=NOW_MS + 30_000)) == []
    assert len(cafe.presence) == 2


def test_mutes_and_blocks_survive_a_restart() -> None:
    mute = Act("mute", ANN.user_id, NOW_MS - 5, UNTIL_MS, "too loud")
    assert refusal(play(hall(acts=(mute,)), send(1, ANN)), 1) == "muted"
    for then in (Act("unmute", ANN.user_id, NOW_MS - 4), Act("mute", ANN.user_id, NOW_MS - 4, NOW_MS - 1)):
        assert play(hall(acts=(mute, then)), send(1, ANN)) == [Wake()]
    blocks = tuple(Act("block", ANN.user_id, NOW_MS - n) for n in (30, 20))
    assert answer(play(hall(SPAM, blocks), c.SpamQuery(ANN.user_id, "gold coins", -1)), -1).action == "mute"
    forgiven = (*blocks, Act("unmute", ANN.user_id, NOW_MS - 10))
    assert answer(play(hall(SPAM, forgiven), c.SpamQuery(ANN.user_id, "gold coins", -1)), -1).action == "block"


# Spam


def test_what_is_soft_goes_out_with_a_warning_on_every_device() -> None:
    cafe = hall(SPAM)
    effects = play(cafe, send(1, ANN, "WHAT A LOUD PLACE"))
    (violation,) = cafe.spam.judge("somebody", "WHAT A LOUD PLACE", NOW_MS).violations if cafe.spam else ()
    assert only(effects, Tell) == [Tell(to, e.Warned((violation,))) for to in (1, 3)]
    stored = commit(cafe)
    assert [event.message.content for event in told(stored, e.MessageNew)] == ["WHAT A LOUD PLACE"]
    assert answer(stored, 1).warnings == (violation,)


def test_what_is_hard_is_refused_with_its_rule_and_kept() -> None:
    cafe = hall(SPAM)
    record, refuse = play(cafe, send(1, ANN, "cheap GOLD coins"))
    assert record == Record("block", ANN.user_id, "ann", NOW_MS, rule="words", reason="“gold coins” is not wanted here.")
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.detail, refuse.extras["rule"]) == ("spam_blocked", "“gold coins” is not wanted here.", "words")
    assert [one.type for one in refuse.extras["violations"]] == ["words"]
    assert len(cafe.pending) == 0


def test_the_third_block_mutes_and_the_log_tells_the_story() -> None:
    cafe = hall(SPAM)
    effects = [effect for n in range(3) for effect in play(cafe, send(1, ANN, f"gold coins {n}"))]
    until_ms = NOW_MS + DAY_MS
    records = only(effects, Record)
    assert [(one.action, one.rule, one.until_ms) for one in records] == [
        ("block", "words", None),
        ("block", "words", None),
        ("block", "words", None),
        ("mute", "blocks", until_ms),
    ]
    assert updates(effects) == [("leave", "ann", 1)]
    last = only(effects, Refuse)[-1]
    assert (last.code, last.extras["mutedUntil"]) == ("spam_blocked", rfc3339(until_ms))
    assert [one.type for one in last.extras["violations"]] == ["words", "blocks"]
    assert refusal(play(cafe, send(1, ANN, "sorry")), 1) == "muted"
    assert only(play(cafe, send(2, BOB, "what was that")), Refuse) == []
    play(cafe, c.Unmute(ANN.user_id))
    assert refusal(play(cafe, send(1, ANN, "gold coins")), 1) == "spam_blocked"


def test_a_resend_of_what_was_refused_is_refused_in_the_same_words_and_counted_once() -> None:
    cafe = hall(SPAM)
    record, first = play(cafe, send(1, ANN, "gold coins", name="k"))
    assert isinstance(record, Record)
    assert isinstance(first, Refuse)
    for n in range(5):
        assert play(cafe, send(3, ANN, "gold coins", name="k", ref=f"again-{n}")) == [Refuse(3, f"again-{n}", first.code, first.detail, first.extras)]
    assert [one.code for one in only(play(cafe, send(1, ANN, "gold coins!", name="k")), Refuse)] == ["spam_blocked"], "another text is another message"
    effects = play(cafe, send(1, ANN, "gold coins", name="other"))
    assert [one.action for one in only(effects, Record)] == ["block", "mute"]
    assert play(cafe, send(1, ANN, "gold coins", name="other")) == [effects[-1]], "also when it was the last word for a while"
    assert refusal(play(cafe, send(1, ANN, "hello", name="next")), 1) == "muted"


def test_what_was_refused_is_judged_anew_when_it_is_forgiven_old_or_under_other_rules() -> None:
    cafe = hall(SPAM)
    again = send(1, ANN, "gold coins", name="k")
    for forget in (c.Unmute(ANN.user_id), c.SetTerms(SPAM)):
        assert len(play(cafe, again)) == 2
        play(cafe, forget)
    assert len(play(cafe, again)) == 2
    assert len(play(cafe, again, at_ms=NOW_MS + RESENT_MS - 1)) == 1
    late = play(cafe, again, at_ms=NOW_MS + RESENT_MS)
    assert [one.action for one in only(late, Record)] == ["block", "mute"]


def test_so_many_refusals_are_remembered_and_no_more() -> None:
    cafe = hall(Terms(spam=SpamRules(words=index_of(["gold coins"]), blocks=10_000)))
    for n in range(REFUSED_MAX + 1):
        play(cafe, send(1, ANN, "gold coins", name=str(n)))
    assert len(cafe.refused._held) == REFUSED_MAX
    assert len(play(cafe, send(1, ANN, "gold coins", name="1"))) == 1
    assert len(play(cafe, send(1, ANN, "gold coins", name="0"))) == 2


def test_texts_are_looked_at_as_often_as_signs_are_told() -> None:
    cafe = hall(Terms(limits=limits_of(Profile()), spam=SpamRules()))
    ask = c.SpamQuery(ANN.user_id, "good evening", -1)
    answers = [effect for _ in range(RATE.burst + 1) for effect in play(cafe, ask)]
    assert [type(one) for one in answers] == [Reply] * RATE.burst + [Refuse]
    (refuse,) = only(answers, Refuse)
    assert (refuse.code, refuse.extras["retryAfterMs"]) == ("rate_limited", 1000)
    assert only(play(cafe, ask, at_ms=NOW_MS + 999), Refuse)
    assert not only(play(cafe, ask, at_ms=NOW_MS + 1000), Refuse)
    assert not only(play(cafe, c.SpamQuery(BOB.user_id, "good evening", -1)), Refuse)
    assert not only(play(cafe, send(1, ANN, "good evening")), Refuse), "messages are another thing"


def test_two_who_copy_what_somebody_said_do_not_silence_them() -> None:
    cafe = hall(Terms(spam=SpamRules()))
    play(cafe, c.Join(7, CID))
    text = "meet me at the old fountain by the river tonight"
    assert only(play(cafe, send(1, ANN, text)), Refuse) == []
    assert only(play(cafe, send(2, BOB, text)), Refuse) == []
    refusals = [play(cafe, send(to, who, text)) for to, who in ((7, CID), (2, BOB), (7, CID), (2, BOB))]
    assert [[type(one) for one in effects] for effects in refusals] == [[Record, Refuse]] * 4, "and nobody is muted for it yet"
    assert only(play(cafe, send(1, ANN, text)), Record) == [], "as if nobody had copied it"
    for _ in range(2):
        last = [only(play(cafe, send(to, who, text)), Record)[-1].action for to, who in ((7, CID), (2, BOB))]
    assert last == ["mute", "mute"]


def test_what_was_given_up_may_be_said_again() -> None:
    cafe = hall(SPAM)
    play(cafe, send(1, ANN, "WHAT A LOUD PLACE"))
    play(cafe, c.Tick(), at_ms=NOW_MS + 5000)
    effects = play(cafe, send(1, ANN, "WHAT A LOUD PLACE"), at_ms=NOW_MS + 6000)
    (warned, _) = [tell.event for tell in only(effects, Tell) if isinstance(tell.event, e.Warned)]
    assert [violation.type for violation in warned.violations] == ["capitals"]


def test_the_texts_of_the_latest_messages_are_remembered_over_a_restart() -> None:
    stored = [message(1, ANN, "a very quiet evening"), message(2, BOB, "", deleted=True)]
    cafe = room(stored, now_ms=NOW_MS + 1000, standing=Standing(SPAM))
    play(cafe, *JOINS, at_ms=NOW_MS + 1000)
    assert answer(play(cafe, c.SpamQuery(ANN.user_id, "A very quiet evening", -1), at_ms=NOW_MS + 1000), -1).violations[0].type == "duplicate"
    late = room(stored, now_ms=NOW_MS + 300_000, standing=Standing(SPAM))
    assert answer(play(late, c.SpamQuery(ANN.user_id, "A very quiet evening", -1), at_ms=NOW_MS + 300_000), -1).action == "allow"


@pytest.mark.parametrize(("text", "spam", "action"), [("good evening", False, "allow"), ("WHAT A LOUD PLACE", True, "warn"), ("gold coins", True, "block")])
def test_a_check_takes_nothing(text: str, spam: bool, action: str) -> None:
    cafe = hall(SPAM)
    for _ in range(5):
        found = answer(play(cafe, c.SpamQuery(ANN.user_id, text, -1)), -1)
        assert (found.is_spam, found.action) == (spam, action)
    assert found.violations == () or found.violations[0].detail
    assert answer(play(hall(), c.SpamQuery(ANN.user_id, text, -1)), -1) == e.SpamAnswer(False, "allow", ())


def test_spam_rules_come_and_go_at_once() -> None:
    cafe = hall()
    play(cafe, c.SetTerms(SPAM, -1))
    assert refusal(play(cafe, send(1, ANN, "gold coins")), 1) == "spam_blocked"
    play(cafe, c.SetTerms(Terms(spam=SpamRules()), -1))
    assert only(play(cafe, send(1, ANN, "some gold coins")), Refuse) == []
    play(cafe, c.SetTerms(Terms(), -1))
    assert only([effect for _ in range(9) for effect in play(cafe, send(1, ANN, "AGAIN AND AGAIN"))], Refuse) == []


# Deletions


def test_a_deletion_by_a_moderator_is_kept_and_one_by_its_author_is_not() -> None:
    cafe = hall()
    play(cafe, c.Delete(MOD, "m1", -1))
    (record,) = only(commit(cafe, {"m1": message(1, ANN, deleted=True)}), Record)
    assert record == Record("delete", ANN.user_id, "ann", NOW_MS, by=MOD.user_id, by_name="mo", message_id="m1")
    operator = c.Who("", "operator", staff=True, moderator=True)
    play(cafe, c.Delete(operator, "m7", -1))
    (record,) = only(commit(cafe, {"m7": message(7, BOB, deleted=True)}), Record)
    assert (record.by, record.by_name) == (None, "operator")
    play(cafe, c.Delete(BOB, "m8", -1))
    assert only(commit(cafe, {"m8": message(8, BOB, deleted=True)}), Record) == []
