"""`brewd cafe add|list|show|set|revive|stop`: cafés, and their actors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from brewd.cli import options, output
from brewd.cli.output import Exit

_FIELDS = ("name", "address", "wifi_ssid", "latitude", "longitude", "radius_meters", "cidrs", "join_policy", "timezone", "profile", "retention_days", "menu")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("cafe", help="add, list, show, change and revive cafés", description="Cafés, and their actors.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options()]
    add = verbs.add_parser(
        "add",
        parents=client,
        help="open a café",
        description="Open a café. What it has of Wi-Fi name, place and network is what a customer must prove to join; with none of them a receipt is enough.",
    )
    add.add_argument("--name", required=True, help="what customers see")
    _add_fields(add)
    verbs.add_parser("list", parents=client, help="list all cafés")
    for name, text in (
        ("show", "show one café"),
        ("revive", "start a quarantined café again"),
        ("stop", "end a café's actor and sockets; the next visitor starts it again"),
    ):
        verbs.add_parser(name, parents=client, help=text).add_argument("cafe", metavar="ID")
    hourly = verbs.add_parser("analytics", parents=client, help="what happened there, hour by hour; an hour is counted when it is over")
    hourly.add_argument("cafe", metavar="ID")
    hourly.add_argument("--hours", metavar="N", type=int, default=24, help="so many of the last, at most 744 (default 24)")
    change = verbs.add_parser(
        "set", parents=client, help="change a café", description="Change what is given and leave the rest. An empty text takes a value away."
    )
    change.add_argument("cafe", metavar="ID")
    change.add_argument("--name", help="what customers see")
    _add_fields(change)


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", metavar="A", help="street and number")
    parser.add_argument("--wifi-ssid", metavar="S", help="name of its Wi-Fi; bands and repeaters of that name count too")
    parser.add_argument("--latitude", metavar="X", type=_degrees, help="in degrees, north is positive")
    parser.add_argument("--longitude", metavar="Y", type=_degrees, help="in degrees, east is positive")
    parser.add_argument("--radius-meters", metavar="M", type=int, help="how far from there still counts (default 100)")
    parser.add_argument("--cidr", metavar="C", dest="cidrs", action="append", help="a network its customers come from, like 203.0.113.7/32; may be repeated")
    parser.add_argument("--policy", dest="join_policy", choices=("any", "all", "none"), help="how much of the above a join must prove (default any)")
    parser.add_argument("--timezone", metavar="Z", help="like Europe/Vienna (default UTC)")
    parser.add_argument("--retention-days", metavar="N", type=_days, help="how long its messages are kept (default room.retention_days)")
    parser.add_argument("--profile", metavar="P", help="its limits: a name below limits.profiles in the config (default limits.profile)")
    parser.add_argument(
        "--menu", metavar="FILE", type=_menu, help="a JSON file with what it offers, as a list of {name, price?, note?}; - is stdin. Empty: no menu"
    )


def _menu(path: str) -> Any:
    if not path:
        return []
    try:
        menu = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path} is not JSON: {error}") from None
    if not isinstance(menu, list):
        raise argparse.ArgumentTypeError(f"{path} is not a list of {{name, price?, note?}}")
    return menu


def _degrees(text: str) -> float | str:
    """A number, or the empty text that takes the place away."""
    return float(text) if text else ""


def _days(text: str) -> int | str:
    """A number, or the empty text that takes the café's own away."""
    return int(text) if text else ""


def run(args: argparse.Namespace) -> int:
    if args.action == "analytics":
        return _analytics(args)
    if args.action == "list":
        answer = options.call(args, "cafe.list")
        rows = [(cafe["id"], cafe["name"], cafe["state"], cafe["members"], cafe["sockets"], cafe["crashes"]) for cafe in answer["cafes"]]
        output.listing(args, answer, ("ID", "NAME", "STATE", "PEOPLE", "SOCKETS", "CRASHES"), rows, "no cafés yet; brewd cafe add makes one")
        return output.OK
    answer = _ask(args)
    cafe = answer["cafe"]
    output.emit(args, answer, cafe["id"] if args.action == "add" else _text(cafe))
    if args.action in ("add", "set"):
        _warn(cafe)
    if args.action == "revive" and cafe["state"] == "quarantined":
        raise Exit(output.FAILED, f"{cafe['name']} is quarantined still; the log says why it crashed")
    return output.OK


