"""Second sockets of honest guests, in a process that does nothing but note when it heard what: busy clients are not what is measured.

`python -m tests.system.ears` reads a `Plan`, says `joined`, and, when stdin ends, when each of the guests' own texts came, once for each
ear, on the clock that all processes share.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import defaultdict

import msgspec
import trio

from tests.system.guests import Line

_OWN = re.compile(rb'"content":"(guest [0-9]+ tells story [0-9]+ of what was [a-z]+)"')
_REST_BYTES = 128


class Plan(msgspec.Struct, frozen=True):
    """Café id, user id and access token of each guest."""

    address: tuple[str, int]
    guests: list[tuple[str, str, str]]


async def _listen(line: Line, heard_s: dict[str, list[float]]) -> None:
    rest = b""
    while True:
        data = rest + await line.receive_bytes()
        now_s, end = time.monotonic(), 0
        for found in _OWN.finditer(data):
            end = found.end()
            heard_s[found[1].decode()].append(now_s)
        rest = data[end:][-_REST_BYTES:]


async def _run() -> None:
    plan = msgspec.json.decode(await trio.to_thread.run_sync(sys.stdin.buffer.readline), type=Plan)
    heard_s: dict[str, list[float]] = defaultdict(list)
    async with trio.open_nursery() as nursery:
        for cafe_id, _, token in plan.guests:
            line = await Line.open(plan.address, token)
            await line.send("join:cafe", {"cafeId": cafe_id}, "join")
            while (await line.receive()).get("ref") != "join":
                pass
            nursery.start_soon(_listen, line, heard_s)
        print("joined", flush=True)
        await trio.to_thread.run_sync(sys.stdin.buffer.read)
        nursery.cancel_scope.cancel()
    print(json.dumps(heard_s), flush=True)


if __name__ == "__main__":
    trio.run(_run)
