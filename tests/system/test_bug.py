"""A bug in one café's step: that café is back in no time, its sockets with it, and nobody else notices."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from brewd import daemon as brewd
from brewd.cafe.commands import Command, Send
from brewd.cafe.effects import Effect
from brewd.cafe.room import Room, step
from brewd.config import load
from tests.patience import PATIENCE
from tests.system.daemon import Daemon
from tests.system.guests import Guest, caught_up, check_laws, gathered, talking

BOMB = "trips over this"
BACK_MAX_S = 0.25 * PATIENCE


def broken(room: Room, command: Command, now_ms: int) -> list[Effect]:
    """A step with a bug in it."""
    if isinstance(command, Send) and command.content == BOMB:
        raise ZeroDivisionError("a bug")
    return step(room, command, now_ms)


class Inside(Daemon):
    """A daemon in this very process, with the bug."""

    @property
    def pid(self) -> int:
        raise NotImplementedError

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        serves = trio.Event()
        async with trio.open_nursery() as nursery:

            async def ready(parts: brewd.Parts) -> None:
                self.port = int(parts.urls[0].rpartition(":")[2])
                self.parts = parts
                serves.set()

            async def run() -> None:
                assert await brewd.run(load(str(self.config)), ready=ready, step=broken) == 0

            nursery.start_soon(run)
            await serves.wait()
            try:
                yield
            finally:
                self.parts.stop()


@pytest.fixture
async def inside(prepared: Path, tmp_path: Path) -> AsyncIterator[Inside]:
    subprocess.run(["cp", "-a", str(prepared), str(tmp_path / "data")], check=True)
    daemon = Inside(tmp_path)
    async with daemon.serving():
        yield daemon


async def bomb(guest: Guest) -> float:
    """Trip the bug; the seconds until the same socket is served by the café again."""
    answer = await guest.ask("message:send", {"cafeId": guest.cafe_id, "content": BOMB, "clientMsgId": "bomb"})
    assert answer.code == "internal"
    assert answer.data["incident"]
    began_s = trio.current_time()
    served = await guest.ask("presence:update", {"status": "away"})
    assert not served.code
    return trio.current_time() - began_s


async def test_a_bug_stays_in_its_cafe(inside: Inside, measured: Callable[..., None]) -> None:
    cafes = await inside.cafes(4)
    guests = [Guest(inside.address, *user) for user in await inside.users(cafes, 4)]
    victim = cafes[0]
    hurt, others = [g for g in guests if g.cafe_id == victim], [g for g in guests if g.cafe_id != victim]
    async with gathered(guests):
        async with talking(guests) as talk:
            await talk.goes_on(200)
            for _ in range(3):
                back_s = await bomb(hurt[0])
                measured(back_s=back_s)
                assert back_s < BACK_MAX_S
            await talk.goes_on(200)
        rows = await inside.rows({guest.cafe_id for guest in guests})
        await caught_up(guests, rows)
        status = {cafe.cafe_id: cafe for cafe in inside.parts.directory.list()}
    check_laws(guests, rows)
    assert all(len(guest.acked) == len(guest.said) for guest in guests), "somebody's message was lost"
    assert all(guest.joins == 1 for guest in guests), "somebody lost the socket"
    assert not [guest.events for guest in guests if guest.events]
    assert {status[cafe].crashes for cafe in cafes[1:]} == {0}
    assert status[victim].crashes == 3
    assert {answer.code for guest in others for answer in guest.answers} == {""}
    slowest_s = max(answer.took_s for guest in others for answer in guest.answers)
    measured(slowest_elsewhere_s=slowest_s)
    assert slowest_s < BACK_MAX_S


async def test_too_many_bugs_quarantine_the_cafe_until_it_is_revived(inside: Inside) -> None:
    cafes = await inside.cafes(2)
    guests = [Guest(inside.address, *user) for user in await inside.users(cafes, 2)]
    hurt, others = guests[:2], guests[2:]
    async with gathered(guests):
        async with talking(others):
            await quarantine(inside, hurt)
            await revive(inside, hurt)
        rows = await inside.rows({guest.cafe_id for guest in guests})
        await caught_up(guests, rows)
    check_laws(guests, rows)
    assert all(guest.joins == 1 for guest in guests)
    assert {answer.code for guest in others for answer in guest.answers} == {""}


async def quarantine(inside: Inside, hurt: list[Guest]) -> None:
    victim = hurt[0].cafe_id
    await hurt[0].say("before", "before")
    for _ in range(3):
        await bomb(hurt[0])
    fatal = await hurt[0].ask("message:send", {"cafeId": victim, "content": BOMB})
    assert fatal.code == "internal"
    with trio.fail_after(1):
        while (await hurt[1].ask("presence:update", {"status": "busy"})).code != "cafe_unavailable":
            await trio.sleep(0.01)
    refused = await hurt[1].ask("message:send", {"cafeId": victim, "content": "hello?"})
    assert refused.code == "cafe_unavailable"
    assert refused.data["retryAfterMs"] > 0
    assert {cafe["state"] for cafe in (await inside.call("cafe.list"))["cafes"]} == {"quarantined", "running"}
    assert (await inside.call("status"))["cafes"]["quarantined"] == [victim]


async def revive(inside: Inside, hurt: list[Guest]) -> None:
    victim = hurt[0].cafe_id
    await inside.call("cafe.revive", cafeId=victim)
    answer = await hurt[1].say("after", "after")
    assert answer.data["message"]["seq"] == hurt[0].acked["before"][1] + 1
    with trio.fail_after(2):
        while not any(heard.content == "after" for heard in hurt[0].heard.values()):
            await trio.sleep(0.01)
    assert (await inside.call("status"))["cafes"]["quarantined"] == []
    assert (await hurt[0].say("before", "before")).data["duplicate"]
    await bomb(hurt[0])  # its record is clean again
