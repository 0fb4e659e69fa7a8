"""The front door: one listener for HTTP and WebSocket.

Owns the listening sockets. Accepts in bursts, reads the request head within a bounded time and size, and hands each connection
on: an upgrade to a `WebSocket`, anything else to hypercorn, with the bytes already read in front. One task a connection. A
connection that breaks, misbehaves or crashes ends alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

import trio

from brewd.config import Address, Server
from brewd.edge.head import BadHead, Head, read_head
from brewd.edge.limits import Limits
from brewd.edge.networks import key_of
from brewd.edge.ws import handshake
from brewd.edge.ws.peer import Opened, Parts, Peer
from brewd.errors import Rejected
from brewd.people.network import client_address, parse_networks
from brewd.runtime.log import get_logger

if TYPE_CHECKING:
    from brewd.edge.http.server import HttpServer

log = get_logger("listener")

HEAD_S = 10.0
"""How long a client may take for its request head, TLS handshake included."""

LINGER_S = 1.0
"""How long a client that will get no more answers may take to stop sending."""

BACKLOG = 4096
BURST = 64
SEND_BUFFER_BYTES = 32_768
"""Kernel memory per socket, which Linux doubles. Ten thousand peers that never read must not hold gigabytes of it; what waits in the outbox is shared."""

Kind = Callable[[Opened], Peer]

_TRANSIENT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class PortInUse(Exception):
    """Somebody listens there already."""


def bind(address: Address) -> socket.socket:
    """A listening, non-blocking socket. Raises `PortInUse`, or `OSError` for anything else."""
    if address.kind == "fd":
        sock = socket.socket(fileno=os.dup(address.fd))
    elif address.kind == "unix":
        _clear_away(address.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(address.path)
        except OSError:
            sock.close()
            raise
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address.host, address.port))
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(f"{address.host}:{address.port} is in use already") from None
            raise
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def _clear_away(path: str) -> None:
    """Remove the socket that a process left behind. One that somebody listens on is not touched, and neither is anything else."""
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "There is something else than a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # so busy that its backlog is full
    raise PortInUse(f"unix:{path} is in use already")


def url_of(sock: socket.socket, *, tls: bool) -> str:
    """Where clients find it; port 0 is the one it became."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"


