"""`brewd status`: is the daemon well, and what is it doing?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: Any) -> None:
    subparsers.add_parser(
        "status",
        parents=[options.client_options()],
        help="show how the daemon is",
        description="Show how the daemon is. Exit code 0 when it is ok, 1 when it is degraded, 3 when it is not there.",
    )


def run(args: argparse.Namespace) -> int:
    status = options.call(args, "status")
    output.emit(args, status, _text(status))
    return output.OK if status.get("status") == "ok" else output.FAILED


def _text(status: dict[str, Any]) -> str:
    cafes = status.get("cafes", {})
    quarantined = cafes.get("quarantined", [])
    return output.facts(
        [
            ("status", status.get("status")),
            ("version", status.get("version")),
            ("up", output.duration(status.get("uptimeS", 0))),
            ("process", status.get("pid")),
            ("listens at", ", ".join(status.get("listen", []))),
            ("data", status.get("dataDir")),
            *((name, said if isinstance(said, str) else said.get("status", said)) for name, said in status.get("checks", {}).items()),
            ("cafés in use", f"{cafes.get('inUse', 0)}, {cafes.get('members', 0)} people over {cafes.get('sockets', 0)} sockets"),
            ("quarantined", ", ".join(quarantined)),
        ]
    )
