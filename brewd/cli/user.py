"""`brewd user add|list|show|expire`: customers, made ready for support and load tests, and sent home."""

from __future__ import annotations

import argparse
from typing import Any

from brewd.cli import options, output
from brewd.cli.output import Exit

_COUNT_MAX = 100_000
_ASKED_AT_ONCE = 1000
"""Users in one request: the daemon answers others in between, and no answer is large."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("user", help="customers", description="Customers: for support, and for load tests.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options()]
    add = verbs.add_parser("add", parents=client, help="make ready customers, each with an access token")
    add.add_argument("--cafe", metavar="ID", required=True)
    add.add_argument("--count", metavar="N", type=_count, default=1, help=f"how many, at most {_COUNT_MAX:,} (default 1)")
    verbs.add_parser("list", parents=client, help="list the live ones of a café").add_argument("--cafe", metavar="ID", required=True)
    verbs.add_parser("show", parents=client, help="show one").add_argument("user", metavar="ID")
    verbs.add_parser("expire", parents=client, help="end one's time now").add_argument("user", metavar="ID")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _COUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_COUNT_MAX:,}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    if args.action == "add":
        return _add(args)
    if args.action == "list":
        answer = options.call(args, "user.list", cafeId=args.cafe)
        rows = [(user["id"], user["username"], user["badgeStatus"], user["expiresAt"]) for user in answer["users"]]
        output.emit(args, answer, output.table(("ID", "NAME", "BADGE", "UNTIL"), rows))
        return output.OK
    answer = options.call(args, f"user.{args.action}", userId=args.user)
    output.emit(args, answer, output.facts(answer["user"].items()))
    return output.OK


def _add(args: argparse.Namespace) -> int:
    made: list[dict[str, Any]] = []
    trouble: Exit | None = None
    with options.connect(args) as client:
        try:
            while len(made) < args.count:
                made += options.ask(client, "user.add", cafeId=args.cafe, count=min(_ASKED_AT_ONCE, args.count - len(made)))["users"]
        except Exit as error:
            trouble = error
    if made or trouble is None:
        output.emit(args, {"users": made}, "\n".join(f"{user['id']}\t{user['username']}\t{user['accessToken']}" for user in made))
    if trouble is not None:
        raise Exit(trouble.code, f"{trouble} ({len(made)} of {args.count} were made)" if made else str(trouble))
    return output.OK
