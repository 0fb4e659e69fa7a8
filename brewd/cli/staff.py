"""`brewd staff add|list|disable|passwd`: the accounts of baristas and moderators."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from brewd.cli import options, output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("staff", help="baristas and moderators", description="The accounts of baristas and moderators.")
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    client = [options.client_options()]
    add = verbs.add_parser("add", parents=client, help="make an account")
    add.add_argument("--cafe", metavar="ID", required=True)
    add.add_argument("--name", metavar="N", required=True, help="what they log in with")
    add.add_argument("--role", choices=("barista", "moderator"), required=True)
    show = verbs.add_parser("list", parents=client, help="list the accounts")
    show.add_argument("--cafe", metavar="ID", help="of one café only")
    verbs.add_parser("disable", parents=client, help="end an account and its logins").add_argument("staff", metavar="ID")
    passwd = verbs.add_parser("passwd", parents=client, help="set a new password; logins with the old one end")
    passwd.add_argument("staff", metavar="ID")
    for asking in (add, passwd):
        asking.add_argument("--password-stdin", action="store_true", help="read the password from stdin, up to the end of its first line; else it is asked for")


def run(args: argparse.Namespace) -> int:
    if args.action == "list":
        answer = options.call(args, "staff.list", cafeId=args.cafe)
        rows = [(one["id"], one["name"], one["role"], one["cafeId"], "disabled" if one["disabledAt"] else "") for one in answer["staff"]]
        output.listing(args, answer, ("ID", "NAME", "ROLE", "CAFE", ""), rows, "no staff yet; brewd staff add makes an account")
        return output.OK
    if args.action == "add":
        password = _password(args)
        answer = options.call(args, "staff.add", cafeId=args.cafe, name=args.name, role=args.role, password=password)
    elif args.action == "passwd":
        answer = options.call(args, "staff.passwd", staffId=args.staff, password=_password(args))
    else:
        answer = options.call(args, "staff.disable", staffId=args.staff)
    output.emit(args, answer, answer["staff"]["id"])
    return output.OK


def _password(args: argparse.Namespace) -> str:
    if args.password_stdin:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        import getpass

        password = getpass.getpass("password: ")
        if getpass.getpass("once more: ") != password:
            raise Exit(output.USAGE, "the two are not the same")
    else:
        raise Exit(output.USAGE, "there is no terminal to ask for the password; give it on stdin with --password-stdin")
    if not password:
        raise Exit(output.USAGE, "the password is empty")
    return password
