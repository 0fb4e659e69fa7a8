"""`brewd user add|list|show|expire|erase|kick|ban|unban|mute|unmute`: customers, made ready for support and load tests, sent home, and kept in order."""

from __future__ import annotations

import argparse
from typing import Any

from brewd.cli import options, output
from brewd.cli.output import Exit

_COUNT_MAX = 100_000
_ASKED_AT_ONCE = 1000
"""Users in one request: the daemon answers others in between, and no answer is large."""

_ORDERS = {
    "kick": ("out of the room, now", "Close every socket of theirs. They may come back: to keep them out, ban them."),
    "ban": ("out, and kept out", "Out at once, and until then no login of theirs counts and no join with their patron key."),
    "unban": ("let back in", "Welcome again: with what they have, if that is still good, or with a new receipt."),
    "mute": ("neither heard nor seen", "Nothing of them is heard or seen until then; they still hear everything."),
    "unmute": ("heard again", "Heard again from now on, whether an operator, a moderator or the spam rules had muted them."),
}
_UNCHANGED = {"kick": "had no socket open", "unban": "was not banned", "unmute": "was not muted"}
_DEFAULT = {"mute": "24h", "ban": "31d"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("user", help="customers", description="Customers: for support, for load tests, and to keep order.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options()]
    add = verbs.add_parser("add", parents=client, help="make ready customers, each with an access token")
    add.add_argument("--cafe", metavar="ID", required=True)
    add.add_argument("--count", metavar="N", type=_count, default=1, help=f"how many, at most {_COUNT_MAX:,} (default 1)")
    verbs.add_parser("list", parents=client, help="list the live ones of a café").add_argument("--cafe", metavar="ID", required=True)
    show = verbs.add_parser("show", parents=client, help="show one, and whether they are muted or banned")
    expire = verbs.add_parser("expire", parents=client, help="end one's time now")
    for one in (show, expire):
        one.add_argument("user", metavar="USER", help="id; or, with --cafe, their name there")
        one.add_argument("--cafe", metavar="ID")
    erase = verbs.add_parser(
        "erase", parents=[*client, options.cafe_option()], help="erase everything about one, at once",
        description="Erase everything about one, at once, and print what was removed where. What they said stays for as long as messages are kept, as nobody's.",
    )  # fmt: skip
    erase.add_argument("user", metavar="USER", help="id, or name in the café")
    for name, (text, description) in _ORDERS.items():
        order = verbs.add_parser(name, parents=[*client, options.cafe_option()], help=text, description=description)
        order.add_argument("user", metavar="USER", help="id, or name in the café")
        order.add_argument("--reason", metavar="TEXT", default="", help="for the log; who is kicked, banned or muted sees it too")
        if name in _DEFAULT:
            order.add_argument(
                "--for", dest="duration_s", metavar="TIME", type=options.duration_s, help=f"like 90s, 10m, 2h, 3d; default {_DEFAULT[name]}, at most 31d"
            )


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
        output.listing(args, answer, ("ID", "NAME", "BADGE", "UNTIL"), rows, "no customers there yet")
        return output.OK
    if args.action == "erase":
        answer = options.call(args, "user.erase", cafeId=args.cafe, user=args.user)
        output.emit(args, answer, output.receipt(answer))
        return output.OK
    if args.action in _ORDERS:
        return _order(args)
    return _one(args)


def _one(args: argparse.Namespace) -> int:
    """Show one, or end their time: by id, or by name in a café."""
    if args.cafe is None and not _is_id(args.user):
        raise Exit(output.USAGE, f"{args.user!r} is no id; a name is looked for in the café that --cafe says")
    asked = {"userId": args.user} if args.cafe is None else {"cafeId": args.cafe, "user": args.user}
    answer = options.call(args, f"user.{args.action}", **asked)
    user = answer["user"]
    held = {name: f"until {one['until']}{one['reason'] and ': '}{one['reason']}" for name in ("mute", "ban") if (one := user.get(name))}
    output.emit(args, answer, output.facts((output.words(name), value) for name, value in {**user, **held}.items()))
    return output.OK


def _is_id(text: str) -> bool:
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _order(args: argparse.Namespace) -> int:
    lasting = {"durationS": args.duration_s} if args.action in _DEFAULT else {}
    answer = options.call(args, f"user.{args.action}", cafeId=args.cafe, user=args.user, reason=args.reason, **lasting)
    done = answer["action"]
    output.emit(args, answer, output.facts((output.words(name), done[name]) for name in ("action", "userId", "username", "until", "reason")))
    if not answer["changed"]:
        output.say(f"{done['username']} {_UNCHANGED[args.action]}")
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
