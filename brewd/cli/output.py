"""How the command line speaks: data on stdout, words on stderr, and an exit code for each kind of failure."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
DENIED: Final = 5
TIMED_OUT: Final = 6
BAD_CONFIG: Final = 78


class Exit(Exception):
    """Ends the command with `code`, and with `message` on stderr."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code: Final = code


def say(text: str) -> None:
    """Words for a person, on stderr."""
    print(text, file=sys.stderr)


def emit(args: Namespace, raw: Any, text: str) -> None:
    """The result on stdout: `raw` as JSON when asked for, else `text`, which may be empty."""
    if args.json:
        print(json.dumps(raw, ensure_ascii=False))
    elif text:
        print(text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers stand to the right."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    numeric = [bool(cells) and all(row[i].replace(".", "", 1).isdecimal() or not row[i] for row in cells) for i in range(len(headers))]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    lines = [[cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric, strict=True)] for row in [headers, *cells]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def listing(args: Namespace, raw: Any, headers: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """A table on stdout; with no rows there is none, and `nothing` says so on stderr. As JSON, `raw` whatever there is."""
    emit(args, raw, table(headers, rows) if rows else "")
    if not rows and not args.json:
        say(nothing)


def words(name: str) -> str:
    """`badgeStatus` → `badge status`: a name of the API as people read it."""
    return "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in name)


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """One `name  value` a line; what is None or empty is left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def receipt(erased: dict[str, Any]) -> str:
    """What an erasure removed, where."""
    keys = erased["keys"]
    shown = [("keys in Redis", "Redis does not answer; they go when it does, or expire within a day")] if keys is None else keys.items()
    return facts([*erased["tables"].items(), *shown, ("backups", erased["backups"])])


def duration(seconds: float) -> str:
    """`2d 3h`, `5m 7s`: the two largest units."""
    left = int(seconds)
    parts: list[str] = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count}{name}")
    return " ".join(parts[:2])
