"""The worker: a process beside the daemon that holds the SDK, makes the calls and writes down what they cost, so that nothing of it runs in the rooms' loop.

`python -m brewd.agent.worker` reads orders from stdin and writes news to stdout (see `orders`). It ends when its stdin does, and so with
the daemon, however that ends. Where they share a core it gives way to the rooms. What it says waits until the daemon has read, which holds
up every answer: nothing piles up here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable
from typing import Final

import trio

from brewd.agent import orders as o
from brewd.agent.calls import Meter, UpstreamError
from brewd.agent.rows import RowsRefused, put_rows
from brewd.agent.writer import Writer, open_writer
from brewd.errors import StoreError
from brewd.runtime.bridge import open_bridge
from brewd.runtime.process import calm_gc, let_others_first
from brewd.store.postgres import Place, Postgres, open_postgres

NICE: Final = 10
"""With it, and as a batch job, it is not put in front of a room that is at work; and it still gets its share of a busy machine."""

CONNECTIONS: Final = 4
"""To Postgres. A café that is locked there at the moment has its rows wait on one of them."""

NEW_OBJECTS: Final = 2_000
"""Between two looks for cycles. Each call leaves some; with many at once all words would wait while they are cleared away, for tens of ms."""

TRACEBACK_MAX_CHARS: Final = 20_000
_READ_BYTES: Final = 65536

Say = Callable[[o.News], None]


class _Reporter(Meter):
    """A meter that passes on what it is told."""

    __slots__ = ("_call", "_say")

    def __init__(self, call: int, say: Say) -> None:
        super().__init__()
        self._call = call
        self._say = say

    def start(self, input_tokens: int, cache_read: int, cache_write: int, output_tokens: int) -> None:
        super().start(input_tokens, cache_read, cache_write, output_tokens)
        self._say(o.Began(self._call, input_tokens, cache_read, cache_write, output_tokens))

    def chunk(self, text: str) -> None:
        """The daemon counts these as what was said."""
        for at in range(0, len(text), o.TEXT_MAX_CHARS):
            self._say(o.Said(self._call, text[at : at + o.TEXT_MAX_CHARS]))

    def thought(self, size_bytes: int) -> None:
        self._say(o.Thought(self._call, size_bytes))

    def total(self, input_tokens: int | None, cache_read: int | None, cache_write: int | None, output_tokens: int) -> None:
        self._say(o.Total(self._call, input_tokens, cache_read, cache_write, output_tokens))


class Worker:
    """Carries out orders."""

    def __init__(self, writer: Writer, pg: Postgres | None, say: Say, nursery: trio.Nursery) -> None:
        self._writer = writer
        self._pg = pg
        self._say = say
        self._nursery = nursery
        self._calls: dict[int, trio.CancelScope] = {}

    def take(self, order: o.Order) -> None:
        match order:
            case o.Ask():
                scope = self._calls[order.call] = trio.CancelScope()
                self._nursery.start_soon(self._answer, order, scope)
            case o.Cancel():
                if order.call in self._calls:  # else it has just ended
                    self._calls[order.call].cancel()
            case o.UseKey():
                self._writer.use_key(order.api_key)
            case o.Put():
                self._nursery.start_soon(self._put, order)

    async def _answer(self, ask: o.Ask, scope: trio.CancelScope) -> None:
        end: o.News = o.Stopped(ask.call)
        try:
            with scope:
                reporter = _Reporter(ask.call, self._say)
                written = await self._writer.answer(ask.task, model=ask.model, max_tokens=ask.max_tokens, on_chunk=reporter.chunk, meter=reporter)
                end = o.Done(ask.call, written)
        except UpstreamError as error:
            end = o.Failed(ask.call, error.trouble, error.detail, error.retry_after_s, error.may_pass)
        except Exception:
            end = o.Crashed(ask.call, traceback.format_exc().encode("ascii", "backslashreplace").decode()[-TRACEBACK_MAX_CHARS:])
        del self._calls[ask.call]
        self._say(end)

    async def _put(self, order: o.Put) -> None:
        assert self._pg is not None
        try:
            await put_rows(self._pg, order.rows)
        except StoreError as error:
            self._say(o.WasPut(order.number, str(error), store=True))
        except RowsRefused as error:
            self._say(o.WasPut(order.number, str(error)))
        else:
            self._say(o.WasPut(order.number))


async def work(orders: trio.abc.ReceiveStream, say: Say) -> None:
    """Until there are no more orders."""
    lines = o.Lines()
    async with contextlib.AsyncExitStack() as stack:
        worker: Worker | None = None
        while data := await orders.receive_some(_READ_BYTES):
            for line in lines.feed(bytes(data)):
                order = o.orders.decode(line)
                if isinstance(order, o.Open):
                    writer = await stack.enter_async_context(open_writer(order.opening))
                    pg = await _postgres(stack, order.opening.place)
                    nursery = await stack.enter_async_context(trio.open_nursery())
                    worker = Worker(writer, pg, say, nursery)
                    calm_gc(NEW_OBJECTS)
                    say(o.Ready())
                elif worker is not None:
                    worker.take(order)
        if worker is not None:
            nursery.cancel_scope.cancel()


async def _postgres(stack: contextlib.AsyncExitStack, place: Place | None) -> Postgres | None:
    if place is None:
        return None
    bridge = await stack.enter_async_context(open_bridge())
    opened = open_postgres(bridge, dsn=place.dsn, pool_max=CONNECTIONS, prepared=place.prepared, ours=place.ours, background=True)
    return await stack.enter_async_context(opened)


def main() -> None:
    # Who is stopped with Ctrl-C, or by an init that signals all of a service, is the daemon; it lets go of us in its own time.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    let_others_first()

    def say(news: o.News) -> None:
        data = o.line(news)
        while data:
            data = data[os.write(1, data) :]

    async def run() -> None:
        async with trio.lowlevel.FdStream(os.dup(0)) as orders:
            await work(orders, say)

    try:
        trio.run(run)
    except* BrokenPipeError:  # the daemon is gone
        pass


if __name__ == "__main__":
    main()
