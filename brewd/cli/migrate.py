"""`brewd migrate -c FILE [--dry-run]`: bring the database's schema up to this brewd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    import argparse

    from brewd.config import Config


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "migrate",
        parents=[options.config_option(), options.json_option()],
        help="bring the database up to date",
        description="Apply the migrations that are missing, each in a transaction of its own. An embedded Postgres is started for it, unless a daemon runs.",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which are missing")


def run(args: argparse.Namespace) -> int:
    import trio

    from brewd.errors import StoreError
    from brewd.store.embedded import EmbeddedError
    from brewd.store.migrate import MigrationError
    from brewd.store.where import where

    config = options.read_config(args.config)
    try:
        names = trio.run(_migrate, config, args.dry_run)
    except (MigrationError, EmbeddedError) as error:
        raise Exit(output.FAILED, str(error)) from None
    except StoreError as error:
        raise Exit(output.UNREACHABLE, f"Postgres does not answer ({where(config)}): {error}") from None
    output.emit(args, {"pending" if args.dry_run else "applied": names}, "\n".join(names))
    state = f"{len(names)} {'missing' if args.dry_run else 'applied'}" if names else "the database is up to date"
    output.say(f"{where(config)}: {state}")
    return output.OK


async def _migrate(config: Config, dry_run: bool) -> list[str]:
    if config.postgres.url != "embedded":
        return await _migrate_at(config.postgres.url, dry_run)
    from brewd.store.embedded import data_lock, embedded_postgres

    with data_lock(config.data.path):
        async with embedded_postgres(config.data.path) as server:
            return await _migrate_at(server.dsn, dry_run)


async def _migrate_at(dsn: str, dry_run: bool) -> list[str]:
    from brewd.runtime.bridge import open_bridge
    from brewd.runtime.clock import Clock
    from brewd.store.migrate import migrate, migrations_dir, pending
    from brewd.store.postgres import open_postgres

    async with open_bridge() as bridge, open_postgres(bridge, dsn=dsn, pool_max=1) as pg:
        return await pending(pg, migrations_dir()) if dry_run else await migrate(pg, migrations_dir(), Clock())
