"""`brewd message delete`: a message taken back, whoever wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("message", help="take a message back", description="Messages of a café.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    delete = verbs.add_parser(
        "delete",
        parents=[options.client_options(), options.cafe_option()],
        help="delete a message, whoever wrote it",
        description="Delete a message, whoever wrote it. When this returns its text is gone, from every screen that is connected and from the database.",
    )
    delete.add_argument("message", metavar="ID")


def run(args: argparse.Namespace) -> int:
    answer = options.call(args, "message.delete", cafeId=args.cafe, messageId=args.message)
    output.emit(args, answer, answer["message"]["id"])
    return output.OK
