"""`brewd dev`: the whole thing on this machine, with a demo café, a barista and two receipts, in the directory `.brewd`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brewd.cli import options, output
from brewd.cli.daemon import run_daemon
from brewd.cli.output import Exit

if TYPE_CHECKING:
    from brewd.config import Config

_CAFE: Final = "Demo Café"
_BARISTA: Final = "barista"
_PASSWORD: Final = "flat-white"  # noqa: S105 - known to everyone, which is why `dev` listens on loopback only
_RECEIPTS: Final = 2
_LOOPBACK: Final = ("127.", "::1", "localhost")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "dev",
        parents=[options.config_option(), options.json_option()],
        help="try it out here: embedded servers, a demo café",
        description="Run a daemon for development: embedded Postgres and Redis, a demo café with a barista whose password is known, loopback only."
        " Everything is kept in .brewd here; remove that directory to start afresh.",
    )
    parser.add_argument("--listen", metavar="HOST:PORT", type=_address, help="where to listen (default 127.0.0.1:8080)")
    parser.add_argument("--data", metavar="DIR", help="where to keep everything (default .brewd, or data.dir of the config file)")


def _address(text: str) -> str:
    from brewd.config import parse_address

    try:
        parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def run(args: argparse.Namespace) -> int:
    config = dev_config(args)
    make_data_dir(config.data.path)

    async def ready(parts: Any) -> None:
        demo = await make_demo(parts)
        if args.json:
            print(json.dumps(demo, ensure_ascii=False), flush=True)
        else:
            print(describe(demo), flush=True)
            output.say("Ctrl-C stops it.")

    return run_daemon(config, ready=ready)


def dev_config(args: argparse.Namespace) -> Config:
    """The config of the file, else of `dev`: data in .brewd, logs for a person, no limits at the edge. Ends the command when it would listen to the world."""
    from msgspec.structs import replace

    from brewd.config import WIDE_OPEN, EdgeLimits

    config = options.read_config(args.config)
    if "BREWD__OBSERVE__LOG" not in os.environ:
        config = replace(config, observe=replace(config.observe, log="console"))
    if args.data or not (args.config or "BREWD__DATA__DIR" in os.environ):
        config = replace(config, data=replace(config.data, dir=str(Path(args.data or ".brewd").expanduser().absolute())))
    if args.listen:
        config = replace(config, server=replace(config.server, listen=[args.listen]))
    if config.limits.edge == EdgeLimits():
        # Here everybody is one address, and whoever tries things out fails often: what nobody has set is no limit.
        config = replace(config, limits=replace(config.limits, edge=WIDE_OPEN))
    for text, address in zip(config.server.listen, config.server.addresses(), strict=True):
        if address.kind == "fd" or (address.kind == "tcp" and not address.host.startswith(_LOOPBACK)):
            raise Exit(output.USAGE, f"dev listens on loopback only, for its barista's password is known to everyone: not {text}; use brewd serve for that")
    return config


def make_data_dir(path: Path) -> None:
    """Private, and out of the version control of the directory it stands in."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


async def make_demo(parts: Any) -> dict[str, Any]:
    """The demo café, kept between runs, its barista, and fresh receipts: made through the same objects that serve everyone."""
    from brewd.errors import Rejected
    from brewd.runtime.clock import rfc3339

    config: Config = parts.config
    cafe = next((cafe for cafe in await parts.cafes.list() if cafe.name == _CAFE), None)
    if cafe is None:
        cafe = await parts.cafes.add(name=_CAFE, limits_profile="lively" if "lively" in config.limits.profiles else None)
    try:
        await parts.staff.add(cafe.id, _BARISTA, "barista", _PASSWORD)
    except Rejected as refusal:
        if refusal.code != "conflict":  # it is there from an earlier run
            raise
    now_ms = parts.clock.now_ms()
    printed = [await parts.receipts.issue(cafe.id, f"dev-{now_ms}-{i}") for i in range(_RECEIPTS)]
    return {
        "url": config.server.public_url or parts.urls[0],
        "cafe": {"id": cafe.id, "name": cafe.name},
        "staff": {"name": _BARISTA, "password": _PASSWORD, "role": "barista"},
        "receipts": [{"username": one.username, "joinToken": one.join_token, "joinUrl": one.join_url, "expiresAt": rfc3339(one.expires_ms)} for one in printed],
        "controlSocket": str(config.control_path),
        "dataDir": str(config.data.path),
    }


def describe(demo: dict[str, Any]) -> str:
    """What a newcomer needs to see, and what to paste."""
    cafe, staff, receipts = demo["cafe"], demo["staff"], demo["receipts"]
    head = output.facts(
        [
            ("open", demo["url"]),
            ("café", f"{cafe['id']}  {cafe['name']}"),
            ("barista", f"{staff['name']}  password {staff['password']}"),
            *((f"receipt {i}", f"{one['joinUrl']}  until {one['expiresAt']}") for i, one in enumerate(receipts, 1)),
            ("data", demo["dataDir"]),
        ]
    )
    return f"{head}\n\n{walk(demo)}\n"


def walk(demo: dict[str, Any]) -> str:
    """Shell lines from a receipt over joining to chatting; each works as pasted, in order."""
    cafe_id, staff, receipt = demo["cafe"]["id"], demo["staff"], demo["receipts"][0]
    login = json.dumps({"cafeId": cafe_id, "name": staff["name"], "password": staff["password"]})
    bought = json.dumps({"cafeId": cafe_id, "receiptId": f"till-{receipt['username']}", "items": [{"name": "flat white", "quantity": 1}]})
    join = json.dumps({"cafeId": cafe_id, "username": receipt["username"], "joinToken": receipt["joinToken"]})
    pick = """python3 -c 'import json,sys; print(json.load(sys.stdin)["accessToken"])'"""
    curl, as_json, bearer = "curl -sS -w '\\n'", "-H 'content-type: application/json'", '-H "authorization: Bearer $TOKEN"'
    return "\n".join(
        [
            "# A till asks for a receipt:",
            f"URL={demo['url']} CAFE={cafe_id}",
            f"BARISTA=$({curl} $URL/api/auth/staff/login {as_json} -d '{login}' | {pick})",
            f"{curl} $URL/api/auth/barista/generate-username -H \"authorization: Bearer $BARISTA\" {as_json} -d '{bought}'",
            "# A customer joins with receipt 1…",
            f"TOKEN=$({curl} $URL/api/auth/join {as_json} -d '{join}' | {pick})",
            f"{curl} $URL/api/users/me {bearer}",
            "# …says something, and reads what was said:",
            _SAY.format(python=sys.executable),
            f"{curl} $URL/api/chat/messages/$CAFE {bearer}",
            f"{curl} $URL/api/chat/presence/$CAFE {bearer}",
        ]
    )


_SAY: Final = """\
{python} - "$URL" "$TOKEN" <<'END'
import sys, trio
from brewd.client import connect

async def say(text):
    async with connect(sys.argv[1], token=sys.argv[2]) as room:
        await room.send(text)

trio.run(say, "One flat white, please.")
END"""
