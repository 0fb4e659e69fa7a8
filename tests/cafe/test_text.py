"""What counts as nothing to read."""

from __future__ import annotations

import pytest

from brewd.cafe.text import is_blank

BLANK = {
    "nothing": "",
    "spaces": " \t\r\n\u00a0\u2003\u3000\u2028",
    "controls": "\0\x01\x07\x1b\x7f\x85",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "bidi": "\u200e\u200f\u202a\u202e\u202c\u2066\u2069\u061c",
    "a soft hyphen": "\u00ad",
    "variation selectors": "\ufe00\ufe0f\U000e0100\u180b",
    "tags": "\U000e0001\U000e0041\U000e007f",
    "places kept free for invisible ones": "\u2065\ufff0\ufff8\U000e0000\U000e0fff",
    "fillers": "\u3164\u115f\u1160\uffa0",
    "a braille cell without a dot": "\u2800",
    "a note without a head": "\U0001d159",
    "marks with nothing under them": "\u0301\u0489\u20dd\u093e",
    "an emoji's joints": "\u200d\ufe0f\u20e3",
    "all sorts": " \u200b\u3164\u2800\u0301\x01",
}

SEEN = [
    ".", "x", "\x01x", "\u200bx\u200b", "e\u0301", "\u00e9", "\u0e33", "\u0915\u093e", "\u2801", "\u1100\u1160", "\U0001f375", "\U0001f3fb", "1\ufe0f\u20e3",
    "\U0001f1e9\U0001f1ea", "\U0001f468\u200d\U0001f469", "\U0001f3f4\U000e0067\U000e007f", "\ue000", "\ufffd", "\U0001faea", " \n\u3164" * 300 + "!",
]  # fmt: skip


@pytest.mark.parametrize("name", BLANK)
def test_what_nobody_can_see_is_blank(name: str) -> None:
    assert is_blank(BLANK[name])
    assert all(is_blank(sign) for sign in BLANK[name])


@pytest.mark.parametrize("text", SEEN)
def test_what_somebody_can_see_is_not(text: str) -> None:
    assert not is_blank(text)
