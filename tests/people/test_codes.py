"""Join tokens survive being read aloud, typed on a phone and pasted; names do not collide across their two kinds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.people.codes import SYMBOLS, grouped, new_token, normalised, token_hash
from brewd.people.names import made_name, receipt_name
from brewd.runtime.ids import Ids

SYMBOL = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE = st.text(SYMBOL, min_size=SYMBOLS, max_size=SYMBOLS)


async def test_a_token_has_more_than_sixty_bits_and_reads_in_groups(ids: Ids) -> None:
    tokens = {new_token(ids) for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch(f"[{SYMBOL}]{{4}}-[{SYMBOL}]{{4}}-[{SYMBOL}]{{5}}", token) for token in tokens)


@given(CODE, st.randoms(use_true_random=False))
def test_however_it_is_typed_it_is_the_same_token(code: str, chance: object) -> None:
    pick = chance.choice  # type: ignore[attr-defined]
    likes = {"0": "0Oo", "1": "1IiLl"}
    typed = "".join(pick(likes.get(symbol, symbol + symbol.lower())) + pick(["", "", " ", "-", "–", " - ", "\t", "."]) for symbol in code)
    assert normalised(typed) == code
    assert token_hash("c", typed) == token_hash("c", grouped(code))


@given(CODE, CODE)
def test_different_tokens_stay_different(one: str, other: str) -> None:
    assert (token_hash("c", one) == token_hash("c", other)) == (one == other)
    assert token_hash("c", one) != token_hash("d", one)


@given(st.text(max_size=80))
def test_normalising_is_stable_and_takes_any_text(text: str) -> None:
    assert len(token_hash("c", text)) == 32
    if text.isascii():
        assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize("text", ["\ud800", "\0", "", "ＡＢ１２", "ﬃ"])
def test_odd_text_is_only_a_wrong_token(text: str) -> None:
    assert len(token_hash("c", text)) == 32


async def test_the_two_kinds_of_names_never_meet(ids: Ids) -> None:
    printed = {receipt_name(ids) for _ in range(3000)}
    made = {made_name(ids) for _ in range(3000)}
    assert all(re.fullmatch(r"[A-Z][a-z]+[A-Z][a-z]+[1-9][0-9]{3}", name) for name in printed)
    assert all("-" in name for name in made)
    assert len(printed) > 2990
    assert max(len(name) for name in printed | made) <= 30
