"""`kill -9` of the daemon in the middle of it all: what was acknowledged or seen is there, once, in one order."""

from __future__ import annotations

from collections.abc import Callable

import trio

from tests.system.daemon import Daemon
from tests.system.guests import Guest, caught_up, check_laws, gathered

CAFES = 5
SENDERS = 20
MESSAGES = 1000


async def test_what_was_acknowledged_or_seen_survives_a_kill(daemon: Daemon, measured: Callable[..., None]) -> None:
    cafes = await daemon.cafes(CAFES)
    guests = [Guest(daemon.address, *user) for user in await daemon.users(cafes, SENDERS // CAFES)]

    async def talk(guest: Guest) -> None:
        for n in range(MESSAGES // SENDERS):
            await guest.say(f"{guest.user_id} says {n}", f"m{n}")

    async def acknowledged(count: int) -> None:
        while sum(len(guest.acked) for guest in guests) < count:
            await trio.sleep(0.001)

    async with gathered(guests):
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for guest in guests:
                    nursery.start_soon(talk, guest)
                for kill_at in (MESSAGES // 3, MESSAGES * 2 // 3):
                    await acknowledged(kill_at)
                    await daemon.kill()
                    before = [(dict(guest.acked), dict(guest.heard)) for guest in guests]
                    ready_s = await daemon.start()
                    measured(ready_s=ready_s)
                    for guest, (acked, heard) in zip(guests, before, strict=True):
                        assert guest.acked.items() >= acked.items()
                        assert guest.heard.items() >= heard.items()
        rows = await daemon.rows({guest.cafe_id for guest in guests})
        await caught_up(guests, rows)
        # A message that was said again after its acknowledgement is answered with the first one.
        for guest in guests:
            answer = await guest.say(f"{guest.user_id} says 0", "m0")
            assert answer.data["duplicate"]
        assert await daemon.rows({guest.cafe_id for guest in guests}) == rows
    check_laws(guests, rows)
    assert sum(len(guest.acked) for guest in guests) == MESSAGES
    assert len(rows) == MESSAGES
    assert all(guest.joins == 3 for guest in guests)
    measured(resent=sum(guest.duplicates for guest in guests) - SENDERS)


async def test_a_resend_long_after_is_still_recognised(daemon: Daemon) -> None:
    """The room remembers the newest messages only; behind it stands Postgres, also when new messages share a commit with resends."""
    guests = [Guest(daemon.address, *user) for user in await daemon.users(await daemon.cafes(1), SENDERS)]

    async def talk(guest: Guest, count: int) -> None:
        for n in range(count):
            await guest.say(f"{guest.user_id} says {n}", f"m{n}")

    async with gathered(guests):
        for count in (30, 40):
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for guest in guests:
                        nursery.start_soon(talk, guest, count)
            rows = await daemon.rows({guest.cafe_id for guest in guests})
            assert len(rows) == SENDERS * count
            await caught_up(guests, rows)
            check_laws(guests, rows)
            await daemon.kill()
            await daemon.start()
    assert sum(guest.duplicates for guest in guests) == SENDERS * 30
