"""`brewd serve -c FILE`: run the daemon until it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options
from brewd.cli.daemon import run_daemon

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    subparsers.add_parser(
        "serve",
        parents=[options.config_option()],
        help="run the daemon",
        description="Run the daemon in the foreground. SIGTERM drains it: sockets are told to come back, what was promised is stored, exit code 0.",
    )


def run(args: argparse.Namespace) -> int:
    return run_daemon(options.read_config(args.config))
