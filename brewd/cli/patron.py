"""`brewd patron erase`: forget whom a patron key stands for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from brewd.cli import options, output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("patron", help="people who come back", description="People who come back, as far as they show it by their key.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    erase = verbs.add_parser(
        "erase", parents=[options.client_options(), options.cafe_option()], help="erase one, by the key they hold",
        description="Erase a patron: their badges, and what links their visits; print what was removed where. A customer they are at the moment stays one until"
        " their time is over, or until `brewd user erase`.",
    )  # fmt: skip
    erase.add_argument("--key-stdin", action="store_true", required=True, help="read the patron key from stdin, so that it is in no list of processes")


def run(args: argparse.Namespace) -> int:
    key = sys.stdin.readline().strip()
    if not key:
        raise Exit(output.USAGE, "no patron key on stdin")
    answer = options.call(args, "patron.erase", cafeId=args.cafe, key=key)
    output.emit(args, answer, output.receipt(answer))
    return output.OK
