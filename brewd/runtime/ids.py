"""Identity and chance as inputs: everything random in brewd comes from one `Ids`, so a test can replay it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from brewd.runtime.clock import Clock

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U, so it survives being read aloud


_POOL_BYTES = 1024  # one call to the operating system serves a hundred message ids


class Ids:
    """Makes ids and secrets from `entropy(n) -> n bytes` (the operating system's by default)."""

    __slots__ = ("_clock", "_entropy", "_pool", "_used")

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._pool = b""
        self._used = 0

    def uuid7(self) -> str:
        """A time-ordered UUID (RFC 9562, section 5.7): rows written together lie together in their index."""
        if self._used + 10 > len(self._pool):
            self._pool, self._used = self._entropy(_POOL_BYTES), 0
        noise = int.from_bytes(self._pool[self._used : self._used + 10], "big")
        self._used += 10
        value = (self._clock.now_ms() & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | (noise >> 62 & 0xFFF) << 64 | 0b10 << 62 | noise & (1 << 62) - 1
        digits = f"{value:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

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
