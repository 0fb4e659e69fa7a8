"""The daemon's end of the worker: an `Answerer` whose calls are made in a process of its own.

What an answer costs the rooms' loop is a line read and decoded, while no message is under way if that is soon. The process starts and
ends with the block of `open_worker`; when it ends by itself the block is cancelled, and every call in it with it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
import trio

from brewd.agent import orders as o
from brewd.agent.calls import GiveWay, Meter, Opening, UpstreamError, Written
from brewd.agent.prompt import Task
from brewd.agent.rows import PUT_S, RowsRefused
from brewd.errors import StoreError

START_S: Final = 30.0
OVERDUE_S: Final = 2.0
"""How much later than its own deadline an answer of the worker is given up, and the worker with it."""

UNREAD_S: Final = 0.05
"""A daemon that has stood still itself reads within this what was said meanwhile."""

END_S: Final = 0.5
KILLED_S: Final = 5.0
"""One that was killed is not waited for any longer: the kernel may hold it."""

ORDERS_MAX: Final = 4096
"""Orders that wait for the worker to read. More than calls can be in flight: with more it does not read at all."""

_READ_BYTES: Final = 65536


class WorkerEnded(Exception):
    """The worker's process is gone, or of no use any more."""


class _Call:
    """`end` is there when `ended` is set."""

    __slots__ = ("end", "ended", "meter", "on_chunk")

    def __init__(self, on_chunk: Callable[[str], None], meter: Meter) -> None:
        self.on_chunk = on_chunk
        self.meter = meter
        self.ended = trio.Event()
        self.end: o.Done | o.Failed | o.Crashed | None = None

    def hear(self, news: o.News) -> None:
        match news:
            case o.Said():
                self.meter.said(news.text)
                self.on_chunk(news.text)
            case o.Thought():
                self.meter.thought(news.size_bytes)
            case o.Began():
                self.meter.start(news.input, news.cache_read, news.cache_write, news.output)
            case o.Total():
                self.meter.total(news.input, news.cache_read, news.cache_write, news.output)
            case o.Done() | o.Failed() | o.Crashed():
                self.end = news
                self.ended.set()


class _Put:
    """Rows on their way. `end` is there when `ended` is set."""

    __slots__ = ("end", "ended")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.end: o.WasPut | None = None

    def hear(self, news: o.WasPut) -> None:
        self.end = news
        self.ended.set()


