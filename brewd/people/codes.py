"""Join tokens as people meet them: 13 symbols of Crockford's base 32 (65 bits), in groups, forgiving to type."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

from brewd.runtime.ids import Ids

SYMBOLS: Final = 13
_GROUPS: Final = ((0, 4), (4, 8), (8, 13))
_LOOKALIKES: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})


def new_token(ids: Ids) -> str:
    """A fresh token as it is printed: `4G7K-PQ2M-X0Z3T`."""
    return grouped(ids.code(SYMBOLS))


def grouped(code: str) -> str:
    return "-".join(code[start:end] for start, end in _GROUPS)


def normalised(typed: str) -> str:
    """What someone meant: any case, any spacing and dashes, O for 0, I or L for 1. May still not be a token."""
    text = unicodedata.normalize("NFKC", typed).upper()
    return "".join(symbol for symbol in text if symbol.isalnum()).translate(_LOOKALIKES)


def token_hash(cafe_id: str, token: str) -> bytes:
    """What is stored: tied to its café, so equal tokens in two cafés do not look alike. 65 random bits need no slow hash."""
    return hashlib.sha256(f"brewd join token:{cafe_id}:{normalised(token)}".encode("utf-8", "surrogatepass")).digest()
