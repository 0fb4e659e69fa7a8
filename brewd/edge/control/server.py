"""The control socket: how the `brewd` command reaches the daemon. Whoever can open it may do everything, so only the daemon's own user can.

Owns the socket file. Receives one JSON-RPC request a line and answers each before it reads the next of that connection.
A handler that fails is answered `internal` with an incident id that is in the log too; nothing a client sends ends the server.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import trio

from brewd.edge.control import wire
from brewd.edge.control.place import address_of
from brewd.errors import Rejected, StoreError
from brewd.runtime.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from brewd.runtime.ids import Ids

log = get_logger("brewd.control")

_CONNECTIONS_MAX: Final = 64
_IDLE_S: Final = 300.0
_SEND_S: Final = 30.0
_RECEIVE_MAX_BYTES: Final = 65536


class ControlSocketBusy(Exception):
    """The socket's path is taken: by a daemon that answers there, or by something that is no socket."""


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every method's parameters, and itself those of a method that takes none."""


P = TypeVar("P", bound=Params)


class Method(msgspec.Struct, frozen=True):
    """What a method takes, how it is carried out, and how long that may take. What `run` returns is sent as JSON."""

    params: type[Params]
    run: Callable[[Any], Awaitable[Any]]
    deadline_s: float = 10.0


def method(params: type[P], run: Callable[[P], Awaitable[Any]], *, deadline_s: float = 10.0) -> Method:
    """A `Method` whose handler takes exactly what it declares."""
    return Method(params, run, deadline_s)


