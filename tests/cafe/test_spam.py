"""Spam: each rule at its edge, what soft and hard ones lead to, and that a room never remembers more than it may."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brewd.cafe import looks
from brewd.cafe.spam import OFFENDERS_MAX, TEXTS_MAX, Spam, SpamRules, Verdict, rules_of
from brewd.config_spam import Spam as SpamConfig
from tests.cafe.rooms import NOW_MS

RULES = SpamRules(words=looks.index_of(["gold coins"]))
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
LONG = "meet me at the old fountain by the river tonight"


class Talk:
    """A room's spam rules and a clock. `say` does with a verdict what the room does."""

    def __init__(self, rules: SpamRules = RULES) -> None:
        self.spam = Spam(rules)
        self.now_ms = NOW_MS

    def judge(self, who: str, text: str) -> Verdict:
        return self.spam.judge(who, text, self.now_ms)

    def say(self, who: str, text: str) -> str:
        """The action, and by which rule."""
        verdict = self.judge(who, text)
        glanced = self.spam.glance(text)
        assert glanced is None or (glanced, verdict.action) == (verdict.text, "allow"), "the short way never says otherwise"
        if verdict.action in ("allow", "warn"):
            self.spam.accepted(who, verdict.text, self.now_ms, warned=verdict.action == "warn")
        else:
            self.spam.blocked(who, verdict, self.now_ms)
        return verdict.action if verdict.rule is None else f"{verdict.action} {verdict.rule}"


@pytest.fixture
def talk() -> Talk:
    return Talk()


# Rules


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("one flat white, please", "allow"),
        ("ONE FLAT WHITE", "warn capitals"),
        ("a.com b.com c.com", "warn links"),
        ("a.com b.com", "allow"),
        ("nooooooo", "warn repeats"),
        ("cheap GOLD coins!", "block words"),
        ("goldcoins", "allow"),
        ("GOLD COINS GOLD COINS a.com b.com c.com", "block words"),
    ],
)
def test_a_text_is_judged_by_its_looks(talk: Talk, text: str, action: str) -> None:
    assert talk.say("ann", text) == action


def test_every_rule_that_is_broken_is_named_and_explained(talk: Talk) -> None:
    verdict = talk.judge("ann", "GOLD COINS!!!!!!! a.com b.com c.com")
    assert [(one.type, one.severity) for one in verdict.violations] == [("words", "hard"), ("links", "soft"), ("repeats", "soft")]
    assert all(one.detail for one in verdict.violations)
    assert verdict.detail == "“gold coins” is not wanted here."


def test_saying_it_again_is_a_repetition_for_as_long_as_the_rule_says(talk: Talk) -> None:
    assert talk.say("ann", "so quiet today") == "allow"
    talk.now_ms += RULES.duplicate_ms - 1
    assert talk.judge("ann", "So  quiet\u200b tоday").rule == "duplicate"
    assert talk.judge("bob", "so quiet today").action == "allow", "two people may think the same"
    talk.now_ms += 1
    assert talk.judge("ann", "so quiet today").action == "allow"


def test_what_was_judged_only_is_not_remembered(talk: Talk) -> None:
    for _ in range(5):
        assert talk.judge("ann", "WHAT A LOUD PLACE").action == "warn"
    assert talk.say("ann", "WHAT A LOUD PLACE") == "warn capitals"


def test_the_first_copies_of_a_raid_go_out_and_no_more(talk: Talk) -> None:
    raiders = [f"raider{n}" for n in range(50)]
    assert [talk.say(raider, LONG) for raider in raiders][:4] == ["allow", "allow", "block raid", "block raid"]
    for n in range(100):  # it goes on for hours, with a copy turned away now and then
        talk.now_ms += RULES.duplicate_ms // 2 - 1
        assert talk.judge("somebody", LONG).rule == "raid"
        talk.say(raiders[n % 50], LONG.upper())
    talk.now_ms += RULES.duplicate_ms
    assert talk.say("somebody", LONG) == "allow"


def test_one_person_repeating_is_no_raid_until_another_joins_in(talk: Talk) -> None:
    assert [talk.say("ann", LONG) for _ in range(2)] == ["allow", "warn duplicate"]
    assert talk.say("bob", LONG) == "block raid"


