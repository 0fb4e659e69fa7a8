"""Guessing: failed logins, joins and refreshes, counted so that guessers get nowhere and honest people notice nothing.

A success never counts. What a failure counts for, in any 15 minutes by default:

| who failed | then |
| --- | --- |
| an address, 5 times | it waits, and nothing of it is looked at but refresh tokens that are genuine |
| a name, 5 times, in joins | it waits, from whatever address: one receipt's code cannot be guessed, not even from the café's own address |
| a café, 50 times, in logins | no login there is looked at. Those from its own network, or from where staff logged in within a day, and all others are two counts: no stranger can keep staff out at work |
| a café, 50 times, in joins | the café is *besieged* |

All guests share the café's address, and a guesser may sit among them. A count that closed the café, or its address, would do the
guesser's work: fifty bad guesses, and nobody gets in. So what honest people share never closes. While a café is besieged every join
is still looked at, and a right code is let in at once; but who has just failed pauses for `PAUSE_MS`: the name, and the address
unless it is the café's own. A wrong code is then answered `rate_limited` with that pause. A code has 65 random bits and a name
five tries: ten thousand guesses, spread over as many names as one likes, open nothing.

At the café whose network it is, an address has `cafe_network_factor` times the failures, for each purpose by itself, and beyond
them it is not closed but besieged in the same way; only logins are, because passwords are worth guessing. A refresh token that
fails names no café that could be believed, so it counts for its address alone.

Attempts under way might all fail, and a thousand at once would be looked at before the first has. So whoever might be one too many
waits until that is known.

All of it is memory, gone with a restart, and bounded: `ROOM` addresses, `NAMES_MAX` names and `CAFES_MAX` counts of cafés, which is
some 25 MB if every one of them is in use and over its limit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio
from msgspec import Struct

from brewd.config import EdgeLimits
from brewd.edge.limits import QUARTER_MS, ROOM
from brewd.edge.networks import Networks, key_of
from brewd.edge.standing import OverLimit, Standing
from brewd.errors import Rejected
from brewd.people.cafes import Cafes
from brewd.people.network import Evidence
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock
from brewd.runtime.log import get_logger
from brewd.runtime.tally import Windows

log = get_logger("edge")

PAUSE_MS: Final = 10_000
NAMES_MAX: Final = 16_384
CAFES_MAX: Final = 4_096

_GUESS: Final = "unauthorized"
_FAILED: Final = frozenset({_GUESS, "network_check_failed", "not_found", "join_token_used", "token_expired", "conflict"})
"""The refusals that are a failed attempt; to come with a good token after one's time is over, or banned, is none, and must not close the door to the others. A name or a café counts guesses only: where the code was right, there was none."""

_DETAILS: Final = {
    "failures": "Too many attempts from this address have failed.",
    "username-failures": "Too many wrong tokens came for this name.",
    "cafe-failures": "Too many attempts at this café have failed.",
}

Tell = Callable[[Standing], None]


