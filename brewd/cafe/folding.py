"""A text as it looks, whatever it is made of: one form for all that a reader cannot tell apart.

Letter case, compatibility forms (ﬁ, Ａ, ①), accents and other combining marks, invisible characters, and letters of other
alphabets that look like Latin ones are folded away. Ambiguous pairs of one alphabet (1 and l, 0 and O) are left alone: folding
those would make one word of two honest ones.

Nearly every message is ASCII; that way is a few passes in C and no more.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

INVISIBLE_ASCII: Final = bytes([*range(0x21), 0x7F])
LOWER_ASCII: Final = bytes(range(256)).lower()
_CONTROLS_ASCII: Final = bytes([*range(9), *range(14, 32), 0x7F])  # those that are not spaces
_WORDS_ASCII: Final = bytes(byte if chr(byte).isalnum() and byte < 0x80 else 0x20 for byte in LOWER_ASCII)

# Letters of other alphabets beside the Latin one they are drawn like, after decomposition and case folding (after Unicode, UTS #39).
_LIKE_LATIN: Final = (
    "аa вb еe һh іi јj кk мm нh оo рp сc тt уy хx ѕs ԁd ԛq ԝw ѵv ьb ӏl αa βb γy εe ζz ηn ιi κk νv οo ρp τt υu χx ωw ϲc ϳj աw օo սu հh ոn զq "
    "ıi ɑa ɡg ɩi łl øo đd ħh ᴀa ʙb ᴄc ᴅd ᴇe ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz"
)
_SQUARED: Final = (0x1F150, 0x1F170)  # 🅐 and 🅰, each the first of an alphabet that does not decompose
_UNSEEN: Final = (
    (0x80, 0xA0), (0xAD, 0xAE), (0x300, 0x370), (0x483, 0x48A), (0x61C, 0x61D), (0x115F, 0x1161), (0x17B4, 0x17B6), (0x180B, 0x1810), (0x1AB0, 0x1B00), (0x1DC0, 0x1E00),
    (0x200B, 0x2010), (0x202A, 0x202F), (0x2060, 0x2070), (0x20D0, 0x2100), (0x2800, 0x2801), (0x3164, 0x3165), (0xFE00, 0xFE10), (0xFE20, 0xFE30),
    (0xFEFF, 0xFF00), (0xFFF0, 0xFFFC), (0x1BCA0, 0x1BCA4), (0x1D159, 0x1D15A), (0x1D173, 0x1D17B), (0xE0000, 0xE1000),
)  # fmt: skip
"""What is not seen, or only on the letter before it: controls, joiners, marks, fillers. Vowel signs, without which words differ, are not among them."""

_SEEN_ONLY: Final = {code: None for first, end in _UNSEEN for code in range(first, end)}

_TABLE: Final[dict[int, str | None]] = {
    **dict.fromkeys((0x1680, 0x2028, 0x2029), " "),
    **_SEEN_ONLY,
    0x3002: ".",  # the ideographic full stop, which in a link is a dot
    **{first + at: chr(ord("a") + at) for first in _SQUARED for at in range(26)},
    **{ord(pair[0]): pair[1] for pair in _LIKE_LATIN.split()},
}


_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


def skeleton(text: str) -> bytes:
    """The text without any space, folded: equal for texts that look equal."""
    return _as_ascii_as_can_be(text).translate(LOWER_ASCII, INVISIBLE_ASCII)


def seen(text: str) -> str:
    """Without what is not seen; otherwise as it is."""
    return text if text.isascii() else text.translate(_SEEN_ONLY)


def folded(text: str) -> str:
    """With its spaces and capitals, folded."""
    return text if text.isascii() else _as_ascii_as_can_be(text).decode("utf-8", "surrogatepass")


def words(text: str) -> list[str]:
    """Its words, folded: what stands between spaces and punctuation."""
    plain = _as_ascii_as_can_be(text)
    if plain.isascii():
        return plain.translate(_WORDS_ASCII, _CONTROLS_ASCII).decode().split()
    letters = plain.translate(LOWER_ASCII, _CONTROLS_ASCII).decode("utf-8", "surrogatepass")
    return "".join(letter if letter.isalnum() else " " for letter in letters).split()


def _as_ascii_as_can_be(text: str) -> bytes:
    """Folded but for the case of ASCII letters."""
    return text.encode() if text.isascii() else _folded_text(text)


@lru_cache(maxsize=8)  # one text is asked for by each rule in turn
def _folded_text(text: str) -> bytes:
    return _BEYOND_ASCII.sub(_folded, text).encode("utf-8", "surrogatepass")


def _folded(found: re.Match[str]) -> str:
    return _fold(found[0])


@lru_cache(maxsize=1024)  # a language has few such runs, and each room the same ones
def _fold(run: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", run).casefold()).translate(_TABLE)
