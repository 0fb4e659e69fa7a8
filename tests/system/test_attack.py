"""Two hundred who spoil a café for five: what they say is stopped after the copies the rules let out, and the five notice nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import trio

from tests.patience import PATIENCE
from tests.system.daemon import Daemon
from tests.system.guests import caught_up, check_laws, gathered
from tests.system.hostile import CONFIG, Attacker, Decided, Witness, decided

HONEST = 5
EACH = 50
GAP_S = 1.05
"""Between two messages of an honest guest: a little more than the profile asks for."""

QUIET_MESSAGES = 6
MESSAGES = 9
FLOOR_S = 0.002
"""What the room may take its time for anyway: a quiet café is not measured finer than this."""

RAID = "Free coffee for everyone at the new place next door"
_DISGUISES = (str.upper, str.title, lambda text: text.replace(" ", "\u200b "), lambda text: text.replace("e", "е"), lambda text: text.replace("o", "ο"))

TEXTS: dict[str, Callable[[int, int], str]] = {
    "duplicate": lambda who, n: f"I am number {who} and I sell the best beans in town",
    "capitals": lambda who, n: f"BUY THE BEST BEANS OF NUMBER {who} AND {n}",
    "links": lambda who, n: f"beans{who}.example/{n} www.beans{who}.example http://beans{who}.example/{n}",
    "raid": lambda who, n: _DISGUISES[(who + n) % len(_DISGUISES)](RAID),
}
OUT_MAX = {"duplicate": 3 * EACH, "capitals": 2 * EACH, "links": 2 * EACH, "raid": 2}
"""What goes out: two soft ones of everybody's are warned of, before which one that is no repetition yet; and two copies of a raid in all."""


async def test_two_hundred_attackers_spoil_nothing(idle: Daemon, measured: Callable[..., None]) -> None:
    idle.config.write_text(CONFIG)
    await idle.start()
    (cafe,) = await idle.cafes(1)
    people = await idle.users([cafe], HONEST + len(TEXTS) * EACH)
    guests = [Witness(idle.address, *user) for user in people[:HONEST]]
    groups = crowd(idle, people[HONEST:])
    attackers = [attacker for group in groups.values() for attacker in group]
    begin = trio.Event()
    async with gathered(guests), trio.open_nursery() as nursery:
        for attacker in attackers:
            nursery.start_soon(attacker.live, begin)
        with trio.fail_after(30):
            for attacker in attackers:
                await attacker.joined.wait()
        quiet_s = await chat(guests, "before", QUIET_MESSAGES)
        begin.set()
        attacked_s = await chat(guests, "meanwhile", MESSAGES)
        with trio.fail_after(10 * PATIENCE):
            while not all(attacker.codes["muted"] for attacker in attackers):
                await trio.sleep(0.05)
        rows = await idle.rows([cafe])
        await caught_up(guests, rows)
        nursery.cancel_scope.cancel()
    check_laws(guests, rows)

    author = {user_id: rule for rule, group in groups.items() for user_id in (attacker.user_id for attacker in group)}
    honest = {guest.user_id for guest in guests}
    by_seq = {row.seq: row.user_id for row in rows}
    for guest in guests:
        seen = Counter(author.get(by_seq[seq], "honest") for seq in guest.heard)
        assert seen["honest"] == HONEST * (QUIET_MESSAGES + MESSAGES)
        assert {rule: seen[rule] for rule in TEXTS} == OUT_MAX
    assert honest.isdisjoint(action.user_id for action in await decided(idle, cafe))

    ended = Counter(code for attacker in attackers for code in attacker.codes)
    assert not ended["cut"], "spam alone costs nobody their socket"
    assert all(attacker.codes["spam_blocked"] == 3 for attacker in attackers)
    check_story(await decided(idle, cafe), groups)
    for action, times in (("block", 3), ("mute", 1)):
        logged = Counter(line["user"] for line in idle.events(action))
        assert logged == dict.fromkeys(author, times)

    p99_quiet_s, p99_s = p99(quiet_s), p99(attacked_s)
    measured(
        quiet_ms=p99_quiet_s * 1000, attacked_ms=p99_s * 1000, seen=sum(OUT_MAX.values()), refused=sum(a.codes.total() - a.codes["reply"] for a in attackers)
    )
    assert p99_s < 2 * max(p99_quiet_s, FLOOR_S) * PATIENCE


def crowd(daemon: Daemon, people: Sequence[tuple[str, str, str]]) -> dict[str, list[Attacker]]:
    """By the rule they break. They begin one after the other, all within the pause each makes."""
    gap_s = 0.3
    users = iter(people)
    return {
        rule: [Attacker(daemon, next(users), partial(text, who), late_s=(who + at / len(TEXTS)) * gap_s / EACH, gap_s=gap_s) for who in range(EACH)]
        for at, (rule, text) in enumerate(TEXTS.items())
    }


async def chat(guests: Sequence[Witness], when: str, messages: int) -> list[float]:
    """Everybody says so many things, each heard by all: how long each took to each."""
    sent_s: dict[str, float] = {}

    async def talk(guest: Witness, at: int) -> None:
        await trio.sleep(at * GAP_S / HONEST)
        for n in range(messages):
            content = f"guest {at} tells story {n} of what was {when}"
            sent_s[content] = trio.current_time()
            await guest.say(content, f"{when}-{n}")
            await trio.sleep(GAP_S)

    async with trio.open_nursery() as nursery:
        for at, guest in enumerate(guests):
            nursery.start_soon(talk, guest, at)
    return [guest.heard_s[content] - at_s for content, at_s in sent_s.items() for guest in guests]


def check_story(actions: Sequence[Decided], groups: dict[str, list[Attacker]]) -> None:
    """Three blocks for each, with the rule, and then the mute."""
    stories = defaultdict(list)
    for action in actions:
        stories[action.user_id].append((action.action, action.rule))
    soft = [("block", "warnings")] * 3 + [("mute", "blocks")]
    for rule, group in groups.items():
        for attacker in group:
            assert stories.pop(attacker.user_id) == (soft if rule != "raid" else [("block", "raid")] * 3 + [("mute", "blocks")])
    assert not stories


def p99(took_s: Sequence[float]) -> float:
    return sorted(took_s)[len(took_s) * 99 // 100]
