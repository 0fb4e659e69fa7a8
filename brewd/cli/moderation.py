"""`brewd moderation log`: who did what to whom, why, and until when."""

from __future__ import annotations

import argparse
from typing import Any

from brewd.cli import options, output

_LIMIT_MAX = 100


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("moderation", help="what moderators and the spam rules did", description="What moderators and the spam rules did in a café.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    log = verbs.add_parser("log", parents=[options.client_options(), options.cafe_option()], help="show the log, newest first")
    log.add_argument("--user", metavar="USER", help="of one user only: id, or name in the café")
    log.add_argument("--limit", metavar="N", type=_limit, default=50, help=f"entries, at most {_LIMIT_MAX} (default 50)")
    log.add_argument("--before", metavar="ID", help="those older than this entry")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_LIMIT_MAX}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    answer = options.call(args, "moderation.log", cafeId=args.cafe, user=args.user, limit=args.limit, before=args.before)
    actions = answer["actions"]
    rows = [(one["createdAt"], one["action"], one["username"], one["staffName"] or one["rule"] or "brewd", one["until"], one["reason"]) for one in actions]
    output.listing(args, answer, ("AT", "ACTION", "USER", "BY", "UNTIL", "REASON"), rows, "nothing in the log yet")
    if answer["hasMore"]:
        output.say(f"older ones follow: --before {actions[-1]['id']}")
    return output.OK
