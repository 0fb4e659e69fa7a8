"""`brewd config show`: the config as it is in force, or every key with its default."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("config", help="show the config", description="Show the config.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = verbs.add_parser(
        "show",
        parents=[options.client_options()],
        help="print it as TOML",
        description="Print what the file and the environment come to, as TOML that brewd can read again; passwords in URLs are starred.",
    )
    which = show.add_mutually_exclusive_group()
    which.add_argument("--defaults", action="store_true", help="every key with its default, commented: the reference")
    which.add_argument("--running", action="store_true", help="ask the running daemon for the config it was started with")


def run(args: argparse.Namespace) -> int:
    import msgspec

    from brewd.config import Config, render_config, render_defaults, without_secrets

    if args.defaults:
        config, text = Config(), render_defaults()
    else:
        if args.running or args.socket:
            config = msgspec.convert(options.call(args, "config.show")["config"], Config)
        else:
            config = without_secrets(options.read_config(args.config))
        text = render_config(config)
    if args.json:
        output.emit(args, {"config": msgspec.to_builtins(config)}, "")
    else:
        sys.stdout.write(text)
    return output.OK