def _analytics(args: argparse.Namespace) -> int:
    answer = options.call(args, "cafe.analytics", cafeId=args.cafe, hours=args.hours)
    names = ("hour", "messages", "authors", "joins", "pokes", "matches", "agentQueries")
    rows = [tuple(row[name] for name in names) for row in answer["rows"]]
    headers = ("HOUR", "MESSAGES", "AUTHORS", "JOINS", "POKES", "MATCHES", "QUESTIONS")
    output.listing(args, answer, headers, rows, f"nothing in the last {args.hours} hours yet; an hour is counted when it is over")
    return output.OK


def _ask(args: argparse.Namespace) -> Any:
    if args.action not in ("add", "set"):
        return options.call(args, f"cafe.{args.action}", cafeId=args.cafe)
    given = {name: value for name in _FIELDS if (value := getattr(args, name)) is not None}
    with options.connect(args) as client:
        if args.action == "add":
            return options.ask(client, "cafe.add", **_params(given))
        if not given:
            raise Exit(output.USAGE, "nothing to set; see brewd cafe set --help")
        return options.ask(client, "cafe.set", cafeId=args.cafe, **_params(given))


def _params(given: dict[str, Any]) -> dict[str, Any]:
    """Under the names of the control socket. Empty text means none at all."""
    names = {"wifi_ssid": "wifiSsid", "radius_meters": "radiusMeters", "join_policy": "joinPolicy", "retention_days": "retentionDays"}
    nullable = ("wifi_ssid", "latitude", "longitude", "profile", "retention_days")
    return {names.get(name, name): _value(name, value, nullable) for name, value in given.items()}


def _value(name: str, value: Any, nullable: tuple[str, ...]) -> Any:
    if name == "cidrs":
        return [cidr for cidr in value if cidr]
    return None if value == "" and name in nullable else value


def _warn(cafe: dict[str, Any]) -> None:
    if cafe["joinNeeds"]:
        return
    if cafe["joinPolicy"] == "none":
        output.say(f"{cafe['name']} checks nobody's presence: anyone with a receipt may join.")
    else:
        output.say(
            f"{cafe['name']} has no Wi-Fi name, place or network: nobody can be checked to be there, and anyone with a receipt may join."
            " Add --wifi-ssid, --latitude with --longitude, or --cidr (brewd cafe set)."
        )


def _text(cafe: dict[str, Any]) -> str:
    place = f"{cafe['latitude']}, {cafe['longitude']} within {cafe['radiusMeters']} m" if cafe["latitude"] is not None else None
    return output.facts(
        [
            ("id", cafe["id"]),
            ("name", cafe["name"]),
            ("address", cafe["address"]),
            ("Wi-Fi", cafe["wifiSsid"]),
            ("place", place),
            ("networks", ", ".join(cafe["cidrs"])),
            ("a join needs", f" {'and' if cafe['joinPolicy'] == 'all' else 'or'} ".join(cafe["joinNeeds"]) or "a receipt, no more"),
            ("time zone", cafe["timezone"]),
            ("menu", f"{len(cafe['menu'])} items" if cafe["menu"] else None),
            ("limits", cafe["profile"] or "the default profile"),
            ("kept for", f"{cafe['retentionDays']} days" if cafe["retentionDays"] else "as the config says"),
            ("opened", cafe["createdAt"]),
            ("state", cafe["state"]),
            ("people", f"{cafe['members']} over {cafe['sockets']} sockets" if cafe["sockets"] else None),
            ("last message", cafe["seq"]),
            ("crashes", cafe["crashes"] or None),
        ]
    )
