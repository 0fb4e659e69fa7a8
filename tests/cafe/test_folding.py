"""What looks alike is alike, and nothing else is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.cafe.folding import skeleton, words


@pytest.mark.parametrize(
    "disguised",
    [
        "FREE coffee",
        "f r e e   c o f f e e",
        "free\u200bcof\u200dfee\ufeff",
        "fr\u00ade\u2060e coffee",
        "frее соffее",  # Cyrillic е, с, о
        "ｆｒｅｅ ｃｏｆｆｅｅ",
        "𝐟𝐫𝐞𝐞 𝓬𝓸𝓯𝓯𝓮𝓮",
        "ﬀ".join(["free co", "ee"]),
        "frée coffée",
        "f\u0336r\u0336e\u0336e\u0336 coffee",
        "🅵🆁🅴🅴 🅲🅾🅵🅵🅴🅴",
        "ⓕⓡⓔⓔ ⓒⓞⓕⓕⓔⓔ",
        "free\u3000coffee",
        "free\u2028coffee",
        "free\x00\x1fcoffee\x7f",
    ],
)
def test_a_disguise_is_seen_through(disguised: str) -> None:
    assert skeleton(disguised) == b"freecoffee"


@pytest.mark.parametrize(("one", "other"), [("bail", "ball"), ("10", "lo"), ("Maß", "Mast"), ("नमस्ते", "नमस्त"), ("кот", "код"), ("a.b", "ab"), ("1", "2")])
def test_what_a_reader_can_tell_apart_stays_apart(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_letters_that_have_no_latin_likeness_stay_what_they_are() -> None:
    assert skeleton("Привет Мир").decode() == "пpиbetmиp"
    assert skeleton("\ud800!") != skeleton("!")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop, it's 5-ish!", ["don", "t", "stop", "it", "s", "5", "ish"]),
        ("ein großes Stück Kuchen…", ["ein", "grosses", "stuck", "kuchen"]),
        ("ѕсunthorре\u200b, ok?", ["scunthorpe", "ok"]),
        ("¿qué?", ["que"]),
        ("日本 coffee", ["日本", "coffee"]),
        (" \n", []),
    ],
)
def test_words_are_what_stands_between_spaces_and_punctuation(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text())
def test_case_spaces_and_forms_never_matter(text: str) -> None:
    known = skeleton(text)
    assert skeleton(text + " ") == skeleton("\u200b" + text) == known
    assert skeleton(unicodedata.normalize("NFKC", text)) == known
    assert skeleton(unicodedata.normalize("NFD", text)) == known


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_and_the_rest_go_by_one_measure(text: str) -> None:
    """The short way for ASCII gives what the long one gives."""
    long_way = skeleton(f"{text}é")
    assert long_way == skeleton(text) + b"e"
    assert words(f"{text} é") == [*words(text), "e"]
