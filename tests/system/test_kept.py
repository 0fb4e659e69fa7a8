"""What people have used is known over any end: `kill -9`, with Redis emptied, with Redis gone. And what a mute hides, and for how long."""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

import pytest
import trio

from tests.patience import PATIENCE
from tests.system.daemon import Daemon
from tests.system.guests import gathered
from tests.system.hostile import CONFIG, Witness, decided
from tests.system.test_redis import redis

SLOW = CONFIG + "[limits.profiles.lively]\nmessage = { per_hour = 60, burst = 3, gap_s = 0 }\n"
"""Three messages, and one a minute."""

MUTE_S = 2.0
QUICK = CONFIG + f'[limits.spam]\nwords = ["gold coins"]\nmute_s = {MUTE_S}\n'
FELT_S = 0.5 * PATIENCE


class Free(NamedTuple):
    """When a refused sender may send again, by the daemon's clock in wall ms: it looked at it between these two, less the wait."""

    first_ms: float
    last_ms: float


async def refused(guest: Witness, content: str) -> Free:
    began_ms = time.time() * 1000
    answer = await guest.send(content)
    ended_ms = time.time() * 1000
    assert answer.code == "rate_limited", answer
    wait_ms = answer.data["retryAfterMs"]
    return Free(began_ms + wait_ms - 1, ended_ms + wait_ms + 1)


@pytest.mark.parametrize("redis_is", ["there", "emptied", "gone"])
async def test_a_kill_neither_refills_a_bucket_nor_eats_from_it(idle: Daemon, redis_is: str) -> None:
    idle.config.write_text(SLOW)
    await idle.start()
    spender, saver = (Witness(idle.address, *user) for user in await idle.users(await idle.cafes(1), 2))
    async with gathered([spender, saver]):
        for n in range(3):
            assert not (await spender.send(f"what I have to say, part {n}")).code
        said = await saver.send("one of three")
        # To take a message back does not give its token back, not even over a restart.
        assert not (await saver.ask("message:delete", {"messageId": said.data["message"]["id"]})).code
        before = await refused(spender, "and one more")
        if redis_is == "emptied":
            assert await redis(idle, "FLUSHALL") == "OK"
        elif redis_is == "gone":
            os.kill(idle.server("valkey-server"), signal.SIGKILL)
        await idle.kill()
        joins = spender.joins, saver.joins
        await idle.start()
        with trio.fail_after(10 * PATIENCE):
            while (spender.joins, saver.joins) <= joins or not (spender.line and saver.line):
                await trio.sleep(0.01)
        after = await refused(spender, "and one more, please")
        assert after.first_ms <= before.last_ms, "a restart must not eat tokens"
        assert before.first_ms <= after.last_ms, "a restart must not refill"
        for n in (2, 3):
            assert not (await saver.send(f"number {n} of three")).code
        await refused(saver, "number four of three")


async def test_who_is_muted_is_neither_seen_nor_heard_until_it_is_over(idle: Daemon) -> None:
    idle.config.write_text(QUICK)
    await idle.start()
    (cafe,) = await idle.cafes(1)
    rude, other = guests = [Witness(idle.address, *user) for user in await idle.users([cafe], 2)]
    async with gathered(guests):
        await rude.line.send("typing:start", {"cafeId": cafe})  # type: ignore[union-attr]
        await comes(other, rude, "typing:indicator", isTyping=True)
        answers = [await rude.send(f"cheap gold coins, offer {n}") for n in range(3)]
        assert [(answer.code, answer.data["rule"]) for answer in answers] == [("spam_blocked", "words")] * 3
        assert "mutedUntil" in answers[-1].data
        await comes(other, rude, "users:update", action="leave")
        told = len(other.told_of(rude.user_id))
        muted_s = trio.current_time()

        for data in ({"status": "busy"}, {"status": "away"}):
            assert not (await rude.ask("presence:update", data)).code
        await rude.line.send("typing:start", {"cafeId": cafe})  # type: ignore[union-attr]
        await rude.line.send("typing:stop", {"cafeId": cafe})  # type: ignore[union-attr]
        answer = await rude.send("sorry")
        assert answer.code == "muted"
        assert 0 < answer.data["retryAfterMs"] <= MUTE_S * 1000
        assert not (await other.send("is anybody here")).code
        assert await heard(rude, "is anybody here"), "who is muted hears what is said"
        assert len(other.told_of(rude.user_id)) == told, other.told_of(rude.user_id)[told:]
        if trio.current_time() - muted_s < MUTE_S:
            await trio.sleep_until(muted_s + MUTE_S)

        await comes(other, rude, "users:update", action="join")
        assert await was_told(rude, "moderation:unmuted")
        assert not (await rude.send("I am better now")).code, "what is free again speaks at once"
        assert await heard(other, "I am better now")
        assert [(action.action, action.rule) for action in await decided(idle, cafe)] == [("block", "words")] * 3 + [("mute", "blocks")]


async def comes(guest: Witness, about: Witness, event: str, **data: object) -> None:
    """Wait until the last thing told of somebody is this."""
    with trio.fail_after(MUTE_S + FELT_S):
        while not any(frame["event"] == event and frame["data"].items() >= data.items() for frame in guest.told_of(about.user_id)[-1:]):
            await trio.sleep(0.005)


async def was_told(guest: Witness, event: str) -> bool:
    """It may come in between, or after, what others are told of the same change and what the room says of its topics."""
    with trio.move_on_after(FELT_S):
        while not any(frame["event"] == event for frame in guest.frames):
            await trio.sleep(0.002)
        return True
    return False


async def heard(guest: Witness, content: str) -> bool:
    with trio.move_on_after(FELT_S):
        while content not in guest.heard_s:
            await trio.sleep(0.002)
        return True
    return False
