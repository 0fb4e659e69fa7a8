"""`brewd stop`: end the daemon now, and wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    import argparse

    from brewd.edge.control.client import ControlClient


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "stop",
        parents=[options.client_options()],
        help="end the daemon now",
        description="End the daemon without the patience of `drain`; what was acknowledged is stored all the same. Waits until its process is gone.",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the end")


def run(args: argparse.Namespace) -> int:
    with options.connect(args) as client:
        output.emit(args, options.ask(client, "stop"), "")
        output.say("stopping")
        return output.OK if args.no_wait else wait(client, args.timeout)


def wait(client: ControlClient, timeout_s: float) -> int:
    """0 once the daemon's process is gone; ends the command with code 6 when it takes longer."""
    if not client.wait_for_end(timeout_s):
        raise Exit(output.TIMED_OUT, f"the daemon (process {client.pid}) still runs after {timeout_s:g} s")
    output.say("stopped")
    return output.OK
