"""Words of strangers, made harmless before they go into a prompt. Pure.

`plain` takes away every means of pretending to be something else than text: markup, line breaks, what is invisible. `withheld`
takes out what no prompt may have in it, wherever somebody wrote it: tokens, keys, places, addresses of people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from brewd.cafe.text import is_blank
from brewd.cafe.topics import words_of
from brewd.errors import Rejected
from brewd.people import names

QUERY_MAX_CHARS: Final = 500
GONE: Final = "[…]"
"""Stands where something was taken out."""

# Tags of the prompt are written with these, and by nobody else. Dashes and quotation marks are told apart by telephones, not by people.
_MARKUP: Final = str.maketrans("<>`‐‑‒–—―−‘’", "‹›'-------''", "".join(map(chr, (*range(9), *range(14, 28), 127))))
_ANY_MARKUP: Final = re.compile(f"[{re.escape(''.join(map(chr, _MARKUP)))}]")
_INVISIBLE: Final = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0000-\U000e0fff]+")
_NOT_TEXT: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_CONTROLS: Final = frozenset({"Cc", "Cf", "Cs"})
_TOLD: Final = "\n\t\u200c\u200d"  # the last two join letters of Persian words and parts of many emoji
_CUT: Final = " …"

_DIGIT: Final = r"\d"
_DIGITS: Final = re.compile(_DIGIT)

# Signs that are no ASCII are never the end of a word here: much is written without spaces. For speed each begins with what is rare, and looks back from there.
_SECRETS: Final = (
    ("eyj", re.compile(r"eyj[a-z0-9_-]{6,}(?:\.[a-z0-9_-]+){0,2}")),  # a JWT
    ("sk-", re.compile(r"sk-(?<![a-z0-9]sk-)[a-z0-9_-]{12,}")),  # a key of an API
    ("bearer", re.compile(r"bearer(?<![a-z0-9]bearer)\s+[a-z0-9_.~+/=-]{8,}")),
    ("", re.compile(r"[a-z0-9_-]{43,}")),  # what a patron comes back with, or another secret of 256 bits
    ("-", re.compile(r"(?<![a-z0-9])(?:[0-9a-z]{4}-){2}[0-9a-z]{5}(?![a-z0-9])")),  # the code on a receipt
    ("-", re.compile(r"(?<![a-z0-9])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![a-z0-9])")),  # an id
    # a place in degrees, with parts of ten or of sixty
    (_DIGIT, re.compile(r"[-+\d](?<!\d.)\d{0,3}[.,]\d{3,}(?:\s*°?\s*[nso]?[\s,;/、]+[nsewo]?\s*[-+]?|(?<=\d{4})\D{1,12})\d{1,3}[.,]\d{3,}")),
    ("°", re.compile(r"\d(?<!\d\d)\d{0,2}\s?°\s?\d{1,2}(?:[.,]\d+)?\s?['′](?:\s?\d{1,2}(?:[.,]\d+)?\s?(?:\"|''|′′))?(?:\s?[nsewo](?![a-z]))?")),
)
_PERSONAL: Final = (
    ("@", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")),  # an e-mail address
    ("@", re.compile(r"@(?<![a-z0-9]@)\w[\w.-]*")),  # somebody is called by name
    (_DIGIT, re.compile(r"(?<![a-z0-9])[a-z]{2}\d{2}(?:\s?[0-9a-z]{4}){3,7}(?:\s?[0-9a-z]{1,3})?(?![a-z0-9])")),  # an IBAN
    (_DIGIT, re.compile(r"[+\d](?<!\d.)(?:[\s()./-]{0,2}\d){7,}")),  # a telephone number, or one of a card
    (_DIGIT, re.compile(names.RECEIPT_SHAPE)),  # so is a guest, present or long gone
    ("-", re.compile(names.MADE_SHAPE)),
)
"""What to look for in folded text, each with what is in every one of them: most of what people say has none of it, and is not looked through a dozen times."""

_PAIR: Final = re.compile(names.PAIR_SHAPE)
_BEGINNINGS: Final = ("bearer", "eyj")
_ASCII_SIGNS: Final = (*"@-0123456789", *_BEGINNINGS)
_OTHER_SIGNS: Final = re.compile(r"[\d‐‑‒–—―−]")


def checked_query(query: str) -> str:
    """The question, without space around it. Raises `Rejected` (`invalid_request`) for one that nobody could answer."""
    if len(query) > QUERY_MAX_CHARS:
        raise _refused(f"{len(query)} characters; at most {QUERY_MAX_CHARS} are allowed")
    if not query.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\t\n\r" for sign in query):
        raise _refused("must not have control characters")
    if is_blank(query) or not plain(query):
        raise _refused("there is nothing in it to read")
    return query.strip()


def _refused(problem: str) -> Rejected:
    return Rejected("invalid_request", f"The question was not accepted: {problem}.", errors=[{"path": "data.query", "detail": problem}])


def shown(text: str, max_chars: int, secrets: Iterable[str] = (), *, personal: bool = True, taken: list[str] | None = None) -> str:
    """What a prompt may show of `text`: plain, without what is withheld, and only then cut to its length, so that no half of a secret is left."""
    return cut(withheld(plain(text), secrets, personal=personal, taken=taken), max_chars)


def cut(line: str, max_chars: int) -> str:
    return line if len(line) <= max_chars else line[: max_chars - len(_CUT)].rstrip() + _CUT


def plain(text: str) -> str:
    """One line of visible text without markup. Look-alikes of what is taken out are folded first."""
    if not text.isascii():
        folded = " ".join(unicodedata.normalize("NFKC", text).split())
        visible = _INVISIBLE.sub("", folded)
        if not visible.isprintable():
            visible = "".join(sign for sign in visible if unicodedata.category(sign) not in _NOT_TEXT)
        text = _ANY_MARKUP.sub(lambda sign: sign[0].translate(_MARKUP), unicodedata.normalize("NFKC", visible))  # a tenth of what all would take
    else:
        text = text.translate(_MARKUP)
    return " ".join(text.split())


def told(text: str) -> str:
    """What the model says, without signs that control something else than its lines: a terminal, the order of letters. Postgres keeps no NUL."""
    if text.isprintable():
        return text
    return "".join(sign for sign in text if sign in _TOLD or unicodedata.category(sign) not in _CONTROLS)


def withheld(text: str, secrets: Iterable[str] = (), *, personal: bool = True, taken: list[str] | None = None) -> str:
    """`text`, which is plain already, without what must not be told. `secrets`: words taken out whole, in any case. `personal`: what says who somebody is, too.
    What is taken out is added to `taken`, folded."""
    folded = text.casefold()
    spans = [found.span() for pattern in _worth_a_look(folded, secrets, personal) for found in pattern.finditer(folded)]
    if not spans:
        return text
    if taken is not None:
        taken += (_with_letters_around(folded, *span) for span in spans)
    return _without(text if len(text) == len(folded) else folded, spans)  # else its signs stand elsewhere, after an ß


def _worth_a_look(folded: str, secrets: Iterable[str], personal: bool) -> Iterator[re.Pattern[str]]:
    has_digit = any(digit in folded for digit in "0123456789") if folded.isascii() else _DIGITS.search(folded) is not None  # a third of the time
    for sign, pattern in (*_SECRETS, *_PERSONAL) if personal else _SECRETS:
        if has_digit if sign is _DIGIT else sign in folded:
            yield pattern
    for secret in secrets:
        if (word := secret.casefold()) in folded:
            yield _whole(word)


@lru_cache(maxsize=1024)
def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])")


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """What overlaps goes as one."""
    kept, at = "", -1
    for start, end in sorted(spans):
        if start > at:
            kept += text[max(at, 0) : start] + GONE
        at = max(at, end)
    return kept + text[at:]


def _with_letters_around(folded: str, start: int, end: int) -> str:
    """Where nobody writes spaces, a name and what is said of it are one word."""
    while start and folded[start - 1].isalpha():
        start -= 1
    while end < len(folded) and folded[end].isalpha():
        end += 1
    return folded[start:end]


def taken_from(text: str, words: Iterable[str]) -> list[str]:
    """What `withheld` takes out of a text, which is as it was written, if one of these words, which are folded, may be in there. It is looked at only near
    words that have more than letters in them, or begin a secret: all that was said is gone through for each prompt."""
    taken: list[str] = []
    folded = text.casefold()
    if _may_hide(folded) and any(word in folded for word in words):
        withheld(_near_signs(plain(folded)), taken=taken)
    return taken


def _may_hide(text: str) -> bool:
    if any(sign in text for sign in _ASCII_SIGNS):
        return True
    return not text.isascii() and (_OTHER_SIGNS.search(text) is not None or not unicodedata.is_normalized("NFKC", text))


def _near_signs(line: str) -> str:
    said = line.split(" ")
    begins = _BEGINNINGS if any(beginning in line for beginning in _BEGINNINGS) else ()
    near = {at + by for at, word in enumerate(said) if not word.isalpha() or any(one in word for one in begins) for by in range(-2, 3)}
    return " ".join(said[at] for at in sorted(near) if 0 <= at < len(said))


def harmless(words: Iterable[str], secrets: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Those of the words, which are plain already, that are no part of what is withheld and have none in them."""
    parts = {part for secret in secrets for part in words_of(secret)}
    whole = "\n".join((*(secret.casefold() for secret in secrets), *taken))
    return [
        word for word in words
        if GONE not in word and (folded := word.casefold()) not in whole and not _PAIR.search(folded) and not any(part in folded for part in parts)
    ]  # fmt: skip


def secrets_of(words: Iterable[str | None]) -> tuple[str, ...]:
    """Those of the words that can be looked for, as `plain` would show them: a name of one or two letters is in every text."""
    seen = (plain(word) for word in words if word)
    return tuple(dict.fromkeys(word for word in seen if len(word) > 2))
