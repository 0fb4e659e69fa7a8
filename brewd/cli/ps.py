"""`brewd ps [--tree]`: the daemon's actors, their state, and how often each was restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_SHOWN_ELSEWHERE: Final = ("name", "state", "restarts", "children", "lastError")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("ps", parents=[options.client_options()], help="list the daemon's actors", description="List the daemon's actors.")
    parser.add_argument("--tree", action="store_true", help="under the supervisors that restart them")


def run(args: argparse.Namespace) -> int:
    tree = options.call(args, "actors.tree")
    if args.tree:
        output.emit(args, tree, "\n".join(_branches(tree)))
        return output.OK
    actors = list(_flat(tree, ""))
    rows = [(actor["name"], actor["supervisor"], actor["state"], actor["restarts"], actor.get("lastError")) for actor in actors]
    output.emit(args, actors, output.table(("ACTOR", "SUPERVISOR", "STATE", "RESTARTS", "LAST ERROR"), rows))
    return output.OK


def _flat(node: dict[str, Any], above: str) -> Iterator[dict[str, Any]]:
    if "state" in node:
        yield {**{name: value for name, value in node.items() if name != "children"}, "supervisor": above}
    for child in node.get("children", ()):
        yield from _flat(child, node["name"])


def _branches(node: dict[str, Any], indent: str = "", below: str = "") -> Iterator[str]:
    """`indent` stands before the node itself, `below` before everything under it."""
    yield indent + _line(node)
    children = node.get("children", ())
    for i, child in enumerate(children):
        last = i == len(children) - 1
        yield from _branches(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _line(node: dict[str, Any]) -> str:
    said = [node["name"]]
    if "state" in node:
        said.append(node["state"])
    if node.get("restarts"):
        said.append(f"restarts={node['restarts']}")
    said += [f"{name}={value}" for name, value in node.items() if name not in _SHOWN_ELSEWHERE]
    if node.get("lastError"):
        said.append(f"({node['lastError']})")
    return "  ".join(said)
