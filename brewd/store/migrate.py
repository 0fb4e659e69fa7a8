"""Numbered migrations, forward only: `migrations/0001_cafes.sql`, `0002_…`, each applied once, in order, in a transaction of its own.

What was applied stands in `schema_migration` with the checksum of its file: a file that changed afterwards is refused, as is
one that would come before what is already there, and a database that is ahead of this brewd. Several brewds may migrate at
the same time; each step takes a lock that ends with its transaction, which also holds behind a PgBouncer.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from brewd.runtime.clock import Clock, as_datetime
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres

_FILE: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_LOCK: Final = 0x6272657764  # "brewd"
_STEP_MAX_S: Final = 600.0


class MigrationError(Exception):
    """The migrations and the database do not fit together; the message names the file and says what to do."""


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    number: int
    name: str
    checksum: str
    sql: str


def migrations_dir() -> Path:
    """Where the migrations are: inside the installed package, or at the top of the checkout. Raises `MigrationError`."""
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "_migrations", package.parent / "migrations"):
        if directory.is_dir():
            return directory
    raise MigrationError(f"no migrations, neither in {package / '_migrations'} nor in {package.parent / 'migrations'}: this installation is not complete")


def read_migrations(directory: Path) -> list[Migration]:
    """All files of `directory`, in order. Raises `MigrationError` for a wrong name, a number that is missing or there twice."""
    found: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is called like 0001_what_it_does.sql")
        data = path.read_bytes()
        found.append(Migration(int(match[1]), path.name, hashlib.sha256(data).hexdigest(), data.decode("utf-8")))
    for number, migration in enumerate(found, start=1):
        if migration.number != number:
            raise MigrationError(f"{migration.name}: expected number {number:04d} here; numbers have no gaps and are given once")
    return found


async def migrate(pg: Postgres, directory: Path, clock: Clock) -> list[str]:
    """Apply what is missing; returns the file names applied, in order.

    Raises `MigrationError` when files and database do not fit or a file's SQL fails (nothing of that file stays then), and
    `StoreError` when Postgres is not there.
    """
    migrations = read_migrations(directory)
    applied: list[str] = []
    while (name := await pg.transaction(_step, migrations, clock.now_ms(), timeout_s=_STEP_MAX_S)) is not None:
        applied.append(name)
    return applied


async def pending(pg: Postgres, directory: Path) -> list[str]:
    """The file names `migrate` would apply. Changes nothing. Raises like `migrate`."""
    return await pg.transaction(_pending, read_migrations(directory))


async def _pending(tx: Tx, migrations: list[Migration]) -> list[str]:
    done = await tx.fetch("migration_list") if await tx.fetchval("migration_table_exists") else []
    return [migration.name for migration in _missing(migrations, done)]


async def _step(tx: Tx, migrations: list[Migration], now_ms: int) -> str | None:
    """Apply the first missing migration, if any. Who comes second waits at the lock and then finds it done."""
    await tx.fetch("migration_lock", _LOCK)
    if not await tx.fetchval("migration_table_exists"):
        await tx.execute("migration_table")
    missing = _missing(migrations, await tx.fetch("migration_list"))
    if not missing:
        return None
    migration = missing[0]
    try:
        await tx.script(migration.sql)
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(("08", "57", "53", "58")):
            raise
        raise MigrationError(f"{migration.name}: {error}") from error
    await tx.execute("migration_add", migration.number, migration.name, migration.checksum, as_datetime(now_ms))
    return migration.name


def _missing(migrations: list[Migration], done: list[asyncpg.Record]) -> list[Migration]:
    by_number = {migration.number: migration for migration in migrations}
    for row in done:
        ours = by_number.get(row["number"])
        if ours is None:
            raise MigrationError(f"the database has {row['name']}, which this brewd does not know: it was migrated by a newer one")
        if ours.name != row["name"] or ours.checksum != row["checksum"]:
            raise MigrationError(f"{ours.name} is not the file that was applied to this database ({row['name']}): put it back and write a new migration")
    at = max((row["number"] for row in done), default=0)
    if at != len(done):
        raise MigrationError("schema_migration has gaps: a migration was removed from it by hand")
    return migrations[at:]