class WorkerProcess:
    """Made by `open_worker`."""

    def __init__(self, process: trio.Process, *, timeout_s: float, give_way: GiveWay) -> None:
        self.pid = process.pid
        self._process = process
        self._timeout_s = timeout_s
        self._give_way = give_way
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._puts: dict[int, _Put] = {}
        self._gone = False
        self._ordered, self._unsent = trio.open_memory_channel[o.Order](ORDERS_MAX)
        self.ready = trio.Event()

    def use_key(self, api_key: str) -> None:
        """Another key from the next call on."""
        self.order(o.UseKey(api_key))

    async def answer(self, task: Task, *, model: str, max_tokens: int, on_chunk: Callable[[str], None], meter: Meter) -> Written:
        """As `writer.Writer.answer`; `RuntimeError` for a bug over there. Cancelling it has the worker stop the call."""
        number, call = next(self._numbers), _Call(on_chunk, meter)
        self._calls[number] = call
        try:
            self.order(o.Ask(number, task, model, max_tokens))
            for patience_s in (self._timeout_s + OVERDUE_S, UNREAD_S):
                with trio.move_on_after(patience_s):
                    await call.ended.wait()
        finally:
            del self._calls[number]
            if call.end is None:
                self.order(o.Cancel(number))
        match call.end:
            case o.Done(written=written):
                return written
            case o.Failed(trouble=trouble, detail=detail):
                raise UpstreamError(trouble, detail, retry_after_s=call.end.retry_after_s, may_pass=call.end.may_pass)
            case o.Crashed(traceback=traceback):
                raise RuntimeError(f"the worker failed at a call:\n{traceback}")
        self._give_up()
        raise UpstreamError("timeout", f"the worker has said nothing of a call for {self._timeout_s + OVERDUE_S:g} s", may_pass=True)

    async def put(self, rows: bytes) -> None:
        """As `rows.Put`."""
        number, put = next(self._numbers), _Put()
        self._puts[number] = put
        try:
            if not self._gone:
                self.order(o.Put(number, msgspec.Raw(rows)))
                for patience_s in (PUT_S + OVERDUE_S, UNREAD_S):
                    with trio.move_on_after(patience_s):
                        await put.ended.wait()
                if not put.ended.is_set():
                    self._give_up()
        finally:
            del self._puts[number]
        if put.end is None:
            raise StoreError("the agent's worker has not written it")
        if put.end.store:
            raise StoreError(put.end.error)
        if put.end.error:
            raise RowsRefused(put.end.error)

    def gone(self) -> None:
        """It writes nothing any more."""
        self._gone = True
        for put in self._puts.values():
            put.ended.set()

    def order(self, order: o.Order) -> None:
        """Never blocks. A worker that has not read the last `ORDERS_MAX` of them is killed."""
        try:
            self._ordered.send_nowait(order)
        except trio.WouldBlock:
            self._give_up()
        except trio.BrokenResourceError:
            pass  # it is gone, and who waits for it is being told

    def _give_up(self) -> None:
        """It hangs: end it, and let whoever opened it open another."""
        self._process.kill()

    async def write(self) -> None:
        """Until cancelled, or there is nobody to read: `read` tells why."""
        assert self._process.stdin is not None
        with self._unsent, suppress(trio.BrokenResourceError):
            async for order in self._unsent:
                await self._process.stdin.send_all(o.line(order))

    async def read(self) -> None:
        """Until the worker ends. Raises `WorkerEnded` then."""
        assert self._process.stdout is not None
        lines = o.Lines()
        while data := await self._process.stdout.receive_some(_READ_BYTES):
            await self._give_way()  # a message is felt by everybody in the room, a chunk by those who asked
            for line in lines.feed(bytes(data)):
                news = o.news.decode(line)
                if isinstance(news, o.Ready):
                    self.ready.set()
                elif isinstance(news, o.WasPut):
                    if (put := self._puts.get(news.number)) is not None:
                        put.hear(news)
                elif (call := self._calls.get(news.call)) is not None:  # else nobody waits for it any more
                    call.hear(news)
                    if isinstance(news, o.Said):
                        await trio.lowlevel.checkpoint()  # it went to everybody who asked: whoever else has something to do comes first
        status = await self._process.wait()
        raise WorkerEnded(f"the agent's worker ended with status {status}")


@asynccontextmanager
async def open_worker(opening: Opening, give_way: GiveWay) -> AsyncIterator[WorkerProcess]:
    """A worker for the block, ready. Takes about a second of another core's time.

    Raises an `ExceptionGroup` with `WorkerEnded` in it when its process is gone, then or later.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "brewd.agent.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},  # the modules that we are made of
        process_group=0,  # out of the terminal's reach; in a session of its own, the kernel would weigh its niceness against itself only (sched(7), autogroup)
    )
    worker = WorkerProcess(process, timeout_s=opening.timeout_s, give_way=give_way)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.read)
            nursery.start_soon(worker.write)
            worker.order(o.Open(opening))
            with trio.move_on_after(START_S):
                await worker.ready.wait()
            if not worker.ready.is_set():
                raise WorkerEnded(f"the agent's worker was not ready within {START_S:g} s")
            yield worker
            nursery.cancel_scope.cancel()
    finally:
        worker.gone()
        await _end(process)


async def _end(process: trio.Process) -> None:
    """Its orders end, and so does it; a worker that does not is killed."""
    with trio.CancelScope(shield=True):
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await stream.aclose()
        with trio.move_on_after(END_S):
            await process.wait()
            return
        process.kill()
        with trio.move_on_after(KILLED_S):
            await process.wait()
