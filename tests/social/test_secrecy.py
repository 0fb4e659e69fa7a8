"""Whoever is poked cannot tell by whom, not even with a record of who it was all the other times.

Fifty candidates poke one recipient two thousand times, with habits that would give them away: each always in the same order, or at a
minute of their own. A classifier learns from one half of what the server told the recipient, with the right answers at hand, and
guesses the other half. By chance it hits one time in fifty.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import trio
from msgspec import Struct
from trio.testing import MockClock

from brewd.cafe.events import PokeReceived
from brewd.people.records import Cafe
from brewd.people.tokens import Identity
from brewd.social.pokes import NEUTRAL
from brewd.store.postgres import Postgres
from tests.social.world import World

CANDIDATES = 50
ROUNDS = 40
MINUTE_S = 60.0
DAY_S = 86_400

Features = dict[str, Any]


class Seen(Struct):
    """One poke: what the recipient was told of it, and what nobody told them."""

    sender: int
    told: Features
    secret: Features


async def test_a_recipient_guesses_no_better_than_chance(world: World, cafe: Cafe, pg: Postgres, mock_clock: MockClock, nursery: trio.Nursery) -> None:
    nursery.start_soon(world.delivery.run)
    bob = await world.guest(cafe, "tea")
    people = sorted(await world.guests(cafe, CANDIDATES), key=lambda person: person.user_id)
    for n, person in enumerate(people):
        await world.interests.set(person.user_id, ["tea", "jazz", f"an interest of {n} alone"])
    await pg.transaction(_live_long)
    chance = Random(11)
    seen: list[Seen] = []
    for round in range(ROUNDS):
        seen += await _round(world, bob, people, chance, mock_clock, pause_s=MINUTE_S if round % 2 else 0.0)
        assert len(seen) == (round + 1) * CANDIDATES, "every poke arrived"
    nursery.cancel_scope.cancel()
    assert {one.told["interest"] for one in seen} == {"tea", "jazz", NEUTRAL}
    for at_once in (True, False):  # and then all together
        _no_better_than_chance([one for one in seen if (one.secret["pause_s"] == 0) == at_once])
    _no_better_than_chance(seen)
    habits = [Seen(one.sender, one.secret, {}) for one in seen if one.secret["pause_s"]]
    assert _hits(habits, ["sent_minute"]) > 0.9, "what the server keeps to itself would have been enough"


async def _round(world: World, bob: Identity, people: Sequence[Identity], chance: Random, clock: MockClock, *, pause_s: float) -> list[Seen]:
    """Everybody pokes once, in the order of their ids: at the same instant, or each at a minute of their own while the recipient is not there."""
    clock.jump(DAY_S + 3600 - world.clock.now_ms() % 3_600_000 / 1000)  # the last ones are over, and the hour is full
    senders, arrived = dict[str, tuple[int, int]](), dict[str, int]()
    for n, person in enumerate(people):
        interest = ["tea", "jazz", f"an interest of {n} alone"][chance.randrange(3)]
        senders[(await world.pokes.send(person, bob.user_id, interest)).id] = n, world.clock.now_ms()
        clock.jump(pause_s)
    world.told.clear()
    for _ in range(3001 if not pause_s else 0):
        if not len(world.delivery):
            break
        clock.jump(0.001)
        await trio.testing.wait_all_tasks_blocked()
        for _, event in world.told[len(arrived) :]:
            assert isinstance(event, PokeReceived)
            arrived[event.poke_id] = world.clock.now_ms()
    clock.jump(3)
    await trio.testing.wait_all_tasks_blocked()
    order = list(arrived)
    pending = await world.pokes.pending(bob)
    return [_seen(place, poke, arrived, order, *senders[poke.id], pause_s) for place, poke in enumerate(pending)]


def _seen(place: int, poke: Any, arrived: dict[str, int], order: list[str], sender: int, sent_ms: int, pause_s: float) -> Seen:
    told = {
        "place": place,
        "first digits": int(poke.id[:2], 16) // 6,
        "last digits": int(poke.id[-2:], 16) // 6,
        "created": poke.created_ms % 86_400_000,
        "lasts": poke.expires_ms - poke.created_ms,
        "interest": poke.interest,
        "arrived": arrived.get(poke.id, 0) % 3_600_000 // 60,
        "arrived in order": order.index(poke.id) if poke.id in arrived else -1,
    }
    return Seen(sender, told, {"sent_minute": sent_ms // 60_000 % 60, "pause_s": pause_s})


def _no_better_than_chance(seen: Sequence[Seen]) -> None:
    """Within three standard deviations of one in fifty, by each feature alone and by all of them together."""
    tries = len(seen) // 2
    bound = 1 / CANDIDATES + 3 * math.sqrt((1 / CANDIDATES) * (1 - 1 / CANDIDATES) / tries)
    names = list(seen[0].told)
    for chosen in (names, *([name] for name in names)):
        assert _hits(seen, chosen) <= bound, chosen


def _hits(seen: Sequence[Seen], names: Sequence[str]) -> float:
    """How often naive Bayes, taught with the first half, names the sender in the second."""
    half = len(seen) // 2
    counts: dict[tuple[str, int], Counter[Any]] = defaultdict(Counter)
    for one in seen[:half]:
        for name in names:
            counts[name, one.sender][one.told[name]] += 1
    values = {name: len({one.told[name] for one in seen}) for name in names}
    taught = half / CANDIDATES
    hits = 0
    for one in seen[half:]:
        scores = [sum(math.log((counts[name, n][one.told[name]] + 1) / (taught + values[name])) for name in names) for n in range(CANDIDATES)]
        hits += scores.index(max(scores)) == one.sender
    return hits / (len(seen) - half)


async def _live_long(tx: Any) -> None:
    await tx.script("UPDATE customer SET expires_at = expires_at + interval '90 days'")