def test_nobody_can_make_a_raid_of_what_somebody_else_said_first(talk: Talk) -> None:
    assert talk.say("ann", LONG) == "allow"
    said = [talk.say(f"copier{n % 20}", LONG) for n in range(100)]
    assert said[0] == "allow"
    assert set(said[1:]) <= {"block raid", "mute raid"}
    assert talk.say("ann", LONG) == "warn duplicate", "as if nobody had copied it"
    for _ in range(3):
        talk.now_ms += RULES.duplicate_ms - 1
        for n in range(20):
            talk.say(f"copier{n}", LONG)
    assert talk.say("ann", LONG) == "allow", "it is long since they said it, however long the others go on"


def test_who_copies_a_raid_unknowing_is_told_and_not_counted(talk: Talk) -> None:
    others = [f"the night is young and number {n} is still awake" for n in range(3)]
    for text in (LONG, *others):
        assert [talk.say(raider, text) for raider in ("raider", "second")] == ["allow", "allow"]
    assert [talk.say("ann", "gold coins") for _ in range(2)] == ["block words"] * 2
    assert talk.say("ann", LONG) == "block raid", "two blocks, and this one does not make three"
    assert talk.say("bob", LONG) == "block raid"
    assert talk.say("bob", "and now what") == "allow"
    assert [talk.say("bob", LONG.upper()), talk.say("bob", others[0])] == ["block raid", "block raid"], "going on with it, or with another one"
    assert talk.say("bob", others[1]) == "mute raid"
    talk.now_ms += RULES.blocks_ms
    for raider in ("raider", "second"):
        talk.say(raider, LONG)
    assert talk.say("ann", LONG) == "block raid"


def test_a_word_that_is_not_wanted_counts_in_a_raid_too() -> None:
    talk = Talk(SpamRules(words=looks.index_of(["gold coins"]), raid_chars_min=8))
    verdicts = []
    for who in ("ann", "bob", "cid", "cid", "cid"):
        verdicts.append(talk.say(who, "gold coins for you"))
    assert verdicts == ["block words"] * 4 + ["mute words"]


def test_a_short_text_with_a_link_is_a_raid_too(talk: Talk) -> None:
    for text in ("look: beans.shop", "at 203.0.113.9/x", "beans.example/9"):
        assert [talk.say(f"guest{n}", text) for n in range(3)] == ["allow", "allow", "block raid"]
    for text in ("see you at 7.30", "e.g. a tea", "v1.2.3"):
        assert {talk.say(f"guest{n}", text) for n in range(5)} == {"allow"}


def test_other_numbers_make_no_other_text_of_a_long_one(talk: Talk) -> None:
    offer = "Hurry to the new place next door, only {} seats are left and the coffee costs nothing at all tonight"
    assert [talk.say(f"raider{n}", offer.format(1000 - n)) for n in range(3)] == ["allow", "allow", "block raid"]
    assert talk.say("raider0", offer.format("7")) == "warn duplicate"
    for text in ("table {} is free now, if somebody wants it", "{} : {}"):
        assert {talk.say("ann", text.format(n, n)) for n in range(9)} == {"allow"}, "short ones may be about numbers alone"
    assert {talk.say("ann", f"{'0123456789' * 8} {n} and so on") for n in range(9)} == {"allow"}, "as may those that are all numbers"


def test_what_many_say_is_no_raid_when_it_is_short(talk: Talk) -> None:
    assert {talk.say(f"guest{n}", "Good morning!") for n in range(300)} == {"allow"}
    assert talk.say("guest299", "good morning!") == "warn duplicate"
    assert Talk(SpamRules(raid_chars_min=12)).say("ann", "good morning!") == "allow"


@pytest.mark.parametrize("text", ["доброе утро всем!", "good morning all"])
def test_length_is_counted_in_characters(talk: Talk, text: str) -> None:
    assert {talk.say(f"guest{n}", text) for n in range(5)} == {"allow"}


# What it leads to


