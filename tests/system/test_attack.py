"""Two hundred who spoil a café for five: what they say is stopped after the copies the rules let out, and the five notice nothing."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import trio

from tests.patience import PATIENCE
from tests.system import ears, mob
from tests.system.aside import aside
from tests.system.daemon import Daemon
from tests.system.guests import caught_up, check_laws, gathered
from tests.system.hostile import CONFIG, Decided, Witness, decided
from tests.system.mob import TEXTS

HONEST = 5
EACH = 50
GAP_S = 1.05
"""Between two messages of an honest guest: a little more than the profile asks for."""

QUIET_MESSAGES = 6
MESSAGES = 9
FLOOR_S = 0.002
"""What the room may take its time for anyway: a quiet café is not measured finer than this."""

OUT_MAX = {"duplicate": 3 * EACH, "capitals": 2 * EACH, "links": 2 * EACH, "raid": 4}
"""What goes out: two soft ones of everybody's are warned of, before which one that is no repetition yet; and of a raid two copies, and two more of
who was the first, for whom it is a repetition."""


async def test_two_hundred_attackers_spoil_nothing(idle: Daemon, measured: Callable[..., None]) -> None:
    idle.config.write_text(CONFIG)
    await idle.start()
    (cafe,) = await idle.cafes(1)
    people = await idle.users([cafe], HONEST + len(TEXTS) * EACH)
    guests = [Witness(idle.address, *user) for user in people[:HONEST]]
    groups = {rule: people[HONEST + at * EACH :][:EACH] for at, rule in enumerate(TEXTS)}
    async with (
        gathered(guests),
        aside("tests.system.ears", ears.Plan(idle.address(), people[:HONEST])) as hearing,
        aside("tests.system.mob", mob.Plan(idle.address(), groups), prefix=("nice", "-n", "19")) as crowd,
    ):
        await hearing.says("joined", 30 * PATIENCE)
        await crowd.says("joined", 30 * PATIENCE)
        sent_s = await chat(guests, "before", QUIET_MESSAGES)
        await crowd.begin()
        cpu_s = idle.cpu_s()
        sent_s |= await chat(guests, "meanwhile", MESSAGES)
        cpu_s = idle.cpu_s() - cpu_s
        await crowd.says("muted", 10 * PATIENCE)
        rows = await idle.rows([cafe])
        await caught_up(guests, rows)
    check_laws(guests, rows)

    author = {user_id: rule for rule, group in groups.items() for _, user_id, _ in group}
    honest = {guest.user_id for guest in guests}
    by_seq = {row.seq: row.user_id for row in rows}
    for guest in guests:
        seen = Counter(author.get(by_seq[seq], "honest") for seq in guest.heard)
        assert seen["honest"] == HONEST * (QUIET_MESSAGES + MESSAGES)
        assert OUT_MAX["raid"] - 1 <= seen["raid"] <= OUT_MAX["raid"], "the first one's own may be in capitals, which is a warning as well"
        assert {rule: seen[rule] for rule in TEXTS if rule != "raid"} == {rule: most for rule, most in OUT_MAX.items() if rule != "raid"}
    assert honest.isdisjoint(action.user_id for action in await decided(idle, cafe))

    assert not sum(codes.get("cut", 0) for codes in crowd.found.values()), "spam alone costs nobody their socket"
    first = next(by_seq[seq] for seq in sorted(by_seq) if author.get(by_seq[seq]) == "raid")
    blocks = {user_id: 4 if rule == "raid" and user_id != first else 3 for user_id, rule in author.items()}
    assert {user_id: codes["spam_blocked"] for user_id, codes in crowd.found.items()} == blocks
    check_story(await decided(idle, cafe), author, first)
    for action, times in (("block", blocks), ("mute", dict.fromkeys(author, 1))):
        logged = Counter(line["user"] for line in idle.events(action))
        assert logged == times

    took_s = {content: [at_s - sent_s[content] for at_s in hearing.found[content]] for content in sent_s}
    assert {len(took) for took in took_s.values()} == {HONEST}
    p99_quiet_s, p99_s = (p99([at_s for content, took in took_s.items() if content.endswith(when) for at_s in took]) for when in ("before", "meanwhile"))
    refused = sum(sum(codes.values()) - codes["reply"] for codes in crowd.found.values())
    measured(quiet_ms=p99_quiet_s * 1000, attacked_ms=p99_s * 1000, seen=sum(OUT_MAX.values()), refused=refused, daemon_cpu_s=cpu_s)
    assert p99_s < 2 * max(p99_quiet_s, FLOOR_S) * PATIENCE


async def chat(guests: Sequence[Witness], when: str, messages: int) -> dict[str, float]:
    """Everybody says so many things, each heard by all: when each was sent."""
    sent_s: dict[str, float] = {}

    async def talk(guest: Witness, at: int) -> None:
        await trio.sleep(at * GAP_S / HONEST)
        for n in range(messages):
            content = f"guest {at} tells story {n} of what was {when}"
            sent_s[content] = time.monotonic()
            await guest.say(content, f"{when}-{n}")
            await trio.sleep(GAP_S)

    async with trio.open_nursery() as nursery:
        for at, guest in enumerate(guests):
            nursery.start_soon(talk, guest, at)
    return sent_s


def check_story(actions: Sequence[Decided], author: dict[str, str], first: str) -> None:
    """Three blocks for each, with the rule, and then the mute; in the raid one more, which told them, but for who was the `first` to say it."""
    stories = defaultdict(list)
    for action in actions:
        stories[action.user_id].append((action.action, action.rule))
    for user_id, rule in author.items():
        blocks = [("block", "raid")] * 4 if rule == "raid" and user_id != first else [("block", "warnings")] * 3
        assert stories.pop(user_id) == [*blocks, ("mute", "blocks")]
    assert not stories


def p99(took_s: Sequence[float]) -> float:
    return sorted(took_s)[len(took_s) * 99 // 100]