class ControlServer:
    """Answers on one listening socket. `allowed_uids`: who may talk; by default the daemon's own user and root."""

    def __init__(self, *, methods: Mapping[str, Method], ids: Ids, allowed_uids: frozenset[int] | None = None) -> None:
        self._methods = methods
        self._ids = ids
        self._allowed_uids = frozenset({os.getuid(), 0}) if allowed_uids is None else allowed_uids
        self._connections = 0

    async def serve(self, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen at `path` until cancelled. Raises `ControlSocketBusy` or `OSError` before it is started; removes the file at the end."""
        with _bound(path) as bound:
            async with trio.open_nursery() as nursery:
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
                nursery.start_soon(trio.serve_listeners, self._connection, [listener])
                task_status.started()

    async def _connection(self, stream: trio.SocketStream) -> None:
        uid = _peer_uid(stream)
        if uid not in self._allowed_uids:
            detail = f"user {uid} may not control this daemon, which runs as user {os.getuid()}"
            await _refuse(stream, wire.failure(wire.REFUSED, "forbidden", detail))
        elif self._connections >= _CONNECTIONS_MAX:
            await _refuse(stream, wire.failure(wire.REFUSED, "rate_limited", f"{_CONNECTIONS_MAX} control connections are open already"))
        else:
            self._connections += 1
            try:
                await self._converse(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                pass  # the client has left, or stopped reading: there is nobody to tell
            except Exception as error:  # whatever a client manages to break, it breaks for itself alone
                log.error("control_connection_crashed", exc_info=error)
            finally:
                self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        async with stream:
            buffer = bytearray()
            while True:
                end = buffer.find(b"\n")
                if end < 0:
                    if len(buffer) > wire.LINE_MAX_BYTES:
                        await _refuse(stream, wire.failure(wire.INVALID_REQUEST, "payload_too_large", f"a request ends within {wire.LINE_MAX_BYTES} bytes"))
                        return
                    with trio.fail_after(_IDLE_S):
                        received = await stream.receive_some(_RECEIVE_MAX_BYTES)
                    if not received:
                        return
                    buffer += received
                    continue
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                if not line.strip():
                    continue
                answer = await self.answer(line)
                if answer is not None:
                    with trio.fail_after(_SEND_S):
                        await stream.send_all(answer)

    async def answer(self, line: bytes) -> bytes | None:
        """The answering line; None for a notification. Raises nothing but `Cancelled`."""
        try:
            request = wire.parse_request(line)
        except wire.BadRequest as bad:
            return wire.encode_failure(None, bad.failure)
        encoded = await self._carry_out(request)
        return None if request.id is msgspec.UNSET else encoded

    async def _carry_out(self, request: wire.Request) -> bytes:
        request_id = None if request.id is msgspec.UNSET else request.id
        entry = self._methods.get(request.method)
        if entry is None:
            return wire.encode_failure(request_id, wire.failure(wire.METHOD_NOT_FOUND, "not_found", f"there is no method {request.method!r}"))
        try:
            params = msgspec.json.decode(request.params, type=entry.params)
        except msgspec.ValidationError as error:
            return wire.encode_failure(request_id, _invalid_params(error))
        try:
            with trio.fail_after(entry.deadline_s):
                return wire.encode_result(request_id, await entry.run(params))
        except trio.TooSlowError:
            late = wire.failure(wire.REFUSED, "timed_out", f"{request.method} did not finish within {entry.deadline_s:g} s; it may have taken effect")
            return wire.encode_failure(request_id, late)
        except Rejected as refusal:
            return wire.encode_failure(request_id, wire.failure(wire.REFUSED, refusal.code, _sentences(refusal), **refusal.extras))
        except StoreError as error:
            return wire.encode_failure(request_id, wire.failure(wire.REFUSED, "storage_unavailable", f"a store does not answer: {error}"))
        except Exception as error:  # a bug in one handler: the daemon and this connection go on
            incident = self._ids.uuid4()
            log.error("control method failed", method=request.method, incident=incident, exc_info=error)
            detail = f"{request.method} failed; the log has it as incident {incident}"
            return wire.encode_failure(request_id, wire.failure(wire.INTERNAL_ERROR, "internal", detail, incident=incident))


def _sentences(refusal: Rejected) -> str:
    """What was wrong, for a person, who may see nothing but this: with each field's own sentence, unless it is said already."""
    errors: list[dict[str, str]] = refusal.extras.get("errors", [])
    return " ".join([refusal.detail, *(error["detail"] for error in errors if error["detail"] not in refusal.detail)])


def _invalid_params(error: msgspec.ValidationError) -> wire.Failure:
    """msgspec ends its sentence with the place: ``Expected `int` - at `$.count` ``."""
    detail, _, place = str(error).partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    shown = f"{path}: {detail}" if path else detail
    return wire.failure(wire.INVALID_PARAMS, "invalid_request", shown, errors=[{"path": path, "detail": detail}])


async def _refuse(stream: trio.SocketStream, failure: wire.Failure) -> None:
    """Say why, and close."""
    async with stream:
        with trio.move_on_after(1), suppress(trio.BrokenResourceError):
            await stream.send_all(wire.encode_failure(None, failure))


def _peer_uid(stream: trio.SocketStream) -> int:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, mode 0600 from its first instant; the file is removed at the end.

    It is bound under another name and moved into place, so nobody can connect before the mode is set, and a stale file is replaced in one step.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mine: tuple[int, int] | None = None
    try:
        _refuse_if_taken(path)
        temporary.unlink(missing_ok=True)
        with address_of(temporary) as address:
            listening.bind(address)
        temporary.chmod(0o600)
        listening.listen(_CONNECTIONS_MAX)
        found = temporary.stat()
        mine = (found.st_dev, found.st_ino)
        temporary.rename(path)
        yield listening
    finally:
        listening.close()
        temporary.unlink(missing_ok=True)
        if mine is not None and _identity(path) == mine:
            path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refuse_if_taken(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlSocketBusy(f"{path} is there and is no socket; remove it, or set control.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            with address_of(path) as address:
                probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left behind by a daemon that was killed
        except TimeoutError:
            pass  # its backlog is full: someone is there
    raise ControlSocketBusy(f"another brewd answers at {path}")
