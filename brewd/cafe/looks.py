"""What one text looks like: whether it shouts, what it links to, whether a key got stuck, which unwanted words are in it. Pure.

Everybody's every message comes by here, and nearly all of them are fine. So `is_plain` asks something cheaper first, after which
a text that is fine need not be asked the questions, and no regular expression is run at all. A row of one character is a row of
one kind of character too, of whatever kinds there are: the kinds here are such that words and numbers change them all the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby
from typing import Final

from brewd.cafe.folding import folded, seen, words

Index = dict[str, tuple[tuple[str, ...], ...]]
"""Unwanted words and phrases, each as its words, by the first of them."""

_KINDS: Final = "vcs"


@lru_cache(maxsize=64)
def rows(times: int) -> tuple[str, str, str]:
    """What has to be in the kinds of a text in which a character is so many times in a row."""
    vowels, consonants, others = (kind * times for kind in _KINDS)
    return vowels, consonants, others


def _kind(byte: int) -> str:
    """Vowels, consonants, and all the rest, with the digits dealt out among them; capitals and what can be part of a link by themselves."""
    letter = chr(byte)
    if "A" <= letter <= "Z" or letter in ".:":
        return "." if letter in ".:" else "A"
    if "a" <= letter <= "z":
        return "v" if letter in "aeiouy" else "c"
    return _KINDS[byte % 3] if "0" <= letter <= "9" else "s"


KIND: Final = "".join(map(_kind, range(256))).encode()
_ANY_KIND: Final = bytes(ord(_KINDS[byte % 3]) for byte in range(256))
_NOT_CAPITAL: Final = bytes(byte for byte in range(256) if not 0x41 <= byte <= 0x5A)
_NOT_LETTER: Final = bytes(byte for byte in range(256) if not bytes([byte]).isalpha())
_ALIKE: Final = bytes(4 * 1000)
_BETWEEN_LINKS: Final = str.maketrans(dict.fromkeys(",;()<>[]{}|\"'", " "))
# fmt: off
_ENDINGS: Final = frozenset([
    "com", "net", "org", "info", "biz", "xyz", "top", "shop", "site", "online", "club", "live", "link", "click", "app", "dev", "io", "me", "tv", "gg", "ly",
    "to", "cc", "co", "ai", "ru", "cn", "su", "uk", "us", "eu", "de", "at", "ch", "fr", "it", "es", "nl", "pl",
])
# fmt: on
"""Of names that are links without saying so. Of others, only those that go on with a slash."""

_ADDRESS: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!$)|$)){4}", re.ASCII)

_SPELLED: Final = bytes([1, 1, 1])
"""Three words of one letter each, one after the other."""

_SPELLED_OUT: Final = re.compile(r"(?<![^\W_])[^\W_](?P<between>[\W_])(?:[^\W_](?P=between))+[^\W_](?![^\W_])")
"""Letters, each apart from the next by the same single sign."""


def is_plain(text: str, capitals_max: int, links_max: int, repeats_min: int) -> bool:
    """Whether it is ASCII, has no more capitals, no more dots and colons, and no character so often in a row. False says nothing."""
    if not text.isascii():
        return False
    raw = text.encode()
    kinds = raw.translate(KIND).decode()  # `in` takes a third of the time in a str
    # A row of capitals, or of dots, is none of those that are looked for then.
    if kinds.count("A") > min(capitals_max, repeats_min - 1) or kinds.count(".") > min(links_max, repeats_min - 1):
        return False
    return not _has_row(kinds, repeats_min) or not _is_alike(raw, 1, repeats_min)


def shouts(text: str, percent: int, letters_min: int) -> bool:
    """More than `percent` of the letters, which are at least `letters_min`, are capitals."""
    ascii_part = text.encode("ascii", "ignore")
    at_most = len(ascii_part.translate(None, _NOT_CAPITAL)) + len(text) - len(ascii_part)
    if at_most * 100 <= percent * max(letters_min, len(ascii_part.translate(None, _NOT_LETTER))):
        return False
    capitals = sum(map(str.isupper, text))
    if capitals * 100 <= percent * letters_min:
        return False
    letters = sum(letter.isalpha() or letter.isupper() for letter in text)  # 🅰 is a capital and yet no letter
    return letters >= letters_min and capitals * 100 > percent * letters


def links(text: str, links_max: int) -> bool:
    """More than `links_max` links: `scheme://…`, `www.…`, names with a common ending, names with a path, addresses like 192.0.2.1."""
    text = folded(text)
    if text.count(".") + text.count("://") <= links_max:
        return False
    parts = text.translate(_BETWEEN_LINKS).casefold().split()
    return sum(part.count("://") or _is_name(part) for part in parts) > links_max


def repeats(text: str, times: int) -> bool:
    """One character, not a space, at least `times` in a row."""
    if not _has_row(_kinds(text), times) and (text.isascii() or not _has_row(_kinds(folded(text)), times)):
        return False
    text = seen(text)
    letters, size = (text.encode(), 1) if text.isascii() else (text.encode("utf-32-be", "surrogatepass"), 4)
    if not _is_alike(letters, size, times):
        return False
    return any(not letter.isspace() and sum(1 for _ in run) >= times for letter, run in groupby(text))


def _kinds(text: str) -> str:
    """A row of one character leaves a row, in the last bytes of their numbers."""
    return text.encode("utf-32-le", "surrogatepass")[::4].translate(_ANY_KIND).decode()


def _has_row(kinds: str, times: int) -> bool:
    return any(row in kinds for row in rows(times))


def _is_alike(letters: bytes, size: int, times: int) -> bool:
    """Some letter, of `size` bytes each, is there `times` in a row, spaces too. As one long number: exclusive-or with itself one letter on is zero where two are alike."""
    number = int.from_bytes(letters, "big")
    return _ALIKE[: size * (times - 1)] in (number ^ number >> 8 * size).to_bytes(len(letters), "big")


def unwanted(text: str, index: Index) -> str | None:
    """The first unwanted word or phrase in it, also when it is spelled out: `g.o.l.d`."""
    said = words(text) if index else []
    if _SPELLED in bytes(min(len(word), 255) for word in said):
        said = words(_SPELLED_OUT.sub(_joined, folded(text)))
    if index.keys().isdisjoint(said):
        return None
    for at, word in enumerate(said):
        for phrase in index.get(word, ()):
            if tuple(said[at : at + len(phrase)]) == phrase:
                return " ".join(phrase)
    return None


def _joined(spelled: re.Match[str]) -> str:
    return spelled[0].replace(spelled["between"], "")


def index_of(unwanted: Iterable[str]) -> Index:
    """What `unwanted` looks words up in."""
    index: Index = {}
    for phrase in filter(None, (tuple(words(entry)) for entry in unwanted)):
        index[phrase[0]] = (*index.get(phrase[0], ()), phrase)
    return index


def _is_name(part: str) -> bool:
    host, _, path = part.partition("/")
    name = host.partition(":")[0].rstrip(".!?")
    first, _, ending = name.rpartition(".")
    if first.strip(".") != first or not first:
        return False
    return first == "www" or first.startswith("www.") or ending in _ENDINGS or path != "" or _ADDRESS.fullmatch(name) is not None
