"""`brewd limits show|set|try|reset`: what a café allows its guests, and what other values would mean."""

from __future__ import annotations

import argparse
from typing import Any

from brewd.cli import options, output
from brewd.cli.output import Exit

_VALUES = "message, badge_message: per_hour, burst, gap_s · poke, badge_poke: per_day · agent, badge_agent: per_session, gap_s"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "limits", help="what a café allows its guests", description="What a café allows its guests: its profile of the config, with values of its own on top."
    )
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options(), options.cafe_option()]
    verbs.add_parser("show", parents=client, help="show every value as it is for a café")
    change = verbs.add_parser(
        "set", parents=client, help="change some, at once", epilog=_VALUES,
        description="Change values of one café, at once and for everybody who is there; what people have used they have used. Prints what is different: old → new.",
    )  # fmt: skip
    attempt = verbs.add_parser(
        "try", parents=client, help="what other values would have done in the last hour", epilog=_VALUES,
        description="What `limits set` with the same arguments would have done in the last hour: how many sends refused, for whom. Changes nothing."
        " Without arguments: the values as they are. It knows what was sent, not what was refused at the time.",
    )  # fmt: skip
    for changing in (change, attempt):
        changing.add_argument(
            "values", metavar="LIMIT=VALUE", nargs="*", type=_setting, help="like message.per_hour=40; message.per_hour=default takes the café's own value away"
        )
        changing.add_argument("--profile", metavar="P", help="another profile of the config; the café's own values stay on top. Empty: the default one")
    reset = verbs.add_parser("reset", parents=client, help="give a guest everything back", description="Forget what a guest has used of a limit, or of all.")
    reset.add_argument("user", metavar="USER", help="id, or name in the café")
    reset.add_argument("--action", dest="limit", choices=("message", "poke", "agent"), help="of this one only")


def _setting(text: str) -> tuple[str, int | float | None]:
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"{text!r} is not LIMIT=VALUE, like message.per_hour=40")
    if value == "default":
        return name, None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if number - number != 0:  # infinities too
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor the word default")
    return name, int(number) if number == int(number) else number


def run(args: argparse.Namespace) -> int:
    match args.action:
        case "show":
            _show(args)
        case "set":
            _set(args)
        case "try":
            _try(args)
        case _:
            answer = options.call(args, "limits.reset", cafeId=args.cafe, user=args.user, action=args.limit)
            output.emit(args, answer, answer["userId"])
    return output.OK


def _show(args: argparse.Namespace) -> None:
    answer = options.call(args, "limits.show", cafeId=args.cafe)
    own, rows = answer["own"], []
    for name, values in answer["limits"].items():
        rows += [(f"{name}.{key}", _number(value), "own" if key in own.get(name, {}) else "profile") for key, value in values.items()]
    output.emit(args, answer, output.table(("LIMIT", "VALUE", "FROM"), rows))
    if not args.json:
        output.say(f"profile: {answer['profile'] or 'the default one of the config'}")


def _set(args: argparse.Namespace) -> None:
    params = _params(args)
    if not params:
        raise Exit(output.USAGE, "nothing to set; see brewd limits set --help")
    answer = options.call(args, "limits.set", cafeId=args.cafe, **params)
    changed = answer["changed"]
    output.emit(args, answer, "\n".join(f"{one['name']}  {_number(one['old'])} → {_number(one['new'])}" for one in changed))
    if not changed:
        output.say("nothing is different")


def _try(args: argparse.Namespace) -> None:
    answer = options.call(args, "limits.try", cafeId=args.cafe, **_params(args))
    rows = [(one["userId"], one["username"], one["sends"], one["refused"]) for one in answer["senders"]]
    output.emit(args, answer, output.table(("ID", "NAME", "SENDS", "REFUSED"), rows) if rows else "")
    if not args.json:
        output.say(f"{answer['refused']} of {answer['sends']} sends since {answer['since']} would have been refused")
    if not answer["complete"]:
        output.say("there were more sends than a trial looks at; this is about the newest")


def _params(args: argparse.Namespace) -> dict[str, Any]:
    """Under the names of the control socket; empty when nothing was given."""
    given: dict[str, Any] = {"values": dict(args.values)} if args.values else {}
    return given if args.profile is None else {**given, "profile": args.profile or None}


def _number(value: float) -> str:
    return f"{value:.15g}"
