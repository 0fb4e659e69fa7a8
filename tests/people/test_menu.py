"""A menu is kept as plain items, and what is no menu is refused by the place that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from brewd.errors import Rejected
from brewd.people.menu import ITEMS_MAX, checked
from tests.people.world import World


def test_a_menu_is_kept_trimmed_and_without_what_is_absent() -> None:
    given = [{"name": " Melange "}, {"name": "Cortado", "price": 3.2, "note": "oat milk +0.50"}, {"name": "Cake", "price": "3,80 €", "note": None}]
    assert checked(given) == ({"name": "Melange"}, {"name": "Cortado", "price": 3.2, "note": "oat milk +0.50"}, {"name": "Cake", "price": "3,80 €"})
    assert checked([]) == ()


@pytest.mark.parametrize(
    ("menu", "path"),
    [
        ([{"name": "Melange"}, "Cortado"], "menu[1]"),
        ([{"name": ""}], "menu[0].name"),
        ([{"name": "a\nb"}], "menu[0].name"),
        ([{"name": "x" * 81}], "menu[0].name"),
        ([{"price": 3}], "menu[0]"),
        ([{"name": "x", "price": -1}], "menu[0]"),
        ([{"name": "x", "price": "1" * 21}], "menu[0].price"),
        ([{"name": "x", "note": "n" * 201}], "menu[0].note"),
        ([{"name": "x", "secret": 1}], "menu[0]"),
        ([{"name": "x"}] * (ITEMS_MAX + 1), "menu"),
    ],
)
async def test_what_is_no_menu_is_refused(menu: list[Any], path: str, world: World) -> None:
    cafe = await world.cafe(menu=[{"name": "Melange"}])
    with pytest.raises(Rejected) as refused:
        await world.cafes.set(cafe.id, menu=menu)
    assert refused.value.extras["errors"][0]["path"] == path
    assert (await world.cafes.get(cafe.id)).menu == ({"name": "Melange"},)
