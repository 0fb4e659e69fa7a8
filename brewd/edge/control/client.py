"""The other end of the control socket, for the command line: blocking, and free of trio so that it starts fast."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from brewd.edge.control import wire
from brewd.edge.control.place import address_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_RECEIVE_MAX_BYTES: Final = 1 << 20
_ANSWER_MAX_BYTES: Final = 256 * 1024 * 1024


class Unreachable(Exception):
    """No daemon answers there. The message says what was tried."""


class Denied(Exception):
    """The socket is another user's."""


class TimedOut(Exception):
    """The daemon took longer than the client was willing to wait; what was asked may still happen."""


class Refused(Exception):
    """The daemon said no. `data` has `code` and `detail`, as an HTTP client would see them."""

    def __init__(self, failure: wire.Failure) -> None:
        super().__init__(failure.message)
        self.code: Final = str(failure.data.get("code", "internal"))
        self.detail: Final = str(failure.data.get("detail", failure.message))
        self.data: Final = failure.data


class ControlClient:
    """One connection. `timeout_s` bounds each call, and the connecting. Use it as a context manager."""

    def __init__(self, path: Path, *, timeout_s: float = 15.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._buffer = bytearray()
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise
        self.pid: Final[int] = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]

    def _connect(self) -> None:
        try:
            with address_of(self._path) as address:
                self._socket.connect(address)
        except FileNotFoundError:
            raise Unreachable(f"no daemon runs there: {self._path} does not exist") from None
        except ConnectionRefusedError:
            raise Unreachable(f"no daemon answers at {self._path}; it was left behind by one that ended") from None
        except PermissionError:
            raise Denied(f"{self._path} belongs to another user; run this as the user the daemon runs as") from None
        except TimeoutError:
            raise TimedOut(f"the daemon at {self._path} does not take a connection") from None
        except OSError as error:
            raise Unreachable(f"{self._path}: {error.strerror or error}") from None

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def call(self, method: str, /, **params: Any) -> Any:
        """The result, as plain JSON values. Raises this module's exceptions."""
        self._last_id += 1
        line = wire.encode_request(self._last_id, method, params)
        deadline = time.monotonic() + self._timeout_s
        try:
            self._socket.sendall(line)
        except TimeoutError:
            raise TimedOut(f"the daemon does not read; {method} was not sent whole") from None
        except OSError:
            pass  # closed by the daemon, which may have said why: read that
        response = msgspec.json.decode(self._receive_line(method, deadline), type=wire.Response)
        if response.error is not msgspec.UNSET:
            raise Refused(response.error)
        return msgspec.json.decode(response.result) if response.result is not msgspec.UNSET else None

    def wait_for_end(self, timeout_s: float) -> bool:
        """Whether the daemon's process ended in time. Where its pid cannot be watched, whether it closed this connection."""
        try:
            watched = os.pidfd_open(self.pid)
        except OSError:
            return self._wait_readable(self._socket.fileno(), timeout_s)
        try:
            return self._wait_readable(watched, timeout_s)
        finally:
            os.close(watched)

    @staticmethod
    def _wait_readable(fd: int, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _receive_line(self, method: str, deadline: float) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _ANSWER_MAX_BYTES:
                raise Unreachable(f"the answer to {method} does not end")
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                received = self._socket.recv(_RECEIVE_MAX_BYTES)
            except TimeoutError:
                raise TimedOut(f"no answer to {method} within {self._timeout_s:g} s; it may still take effect") from None
            except OSError:
                received = b""
            if not received:
                raise Unreachable(f"the daemon closed the connection before it answered {method}")
            self._buffer += received
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
