"""Throw-away names: two friendly words and a number. Nothing in them says who got them."""

from __future__ import annotations

from typing import Final

from brewd.runtime.ids import Ids


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ADJECTIVES: Final = _words(
    "Amber Ample Autumn Balmy Bold Brave Breezy Bright Brisk Calm Candid Cheery Civil Clever Cosy Crisp "
    "Curious Dapper Daring Deft Eager Early Earnest Easy Fair Fancy Festive Fleet Fond Free Gentle Glad "
    "Golden Grand Happy Hazel Honest Humble Jolly Jovial Keen Kind Lively Loyal Lucky Mellow Merry Mild "
    "Modest Neat Noble Patient Plucky Polite Quick Quiet Rustic Serene Silver Smooth Sunny Velvet Warm Witty"
)

_NOUNS: Final = _words(
    "Acorn Badger Barley Beaver Birch Bison Cardinal Cedar Cinnamon Clover Cocoa Cormorant Crane Cricket Curlew Dolphin "
    "Falcon Fennel Fern Finch Fox Gecko Ginger Hare Hazelnut Heron Hickory Ibis Jasmine Juniper Kestrel Kingfisher "
    "Lark Lemur Linden Lynx Magpie Maple Marten Mocha Nutmeg Olive Orchid Osprey Otter Owl Panda Pepper "
    "Plover Puffin Quail Raven Robin Saffron Sage Sparrow Starling Swallow Swift Thistle Walnut Willow Wren Yarrow"
)


def _either(words: tuple[str, ...]) -> str:
    """One of them, in lower case, as a regular expression. By first letters: one after the other takes five times as long."""
    firsts = dict.fromkeys(word[0] for word in words)
    return "(?:" + "|".join(f"{first}(?:{'|'.join(word[1:] for word in words if word[0] == first)})".lower() for first in firsts) + ")"


_FIRST, _SECOND = _either(_ADJECTIVES), _either(_NOUNS)

PAIR_SHAPE: Final = _FIRST + _SECOND
"""What names begin with, in lower case, as a regular expression."""

RECEIPT_SHAPE: Final = rf"{_FIRST}[\s._-]?{_SECOND}[\s._-]?\d{{4}}(?!\d)"
"""Every name that a receipt can give, in lower case, as a regular expression: whatever stands around it, and a space or a dot within."""

MADE_SHAPE: Final = rf"{PAIR_SHAPE}-[0-9a-z]{{6}}"
"""The same of `made_name`, as it is: what is like it with a space in it can be a cinnamon-glazed bun."""


def receipt_name(ids: Ids) -> str:
    """`MellowOtter4821`: one of 37 million, short enough to type."""
    return f"{_pair(ids)}{1000 + ids.below(9000)}"


def made_name(ids: Ids) -> str:
    """`MellowOtter-7K2Q9D`: for users made in bulk. The dash keeps them apart from every name a receipt can give."""
    return f"{_pair(ids)}-{ids.code(6)}"


def _pair(ids: Ids) -> str:
    return _ADJECTIVES[ids.below(len(_ADJECTIVES))] + _NOUNS[ids.below(len(_NOUNS))]
