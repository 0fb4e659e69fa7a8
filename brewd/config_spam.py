"""What an operator can set about spam: the section `limits.spam` of the config. See `cafe/spam.py` for the rules these are the numbers of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, field

from brewd.config_file import Section

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=2_678_400)]

WORDS_MAX: Final = 1000
WORD_CHARS_MAX: Final = 64
_PATTERN_SIGNS: Final = frozenset("\\^$.|?*+()[]{}")


class Spam(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: nothing is spam")] = True
    duplicate_s: Annotated[Seconds, Meta(description="the same text again within this is a repetition; soft")] = 300
    capitals_percent: Annotated[int, Meta(ge=1, le=100, description="more capitals than this share of the letters; soft; 100 = never")] = 50
    capitals_letters_min: Annotated[Count, Meta(le=1000, description="… in a text of at least so many letters")] = 10
    links_max: Annotated[int, Meta(ge=0, le=1000, description="more links than this; soft")] = 2
    repeats_min: Annotated[int, Meta(ge=5, le=1000, description="a character so many times in a row; soft")] = 7
    words: Annotated[list[str], Meta(description="words and phrases that are not wanted, matched whole and in any case; hard")] = field(default_factory=list)
    raid_copies: Annotated[Count, Meta(le=8, description="copies of one text by several users within duplicate_s that go out; hard after that")] = 2
    raid_chars_min: Annotated[Count, Meta(le=1000, description="… of a text of at least so many characters: many wish each other a good morning")] = 32
    warnings: Annotated[Count, Meta(le=1000, description="so many soft ones within warnings_s: the last of them does not go out")] = 3
    warnings_s: Seconds = 3600
    blocks: Annotated[Count, Meta(le=1000, description="so many that did not go out within blocks_s: muted for mute_s")] = 3
    blocks_s: Seconds = 86400
    mute_s: Seconds = 86400


def check_words(words: list[str]) -> Iterator[str]:
    """A sentence for everything that is wrong with the word list."""
    if len(words) > WORDS_MAX:
        yield f"has {len(words)} entries; at most {WORDS_MAX} are possible"
    for word in words:
        if len(word) > WORD_CHARS_MAX:
            yield f"{word[:20]!r}… has {len(word)} characters; a word or phrase has at most {WORD_CHARS_MAX}"
        elif signs := sorted(_PATTERN_SIGNS.intersection(word)):
            yield f"{word!r} has {' '.join(signs)} in it; words are plain text, not patterns, and are matched whole"
        elif not any(letter.isalnum() for letter in word):
            yield f"{word!r} has no letter in it"
