"""Interests in one spelling, at most ten, and what is wrong with one is said of the very one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.errors import Rejected
from brewd.people.records import Cafe
from brewd.social.interests import MAX_CHARS, normalised, normalised_all
from tests.social.world import World


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Coffee", "coffee"),
        ("  board \u00a0  games ", "board games"),
        ("ＦＵＬＬ", "full"),
        ("Caf\u0065\u0301", "café"),
        ("ÇA", "ça"),
        ("👩‍💻", "👩‍💻"),
        ("İ", "i̇"),
    ],
)
def test_spellings_of_one_thing_are_one(given: str, kept: str) -> None:
    assert normalised("interest", given) == kept


@given(st.text(max_size=60))
def test_what_is_kept_is_kept_as_it_is_the_next_time(text: str) -> None:
    try:
        kept = normalised("interest", text)
    except Rejected:
        return
    assert normalised("interest", kept) == kept
    assert 1 <= len(kept) <= MAX_CHARS
    assert kept == kept.strip()


@pytest.mark.parametrize("bad", ["", "   ", "\u200d", "x" * 41, "tea\n", "a\tb", "\x1fjazz", "go\u202e", "\u0000", "\u3164"])
def test_the_one_that_is_wrong_is_named(bad: str) -> None:
    with pytest.raises(Rejected) as refused:
        normalised_all(["tea", bad, "jazz"])
    assert refused.value.code == "invalid_request"
    assert refused.value.extras["errors"][0]["path"] == "interests[1]"


def test_ten_different_ones_and_no_more() -> None:
    ten = [f"i{n}" for n in range(10)]
    assert normalised_all([*ten, "I3", " i4 "]) == ten
    with pytest.raises(Rejected, match="at most 10"):
        normalised_all([*ten, "i10"])


async def test_set_add_and_remove(world: World, cafe: Cafe) -> None:
    ann = await world.guest(cafe)
    assert (await world.interests.set(ann.user_id, ["Tea", "jazz", "TEA"])).interests == ("tea", "jazz")
    assert (await world.interests.add(ann.user_id, "Go")).interests == ("tea", "jazz", "go")
    assert (await world.interests.add(ann.user_id, "jazz ")).interests == ("tea", "jazz", "go")
    assert (await world.interests.remove(ann.user_id, "TEA")).interests == ("jazz", "go")
    assert (await world.interests.remove(ann.user_id, "tea")).interests == ("jazz", "go")
    assert (await world.people.users.me(ann)).interests == ("jazz", "go")
    assert (await world.interests.set(ann.user_id, [])).interests == ()
    assert (await world.interests.enable_pokes(ann.user_id, False)).poke_enabled is False
    assert (await world.people.users.me(ann)).poke_enabled is False
    await world.interests.set(ann.user_id, [f"i{n}" for n in range(10)])
    with pytest.raises(Rejected, match="at most 10"):
        await world.interests.add(ann.user_id, "one more")


async def test_whose_time_is_over_has_no_interests(world: World, cafe: Cafe) -> None:
    ann = await world.guest(cafe)
    await world.people.users.expire(ann.user_id)
    for call in (world.interests.set(ann.user_id, ["tea"]), world.interests.add(ann.user_id, "tea"), world.interests.enable_pokes(ann.user_id, True)):
        with pytest.raises(Rejected) as refused:
            await call
        assert refused.value.code == "user_expired"
