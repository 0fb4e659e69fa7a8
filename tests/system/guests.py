"""People with phones: they join, talk, are cut off, come back, and remember all they were told.

A `Guest` checks as it listens that messages come in order, without a gap and without a repeat, over all its connections; what
it hears against that is a `Broken` promise. It resends what was not acknowledged, with the same clientMsgId, as a client should.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import trio

from tests.system.daemon import Row

RETRY_S = 0.05
OPEN_MAX_S = 10.0
_HELLO = (
    "GET /ws HTTP/1.1\r\nHost: brewd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{auth}\r\n"
)


class Broken(AssertionError):
    """A promise was."""


class Cut(Exception):
    """The connection ended, or never came to be."""


class Line:
    """One WebSocket, as bare as can be: text frames out, JSON objects in. `close_code`: what the server ended it with."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._writing = trio.Lock()
        self.close_code = 0

    @classmethod
    async def open(cls, address: tuple[str, int], token: str | None) -> Line:
        sock = trio.socket.socket()
        line = cls(sock)
        try:
            with trio.fail_after(OPEN_MAX_S):
                await sock.connect(address)
                await line._send_all(_HELLO.format(auth=f"Authorization: Bearer {token}\r\n" if token else "").encode())
                while (end := line._buffer.find(b"\r\n\r\n")) < 0:
                    await line._more()
        except (OSError, trio.TooSlowError) as error:
            sock.close()
            raise Cut(str(error)) from error
        except BaseException:
            sock.close()
            raise
        head = bytes(line._buffer[:end])
        del line._buffer[: end + 4]
        if not head.startswith(b"HTTP/1.1 101 "):
            sock.close()
            raise Cut(head.decode())
        return line

    def close(self) -> None:
        self._sock.close()

    async def send(self, event: str, data: dict[str, Any], ref: str | None = None) -> None:
        """Raises `Cut`."""
        frame = {"event": event, "data": data} if ref is None else {"event": event, "data": data, "ref": ref}
        await self._frame(0x81, json.dumps(frame).encode())

    async def receive(self) -> dict[str, Any]:
        """The next frame. Raises `Cut` at the end."""
        while True:
            buffer = self._buffer
            if len(buffer) >= 2:
                start, size = 2, buffer[1]
                if size == 126:
                    start, size = 4, int.from_bytes(buffer[2:4], "big")
                elif size == 127:
                    start, size = 10, int.from_bytes(buffer[2:10], "big")
                if len(buffer) >= start + size:
                    kind, payload = buffer[0], bytes(buffer[start : start + size])
                    del buffer[: start + size]
                    if kind == 0x81:
                        return json.loads(payload)  # type: ignore[no-any-return]
                    await self._control(kind, payload)
                    continue
            await self._more()

    async def receive_bytes(self) -> bytes:
        """What came, frames or parts of such, for who does not care for most of it. Raises `Cut` at the end."""
        if not self._buffer:
            await self._more()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def _control(self, kind: int, payload: bytes) -> None:
        if kind == 0x89:
            await self._frame(0x8A, payload)
        elif kind == 0x88:
            self.close_code = int.from_bytes(payload[:2], "big")
            await self._frame(0x88, payload[:2])
            raise Cut(f"closed with {self.close_code}")

    async def _frame(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((kind, 0x80 | size)) if size < 126 else bytes((kind, 0xFE)) + size.to_bytes(2, "big")
        try:
            await self._send_all(head + b"\0\0\0\0" + payload)
        except OSError as error:
            raise Cut(str(error)) from error

    async def _send_all(self, data: bytes) -> None:
        async with self._writing:
            while data:
                data = data[await self._sock.send(data) :]

    async def _more(self) -> None:
        try:
            received = await self._sock.recv(65536)
        except OSError as error:
            raise Cut(str(error)) from error
        if not received:
            raise Cut("the end")
        self._buffer += received


class Heard(NamedTuple):
    id: str
    content: str


class Answer(NamedTuple):
    """What came back to one request, and after how long. `code` is empty for a reply."""

    took_s: float
    code: str
    data: dict[str, Any]


class _Asked:
    """A request under way. Who asked may have left meanwhile. Done without an answer: the connection ended."""

    def __init__(self) -> None:
        self.sent_s = trio.current_time()
        self.done = trio.Event()
        self.answer: Answer | None = None


class Guest:
    """One person. `heard`: every message by `seq`, from the first join on; `acked`: what was acknowledged, by clientMsgId."""

    def __init__(self, address: Callable[[], tuple[str, int]], cafe_id: str, user_id: str, token: str) -> None:
        self._address = address
        self.token = token
        self.cafe_id = cafe_id
        self.user_id = user_id
        self.line: Line | None = None
        self.joined = trio.Event()
        self.joins = 0
        self.epoch: str | None = None
        self.first = 0
        self.last: int | None = None
        self.heard: dict[int, Heard] = {}
        self.acked: dict[str, tuple[str, int]] = {}
        self.duplicates = 0
        self.said: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.close_codes: list[int] = []
        self.answers: list[Answer] = []
        self._waiting: dict[str, _Asked] = {}
        self._next_ref = 0

    async def live(self, *, once: bool = False) -> None:
        """Connect, join and listen, again and again; with `once`, until the first time in the room ends."""
        while True:
            joins = self.joins
            try:
                line = await Line.open(self._address(), self.token)
            except Cut:
                await trio.sleep(RETRY_S)
                continue
            try:
                await self._listen(line)
            except Cut:
                self.close_codes.append(line.close_code)
            finally:
                self.line = None
                if self.joined.is_set():  # whoever waits for one that is not waits on
                    self.joined = trio.Event()
                line.close()
                for asked in self._waiting.values():
                    asked.done.set()
                self._waiting.clear()
            if once and self.joins > joins:
                return
            await trio.sleep(RETRY_S)

    async def ask(self, event: str, data: dict[str, Any]) -> Answer:
        """Send a request and wait for its answer. Raises `Cut`."""
        await self.joined.wait()
        line = self.line
        if line is None:
            raise Cut("between two connections")
        return await self._ask(line, event, data)

    async def say(self, content: str, client_msg_id: str) -> Answer:
        """Send it until it is acknowledged; the acknowledgement."""
        self.said[client_msg_id] = content
        while True:
            try:
                answer = await self.ask("message:send", {"cafeId": self.cafe_id, "content": content, "clientMsgId": client_msg_id})
            except Cut:
                await trio.sleep(0.01)
                continue
            self.answers.append(answer)
            if not answer.code:
                self._acknowledged(client_msg_id, answer.data)
                return answer
            if answer.code not in ("storage_unavailable", "cafe_unavailable", "mailbox_full", "internal"):
                raise Broken(f"refused with {answer.code}: {answer.data}")
            await trio.sleep(RETRY_S)

    def _acknowledged(self, client_msg_id: str, data: dict[str, Any]) -> None:
        message = data["message"]["id"], data["message"]["seq"]
        if self.acked.setdefault(client_msg_id, message) != message:
            raise Broken(f"{client_msg_id} was acknowledged as {self.acked[client_msg_id]}, then as {message}")
        self.duplicates += data["duplicate"]

    async def _ask(self, line: Line, event: str, data: dict[str, Any]) -> Answer:
        self._next_ref += 1
        ref = f"r{self._next_ref}"
        asked = self._waiting[ref] = _Asked()
        await line.send(event, data, ref)
        await asked.done.wait()
        if asked.answer is None:
            raise Cut("no answer before the end")
        return asked.answer

    async def _listen(self, line: Line) -> None:
        hello = await line.receive()
        if hello["event"] != "connected":
            raise Broken(f"greeted with {hello}")
        while True:
            resume = {} if self.last is None else {"since": self.last, "epoch": self.epoch}
            await line.send("join:cafe", {"cafeId": self.cafe_id, **resume}, "join")
            while (frame := await line.receive()).get("ref") != "join":
                self._told(frame)
            if frame["event"] == "reply":
                break
            if frame["data"]["code"] not in ("storage_unavailable", "cafe_unavailable", "mailbox_full"):
                raise Broken(f"not let in: {frame}")
            await trio.sleep(frame["data"]["retryAfterMs"] / 1000)
        self._entered(frame["data"])
        self.line = line
        self.joined.set()
        while True:
            self._told(await line.receive())

    def _entered(self, room: dict[str, Any]) -> None:
        self.joins += 1
        if self.last is None:
            self.first, self.last, self.epoch = room["seq"] + 1, room["seq"], room["epoch"]
            return
        if room["epoch"] != self.epoch or not room["recovered"]:
            raise Broken(f"not recovered since {self.last}: epoch {room['epoch']}, recovered {room['recovered']}")
        for message in room["messages"]:
            self._hear(message)
        if self.last != room["seq"]:
            raise Broken(f"recovered up to {self.last}, and the room stands at {room['seq']}")

    def _told(self, frame: dict[str, Any]) -> None:
        event, data = frame["event"], frame["data"]
        if event == "message:new":
            self._hear(data["message"])
        elif "ref" in frame:
            asked = self._waiting.pop(frame["ref"], None)
            if asked is None:
                raise Broken(f"a second answer: {frame}")
            asked.answer = Answer(trio.current_time() - asked.sent_s, data["code"] if event == "error" else "", data)
            asked.done.set()
        elif event not in ("users:update", "topics:update"):
            self.events.append(frame)

    def _hear(self, message: dict[str, Any]) -> None:
        seq = message["seq"]
        if self.last is None or seq != self.last + 1:
            raise Broken(f"heard message {seq} after {self.last}")
        self.last = seq
        self.heard[seq] = Heard(message["id"], message["content"])


@asynccontextmanager
async def gathered(guests: Sequence[Guest], *, once: bool = False, timeout_s: float = 30.0) -> AsyncIterator[float]:
    """They all come in at the same moment; yields the seconds until the last is in. Afterwards they leave, unless they come `once` and stay till the end."""
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        for guest in guests:
            nursery.start_soon(partial(guest.live, once=once))
        with trio.fail_after(timeout_s):
            for guest in guests:
                await guest.joined.wait()
        yield trio.current_time() - began_s
        if not once:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def talking(guests: Sequence[Guest], *, gap_s: float = 0.02) -> AsyncIterator[Talk]:
    """They all talk, each waiting for its acknowledgement before the next; at the end of the block they finish their sentences."""
    talk = Talk(guests, gap_s)
    async with trio.open_nursery() as nursery:
        for guest in guests:
            nursery.start_soon(talk.one, guest)
        yield talk
        talk.over = True
        nursery.cancel_scope.deadline = trio.current_time() + 30
    if nursery.cancel_scope.cancelled_caught:
        raise Broken("some were still waiting for an acknowledgement after 30 s")


class Talk:
    """What goes on inside `talking`."""

    def __init__(self, guests: Sequence[Guest], gap_s: float) -> None:
        self._guests = guests
        self._gap_s = gap_s
        self.over = False

    async def one(self, guest: Guest) -> None:
        while not self.over:
            n = len(guest.said)
            await guest.say(f"{guest.user_id} says {n}", f"m{n}")
            await trio.sleep(self._gap_s)

    @property
    def acked(self) -> int:
        return sum(len(guest.acked) for guest in self._guests)

    async def goes_on(self, messages: int, timeout_s: float = 20.0) -> float:
        """Wait until so many more are acknowledged; how long the first of them took."""
        began_s, before, first_s = trio.current_time(), self.acked, 0.0
        with trio.fail_after(timeout_s):
            while self.acked < before + messages:
                if self.acked > before and not first_s:
                    first_s = trio.current_time() - began_s
                await trio.sleep(0.001)
        return first_s or trio.current_time() - began_s


async def caught_up(guests: Sequence[Guest], rows: Sequence[Row], timeout_s: float = 10.0) -> None:
    """Wait until everyone has heard the last of these."""
    last = {row.cafe_id: row.seq for row in rows}
    with trio.fail_after(timeout_s):
        for guest in guests:
            while (guest.last or 0) < last.get(guest.cafe_id, 0):
                await trio.sleep(0.01)


def check_laws(guests: Iterable[Guest], rows: Sequence[Row]) -> None:
    """What anyone was told is what the table says: gapless, in one order, each message once."""
    table = {(row.cafe_id, row.seq): row for row in rows}
    for cafe_id in {row.cafe_id for row in rows}:
        seqs = [row.seq for row in rows if row.cafe_id == cafe_id]
        if seqs != list(range(1, len(seqs) + 1)):
            raise Broken(f"the table has a gap in {cafe_id}: {seqs}")
    repeated = [key for key, times in Counter((r.user_id, r.client_msg_id) for r in rows if r.client_msg_id).items() if times > 1]
    if repeated:
        raise Broken(f"stored twice: {repeated}")
    for guest in guests:
        for seq, heard in guest.heard.items():
            row = table.get((guest.cafe_id, seq))
            if row is None or (row.id, row.content) != heard:
                raise Broken(f"seen as {seq}: {heard}; the table has {row}")
        for client_msg_id, (id, seq) in guest.acked.items():
            row = table.get((guest.cafe_id, seq))
            if row is None or (row.id, row.user_id, row.client_msg_id, row.content) != (id, guest.user_id, client_msg_id, guest.said[client_msg_id]):
                raise Broken(f"acknowledged {client_msg_id} as {seq}, {id}; the table has {row}")
