"""`brewd completion bash`: a script that lets the shell complete brewd's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script",
        description="Print a completion script: `brewd completion bash > ~/.local/share/bash-completion/completions/brewd`.",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(args: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise Exit(output.FAILED, "completion needs the package shtab") from None
    from brewd.cli.main import build_parser

    print(shtab.complete(build_parser("completion"), shell=args.shell))
    return output.OK
