"""Options that several verbs share, and what they lead to: a config, or a connection to the daemon."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brewd.cli import output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    from brewd.config import Config
    from brewd.edge.control.client import ControlClient


def json_option() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--json", action="store_true", help="print the raw result as JSON")
    return parent


def config_option() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("-c", "--config", metavar="FILE", help="config file; none: the defaults, and BREWD__SECTION__KEY from the environment")
    return parent


def client_options() -> argparse.ArgumentParser:
    """For every verb that talks to a running daemon."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("the daemon")
    group.add_argument("-c", "--config", metavar="FILE", help="config file of the daemon, which says where its control socket is")
    group.add_argument(
        "--socket", metavar="PATH", help="its control socket (also BREWD_SOCKET; else .brewd here, as `brewd dev` makes it; else the default data directory)"
    )
    group.add_argument("--timeout", metavar="S", type=positive_number, default=15.0, help="give up on an answer after this many seconds (default 15)")
    parent.add_argument("--json", action="store_true", help="print the raw result as JSON")
    return parent


def cafe_option() -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--cafe", metavar="ID", required=True)
    return parent


def duration_s(text: str) -> float:
    """An argparse type: `90s`, `10m`, `2h` or `3d` in seconds."""
    if not re.fullmatch(r"[0-9]{1,9}[smhd]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration like 90s, 10m, 2h or 3d")
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[text[-1]]


def positive_number(text: str) -> float:
    """An argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def read_config(path: str | None) -> Config:
    """The config of a file, or of the defaults, with the environment on top. Ends the command with code 78 when it is wrong."""
    from brewd.config import ConfigErrors, load

    try:
        return load(path)
    except ConfigErrors as errors:
        raise Exit(output.BAD_CONFIG, "\n".join(map(str, errors.problems))) from None


def socket_path(args: argparse.Namespace) -> Path:
    """Where the daemon's control socket is: what was said on the command line, then in the environment, then what lies near."""
    if args.socket:
        return Path(args.socket).expanduser()
    if args.config:
        return read_config(args.config).control_path
    if os.environ.get("BREWD_SOCKET"):
        return Path(os.environ["BREWD_SOCKET"]).expanduser()
    near = Path(".brewd/control.sock")
    if near.parent.is_dir() and not {"BREWD__DATA__DIR", "BREWD__CONTROL__SOCKET"} & os.environ.keys():
        return near.absolute()
    return read_config(None).control_path


def connect(args: argparse.Namespace) -> ControlClient:
    """A connection to the daemon. Ends the command with the code for what is in the way."""
    from brewd.edge.control.client import ControlClient, Denied, TimedOut, Unreachable

    try:
        return ControlClient(socket_path(args), timeout_s=args.timeout)
    except Unreachable as error:
        hint = "" if args.socket or args.config else "\nstart one with `brewd dev` or `brewd serve`, or say where it is with -c FILE or --socket PATH"
        raise Exit(output.UNREACHABLE, f"{error}{hint}") from None
    except Denied as error:
        raise Exit(output.DENIED, str(error)) from None
    except TimedOut as error:
        raise Exit(output.TIMED_OUT, str(error)) from None


_FIELD = re.compile(r"^([a-z][A-Za-z_]*)(?=: |\[\d+\])")
_TYPED = {
    "durationS": "--for", "cafeId": "--cafe", "reason": "--reason", "count": "--count", "limit": "--limit", "before": "--before", "name": "--name",
    "role": "--role", "address": "--address", "wifiSsid": "--wifi-ssid", "latitude": "--latitude", "longitude": "--longitude",
    "radiusMeters": "--radius-meters", "cidrs": "--cidr", "timezone": "--timezone", "joinPolicy": "--policy", "profile": "--profile",
    "limitsProfile": "--profile", "retentionDays": "--retention-days", "menu": "--menu", "hours": "--hours", "persona": "--persona",
    "customText": "--custom-text", "proactivity": "--proactivity", "dailyBudgetCents": "--daily-budget-cents",
    "monthlyBudgetCents": "--monthly-budget-cents", "action": "--action", "password": "the password", "content": "TEXT", "key": "the key",
    "userId": "USER", "user": "USER", "staffId": "ID", "messageId": "ID",
}  # fmt: skip
"""The daemon's fields as they are typed here."""


def _as_typed(method: str, detail: str) -> str:
    """A refusal that begins with the field at fault, with that spelled as it was given: as the daemon's API has it, or its tables."""
    if method.startswith("limits."):
        detail = detail.removeprefix("limits.")
    typed = {**_TYPED, "cafeId": "ID"} if method.startswith("cafe.") else _TYPED
    return _FIELD.sub(lambda field: typed.get(_camel(field[1]), field[1]), detail)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def ask(client: ControlClient, method: str, /, **params: Any) -> Any:
    """The result of one method. Ends the command with the code for the daemon's refusal."""
    from brewd.edge.control.client import Denied, Refused, TimedOut, Unreachable

    codes = {
        "invalid_request": output.USAGE,
        "not_found": output.NOT_FOUND,
        "forbidden": output.DENIED,
        "unauthorized": output.DENIED,
        "timed_out": output.TIMED_OUT,
    }
    try:
        return client.call(method, **params)
    except Refused as refusal:
        raise Exit(codes.get(refusal.code, output.FAILED), _as_typed(method, refusal.detail)) from None
    except TimedOut as error:
        raise Exit(output.TIMED_OUT, str(error)) from None
    except Unreachable as error:
        raise Exit(output.UNREACHABLE, str(error)) from None
    except Denied as error:
        raise Exit(output.DENIED, str(error)) from None


def call(args: argparse.Namespace, method: str, /, **params: Any) -> Any:
    """Connect, ask once, and close."""
    with connect(args) as client:
        return ask(client, method, **params)
