"""Words of strangers, made harmless before they go into a prompt. Pure.

`plain` takes away every means of pretending to be something else than text: markup, line breaks, what is invisible. `withheld`
takes out what no prompt may have in it, wherever somebody wrote it: tokens, keys, places, addresses of people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from brewd.cafe.text import is_blank
from brewd.errors import Rejected
from brewd.people import names

QUERY_MAX_CHARS: Final = 500
MARGIN: Final = 256
"""What is read beyond what is shown, so that something secret at the end is seen whole."""

GONE: Final = "[…]"
"""Stands where something was taken out."""

# Tags of the prompt are written with these, and by nobody else.
_MARKUP: Final = str.maketrans({"<": "‹", ">": "›", "`": "'", **{chr(code): None for code in (*range(9), *range(14, 28), 127)}})
_INVISIBLE: Final = re.compile("[\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]+")
_NOT_TEXT: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_CUT: Final = " …"

_SECRETS: Final = re.compile(
    r"eyJ[\w-]{6,}(?:\.[\w-]+){0,2}"  # a JWT
    r"|\bsk-[\w-]{12,}"  # a key of an API
    r"|\bbearer\s+[\w.~+/=-]{8,}"
    r"|\b(?:[0-9A-Z]{4}-){2}[0-9A-Z]{5}\b"  # the code on a receipt
    r"|[-+]?\b\d{1,3}[.,]\d{3,}\s*°?\s*[NSns]?[\s,;/]+[-+]?\d{1,3}[.,]\d{3,}"  # a place in degrees
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b",  # an id
    re.IGNORECASE,
)
_PERSONAL: Final = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"  # an e-mail address
    r"|\b[A-Z]{2}\d{2}(?:\s?[0-9A-Z]{4}){3,7}(?:\s?[0-9A-Z]{1,3})?\b"  # an IBAN
    r"|(?<![\w.])\+?\d(?:[\s()./-]{0,2}\d){7,}"  # a telephone number, or one of a card
    r"|(?<!\w)@\w[\w.-]*"  # somebody is called by name
    rf"|(?<!\w){names.SHAPE}(?!\w)",  # so is a guest, present or long gone
    re.IGNORECASE,
)

_SUSPICIOUS: Final = re.compile(r"[\d@-]|eyj|bearer", re.IGNORECASE)
"""Something that each of the above begins with or contains. Most of what people say has none of it, and is looked through once instead of a dozen times."""


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


def shown(text: str, max_chars: int, secrets: Iterable[str] = (), *, personal: bool = True) -> str:
    """What a prompt may show of `text`: plain, without what is withheld, and only then cut to its length, so that no half of a secret is left."""
    return cut(withheld(plain(text[: 2 * max_chars + MARGIN]), secrets, personal=personal), max_chars)


def cut(line: str, max_chars: int) -> str:
    return line if len(line) <= max_chars else line[: max_chars - len(_CUT)].rstrip() + _CUT


def plain(text: str) -> str:
    """One line of visible text without markup. Look-alikes of what is taken out are folded first."""
    if not text.isascii():
        folded = " ".join(unicodedata.normalize("NFKC", text).split())
        visible = _INVISIBLE.sub("", folded)
        if not visible.isprintable():
            visible = "".join(sign for sign in visible if unicodedata.category(sign) not in _NOT_TEXT)
        text = unicodedata.normalize("NFKC", visible)
    return " ".join(text.translate(_MARKUP).split())


def withheld(text: str, secrets: Iterable[str] = (), *, personal: bool = True) -> str:
    """`text`, which is plain already, without what must not be told. `secrets`: words taken out whole, in any case. `personal`: what says who somebody is, too."""
    if _SUSPICIOUS.search(text):
        text = _SECRETS.sub(GONE, text)
        if personal:
            text = _PERSONAL.sub(GONE, text)
    folded = text.casefold()
    for secret in secrets:
        if secret.casefold() in folded:  # most are in none, and to look closer at each costs much more
            text = _whole(secret).sub(GONE, text)
    return text


def _whole(secret: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)", re.IGNORECASE)


def secrets_of(words: Iterable[str | None]) -> tuple[str, ...]:
    """Those of the words that can be looked for, as `plain` would show them: a name of one or two letters is in every text."""
    seen = (plain(word) for word in words if word)
    return tuple(dict.fromkeys(word for word in seen if len(word) > 2))
