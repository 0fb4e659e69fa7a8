"""Identity and chance as inputs: everything random in brewd comes from one `Ids`, so a test can replay it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Final

from brewd.runtime.clock import Clock

BEFORE_ALL: Final = "00000000-0000-0000-0000-000000000000"
"""Smaller than every id: where a walk through a table begins."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U, so it survives being read aloud


_POOL_BYTES = 1024  # one call to the operating system serves a hundred message ids
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # the two bits 10, and two bits of noise


class Ids:
    """Makes ids and secrets from `entropy(n) -> n bytes` (the operating system's by default)."""

    __slots__ = ("_clock", "_digits", "_entropy", "_used")

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._digits = ""  # hexadecimal digits of noise, `_used` of them used
        self._used = 0

    def uuid7(self) -> str:
        """A time-ordered UUID (RFC 9562, section 5.7): rows written together lie together in their index."""
        at, digits = self._used, self._digits
        if at + 19 > len(digits):
            self._digits = digits = self._entropy(_POOL_BYTES).hex()
            at = 0
        self._used = at + 19
        ms = f"{self._clock.now_ms():012x}"
        variant = _VARIANT[digits[at + 3]]
        return f"{ms[-12:-4]}-{ms[-4:]}-7{digits[at : at + 3]}-{variant}{digits[at + 4 : at + 7]}-{digits[at + 7 : at + 19]}"

    def uuid4(self) -> str:
        """A random UUID: says nothing about when it was made."""
        return str(uuid.UUID(bytes=self._entropy(16), version=4))

    def secret(self, size_bytes: int = 32) -> bytes:
        return self._entropy(size_bytes)

    def code(self, symbols: int) -> str:
        """A code a person can type, 5 bits a symbol: `code(13)` has 65 bits."""
        bits = int.from_bytes(self._entropy((symbols * 5 + 7) // 8), "big")
        return "".join(_ALPHABET[bits >> 5 * i & 31] for i in range(symbols))

    def below(self, limit: int) -> int:
        """A whole number in [0, limit), uniform to within 2⁻⁶⁴·limit."""
        return int.from_bytes(self._entropy(8), "big") * limit >> 64
