"""What a café has to offer: shown to its guests, and told to its agent. A list of `{name, price?, note?}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from brewd.people.records import clean_text, invalid

ITEMS_MAX: Final = 200
NAME_MAX_CHARS: Final = 80
PRICE_MAX_CHARS: Final = 20
NOTE_MAX_CHARS: Final = 200


class MenuItem(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`price`: a number, or words like `3,80 €`."""

    name: str
    price: str | Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    note: str | None = None


def checked(menu: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """The menu as it is kept: plain, trimmed, without what is absent. Raises `Rejected` (`invalid_request`), naming the item."""
    if len(menu) > ITEMS_MAX:
        raise invalid("menu", f"must have {ITEMS_MAX} items at most")
    return tuple(_checked(f"menu[{index}]", item) for index, item in enumerate(menu))


def _checked(path: str, given: Any) -> dict[str, Any]:
    try:
        item = msgspec.convert(given, MenuItem)
    except msgspec.ValidationError as error:
        raise invalid(path, f"{error}; an item is {{name, price?, note?}}") from None
    kept: dict[str, Any] = {"name": clean_text(f"{path}.name", item.name, max_chars=NAME_MAX_CHARS)}
    if isinstance(item.price, str):
        kept["price"] = clean_text(f"{path}.price", item.price, max_chars=PRICE_MAX_CHARS)
    elif item.price is not None:
        kept["price"] = item.price
    if item.note is not None:
        kept["note"] = clean_text(f"{path}.note", item.note, max_chars=NOTE_MAX_CHARS)
    return kept