def test_the_third_soft_one_is_blocked_and_the_third_block_mutes(talk: Talk) -> None:
    shouts = (f"LOUD NUMBER {n} IS THIS" for n in itertools.count())
    said = [talk.say("ann", next(shouts)) for _ in range(5)]
    assert said == ["warn capitals", "warn capitals", "block warnings", "block warnings", "mute warnings"]
    assert talk.say("bob", next(shouts)) == "warn capitals", "everybody is counted alone"


def test_warnings_are_counted_over_any_rules_and_for_an_hour(talk: Talk) -> None:
    assert talk.say("ann", "LOUD AS CAN BE") == "warn capitals"
    talk.now_ms += HOUR_MS - 1
    assert talk.say("ann", "nooooooo") == "warn repeats"
    assert talk.judge("ann", "a.com b.com c.com").rule == "warnings"
    talk.now_ms += 1
    assert talk.say("ann", "a.com b.com c.com") == "warn links"


def test_blocks_are_counted_for_a_day(talk: Talk) -> None:
    assert [talk.say("ann", "gold coins") for _ in range(2)] == ["block words"] * 2
    talk.now_ms += RULES.blocks_ms - 1
    verdict = talk.judge("ann", "gold coins")
    assert (verdict.action, verdict.rule, verdict.violations[-1].type) == ("mute", "words", "blocks")
    talk.now_ms += 1
    assert talk.judge("ann", "gold coins").action == "block"


def test_whoever_is_forgiven_starts_anew(talk: Talk) -> None:
    for text in ("LOUD AS CAN BE", "nooooooo", "gold coins", "gold  coins"):
        talk.say("ann", text)
    talk.spam.forgive("ann")
    assert talk.say("ann", "gold coins ") == "block words"
    assert talk.say("ann", "a.com b.com c.com") == "warn links"


def test_what_was_never_stored_was_never_said(talk: Talk) -> None:
    assert talk.say("bob", LONG) == "allow"
    assert talk.say("ann", LONG) == "allow"
    talk.spam.withdrawn("ann", LONG, warned=False)
    assert talk.judge("ann", LONG).action == "allow"
    assert talk.judge("bob", LONG).rule == "duplicate"
    talk.say("ann", "LOUD AS CAN BE")
    assert talk.say("ann", "LOUD AS CAN BE") == "warn duplicate"
    talk.spam.withdrawn("ann", "LOUD AS CAN BE", warned=True)
    assert talk.say("ann", "nooooooo") == "warn repeats", "the warning was withdrawn as well"
    talk.spam.withdrawn("cid", "never heard of", warned=True)


def test_blocks_and_texts_survive_a_restart(talk: Talk) -> None:
    for at_ms in (NOW_MS - RULES.blocks_ms, NOW_MS - 2, NOW_MS - 1):
        talk.spam.restore_block("ann", "words", at_ms)
    talk.spam.restore("ann", LONG, NOW_MS - RULES.duplicate_ms + 1)
    assert talk.judge("ann", LONG).rule == "duplicate"
    assert talk.judge("ann", "gold coins").action == "mute"
    talk.spam.restore_block("bob", "raid", NOW_MS - 4)
    talk.spam.restore_block("bob", "raid", NOW_MS - 3)
    assert talk.say("bob", "gold coins") == "block words", "the first one was the telling"
    assert talk.judge("bob", "gold coins").action == "mute"


def test_other_rules_count_at_once_and_what_happened_has_happened(talk: Talk) -> None:
    talk.say("ann", "LOUD AS CAN BE")
    talk.spam.rules = SpamRules(warnings=2)
    assert talk.say("ann", "so quiet today") == "allow"
    assert talk.say("ann", "nooooooo") == "block warnings"


# The config


def test_the_defaults_of_the_config_are_those_of_the_rules() -> None:
    assert rules_of(SpamConfig()) == SpamRules()
    assert rules_of(SpamConfig(enabled=False)) is None


def test_numbers_of_the_config_arrive() -> None:
    rules = rules_of(SpamConfig(duplicate_s=0.5, capitals_percent=80, capitals_letters_min=20, words=["Gold Coins"], mute_s=60))
    assert rules is not None
    assert (rules.duplicate_ms, rules.capitals_max, rules.mute_ms, rules.words) == (500, 16, 60_000, {"gold": (("gold", "coins"),)})
    assert Talk(rules).say("ann", "HALF OF THIS IS loud and half is not") == "allow"


