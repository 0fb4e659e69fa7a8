"""Logging out, through real sockets."""

from __future__ import annotations

import socket

import trio
import trio.testing

from brewd.people.sessions import Sessions
from tests.edge.ws.house import House


async def test_a_client_that_hangs_up_on_its_logout_is_logged_out_for_good(house: House) -> None:
    """Wherever the reset meets it: a logout that has begun is not undone by a restart of the daemon."""
    parts = house.parts
    people = await house.guests(await house.cafe(), 30)
    for n, person in enumerate(people):
        raw = await house.raw()
        await raw.send(f"POST /api/auth/logout HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.token}\r\nContent-Length: 0\r\n\r\n".encode())
        await trio.sleep(n / 10_000)
        assert isinstance(raw.stream, trio.SocketStream)
        raw.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await raw.aclose()
    await trio.testing.wait_all_tasks_blocked(0.05)
    out = [person for person in people if parts.sessions.is_revoked(parts.tokens.verify_access(person.token))]
    assert out
    restarted = Sessions(pg=parts.sessions._pg, clock=parts.clock, ids=parts.ids, tokens=parts.tokens, user_ttl_s=parts.config.auth.user_ttl_s)
    with trio.fail_after(5):
        while not all(restarted.is_revoked(parts.tokens.verify_access(person.token)) for person in out):
            await restarted.warm()
