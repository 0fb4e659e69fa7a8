"""The `brewd` command: one file per verb below `brewd/cli`, each with `add_parser(subparsers)` and `run(args) -> exit code`.

A verb's file is small and imports what is heavy only when it runs, so `brewd --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

from brewd import __version__
from brewd.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERBS: Final = (
    "dev",
    "serve",
    "check",
    "config",
    "migrate",
    "status",
    "ps",
    "cafe",
    "staff",
    "user",
    "patron",
    "message",
    "limits",
    "moderation",
    "agent",
    "jobs",
    "drain",
    "stop",
    "bench",
    "completion",
)

_EPILOG: Final = (
    "exit codes: 0 ok, 1 failed, 2 usage, 3 daemon unreachable, 4 not found, 5 denied, 6 timed out, 78 bad config.\n"
    "Data goes to stdout and words to stderr; --json prints the raw result."
)


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line. `bench`, which is large, is only named unless it is the `verb` that was asked for."""
    parser = argparse.ArgumentParser(
        prog="brewd", description="Chat for cafés: one daemon, many rooms.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"brewd {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in _VERBS:
        if name == "bench" and verb not in ("bench", "completion"):
            subparsers.add_parser("bench", help="measure what brewd can do on this machine")
        else:
            importlib.import_module(f"brewd.cli.{name}").add_parser(subparsers)
    return parser


def _asked(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.ArgumentParser:
    """The parser of the verb that was asked for: its usage says what it takes, where that of the whole says little."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and (chosen := getattr(args, action.dest, None)) in action.choices:
            return _asked(action.choices[chosen], args)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(next((word for word in given if not word.startswith("-")), None))
    args, unknown = parser.parse_known_args(given)
    if unknown:
        _asked(parser, args).error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = importlib.import_module(f"brewd.cli.{args.verb}").run(args)
        sys.stdout.flush()
        return code
    except output.Exit as end:
        output.say(f"brewd: {end}" if end.code != output.BAD_CONFIG else str(end))
        return end.code
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.FAILED
    except KeyboardInterrupt:
        return 130
