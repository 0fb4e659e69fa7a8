"""`brewd message delete|announce`: a message taken back, whoever wrote it; a word of the house to everybody in a café."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("message", help="take a message back, or say something to a café", description="Messages of a café.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options(), options.cafe_option()]
    delete = verbs.add_parser(
        "delete",
        parents=client,
        help="delete a message, whoever wrote it",
        description="Delete a message, whoever wrote it. When this returns its text is gone, from every screen that is connected and from the database.",
    )
    delete.add_argument("message", metavar="ID")
    announce = verbs.add_parser(
        "announce",
        parents=client,
        help="say something to everybody in a café",
        description="Say something to everybody in a café: a message like any other, in its order and its history, signed with the name of the café. No limit holds for it.",
    )
    announce.add_argument("content", metavar="TEXT")
    announce.add_argument("--name", help="sign it with this instead")


def run(args: argparse.Namespace) -> int:
    if args.action == "announce":
        answer = options.call(args, "message.announce", cafeId=args.cafe, content=args.content, name=args.name)
    else:
        answer = options.call(args, "message.delete", cafeId=args.cafe, messageId=args.message)
    output.emit(args, answer, answer["message"]["id"])
    return output.OK