class _Count(Struct, frozen=True):
    """The failures under one key. `closes`: nothing is looked at while there are `most`; else they make a siege. `pauses`: who failed does, in a siege."""

    limit: str
    failures: Windows[str]
    key: str
    most: int
    closes: bool = True
    pauses: bool = False

    @property
    def place(self) -> tuple[str, str]:
        return self.limit, self.key

    def recent(self, now_ms: int) -> tuple[int, ...]:
        return self.failures.recent(self.key, now_ms)

    def wait_ms(self, now_ms: int) -> int:
        return self.failures.wait_ms(self.key, now_ms, self.most)

    def standing(self, now_ms: int) -> Standing:
        recent = self.recent(now_ms)
        more_in_ms = recent[0] + QUARTER_MS - now_ms if recent else None
        return Standing(self.limit, self.most, QUARTER_MS // 1000, max(0, self.most - len(recent)), more_in_ms)

    def over(self, wait_ms: int) -> OverLimit:
        return OverLimit(_DETAILS[self.limit], Standing(self.limit, self.most, QUARTER_MS // 1000, 0, wait_ms))


class _UnderWay:
    """Attempts that are being looked at, and those that wait for how they end."""

    __slots__ = ("lot", "number")

    def __init__(self) -> None:
        self.number = 0
        self.lot = trio.lowlevel.ParkingLot()


class Attempts:
    """`login`, `join` and `refresh` go around what may fail. They raise `OverLimit` before it or, in a siege, in place of its refusal;
    each tells how many failures the address has left. They may wait for other attempts of the same address, name or café."""

    def __init__(self, *, config: EdgeLimits, clock: Clock, networks: Networks, cafes: Cafes) -> None:
        self._config = config
        self._clock = clock
        self._networks = networks
        self._cafes = cafes
        self._addresses = _windows(config.failures_per_15min, ROOM)
        self._at_cafes = _windows(config.failures_per_cafe_per_15min, CAFES_MAX)
        self._names = _windows(config.failures_per_username_per_15min, NAMES_MAX)
        self._under_way: dict[tuple[str, str], _UnderWay] = {}

    @asynccontextmanager
    async def login(self, address: str | None, cafe_id: str, tell: Tell) -> AsyncIterator[None]:
        """Around a login of staff."""
        inside = self._is_inside(address, await self._cafe(cafe_id))
        known = inside or (address is not None and self._networks.knows_staff(cafe_id, address))
        where = "inside" if known else "outside"
        at_cafe = _Count("cafe-failures", self._at_cafes, f"{cafe_id} login {where}", self._config.failures_per_cafe_per_15min)
        async with self._attempt([*self._address(address, inside, "login", closes=True), at_cafe], tell):
            yield
        self._networks.logged_in(cafe_id, address)

    @asynccontextmanager
    async def join(self, evidence: Evidence, cafe_id: str, username: str, tell: Tell) -> AsyncIterator[None]:
        """Around a join. A good one may show that its address is the café's own."""
        address, cafe = evidence.address, await self._cafe(cafe_id)
        inside = self._is_inside(address, cafe)
        per_name, per_cafe = self._config.failures_per_username_per_15min, self._config.failures_per_cafe_per_15min
        counts = [
            *self._address(address, inside, "join", closes=not inside),
            _Count("username-failures", self._names, f"{cafe_id} {username.strip().lower()}", per_name, pauses=True),
            _Count("cafe-failures", self._at_cafes, f"{cafe_id} join", per_cafe, closes=False),
        ]
        async with self._attempt(counts, tell):
            yield
        if cafe is not None:
            self._networks.joined(cafe, evidence)

    @asynccontextmanager
    async def refresh(self, address: str | None, tell: Tell, *, genuine: bool = False) -> AsyncIterator[None]:
        """Around the use of a refresh token. One that is `genuine` is looked at whatever others at this address did."""
        inside = address is not None and self._networks.is_cafe(address)
        async with self._attempt(self._address(address, inside, "refresh", closes=not inside), tell, looked_at=genuine):
            yield

    async def _cafe(self, cafe_id: str) -> Cafe | None:
        """The café, and its networks learned: they may have just changed. None if there is none, which is for the attempt itself to find."""
        try:
            cafe = await self._cafes.get(cafe_id)
        except Rejected:
            return None
        self._networks.learn(cafe.id, cafe.cidrs)
        return cafe

    def _is_inside(self, address: str | None, cafe: Cafe | None) -> bool:
        return cafe is not None and address is not None and self._networks.owns(cafe.id, address)

    def _address(self, address: str | None, inside: bool, purpose: str, *, closes: bool) -> list[_Count]:
        """Nobody is told from anybody behind a Unix socket, so there no address is counted."""
        if address is None:
            return []
        key, most = key_of(address).hex(), self._config.failures_per_15min
        if inside:
            return [_Count("failures", self._addresses, f"{key} {purpose}", most * self._config.cafe_network_factor, closes=closes)]
        return [_Count("failures", self._addresses, key, most, pauses=True)]

    @asynccontextmanager
    async def _attempt(self, counts: Sequence[_Count], tell: Tell, *, looked_at: bool = False) -> AsyncIterator[None]:
        counts = [count for count in counts if count.most]
        if not looked_at:
            await self._let_in(counts)
        for count in counts:
            self._under_way.setdefault(count.place, _UnderWay()).number += 1
        try:
            yield
        except Rejected as refused:
            if refused.code in _FAILED:
                self._failed(counts, refused)
            raise
        finally:
            for count in counts:
                self._settled(count)
            for count in counts:
                if count.limit == "failures":
                    tell(count.standing(self._clock.now_ms()))

    async def _let_in(self, counts: Sequence[_Count]) -> None:
        """Return when the attempt may be looked at. Raises `OverLimit`."""
        while True:
            now_ms = self._clock.now_ms()
            wait_ms, closed = _closed(counts, now_ms)
            if closed is not None:
                raise closed.over(wait_ms)
            besieged = _siege(counts, now_ms)
            if besieged is not None and (pause_ms := _pause_ms(counts, now_ms)) > 0:
                raise besieged.over(pause_ms)
            for count in counts:
                others = self._under_way.get(count.place)
                if count.closes and others is not None and len(count.recent(now_ms)) + others.number >= count.most:
                    await others.lot.park()
                    break
            else:
                return

    def _failed(self, counts: Sequence[_Count], refused: Rejected) -> None:
        """Count it. Raises `OverLimit` for a guess in a siege, with the time after which another one would be looked at."""
        now_ms = self._clock.now_ms()
        besieged = _siege(counts, now_ms)
        guess = refused.code == _GUESS
        for count in counts:
            if guess or count.limit == "failures":
                times = count.failures.add(count.key, now_ms, count.most)
                if count.limit == "cafe-failures" and besieged is None and len(times) == count.most:
                    log.warning("guessing", at=count.key, failures=count.most, within_s=QUARTER_MS // 1000)
        if guess and besieged is not None:
            raise besieged.over(max(PAUSE_MS, _closed(counts, now_ms)[0])) from refused

    def _settled(self, count: _Count) -> None:
        under_way = self._under_way[count.place]
        under_way.number -= 1
        under_way.lot.unpark_all()
        if not under_way.number:
            del self._under_way[count.place]


def _windows(most: int, room: int) -> Windows[str]:
    return Windows(limit=most, period_ms=QUARTER_MS, room=room)


def _closed(counts: Sequence[_Count], now_ms: int) -> tuple[int, _Count | None]:
    """How long until nothing is closed to the attempt, and what is for the longest."""
    waits = [(count.wait_ms(now_ms), count) for count in counts if count.closes]
    wait_ms, longest = max(waits, key=lambda found: found[0], default=(0, None))
    return wait_ms, longest if wait_ms else None


def _pause_ms(counts: Sequence[_Count], now_ms: int) -> int:
    """How long who has failed still has to pause."""
    last_ms = [times[-1] for count in counts if count.pauses and (times := count.recent(now_ms))]
    return max(last_ms) + PAUSE_MS - now_ms if last_ms else 0


def _siege(counts: Sequence[_Count], now_ms: int) -> _Count | None:
    """What besieges the café, if anything does."""
    return next((count for count in counts if not count.closes and count.wait_ms(now_ms)), None)
