"""Which database it is, as an operator reads it: never with a password."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from brewd.config import Config


def where(config: Config) -> str:
    """Host, port and name of the Postgres in the config, or the directory of the embedded one."""
    if config.postgres.url == "embedded":
        return f"the embedded Postgres in {config.data.path}"
    return _place(config.postgres.url)


def _place(url: str) -> str:
    """What stands behind the user and the password, and the host when it is given as a parameter."""
    scheme, _, rest = url.partition("://")
    head, _, query = rest.partition("?")
    if "@" in query and ":" in head and "@" not in head:
        return "postgres.url"  # a password may reach over the question mark, so nothing of it can be told from the host
    shown = f"{scheme}://{head.rpartition('@')[2]}"
    hosts = parse_qs(query).get("host", [])
    return f"{shown}?host={hosts[-1]}" if hosts else shown
