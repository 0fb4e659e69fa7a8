"""The end: told to stop, everyone is seen out and nothing acknowledged is lost; killed, nothing is left running."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.patience import PATIENCE
from tests.system.daemon import POLL_S, Daemon, children, paused
from tests.system.guests import Cut, Guest, Line, check_laws, gathered, talking
from tests.system.load import people

QUICK_S = 4.0
"""With stores and clients that answer, a drain takes nothing near `server.drain_s`, which is 20 s."""


async def test_sigterm_under_load_sees_everyone_out(daemon: Daemon, measured: Callable[..., None]) -> None:
    guests = await people(daemon)
    with trio.fail_after(60):
        async with gathered(guests, once=True), trio.open_nursery() as nursery:
            nursery.start_soon(talk_until_cut, guests)
            for token in (None, guests[0].token):  # one who has not said who it is, and one who has not come in
                nursery.start_soon(sent_away, await Line.open(daemon.address(), token))
            nursery.start_soon(keeps_alive, daemon.address())
            while sum(len(guest.acked) for guest in guests) < 300:
                await trio.sleep(0.001)
            began_s = time.monotonic()
            assert await daemon.terminate() == 0
            measured(exit_s=time.monotonic() - began_s)
            assert time.monotonic() - began_s < QUICK_S
            nursery.cancel_scope.cancel()
    await daemon.alone(0.5)
    for guest in guests:
        assert [event["event"] for event in guest.events] == ["server:draining"]
        assert 0 <= guest.events[0]["data"]["reconnectInMs"] <= 10_000
        assert guest.close_codes == [1012]
    assert len({guest.events[0]["data"]["reconnectInMs"] for guest in guests}) > 1, "everyone would come back in the same instant"
    assert not (daemon.data / "control.sock").exists()
    await daemon.start()
    check_laws(guests, await daemon.rows({guest.cafe_id for guest in guests}))


async def talk_until_cut(guests: list[Guest]) -> None:
    async with talking(guests, gap_s=0.0):
        await trio.sleep_forever()


async def keeps_alive(address: tuple[str, int]) -> None:
    """A browser that leaves its connection open: the end of the daemon does not wait for it."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(b"GET /api/health/live HTTP/1.1\r\nHost: brewd\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        assert not [part async for part in stream if b"HTTP/1.1" in part]


async def sent_away(line: Line) -> None:
    """What is said to everyone is said to this one, too."""
    told = []
    with contextlib.suppress(Cut):
        while True:
            told.append((await line.receive())["event"])
    line.close()
    assert [event for event in told if event != "connected"] == ["server:draining"]
    assert line.close_code == 1012


async def test_a_drain_does_not_wait_for_clients_that_do_not_read(daemon: Daemon, measured: Callable[..., None]) -> None:
    guests = await people(daemon)
    lines = [await Line.open(daemon.address(), guest.token) for guest in guests]
    began_s = time.monotonic()
    assert await daemon.terminate() == 0
    measured(exit_s=time.monotonic() - began_s)
    assert time.monotonic() - began_s < 4 * PATIENCE
    for line in lines:
        await sent_away(line)


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_drain_that_postgres_holds_up_still_ends_in_time(idle: Daemon, measured: Callable[..., None], signals: int) -> None:
    """What is accepted and not yet stored is not acknowledged. A second signal ends the waiting."""
    idle.config.write_text(idle.config.read_text().replace("[server]", f"[server]\ndrain_s = {3 if signals == 1 else 20}"))
    await idle.start()
    guests = await people(idle)
    async with gathered(guests, once=True), trio.open_nursery() as nursery:
        nursery.start_soon(talk_until_cut, guests)
        while sum(len(guest.acked) for guest in guests) < 100:
            await trio.sleep(0.001)
        postgres = idle.server("postgres")
        with paused(postgres, *children(postgres)):
            await trio.sleep(0.2)
            began_s = time.monotonic()
            assert idle.process is not None
            idle.process.terminate()
            while not all(guest.events for guest in guests):
                await trio.sleep(0.01)
            if signals == 2:
                idle.process.terminate()
            while not all(guest.close_codes for guest in guests):
                await trio.sleep(0.01)
            measured(all_sent_away_s=time.monotonic() - began_s)
        assert await idle.ended(10) == 0
        measured(exit_s=time.monotonic() - began_s)
        nursery.cancel_scope.cancel()
    assert time.monotonic() - began_s < (3 if signals == 1 else 2)
    assert {code for guest in guests for code in guest.close_codes} == {1012 if signals == 1 else 1001}
    await idle.alone()
    await idle.start()
    check_laws(guests, await idle.rows({guest.cafe_id for guest in guests}))


async def test_the_worker_of_the_agent_ends_with_the_daemon_however_that_ends(idle: Daemon) -> None:
    key = idle.directory / "key"
    key.write_text("sk-test\n")
    idle.config.write_text(f'{idle.config.read_text()}[agent]\napi_key_file = "{key}"\nbase_url = "http://127.0.0.1:9"\n')
    for end in (idle.kill, idle.terminate):
        await idle.start()
        with trio.fail_after(5 * PATIENCE):
            while not (workers := [pid for pid in children(idle.pid) if b"brewd.agent.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]):
                await trio.sleep(POLL_S)
            await end()
            while Path(f"/proc/{workers[0]}/cmdline").exists():
                await trio.sleep(POLL_S)
    await idle.alone()


async def test_a_signal_right_after_the_start_is_no_crash(idle: Daemon) -> None:
    await idle.start()
    assert idle.process is not None
    idle.process.send_signal(signal.SIGINT)
    assert await idle.ended(5) == 0
    await idle.alone(0.5)


async def test_a_signal_during_the_start_ends_it_in_order(idle: Daemon) -> None:
    process = idle.launch()
    await trio.sleep(0.7)
    process.terminate()
    assert await idle.ended(10) in (0, -signal.SIGTERM)  # before Python has come to it, the signal does what it always does
    await idle.alone()


async def test_a_mirror_that_cannot_be_read_is_no_reason_not_to_start(idle: Daemon) -> None:
    await idle.start()
    assert await idle.terminate() == 0
    (dump,) = (idle.data / "redis").glob("*.rdb")
    dump.write_bytes(b"REDIS0011" + b"\xff" * 100)
    await idle.start()
    assert (await idle.call("status"))["checks"]["redis"] == "ok"


async def test_a_killed_daemon_leaves_no_server_behind(daemon: Daemon, measured: Callable[..., None]) -> None:
    assert daemon.server("postgres")
    assert daemon.server("valkey-server")
    await daemon.kill()
    measured(alone_s=await daemon.alone())


async def test_a_daemon_killed_while_it_starts_leaves_no_server_behind(idle: Daemon) -> None:
    process = idle.launch()
    with trio.fail_after(10):
        while not idle.server("postgres"):
            assert process.poll() is None
            await trio.sleep(POLL_S)
    await idle.kill()
    await idle.alone()
    await idle.start()
