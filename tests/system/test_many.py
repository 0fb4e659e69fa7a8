"""A large house: a thousand cafés are no reason to start slowly, and everyone may come back at the same moment."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.patience import PATIENCE
from tests.system.daemon import Daemon
from tests.system.guests import Guest, check_laws, gathered

CAFES = 1000
EACH = 10
READY_MAX_S = 2.0 * PATIENCE
BACK_MAX_S = 20.0


async def test_a_large_house_is_back_soon_after_a_kill(idle: Daemon, measured: Callable[..., None], long: bool) -> None:
    daemon = idle
    await daemon.start()
    cafes = await daemon.cafes(CAFES)
    crowd = [Guest(daemon.address, *user) for user in await daemon.users(cafes if long else cafes[: CAFES // 10], EACH)]
    speakers = crowd[::EACH]
    async with gathered(crowd, once=True, timeout_s=60) as first_in_s:
        for guest in speakers:
            await guest.say("before", "before")
        await daemon.kill()
    others = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # how many times slower everything is at the moment
    ready_s = await daemon.start()
    async with gathered(crowd, timeout_s=60) as back_s:
        status = await daemon.call("status")
        measured(first_in_s=first_in_s, ready_s=ready_s, back_s=back_s, rss_mib=daemon.rss_mib())
        assert status["cafes"]["members"] == status["cafes"]["sockets"] == len(crowd)
        for guest in speakers:
            assert (await guest.say("before", "before")).data["duplicate"]
        check_laws(crowd, await daemon.rows(cafes))
    assert ready_s < READY_MAX_S * others
    assert back_s < BACK_MAX_S * others
