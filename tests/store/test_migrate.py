"""Migrations go forward, once, in order, and refuse whatever does not fit."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge
from brewd.runtime.clock import Clock
from brewd.store.migrate import MigrationError, migrate, migrations_dir, pending, read_migrations
from brewd.store.postgres import Postgres, open_postgres


@pytest.fixture
async def pg(bridge: Bridge, empty_dsn: str) -> AsyncIterator[Postgres]:
    """An empty database, in place of the migrated one."""
    async with open_postgres(bridge, dsn=empty_dsn, pool_max=4) as pg:
        yield pg


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two small migrations."""
    (tmp_path / "0001_bean.sql").write_text("CREATE TABLE bean (id int);\nCREATE TABLE cup (id int);\n")
    (tmp_path / "0002_milk.sql").write_text("ALTER TABLE bean ADD COLUMN milk boolean NOT NULL DEFAULT false;\n")
    return tmp_path


async def test_all_of_brewds_own_apply_to_an_empty_database(pg: Postgres, clock: Clock) -> None:
    names = [migration.name for migration in read_migrations(migrations_dir())]
    assert names[0] == "0001_cafes.sql"
    assert await pending(pg, migrations_dir()) == names
    assert await migrate(pg, migrations_dir(), clock) == names
    assert await pending(pg, migrations_dir()) == []
    assert await migrate(pg, migrations_dir(), clock) == []


async def test_a_new_file_is_all_that_is_applied(pg: Postgres, clock: Clock, files: Path) -> None:
    await migrate(pg, files, clock)
    (files / "0003_sugar.sql").write_text("CREATE TABLE sugar (id int);")
    assert await pending(pg, files) == ["0003_sugar.sql"]
    assert await migrate(pg, files, clock) == ["0003_sugar.sql"]


async def test_a_changed_file_is_refused_by_name(pg: Postgres, clock: Clock, files: Path) -> None:
    await migrate(pg, files, clock)
    with (files / "0001_bean.sql").open("a") as file:
        file.write("-- a harmless comment\n")
    (files / "0003_sugar.sql").write_text("CREATE TABLE sugar (id int);")
    for attempt in (migrate(pg, files, clock), pending(pg, files)):
        with pytest.raises(MigrationError, match=r"0001_bean\.sql"):
            await attempt
    assert await pg.fetchval("migration_table_exists")
    assert len(await pg.fetch("migration_list")) == 2


async def test_a_renamed_file_is_refused(pg: Postgres, clock: Clock, files: Path) -> None:
    await migrate(pg, files, clock)
    (files / "0002_milk.sql").rename(files / "0002_cream.sql")
    with pytest.raises(MigrationError, match=r"0002_cream\.sql"):
        await migrate(pg, files, clock)


async def test_a_database_of_a_newer_brewd_is_refused(pg: Postgres, clock: Clock, files: Path) -> None:
    await migrate(pg, files, clock)
    (files / "0002_milk.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_milk\.sql.*newer"):
        await migrate(pg, files, clock)


async def test_a_file_that_fails_leaves_nothing_of_itself(pg: Postgres, clock: Clock, files: Path) -> None:
    (files / "0003_wrong.sql").write_text("CREATE TABLE half (id int);\nCREATE TABLE bean (id int);\n")
    with pytest.raises(MigrationError, match=r"0003_wrong\.sql.*bean"):
        await migrate(pg, files, clock)
    assert await pending(pg, files) == ["0003_wrong.sql"]
    (files / "0003_wrong.sql").write_text("CREATE TABLE half (id int);\n")
    assert await migrate(pg, files, clock) == ["0003_wrong.sql"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("0004_late.sql", "expected number 0003"), ("0002_twice.sql", "given once"), ("3_short.sql", "called like"), ("0003_Caps.sql", "called like")],
)
def test_numbers_have_no_gaps_and_names_have_a_form(files: Path, name: str, complaint: str) -> None:
    (files / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=complaint):
        read_migrations(files)


async def test_several_at_once_apply_each_file_once(bridge: Bridge, empty_dsn: str, clock: Clock, files: Path) -> None:
    applied: list[str] = []

    async def one() -> None:
        async with open_postgres(bridge, dsn=empty_dsn, pool_max=1) as pg:
            applied.extend(await migrate(pg, files, clock))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert sorted(applied) == ["0001_bean.sql", "0002_milk.sql"]


async def test_no_server_is_a_store_error_and_no_migration_error(bridge: Bridge, clock: Clock, files: Path) -> None:
    async with open_postgres(bridge, dsn=f"postgresql://brewd@/brewd?host={files}") as pg:
        with pytest.raises(StoreError):
            await migrate(pg, files, clock)


def test_the_migrations_are_found_beside_the_package(checkout: Path) -> None:
    assert migrations_dir() == checkout / "migrations"


def test_an_empty_directory_has_no_migrations(tmp_path: Path, files: Path) -> None:
    shutil.rmtree(files)
    files.mkdir()
    assert read_migrations(files) == []
