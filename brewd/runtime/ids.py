"""Identity and chance as inputs: everything random in brewd comes from one `Ids`, so a test can replay it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from brewd.runtime.clock import Clock

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U, so it survives being read aloud


class Ids:
    """Makes ids and secrets from `entropy(n) -> n bytes` (the operating system's by default)."""

    __slots__ = ("_clock", "_entropy")

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy

    def uuid7(self) -> str:
        """A time-ordered UUID (RFC 9562, section 5.7): rows written together lie together in their index."""
        stamp = (self._clock.now_ms() & 0xFFFFFFFFFFFF) << 80
        noise = int.from_bytes(self._entropy(10), "big")
        rand_a = (noise >> 64) & 0x0FFF
        return str(uuid.UUID(int=stamp | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | noise & (1 << 62) - 1))

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
