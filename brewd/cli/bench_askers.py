"""The askers of `brewd bench agent`, and the upstream that answers them: one process, so that one clock tells how long a word is under way.

`python -m brewd.cli.bench_askers` writes where its upstream listens as one JSON line to stdout. Then each line on stdin is an order, and
is answered with one line: first the sockets to open, then, as often as wanted, for how long to ask.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from brewd.cli import bench_wire as wire
from brewd.cli.bench_load import NICE
from brewd.cli.bench_upstream import Request, Script, Upstream, open_upstream

QUESTIONS: Final = 20
SPREAD_S: Final = 1.0
"""Over which the askers of a round come; nobody's answer begins before all have asked."""

THINKS_S: Final = 1.3
TEXTS: Final = 24
GAP_S: Final = 0.05
UNEVEN: Final = 0.8
"""Models do not write in step with each other."""

ANSWER_S: Final = 15.0
_READ_BYTES: Final = 65536
_OPENING_MAX: Final = 50


class Failure(Exception):
    """An asker did not get what it should; the text says what came instead."""


class Asker:
    """One socket on `/ws/agent`."""

    def __init__(self, stream: trio.SocketStream, cafe: str) -> None:
        self._stream = stream
        self._cafe = cafe
        self._rest = b""
        self._arrived_s = 0.0
        wire.note_arrivals(stream.setsockopt)

    async def ask(self, question: str) -> tuple[float, str]:
        """Ask and hear the answer to its end: when its first words were at the socket (trio time), and what they were. Raises `Failure`."""
        frame = {"event": "query:stream", "data": {"cafeId": self._cafe, "query": question}}
        await self._stream.send_all(wire.text_frame(json.dumps(frame).encode()))
        first: tuple[float, str] | None = None
        while True:
            for payload in await self._heard():
                if b'"query:chunk"' in payload:
                    if first is None:
                        first = self._arrived_s, json.loads(payload)["data"]["text"]
                elif b'"query:complete"' in payload and first is not None:
                    return first
                elif b'"query:start"' not in payload:
                    raise Failure(payload[:300].decode(errors="replace"))

    async def idle(self) -> None:
        """Answer pings until cancelled, or the connection is of no use any more: the next question tells."""
        with contextlib.suppress(Failure, OSError, trio.BrokenResourceError):
            while True:
                await self._heard()

    async def _heard(self) -> list[bytes]:
        """What one read completes."""
        received, ancillary, _, _ = await self._stream.socket.recvmsg(_READ_BYTES, wire.ANCILLARY_BYTES)
        unread_ns = wire.unread_ns(ancillary)  # read first: a pause before the other clock is read makes it later, never earlier
        self._arrived_s = trio.current_time() - unread_ns / 1e9
        if not received:
            raise Failure("the server closed the connection")
        self._rest += received
        heard: list[bytes] = []
        for opcode, payload in list(self._frames()):
            if opcode == wire.PING:
                await self._stream.send_all(wire.frame_head(10, len(payload)) + payload)
            elif opcode == wire.CLOSE:
                raise Failure(f"closed by the server: {payload[2:].decode(errors='replace')}")
            else:
                heard.append(payload)
        return heard

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Whole frames, as (first byte, payload); what is left of one waits for more."""
        data, at = self._rest, 0
        while len(data) - at >= 4:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < start + size:
                break
            yield data[at], data[start : start + size]
            at = start + size
        self._rest = data[at:]


async def _greeted(stream: trio.SocketStream, port: int, token: str) -> None:
    """Shake hands, and wait for the greeting. Raises `Failure`."""
    await stream.send_all(wire.upgrade(port, "/ws/agent", token))
    got = b""
    while b'"connected"' not in got:
        received = bytes(await stream.receive_some(_READ_BYTES))
        got += received
        if not received or not got.startswith(b"HTTP/1.1 101"[: len(got)]):
            raise Failure(f"the upgrade was refused: {got[:300].decode(errors='replace')}")


@asynccontextmanager
async def open_all(port: int, cafe: str, tokens: list[str]) -> AsyncIterator[list[Asker]]:
    """An asker for each token, connected and greeted; gone with the block."""
    doors = trio.Semaphore(_OPENING_MAX)
    streams: list[trio.SocketStream] = []

    async def one(token: str) -> None:
        async with doors:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            streams.append(stream)
            await _greeted(stream, port, token)

    try:
        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(one, token)
        yield [Asker(stream, cafe) for stream in streams]
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


class Asking:
    """Rounds of everybody asking one of a few new questions, and how long the first words of each answer were under way."""

    def __init__(self, askers: list[Asker], upstream: Upstream) -> None:
        self._askers = askers
        self._upstream = upstream
        self._round = 0
        self._first: list[tuple[float, str]] = []
        self.failures: list[str] = []

    async def run(self, seconds: float) -> dict[str, Any]:
        """Ask until `seconds` are over, and the round that was begun then."""
        self._first, self.failures, rounds = [], [], 0
        self._upstream.requests.clear()
        self._upstream.texts_sent.clear()
        end_s = trio.current_time() + seconds
        while trio.current_time() < end_s:
            rounds += 1
            self._round += 1
            async with trio.open_nursery() as nursery:
                for number, asker in enumerate(self._askers):
                    nursery.start_soon(self._one, number, asker)
        sent = {text: at_s for at_s, text in reversed(self._upstream.texts_sent)}  # the first time, should there be two
        under_way_us = sorted(round((at_s - sent[text]) * 1e6) for at_s, text in self._first if text in sent)
        return {
            "rounds": rounds,
            "asked": rounds * len(self._askers),
            "answered": len(self._first),
            "questions": rounds * min(QUESTIONS, len(self._askers)),
            "calls": len(self._upstream.requests),
            "first_us": under_way_us,
            "failures": self.failures[:3],
        }

    async def idle(self) -> None:
        """Keep the sockets open until cancelled."""
        async with trio.open_nursery() as nursery:
            for asker in self._askers:
                nursery.start_soon(asker.idle)

    async def _one(self, number: int, asker: Asker) -> None:
        await trio.sleep(SPREAD_S * number / len(self._askers))
        try:
            with trio.fail_after(ANSWER_S):
                self._first.append(await asker.ask(f"Round {self._round}, question {number * QUESTIONS // len(self._askers)}: what goes with it?"))
        except (Failure, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self.failures.append(str(error) or type(error).__name__)


def script(numbers: Iterator[int]) -> Callable[[Request], Script]:
    """Every answer has words of its own, so that the first of them are found again."""

    def answer(_: Request) -> Script:
        number = next(numbers)
        return Script(texts=tuple(f"({number}.{at}) some words more " for at in range(TEXTS)), before_s=THINKS_S, gap_s=GAP_S, uneven=UNEVEN)

    return answer


def give_way() -> None:
    """Run when nobody else on the core wants to; where there is no such thing, at least seldom."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.nice(NICE)


async def main() -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(open_upstream())
        upstream.script = script(itertools.count())
        _say({"url": upstream.url})
        asking: Asking | None = None
        while line := await _next_line(asking):
            order = json.loads(line)
            if asking is None:
                if order["cpu"] >= 0:
                    os.sched_setaffinity(0, {order["cpu"]})
                give_way()
                askers = await stack.enter_async_context(open_all(order["port"], order["cafe"], order["tokens"]))
                asking = Asking(askers, upstream)
                _say({"opened": len(askers)})
            else:
                _say(await asking.run(order["seconds"]))


async def _next_line(asking: Asking | None) -> str:
    """Of stdin; empty at its end. The sockets stay open meanwhile."""
    async with trio.open_nursery() as nursery:
        if asking is not None:
            nursery.start_soon(asking.idle)
        line: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    return line


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
