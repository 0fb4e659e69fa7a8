"""Postgres killed, restarted and paused under load: delays or `storage_unavailable` in time, never a lie, and back at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from tests.patience import PATIENCE
from tests.slices import niceness, stands_back
from tests.system.daemon import Daemon, children, paused
from tests.system.guests import Answer, Cut, Guest, Line, gathered
from tests.system.hostile import CONFIG, Witness
from tests.system.load import check_answers, load

BACK_MAX_S = 2.0 * PATIENCE
GROWTH_MAX_MIB = 100


async def replaced(daemon: Daemon, old: int) -> int:
    """The pid of the Postgres that took the place of `old`."""
    with trio.fail_after(10):
        while (new := daemon.server("postgres")) in (0, old):
            await trio.sleep(0.005)
    return new


async def test_postgres_killed(daemon: Daemon, measured: Callable[..., None]) -> None:
    async with load(daemon) as (_, talk):
        for _ in range(2):
            old = daemon.server("postgres")
            os.kill(old, signal.SIGKILL)
            await replaced(daemon, old)
            # Its recovery is part of what is measured: the embedded server is the daemon's own affair.
            measured(first_ack_after_kill_s=await talk.goes_on(200))


async def test_postgres_restarted_and_its_connections_cut(daemon: Daemon, measured: Callable[..., None]) -> None:
    async with load(daemon) as (_, talk):
        old = daemon.server("postgres")
        for backend in [pid for pid in children(old) if b"brewd brewd" in command(pid)]:
            os.kill(backend, signal.SIGTERM)  # what pg_terminate_backend does
        measured(first_ack_after_cut_s=await talk.goes_on(100))
        os.kill(old, signal.SIGINT)  # a fast shutdown, as an operator's restart does it
        await replaced(daemon, old)
        measured(first_ack_after_restart_s=await talk.goes_on(100))


async def test_a_postgres_that_does_not_stay_up_ends_the_daemon_in_words(idle: Daemon) -> None:
    daemon = idle
    await daemon.start()
    postgres = 0
    for _ in range(4):
        postgres = await replaced(daemon, postgres)
        os.kill(postgres, signal.SIGKILL)
    assert await daemon.ended(10) == 1
    last = daemon.log.read_text().splitlines()[-1]
    assert last.startswith("brewd: postgres crashed 4 times in 5 s")
    await daemon.alone()


@pytest.mark.skipif(sys.platform != "linux", reason="a question to Linux")
async def test_who_writes_down_what_was_decided_stands_back_for_the_rooms(idle: Daemon) -> None:
    idle.config.write_text(CONFIG + '[limits.spam]\nwords = ["gold coins"]\n')
    await idle.start()
    (cafe,) = await idle.cafes(1)
    (rude,) = guests = [Witness(idle.address, *user) for user in await idle.users([cafe], 1)]

    usual, _ = niceness(idle.server("postgres"))

    def standing_back() -> list[bool]:
        return [stands_back(pid, usual) for pid in children(idle.server("postgres")) if b"brewd brewd" in command(pid)]

    async with gathered(guests):
        assert not (await rude.send("hello there")).code
        assert not any(standing_back())
        assert (await rude.send("cheap gold coins")).code == "spam_blocked"
        with trio.fail_after(PATIENCE):
            while not any(standing_back()):
                await trio.sleep(0.01)
        assert standing_back().count(True) == 1 < len(standing_back())


def command(pid: int) -> bytes:
    """Nothing of one that has ended: Postgres starts and ends processes of its own."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_postgres_paused(daemon: Daemon, measured: Callable[..., None], long: bool) -> None:
    (nobody_there,) = [Guest(daemon.address, *user) for user in await daemon.users(await daemon.cafes(1), 1)]
    async with load(daemon) as (guests, talk):
        postgres = daemon.server("postgres")
        rss_mib = daemon.rss_mib()
        with paused(postgres, *children(postgres)):
            await trio.sleep(0.2)  # what was already on its way
            acked, heard = talk.acked, [len(guest.heard) for guest in guests]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(comes_late, daemon, guests[0], "reply", 1.0)
                nursery.start_soon(comes_late, daemon, nobody_there, "error", 5.0)
                crowd = await flood(guests, pause_s=30.0 if long else 6.0)
            assert talk.acked == acked
            assert heard == [len(guest.heard) for guest in guests]
            assert (await daemon.call("status"))["status"] == "degraded"
        back_s = await talk.goes_on(1)
        grown_mib = daemon.rss_mib() - rss_mib
        measured(back_s=back_s, flooded=len(crowd), grown_mib=grown_mib, slowest_answer_s=max(answer.took_s for answer in crowd))
        assert back_s < BACK_MAX_S
        assert grown_mib < GROWTH_MAX_MIB
        check_answers(crowd)


async def comes_late(daemon: Daemon, guest: Guest, answer: str, within_s: float) -> None:
    """A room that is open lets people in; one that would have to be read first says in time that it cannot be."""
    line = await Line.open(daemon.address(), guest.token)
    with trio.fail_after(within_s):
        await line.send("join:cafe", {"cafeId": guest.cafe_id}, "join")
        while (frame := await line.receive()).get("ref") != "join":
            pass
    assert frame["event"] == answer
    if answer == "error":
        assert frame["data"]["code"] == "storage_unavailable"
    line.close()


async def flood(guests: Sequence[Guest], *, pause_s: float) -> list[Answer]:
    """Everyone goes on talking without waiting for answers, ten long sentences a second; all the answers, after `pause_s`."""
    answers: list[Answer] = []
    cut = 0

    async def one(guest: Guest) -> None:
        nonlocal cut
        try:
            answers.append(await guest.ask("message:send", {"cafeId": guest.cafe_id, "content": "and another thing " * 55}))
        except Cut:
            cut += 1

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(pause_s):
            while True:
                for guest in guests:
                    nursery.start_soon(one, guest)
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert not cut
    return answers
