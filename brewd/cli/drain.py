"""`brewd drain`: end the daemon gently, as SIGTERM does, and wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output
from brewd.cli.stop import wait

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "drain",
        parents=[options.client_options()],
        help="end the daemon gently",
        description="Take no new connections, tell everyone when to come back, store what was promised, and end. Waits for that, at most server.drain_s and a bit.",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the end")


def run(args: argparse.Namespace) -> int:
    with options.connect(args) as client:
        answer = options.ask(client, "drain")
        output.emit(args, answer, "")
        output.say("draining")
        return output.OK if args.no_wait else wait(client, max(args.timeout, answer.get("drainS", 0) + 10))
