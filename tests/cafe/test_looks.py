"""What a text looks like, at the very edge of each rule; and the short cut never says otherwise than the rules do."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from brewd.cafe import looks


@pytest.mark.parametrize(
    ("text", "loud"),
    [
        ("ABCDEFghij", True),  # 6 of 10
        ("ABCDEfghij", False),  # 5 of 10 are not more than half
        ("ABCDEFGHI", False),  # nine letters
        ("A B C D E F g h i j !!! 123", True),
        ("ÄÖÜÄÖÜabcd", True),
        ("ÄÖÜÄÖabcde", False),
        ("ÄÖÜÄÖÜabc", False),
        ("ПРИВЕТ миру", True),
        ("Ein Kaffee für MICH bitte, nicht für Dich", False),
        ("12345 67890 !!!!", False),
        ("", False),
    ],
)
def test_shouting(text: str, loud: bool) -> None:
    assert looks.shouts(text, 50, 10) is loud


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("https://a.example/x?y=1.2.3", 1),
        ("http://localhost:8080", 1),
        ("see a.com, b.org;www.c.example", 3),
        ("(a.com)[b.net]<c.io>", 3),
        ("http://a.example,http://b.example", 2),
        ("a.comhttp://b.comhttp://c.com", 2),
        ("x.y.z/path and q.r/s", 2),
        ("bit.ly/abc t.co/xyz youtu.be/123", 3),
        ("www.example", 1),
        ("Hello. How are you? Fine. And you. Ok.", 0),
        ("it is 12.30, not 13.45, or 14.50.", 0),
        ("e.g. this, i.e. that, etc. and so on...", 0),
        ("well...then...maybe...not", 0),
        ("a.com. b.com! c.com?", 3),
        ("A.COM B.COM", 2),
        ("ｅｘａｍｐｌｅ.com", 1),
        (".com .net /", 0),
        ("192.0.2.1 and 203.0.113.9:8080, or 198.51.100.7/x", 3),
        ("1.2.3 4.5.6.7.8 1.2.3.400 300.1.1.1 1.2.3.4.", 1),
        ("\u202ehttp://a.example\u202c b\u2066.com", 2),
    ],
)
def test_links(text: str, count: int) -> None:
    assert looks.links(text, count) is False
    assert count == 0 or looks.links(text, count - 1) is True


@pytest.mark.parametrize(
    ("text", "stuck"),
    [
        ("noooooo", False),  # six
        ("nooooooo", True),
        ("!!!!!!!", True),
        ("😂" * 6, False),
        ("ha " + "😂" * 7, True),
        ("ü" * 7, True),
        ("       indented", False),
        ("ababababab", False),
        ("ĀāĀāĀāĀā", False),
        ("\x01" + "Ā" * 6, False),
        ("", False),
        ("x", False),
    ],
)
def test_a_key_that_got_stuck(text: str, stuck: bool) -> None:
    assert looks.repeats(text, 7) is stuck


INDEX = looks.index_of(["ass", "Buy Now", "buy gold today", "crêpe", "…", "日本"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("you ass!", "ass"),
        ("ASS", "ass"),
        ("ａss", "ass"),
        ("a\u200bss", "ass"),
        ("assassin, class, Scunthorpe, assess", None),
        ("as s", None),
        ("please BUY  now!!", "buy now"),
        ("buy, now", "buy now"),
        ("buy nowhere", None),
        ("buy gold today", "buy gold today"),
        ("buy gold tomorrow, buy", None),
        ("une crepe", "crepe"),
        ("日本 is far", "日本"),
        ("", None),
        ("a.s.s", "ass"),
        ("you A-S-S!", "ass"),
        ("what an a s s", "ass"),
        ("b_u_y n_o_w", "buy now"),
        ("а.ѕ.s", "ass"),
        ("a\u202e.s.\u2066s", "ass"),
        ("\u202eass\u202c", "ass"),
        ("p.a.s.s", None),
        ("a.s.s.u.m.e", None),
        ("vitamin a, s, s", None),
        ("a. s-s", None),
        ("a  s  s", None),
        ("as s. u s a", None),
        ("I a m fine, plan b c d", None),
    ],
)
def test_words_are_matched_whole(text: str, found: str | None) -> None:
    assert looks.unwanted(text, INDEX) == found


def test_without_a_list_nothing_is_unwanted() -> None:
    assert looks.unwanted("anything", {}) is None


@given(st.text(alphabet="aAbBé .:/😂\n", max_size=40) | st.text(max_size=200))
@example("AAAAAB.:c")
@example("aaaaaaa")
@example("\0\0\0\0\0\0\0")
def test_a_plain_text_breaks_no_rule(text: str) -> None:
    if looks.is_plain(text, 5, 2, 7):
        assert not looks.shouts(text, 50, 10)
        assert not looks.links(text, 2)
        assert not looks.repeats(text, 7)


@pytest.mark.parametrize("text", ["one flat white, please", "It is 12:30. Hello Ana, Bob & Cid", "hooooray" * 10, "a" * 4 + "b" * 4])
def test_an_ordinary_text_is_plain(text: str) -> None:
    assert looks.is_plain(text, 5, 2, 7)


@given(st.text(alphabet="ab😂é \n", max_size=60), st.integers(5, 9))
def test_repeats_are_what_counting_finds(text: str, times: int) -> None:
    longest, run, before = 0, 0, ""
    for letter in text:
        run = run + 1 if letter == before else 1
        before = letter
        if not letter.isspace():
            longest = max(longest, run)
    assert looks.repeats(text, times) is (longest >= times)


@pytest.mark.parametrize("text", ["a." * 5000, "://" * 3000, "A" * 10_000, "é" * 10_000, "a.com," * 1600, "x" * 9999 + "."])
def test_nothing_takes_long(text: str) -> None:
    """A thousandfold of what a message may have at most takes a thousand times as long, not a million times."""
    began_s = time.process_time()
    looks.shouts(text, 50, 10)
    looks.links(text, 2)
    looks.repeats(text, 7)
    looks.unwanted(text, INDEX)
    assert time.process_time() - began_s < 0.5
