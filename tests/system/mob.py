"""Two hundred attackers in a process of their own, so that what honest guests measure is the daemon and not who plays the attackers.

`python -m tests.system.mob` reads a `Plan` from the first line of stdin and answers with lines: `joined` when all are in the room,
`muted` when each of them was refused for that, and, when stdin ends, the codes of each attacker's answers by user id. Any second
line begins the attack.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from tests.system.hostile import Attacker

GAP_S = 0.3
"""Between two messages of an attacker."""

RAID = "Free coffee for everyone at the new place next door"
_DISGUISES = (str.upper, str.title, lambda text: text.replace(" ", "\u200b "), lambda text: text.replace("e", "е"), lambda text: text.replace("o", "ο"))

TEXTS: dict[str, Callable[[int, int], str]] = {
    "duplicate": lambda who, n: f"I am number {who} and I sell the best beans in town",
    "capitals": lambda who, n: f"BUY THE BEST BEANS OF NUMBER {who} AND {n}",
    "links": lambda who, n: f"beans{who}.example/{n} www.beans{who}.example http://beans{who}.example/{n}",
    "raid": lambda who, n: _DISGUISES[(who + n) % len(_DISGUISES)](RAID),
}


class Plan(msgspec.Struct, frozen=True):
    """Who attacks, by the rule they break: café id, user id, access token."""

    address: tuple[str, int]
    groups: dict[str, list[tuple[str, str, str]]]


async def _attack() -> None:
    plan = msgspec.json.decode(await trio.to_thread.run_sync(sys.stdin.buffer.readline), type=Plan)
    attackers = list(_attackers(plan))
    begin = trio.Event()
    async with trio.open_nursery() as nursery:
        for attacker in attackers:
            nursery.start_soon(attacker.live, begin)
        for attacker in attackers:
            await attacker.joined.wait()
        print("joined", flush=True)
        await trio.to_thread.run_sync(sys.stdin.buffer.readline)
        begin.set()
        nursery.start_soon(_watch, attackers)
        await trio.to_thread.run_sync(sys.stdin.buffer.read)
        nursery.cancel_scope.cancel()
    print(json.dumps({attacker.user_id: attacker.codes for attacker in attackers}), flush=True)


async def _watch(attackers: list[Attacker]) -> None:
    while not all(attacker.codes["muted"] for attacker in attackers):
        await trio.sleep(0.05)
    print("muted", flush=True)


def _attackers(plan: Plan) -> list[Attacker]:
    """They begin one after the other, all within the pause each makes."""
    found = []
    for at, (rule, users) in enumerate(plan.groups.items()):
        for who, user in enumerate(users):
            late_s = (who + at / len(plan.groups)) * GAP_S / len(users)
            found.append(Attacker(lambda: plan.address, user, partial(TEXTS[rule], who), late_s=late_s, gap_s=GAP_S))
    return found


if __name__ == "__main__":
    trio.run(_attack)
