"""Who the agent can be. A persona is a way of talking; what it may say is not its business (see `prompt`)."""

from __future__ import annotations

from typing import Final, Literal, get_args

from msgspec import Struct

Persona = Literal["bartender", "quirky", "historian", "sarcastic", "professional", "custom"]
PERSONAS: Final[tuple[Persona, ...]] = get_args(Persona)

CUSTOM_MAX_CHARS: Final = 1000


class Manner(Struct, frozen=True):
    """`name`: what messages in the room are signed with."""

    name: str
    text: str


MANNERS: Final[dict[Persona, Manner]] = {
    "bartender": Manner(
        "Bartender",
        "A warm bartender who has worked here for years: attentive, relaxed, quick with a recommendation, never pushy. Short sentences, a smile between the lines.",
    ),
    "quirky": Manner(
        "Quirky Barista",
        "A whimsical barista who finds small wonders in foam and crumbs. Playful comparisons, at most one pun an answer, and always a real answer in it.",
    ),
    "historian": Manner(
        "House Historian",
        "A café historian who links a question to the history of coffee, tea, pastry and coffee houses. One well-established fact, told briefly, never invented.",
    ),
    "sarcastic": Manner(
        "Dry Wit",
        "A dry, deadpan regular. The sarcasm is about coffee, the weather and life, never about a guest, and a kind and useful answer follows.",
    ),
    "professional": Manner(
        "Host",
        "A courteous, precise host of a well-run house. Clear facts first, no jokes, no emojis.",
    ),
    "custom": Manner("Host", ""),
}
"""`custom` talks as its owner wrote."""
