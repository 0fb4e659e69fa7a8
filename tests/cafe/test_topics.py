"""Topics: words of four letters and more, fading by half an hour after hour, never more than fifty."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.cafe.topics import CANDIDATES_MAX, HALF_LIFE_MS, KEPT_MAX, SCORE_MIN, STOP_WORDS, WORD_LETTERS_MIN, Topics, words_of
from tests.cafe.rooms import NOW_MS

DAY_MS = 24 * HALF_LIFE_MS


def scores(topics: Topics, now_ms: int, limit: int = 50) -> dict[str, float]:
    return {view.topic: view.score for view in topics.top(limit, now_ms)}


def distinct(count: int) -> list[str]:
    """That many words which are no stop words."""
    letters = string.ascii_lowercase
    return [f"zz{letters[n // 26]}{letters[n % 26]}{letters[n // 676]}" for n in range(count)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Tea and COFFEE, coffee!", {"coffee"}),
        ("cat dogs", {"dogs"}),
        ("jazz-night at nine", {"jazz", "night", "nine"}),
        ("route66 c3po half2half", {"route", "half"}),
        ("naïve Größe 東京タワー", {"naïve", "grösse", "東京タワー"}),
        ("snake_case_word", {"snake", "case", "word"}),
        ("have been there with them, vielleicht sind wir über", set()),
        ("a" * 41 + " " + "b" * 40, {"b" * 40}),
        ("", set()),
    ],
)
def test_words_of_four_letters_and_more_count_once_lower_cased_without_stop_words(text: str, words: set[str]) -> None:
    assert words_of(text) == words


def test_every_stop_word_is_one_that_would_count_otherwise() -> None:
    assert [word for word in STOP_WORDS if len(word) < WORD_LETTERS_MIN or word != word.casefold() or not word.isalpha()] == []


def test_a_mention_just_now_is_one_and_an_hour_later_a_half() -> None:
    topics = Topics(NOW_MS)
    assert topics.add("espresso", NOW_MS)
    assert topics.add("espresso crema", NOW_MS)
    assert scores(topics, NOW_MS) == {"espresso": 2.0, "crema": 1.0}
    assert scores(topics, NOW_MS + HALF_LIFE_MS) == {"espresso": 1.0, "crema": 0.5}
    assert not topics.add("and so on", NOW_MS)


def test_a_fresh_word_counts_more_than_an_old_one() -> None:
    topics = Topics(NOW_MS)
    topics.add("yesterday", NOW_MS)
    topics.add("espresso", NOW_MS + 2 * HALF_LIFE_MS)
    assert list(scores(topics, NOW_MS + 2 * HALF_LIFE_MS).items()) == [("espresso", 1.0), ("yesterday", 0.25)]


def test_what_has_faded_is_not_shown() -> None:
    topics = Topics(NOW_MS)
    topics.add("espresso", NOW_MS)
    assert scores(topics, NOW_MS + 4 * HALF_LIFE_MS) == {"espresso": pytest.approx(0.0625, abs=0.001)}
    assert scores(topics, NOW_MS + 5 * HALF_LIFE_MS) == {}


def test_ties_go_by_word_and_the_limit_is_kept() -> None:
    topics = Topics(NOW_MS)
    topics.add("cherry apple banana", NOW_MS)
    assert list(scores(topics, NOW_MS, limit=2)) == ["apple", "banana"]
    assert scores(topics, NOW_MS, limit=0) == {}


def test_fifty_are_shown_at_most_and_a_hundred_kept() -> None:
    topics = Topics(NOW_MS)
    words = distinct(400)
    topics.add(" ".join(words[:60]), NOW_MS)
    topics.add(" ".join(words[:3]), NOW_MS)
    for word in words[60:]:
        topics.add(word, NOW_MS)
        assert len(topics.top(1000, NOW_MS)) <= KEPT_MAX
        assert len(topics._weights) <= CANDIDATES_MAX
    assert set(words[:3]) <= set(scores(topics, NOW_MS))


@pytest.mark.parametrize("gap_ms", [DAY_MS, 101 * HALF_LIFE_MS, 60 * DAY_MS, 400 * DAY_MS])
def test_a_room_that_was_silent_for_long_goes_on(gap_ms: int) -> None:
    topics = Topics(NOW_MS)
    topics.add("espresso", NOW_MS)
    assert scores(topics, NOW_MS + gap_ms) == {}
    topics.add("crema", NOW_MS + gap_ms)
    assert scores(topics, NOW_MS + gap_ms) == {"crema": 1.0}
    topics.add("crema", NOW_MS + gap_ms + HALF_LIFE_MS)
    assert scores(topics, NOW_MS + gap_ms + HALF_LIFE_MS) == {"crema": 1.5}


def test_a_restored_room_goes_on_from_the_scores_it_is_given() -> None:
    topics = Topics(NOW_MS)
    topics.restore([("espresso", 3.0), ("crema", 0.5)], NOW_MS + HALF_LIFE_MS)
    topics.add("crema", NOW_MS + HALF_LIFE_MS)
    assert scores(topics, NOW_MS + HALF_LIFE_MS) == {"espresso": 3.0, "crema": 1.5}


def test_the_words_of_a_deleted_message_are_gone() -> None:
    topics = Topics(NOW_MS)
    topics.add("espresso zanzibar", NOW_MS)
    assert topics.forget("Zanzibar!")
    assert scores(topics, NOW_MS) == {"espresso": 1.0}
    assert not topics.forget("zanzibar")


said = st.lists(st.tuples(st.integers(0, 6 * HALF_LIFE_MS), st.lists(st.sampled_from(distinct(30)), min_size=1, max_size=5)), min_size=1, max_size=30)


@given(said=said, later_ms=st.integers(0, 200 * HALF_LIFE_MS))
def test_scores_are_the_sum_of_what_each_mention_is_still_worth(said: list[tuple[int, list[str]]], later_ms: int) -> None:
    topics = Topics(NOW_MS)
    now_ms = NOW_MS
    mentions: list[tuple[int, str]] = []
    for gap_ms, words in said:
        now_ms += gap_ms
        topics.add(" ".join(words), now_ms)
        mentions += [(now_ms, word) for word in set(words)]
    now_ms += later_ms
    worth: dict[str, float] = {}
    for at_ms, word in mentions:
        worth[word] = worth.get(word, 0.0) + 2.0 ** (-(now_ms - at_ms) / HALF_LIFE_MS)
    shown = scores(topics, now_ms)
    for word, score in worth.items():
        if abs(score - SCORE_MIN) > 0.002:
            assert shown.get(word, 0.0) == pytest.approx(score if score > SCORE_MIN else 0.0, abs=0.002)
