"""A server process that belongs to brewd: started so that it cannot outlive us, watched, and stopped within a deadline.

Shared by the embedded Postgres and the embedded Redis. When brewd is root the servers run as `nobody`: Postgres refuses to
be root, and neither needs to be. `Account` says who they are and makes their directories; if `nobody` cannot reach a path
(below `/root`, say), the servers keep the one capability that lets them walk there, and nothing else of root.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from brewd.store import launch

# Numbers of Linux capabilities.
_CAP_CHOWN: Final = 0
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2
_CAP_KILL: Final = 5
_CAP_SETGID: Final = 6
_CAP_SETUID: Final = 7
_SOCKET_PATH_MAX_BYTES: Final = 107
_POLL_S: Final = 0.01
_LOG_KEEP_MAX_BYTES: Final = 1 << 20


class EmbeddedError(Exception):
    """An embedded server cannot run here; the message says why and what to do."""


class Account(msgspec.Struct, frozen=True):
    """The user an embedded server runs as. `uid` is None when that is simply who we are."""

    uid: int | None
    gid: int | None
    capability: int | None

    def make_dir(self, path: Path) -> None:
        """Make `path` (0700, owned by this account) if it is not there, and see that it is as private as that."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if self.uid is not None and self.gid is not None:
                os.chown(path, self.uid, self.gid)
        found = path.lstat()  # a symbolic link that someone laid into a public place is none of ours
        if not stat.S_ISDIR(found.st_mode):
            raise EmbeddedError(f"{path} is not a directory")
        if found.st_uid != (os.geteuid() if self.uid is None else self.uid):
            raise EmbeddedError(f"{path} belongs to user {found.st_uid}: run brewd as the user who made it, or give it another data directory")
        path.chmod(0o700)


def choose_account(*paths: Path) -> Account:
    """Who the servers run as, given the paths they must reach. Raises `EmbeddedError` when root may not do what that takes."""
    if os.geteuid() != 0:
        return Account(uid=None, gid=None, capability=None)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError("brewd runs as root and there is no user `nobody` to run the embedded servers as") from None
    held = _capabilities()
    if any(not held >> right & 1 for right in (_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_KILL, _CAP_SETGID, _CAP_SETUID)):
        raise EmbeddedError("brewd runs as root, but without the right to run its embedded servers as `nobody`: run it as an ordinary user")
    if all(_reachable(path) for path in paths):
        return Account(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=None)
    walk = _CAP_DAC_READ_SEARCH if held >> _CAP_DAC_READ_SEARCH & 1 else _CAP_DAC_OVERRIDE
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid, capability=walk)


def _reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _capabilities() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return ~0  # not a Linux: root may do everything


def socket_dir(data_dir: Path, longest_name: str) -> Path:
    """Where the Unix sockets go: `run` in the data directory, or a short private place when that path is too long for a socket."""
    inside = data_dir / "run"
    if len(os.fsencode(inside / longest_name)) <= _SOCKET_PATH_MAX_BYTES and "," not in str(inside):  # a comma separates hosts in a DSN
        return inside
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()).resolve() / f"brewd-{os.geteuid()}-{mark}"


class Child:
    """One run of one server process."""

    __slots__ = ("_log", "_popen")

    def __init__(self, *, argv: Sequence[str], account: Account, death_signal: signal.Signals, cwd: Path, log: Path, text: str = "") -> None:
        """Start it, with `text` to read. Must be called on the thread that runs trio: the kernel ends the server when this thread ends."""
        self._log = log
        order = {
            "argv": list(argv),
            "uid": account.uid,
            "gid": account.gid,
            "capability": account.capability,
            "death_signal": int(death_signal),
            "parent_pid": os.getpid(),
        }
        mode = "ab" if log.exists() and log.stat().st_size < _LOG_KEEP_MAX_BYTES else "wb"
        with log.open(mode) as sink, tempfile.TemporaryFile() as source:
            source.write(text.encode())
            source.seek(0)
            self._popen = subprocess.Popen(  # noqa: S603  (our own argv, no shell)
                [sys.executable, "-I", "-S", launch.__file__, json.dumps(order)],
                stdin=source,
                stdout=sink,
                stderr=sink,
                cwd=cwd,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C in the terminal is for brewd; it stops its servers in order
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; then its exit code, or minus the signal that ended it."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    async def wait(self) -> int:
        """Until it has ended. Returns `exit_status`."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            while (status := self.exit_status) is None:
                await trio.sleep(_POLL_S)
            return status
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        return self._popen.wait()

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal in turn and give it that many seconds; SIGKILL in the end. Shielded: a stop is always finished."""
        with trio.CancelScope(shield=True):
            for number, patience_s in steps:
                self.send(number)
                self.send(signal.SIGCONT)  # a paused process would keep the signal in its pocket
                with trio.move_on_after(patience_s):
                    await self.wait()
                    return
            self.send(signal.SIGKILL)
            await self.wait()

    def epitaph(self) -> str:
        """How it ended and the end of its log, for an error message."""
        status = self.exit_status
        how = "it still runs" if status is None else f"it ended with status {status}" if status >= 0 else f"it was ended by {signal.Signals(-status).name}"
        return f"{how}. Its log ends: {self.last_words()}"

    def last_words(self) -> str:
        """The end of what it wrote to its log."""
        try:
            lines = self._log.read_bytes()[-2000:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return " / ".join(lines[-3:])


def _environment() -> dict[str, str]:
    # The servers shall not depend on who starts brewd: no PG* variables, no locale, no proxy settings.
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


async def retire(program: str, directory: Path, polite: signal.Signals, patience_s: float) -> None:
    """End every process that runs `program` in `directory`: what an earlier brewd left behind when it was killed.

    Called with the data directory locked, so no living brewd needs them. They should be ending by themselves, as their parent
    died; this waits for that, and helps after `patience_s`. Raises `EmbeddedError` when one does not end at all.
    """
    for number in (polite, signal.SIGKILL):
        left = processes(program, directory)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
        with trio.move_on_after(patience_s):
            while left:
                await trio.sleep(_POLL_S)
                left = processes(program, directory)
            return
    raise EmbeddedError(f"a {program} of an earlier run does not end: process {left[0]}")


def processes(program: str, directory: Path) -> list[int]:
    """The pids of those that run `program` with `directory` as their working directory. Empty where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == directory and (entry / "exe").readlink().name.split(" ")[0] == program:
                found.append(int(entry.name))
    return found