class Listener:
    """See the module. `kinds`: what serves a WebSocket, by the path it was opened at. `tls`: None for plain text."""

    def __init__(
        self,
        *,
        sockets: list[socket.socket],
        parts: Parts,
        kinds: Mapping[str, Kind],
        http: HttpServer,
        limits: Limits,
        server: Server,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._sockets = sockets
        self._parts = parts
        self._kinds = kinds
        self._http = http
        self._limits = limits
        self._origins = frozenset(server.origins)
        self._trusted = parse_networks(server.trusted_proxies)
        self._tls = tls
        self._nursery: trio.Nursery | None = None
        self.accepting = trio.CancelScope()

    async def run(self) -> None:
        """Accept until `accepting` is cancelled, then serve what is open until it ends. Cancelling `run` cuts everything."""
        async with trio.open_nursery() as self._nursery:
            with self.accepting:
                async with trio.open_nursery() as accepts:
                    for sock in self._sockets:
                        accepts.start_soon(self._accept, sock)
            for sock in self._sockets:  # whoever comes now is refused by the kernel, and can go elsewhere at once
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def _accept(self, listening: socket.socket) -> NoReturn:
        assert self._nursery is not None
        tcp = listening.family != socket.AF_UNIX
        while True:
            await trio.lowlevel.wait_readable(listening)
            try:
                for _ in range(BURST):
                    sock, _peer = listening.accept()
                    sock.setblocking(False)
                    if tcp:
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._nursery.start_soon(self._serve, sock)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno in _TRANSIENT:
                    log.warning("accept_refused", error=str(error), hint="raise the limit on open files")
                    await trio.sleep(0.1)

    async def _serve(self, sock: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        try:
            if self._tls is None:
                await self._serve_plain(sock)
            else:
                await self._serve_stream(sock, self._tls)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass  # the peer is gone; there is nobody to tell
        except Exception as error:
            log.error("connection_crashed", exc_info=error)
        finally:
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def _serve_plain(self, sock: socket.socket) -> None:
        with trio.move_on_after(HEAD_S) as limit:
            opened = await self._open(sock, None)
        if limit.cancelled_caught:
            with contextlib.suppress(BlockingIOError):
                sock.send(_too_late())
            return
        del limit
        if isinstance(opened, Head):
            await self._http.serve(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), opened.raw + opened.rest)
        elif opened is not None:
            await opened.run()

    async def _serve_stream(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        stream = trio.SSLStream(trio.SocketStream(trio.socket.from_stdlib_socket(sock)), tls, server_side=True, https_compatible=True)
        opened: Head | Peer | None = None
        safe = False
        with trio.move_on_after(HEAD_S) as limit:
            await stream.do_handshake()
            safe = True
            opened = await self._open(sock, stream)
        if limit.cancelled_caught and safe:
            with trio.move_on_after(LINGER_S):
                await stream.send_all(_too_late())
        del limit
        if isinstance(opened, Head):
            await self._http.serve(stream, opened.raw + opened.rest)
        elif opened is not None:
            await opened.run()

    async def _open(self, sock: socket.socket, stream: trio.SSLStream[trio.SocketStream] | None) -> Head | Peer | None:
        """Read the head and answer an upgrade: the open socket; the head of any other request; None when there is nothing to serve."""
        try:
            head = await read_head(lambda: _receive(sock, stream))
            if head is None or not head.upgrades_to_websocket:
                return head
            if self.accepting.cancel_called:
                raise Rejected("cafe_unavailable", "The server is restarting.", retryAfterMs=1000)
            return self._welcome(head, sock, stream)
        except BadHead as bad:
            await _turn_away(sock, stream, handshake.refusal(Rejected("invalid_request", bad.detail), bad.status))
            return None
        except Rejected as rejected:
            await _turn_away(sock, stream, handshake.refusal(rejected))
            return None

    def _welcome(self, head: Head, sock: socket.socket, stream: trio.SSLStream[trio.SocketStream] | None) -> Peer:
        """Accept a handshake, unless there is a reason not to: raises `Rejected`. All at once, so that what is counted stays right."""
        address = self._address(head, sock) if self._limits.by_address else None
        try:
            upgrade = handshake.check(head, origins=self._origins, paths=self._kinds)
            identity = None if upgrade.token is None else self._parts.sessions.identify(upgrade.token)
        except Rejected:
            self._limits.anonymous(address)
            raise
        if identity is None:
            self._limits.anonymous(address)
        else:
            self._parts.sockets.check_user(identity.user_id)
        key = None
        if address is not None and (most := self._limits.sockets_max(address)):
            key = key_of(address)
            self._parts.sockets.check_address(key, most)
        return self._kinds[upgrade.path](Opened(sock=sock, stream=stream, identity=identity, address=key, accept=upgrade.accept, first=head.rest))

    def _address(self, head: Head, sock: socket.socket) -> str | None:
        """Who connects; None over a Unix socket from a proxy that does not say for whom."""
        peer = None if sock.family == socket.AF_UNIX else sock.getpeername()[0]
        forwarded = head.headers.get("x-forwarded-for")
        return client_address(peer, () if forwarded is None else (forwarded,), self._trusted)


def _too_late() -> bytes:
    return handshake.refusal(Rejected("request_timeout", f"The request head took longer than {HEAD_S:g} s."))


async def _receive(sock: socket.socket, stream: trio.abc.Stream | None) -> bytes:
    if stream is not None:
        return bytes(await stream.receive_some(65536))
    while True:  # a request mostly follows its connection at once, and is then there already
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
        else:
            await trio.lowlevel.checkpoint()  # whoever sends without end gets a turn like everybody else
            return data


async def _turn_away(sock: socket.socket, stream: trio.abc.Stream | None, refusal: bytes) -> None:
    """Say no. To close on a client that is still sending would reset the connection, and many would never see why."""
    await _send_all(sock, stream, refusal)
    if stream is None:
        sock.shutdown(socket.SHUT_WR)
    with trio.move_on_after(LINGER_S):
        while await _receive(sock, stream):
            pass


async def _send_all(sock: socket.socket, stream: trio.abc.Stream | None, data: bytes) -> None:
    """For the first, small answer on a new connection: the kernel's empty buffer takes it whole."""
    if stream is not None:
        await stream.send_all(data)
    else:
        sock.send(data)
