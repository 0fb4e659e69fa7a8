"""Staff passwords: argon2id, off the event loop, one at a time, so that logins never starve a room of CPU."""

from __future__ import annotations

from typing import Final

import argon2
import trio
from argon2.exceptions import Argon2Error, InvalidHashError
from msgspec import Struct

from brewd.errors import Rejected

_AT_ONCE: Final = 1
_WAITING_MAX: Final = 32  # at some 25 ms each, who comes later would wait a second and is better told so
_DECOY: Final = "nobody has this password"


class Verdict(Struct, frozen=True):
    """`rehashed` is the password under today's parameters, when the stored hash was made with others."""

    matches: bool
    rehashed: str | None = None


class Passwords:
    """Hashes and verifies. `time_cost`, `memory_kib`: argon2id's price; the default is OWASP's recommendation for one lane."""

    def __init__(self, *, time_cost: int = 2, memory_kib: int = 19_456) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._limiter = trio.CapacityLimiter(_AT_ONCE)
        self._decoy = ""

    async def hash(self, password: str) -> str:
        """Raises `Rejected` (`rate_limited`) when too many wait. A cancelled caller leaves; the thread ends by itself."""
        self._refuse_a_crowd()
        return await trio.to_thread.run_sync(self._argon2.hash, password, limiter=self._limiter, abandon_on_cancel=True)

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Compare with a stored hash. None (no such person) takes the same time as a wrong password, and never matches."""
        self._refuse_a_crowd()
        return await trio.to_thread.run_sync(self._verify, stored, password, limiter=self._limiter, abandon_on_cancel=True)

    def _verify(self, stored: str | None, password: str) -> Verdict:
        if not self._decoy:  # whoever comes first waits for it, be there such a person or not
            self._decoy = self._argon2.hash(_DECOY)
        try:
            self._argon2.verify(stored or self._decoy, password)
        except (Argon2Error, InvalidHashError):
            return Verdict(matches=False)
        if stored is None:
            return Verdict(matches=False)
        outdated = self._argon2.check_needs_rehash(stored)
        return Verdict(matches=True, rehashed=self._argon2.hash(password) if outdated else None)

    def _refuse_a_crowd(self) -> None:
        if self._limiter.statistics().tasks_waiting >= _WAITING_MAX:
            raise Rejected("rate_limited", "Too many people are logging in at this moment.", retryAfterMs=1000)
