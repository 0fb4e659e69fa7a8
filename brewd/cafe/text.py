"""Whether a text has anything in it to read. Pure: what Unicode calls its characters, and the few whose name is not the truth."""

from __future__ import annotations

import unicodedata
from typing import Final

_ASCII_UNSEEN: Final = "".join(map(chr, [*range(33), 127]))

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Mc", "Me", "Mn", "Zl", "Zp", "Zs"})
"""Categories: controls and formats (zero-width, bidi), marks with nothing under them (variation selectors too), spaces."""

_BLANK: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159\u2065" + "".join(map(chr, range(0xFFF0, 0xFFF9))))
"""Shown as nothing by name or by promise: fillers of Hangul, a braille cell without a dot, a note without a head, places kept free for the like."""


def is_blank(text: str) -> bool:
    """Whether nobody could see anything of it: empty, or made of spaces and invisible characters alone."""
    if text.isascii():
        return not text.strip(_ASCII_UNSEEN)
    # From E0000 to E0FFF there are tags, and places kept free for such.
    return all(unicodedata.category(sign) in _UNSEEN or sign in _BLANK or "\U000e0000" <= sign <= "\U000e0fff" for sign in text)