# Bounds


def test_texts_are_forgotten_when_there_are_too_many(talk: Talk) -> None:
    talk.say("ann", LONG)
    for n in range(TEXTS_MAX // 2 - 1):
        talk.say("ann", f"text {n}")
    assert talk.judge("ann", LONG).rule == "duplicate", "half of them are always remembered"
    for n in range(TEXTS_MAX):
        talk.say("ann", f"more of {n}")
    assert talk.judge("ann", LONG).action == "allow"
    assert len(talk.spam._newer) + len(talk.spam._older) <= TEXTS_MAX


def test_a_room_under_attack_remembers_so_much_and_no_more() -> None:
    """Thousands of people, each with texts, warnings and blocks of their own."""
    talk = Talk()
    tracemalloc.start()
    for n in range(OFFENDERS_MAX + 1000):
        verdict = talk.judge(f"{n:036}", f"NOISE {n} ALL OVER")
        talk.spam.accepted(f"{n:036}", verdict.text, talk.now_ms, warned=True)
        talk.spam.blocked(f"{n:036}", verdict, talk.now_ms)
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(talk.spam._warnings) == len(talk.spam._blocks) == len(talk.spam.latest) == OFFENDERS_MAX
    assert size_bytes < 12_000_000


def test_one_offender_costs_no_more_than_the_numbers_that_count(talk: Talk) -> None:
    for _ in range(1000):
        talk.say("ann", "gold coins")
    assert len(talk.spam._blocks["ann"]) == RULES.blocks
    assert len(talk.spam._newer[talk.judge("ann", "gold coins").text]) <= 16


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", "cid"]),
            st.sampled_from([LONG, "hello", "LOUD AS CAN BE", "gold coins", "a.com b.com c.com"]),
            st.sampled_from([0, 1000, 299_999, 300_000, 3_600_000, 40_000_000]),
        ),
        max_size=60,
    )
)
def test_the_laws_of_it(story: list[tuple[str, str, int]]) -> None:
    """Whatever is said by whom and when, as somebody counts who keeps the whole story."""
    talk = Talk()
    tried: list[tuple[str, int]] = []
    sent: list[tuple[str, str, int]] = []
    warned: list[tuple[str, int]] = []
    raids: list[tuple[str, int]] = []
    blocked: list[tuple[str, int]] = []
    for who, text, pause_ms in story:
        talk.now_ms += pause_ms
        now_ms = talk.now_ms
        warnings = sum(one == who and now_ms - at_ms < HOUR_MS for one, at_ms in warned)
        blocks = sum(one == who and now_ms - at_ms < 24 * HOUR_MS for one, at_ms in blocked)
        told = any(one == who and now_ms - at_ms < 24 * HOUR_MS for one, at_ms in raids)
        first = beginner(tried) if text == LONG else None
        action, _, rule = talk.say(who, text).partition(" ")
        tried += [(who, now_ms)] * (text == LONG)
        if action in ("allow", "warn"):
            sent.append((who, text, now_ms))
            copies = [one for one, said, at_ms in sent if said == LONG == text and now_ms - at_ms < RULES.duplicate_ms]
            assert len(copies) <= 2 or len(set(copies)) == 1 or who == first, "a raid"
            assert text != "gold coins"
        if action == "warn":
            assert warnings < 2
            warned.append((who, now_ms))
        if action in ("block", "mute"):
            counts = rule != "raid" or told
            assert (action == "mute") is (counts and blocks >= 2)
            assert rule in ("words", "raid", "warnings")
            assert rule != "raid" or who != first, "nobody's words are made a raid by others"
            raids += [(who, now_ms)] * (rule == "raid")
            blocked += [(who, now_ms)] * counts


def beginner(tried: list[tuple[str, int]]) -> str | None:
    """Who said it first since it was last not said for as long as a repetition is one."""
    first = None
    for at, (who, at_ms) in enumerate(tried):
        if at == 0 or at_ms - tried[at - 1][1] >= RULES.duplicate_ms:
            first = who
    return first
