"""The sockets of one load run: opened, upgraded, joined to their rooms, and watched for what is not a delivery (pings, refusals, losses)."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from brewd.cli import bench_wire as wire
from brewd.cli.bench_proc import cpu_s, rss_kib

_READ_BYTES: Final = 1 << 18
_JOINING_MAX: Final = 64  # joins under way at once: a queue at the door, not a stampede
_SOCKETS_PER_SOURCE: Final = 5000  # a loopback address has some 28,000 ports, shared with every connection still in TIME_WAIT
_IP_BIND_ADDRESS_NO_PORT: Final = 24  # choose the port at connect, when only the whole 4-tuple must be free; `socket` has no name for it before Python 3.12
_EVENTS_MAX: Final = 1024


class JoinError(Exception):
    """A socket did not get into its room; the text says what the server answered."""


class Joining:
    """A socket on its way in: the bytes so far, and whether the upgrade is through."""

    __slots__ = ("got", "room", "upgraded")

    def __init__(self, room: int) -> None:
        self.room = room
        self.got = bytearray()
        self.upgraded = False


class Fleet:
    """All sockets of a run, in one epoll set. Socket `i` sits in room `i % rooms`; the first socket of each room is its sender."""

    def __init__(self, *, port: int, path: str, cafes: list[str], tokens: list[str], timed: bool = False) -> None:
        """`timed`: after each read `unread_ns` is how long the kernel had had the last of it. Else it stays 0, as if all were read as it came."""
        self.epoll = select.epoll()
        self.buffer = bytearray(_READ_BYTES)
        self.senders: list[socket.socket] = []  # by room
        self.reads: list[Callable[[bytearray], int]] = []  # by file descriptor
        self.sends_for: list[int] = []  # by file descriptor: the room this socket is the sender of, or -1
        self.lost = 0
        self.refused = 0
        self.note = ""
        self.unread_ns = 0
        self._timed = timed
        self._port, self._path, self._cafes, self._tokens = port, path, cafes, tokens
        self._socks: dict[int, socket.socket] = {}

    def join(self, *, pid: int, limit_s: float) -> dict[str, Any]:
        """Bring every socket into its room. The result has the server's (`pid`) CPU time and memory for it. `JoinError` when one is refused."""
        want = len(self._tokens)
        rss_before, cpu_before, started = rss_kib(pid), cpu_s(pid), time.monotonic()
        waiting: dict[int, Joining] = {}
        opened = 0
        while opened < want or waiting:
            while opened < want and len(waiting) < _JOINING_MAX:
                waiting[self._open(opened)] = Joining(opened % len(self._cafes))
                opened += 1
            for fd, _ in self.epoll.poll(1.0, _EVENTS_MAX):
                size = self.read(fd)
                joining = waiting.get(fd)
                if joining is None:
                    self.glance(fd, size)
                elif self._advance(fd, joining, size):
                    del waiting[fd]
            if time.monotonic() - started > limit_s:
                raise JoinError(f"only {opened - len(waiting)} of {want} sockets joined within {limit_s:g} s")
        elapsed_s = time.monotonic() - started
        return {
            "sockets": want,
            "rooms": len(self._cafes),
            "join_s": elapsed_s,
            "joins_per_s": want / elapsed_s,
            "join_cpu_s": cpu_s(pid) - cpu_before,
            "kib_per_socket": (rss_kib(pid) - rss_before) / want,
        }

    def read(self, fd: int) -> int:
        """Bytes read into `buffer`; 0 when the peer is gone, -1 when there was nothing."""
        try:
            return self.reads[fd](self.buffer)
        except OSError as error:
            return self.failed(error)

    def failed(self, error: OSError) -> int:
        """A read raised `error`: -1 when there was nothing to read after all (epoll may wake in vain), 0 when the connection is lost."""
        if isinstance(error, BlockingIOError):
            return -1
        self.note = self.note or f"connection lost: {error}"
        return 0

    def glance(self, fd: int, size: int) -> None:
        """Look at a read that held no delivery: answer pings, keep the first refusal and the first close reason, count the lost."""
        if size == 0:
            self.lost += 1
            self.note = self.note or "the server closed a connection without a word"
            self.epoll.unregister(fd)
            return
        if size < 0:
            return
        self.answer_pings(fd, size)
        if self.buffer.find(b'"event":"error"', 0, size) >= 0:
            self.refused += 1
            self.note = self.note or self.buffer[: min(size, 300)].decode(errors="replace")

    def answer_pings(self, fd: int, size: int) -> None:
        for kind, payload in wire.control_frames(self.buffer, size):
            if kind == wire.PING:
                self._socks[fd].send(wire.frame_head(10, len(payload)) + payload)
            elif len(payload) >= 2:
                self.note = self.note or f"closed by the server: {int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}"

    def _open(self, index: int) -> int:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(10.0)
        sock.bind((f"127.0.0.{1 + index // _SOCKETS_PER_SOURCE}", 0))
        sock.connect(("127.0.0.1", self._port))
        sock.setblocking(False)
        sock.send(wire.upgrade(self._port, self._path, self._tokens[index]))
        fd = sock.fileno()
        while len(self.reads) <= fd:
            self.reads.append(sock.recv_into)
            self.sends_for.append(-1)
        self.reads[fd] = self._timed_read(sock) if self._timed else sock.recv_into
        if index < len(self._cafes):
            self.sends_for[fd] = index
            self.senders.append(sock)
        self._socks[fd] = sock
        self.epoll.register(fd, select.EPOLLIN)
        return fd

    def _timed_read(self, sock: socket.socket) -> Callable[[bytearray], int]:
        wire.note_arrivals(sock.setsockopt)

        def read(buffer: bytearray) -> int:
            size, ancillary, _, _ = sock.recvmsg_into([buffer], wire.ANCILLARY_BYTES)
            self.unread_ns = wire.unread_ns(ancillary)
            return size

        return read

    def _advance(self, fd: int, joining: Joining, size: int) -> bool:
        """Take in what a joining socket read; True when it is in its room."""
        if size == 0:
            raise JoinError(self.note or f"connection closed while joining, after {bytes(joining.got[-300:])!r}")
        got = joining.got
        got += self.buffer[: max(size, 0)]
        if not joining.upgraded:
            end = got.find(b"\r\n\r\n")
            if end < 0:
                return False
            if not got.startswith(b"HTTP/1.1 101"):
                raise JoinError(f"the upgrade was refused: {got[:400].decode(errors='replace')}")
            del got[: end + 4]
            joining.upgraded = True
            self._socks[fd].send(wire.join_frame(self._cafes[joining.room]))
        at = got.find(wire.JOINED)
        if at >= 0 and got.rfind(b'"event":"error"', 0, at + 200) > got.rfind(b'"event":"reply"', 0, at + 200):
            raise JoinError(f"join:cafe was refused: {got[max(at - 100, 0) : at + 200].decode(errors='replace')}")
        return at >= 0
