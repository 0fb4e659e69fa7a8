"""SQL by name: every query of brewd stands in a `.sql` file beside this one, below a line `-- name: message_page`.

A name is unique over all files. The text between one header and the next is the query; comments in it are kept, so that
they show in the server's own views.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

_HEADER: Final = re.compile(r"^--[ \t]*name:[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class QueryError(Exception):
    """A `.sql` file of brewd cannot be read as named queries; the message says which and why."""


def load_queries() -> Mapping[str, str]:
    """Query name → SQL, from every `.sql` file in this package. Raises `QueryError`."""
    found: dict[str, str] = {}
    origin: dict[str, str] = {}
    for file in sorted(resources.files("brewd.store").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        for name, sql in parse_queries(file.name, file.read_text("utf-8")).items():
            if name in found:
                raise QueryError(f"{file.name}: the query {name!r} is already in {origin[name]}")
            found[name] = sql
            origin[name] = file.name
    return MappingProxyType(found)


def parse_queries(filename: str, text: str) -> dict[str, str]:
    """The named queries of one file's text. `filename` is for the error messages. Raises `QueryError`."""
    preface, *parts = _HEADER.split(text)
    if any(line.strip() and not line.lstrip().startswith("--") for line in preface.splitlines()):
        raise QueryError(f"{filename}: SQL before the first `-- name:` line")
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        sql = body.strip().removesuffix(";").rstrip()
        if not _NAME.fullmatch(name):
            raise QueryError(f"{filename}: {name!r} is no name for a query (a-z, 0-9 and _)")
        if name in queries:
            raise QueryError(f"{filename}: the query {name!r} is there twice")
        if not any(line.strip() and not line.lstrip().startswith("--") for line in sql.splitlines()):
            raise QueryError(f"{filename}: the query {name!r} has no SQL")
        queries[name] = sql
    return queries
