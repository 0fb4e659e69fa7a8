"""Redis paused, killed and emptied under load: nobody in the chat notices, health says so, and the mirror is written anew."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import trio

from brewd.store.embedded import RedisServer
from tests.patience import PATIENCE
from tests.system.daemon import Daemon, paused
from tests.system.guests import Guest, Talk, gathered
from tests.system.load import load

UNNOTICED_S = 0.5
"""Longer than this no message may take, whatever Redis does."""


async def test_redis_paused_killed_and_emptied(daemon: Daemon, measured: Callable[..., None]) -> None:
    async with load(daemon) as (guests, talk):
        await mirrored(daemon, guests)
        with paused(daemon.server("valkey-server")):
            await goes_on_unnoticed(talk, guests, seconds=0.5)
            await health_says(daemon, "degraded")
        await health_says(daemon, "ok")
        measured(mirrored_after_pause_s=await mirrored(daemon, guests))

        valkey = daemon.server("valkey-server")
        os.kill(valkey, signal.SIGKILL)  # with all that was in it
        await goes_on_unnoticed(talk, guests, seconds=0.5)
        measured(mirrored_after_kill_s=await mirrored(daemon, guests))
        assert daemon.server("valkey-server") not in (0, valkey)
        await health_says(daemon, "ok")

        assert await redis(daemon, "FLUSHALL") == "OK"
        measured(mirrored_after_flush_s=await mirrored(daemon, guests))

        for _ in range(4):  # more often than anything essential may crash
            with trio.fail_after(5):
                while not (valkey := daemon.server("valkey-server")):
                    await trio.sleep(0.005)
            os.kill(valkey, signal.SIGKILL)
            await goes_on_unnoticed(talk, guests, seconds=0.05)
        await health_says(daemon, "ok")
        measured(mirrored_after_crashes_s=await mirrored(daemon, guests))
        assert all(not answer.code for guest in guests for answer in guest.answers)


async def test_redis_gone_for_a_while(idle: Daemon, measured: Callable[..., None]) -> None:
    """One that is not ours to restart."""
    elsewhere = RedisServer(data_dir=idle.data)
    with idle.config.open("a") as config:
        config.write(f'[redis]\nurl = "{elsewhere.url}"\n')
    try:
        await elsewhere.start()
        await idle.start()
        async with load(idle) as (guests, talk):
            await mirrored(idle, guests)
            await elsewhere.stop()
            await goes_on_unnoticed(talk, guests, seconds=0.5)
            await health_says(idle, "degraded")
            await elsewhere.start()
            measured(mirrored_after_return_s=await mirrored(idle, guests))
            await health_says(idle, "ok")
    finally:
        await elsewhere.stop()


async def test_cafes_open_as_fast_while_redis_is_paused(daemon: Daemon, measured: Callable[..., None]) -> None:
    """Each would like its topics back from Redis. Once it is known that there is nobody to ask, none of them waits."""
    guests = [Guest(daemon.address, *user) for user in await daemon.users(await daemon.cafes(100), 1)]
    with paused(daemon.server("valkey-server")):
        await health_says(daemon, "degraded")
        await trio.sleep(1.5)
        async with gathered(guests) as open_s:
            measured(open_s=open_s)
            assert open_s < 2 * PATIENCE


async def goes_on_unnoticed(talk: Talk, guests: Sequence[Guest], *, seconds: float) -> None:
    answered = [len(guest.answers) for guest in guests]
    await trio.sleep(seconds)
    await talk.goes_on(50)
    fresh = [answer for guest, before in zip(guests, answered, strict=True) for answer in guest.answers[before:]]
    assert max(answer.took_s for answer in fresh) < UNNOTICED_S


async def health_says(daemon: Daemon, status: str) -> None:
    with trio.fail_after(10):
        while (await daemon.call("status"))["status"] != status:
            await trio.sleep(0.05)


async def mirrored(daemon: Daemon, guests: Sequence[Guest]) -> float:
    """Wait until Redis shows every café as it is: who is there, and its last messages. How long that took."""
    began_s = trio.current_time()
    cafes = {guest.cafe_id: {other.user_id for other in guests if other.cafe_id == guest.cafe_id} for guest in guests}
    with trio.fail_after(15):
        for cafe_id, users in cafes.items():
            while not await is_mirrored(daemon, cafe_id, users, next(guest for guest in guests if guest.cafe_id == cafe_id)):
                await trio.sleep(0.02)
    return trio.current_time() - began_s


async def is_mirrored(daemon: Daemon, cafe_id: str, users: set[str], guest: Guest) -> bool:
    try:
        there = set(await redis(daemon, "SMEMBERS", f"cafe:{cafe_id}:users"))
        newest = [json.loads(message) for message in await redis(daemon, "LRANGE", f"cafe:{cafe_id}:messages", "0", "99")]
    except OSError:
        return False
    if there != users or len(newest) < min(len(guest.heard), 100):
        return False
    seqs = [message["seq"] for message in newest]
    assert seqs == list(range(seqs[0], seqs[0] - len(seqs), -1))
    assert all(guest.heard[message["seq"]] == (message["id"], message["content"]) for message in newest if message["seq"] in guest.heard)
    return True


async def redis(daemon: Daemon, *command: str) -> Any:
    """One command to the embedded server, and its answer; `OSError` when it is not there."""
    return await trio.to_thread.run_sync(_redis, str(daemon.data / "run" / "redis.sock"), command)


def _redis(path: str, command: tuple[str, ...]) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect(path)
        sock.sendall(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in command))
        with sock.makefile("rb") as answer:
            return _value(answer)


def _value(answer: Any) -> Any:
    line = answer.readline()
    if not line.endswith(b"\r\n"):
        raise OSError("Redis hung up")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"*":
        return [_value(answer) for _ in range(int(rest))]
    if kind == b"$":
        return answer.read(int(rest) + 2)[:-2].decode() if rest != "-1" else None
    return int(rest) if kind == b":" else rest
