"""Writing rows of `agent_queries`. Where there is a worker it does this: a write in the daemon takes the interpreter from the rooms' loop, an order hardly does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from brewd.errors import StoreError
from brewd.store.postgres import Postgres

PUT_S: Final = 2.0
"""A write takes no longer, or is none."""

Put = Callable[[bytes], Awaitable[None]]
"""Takes the argument of `agent_query_put`. Raises `StoreError`, and then nothing is known about the outcome, and `RowsRefused`."""


class RowsRefused(Exception):
    """The rows are wrong, which is a bug. The text is the name of the driver's error and no more: what that one says may quote a question."""


async def put_rows(pg: Postgres, rows: bytes | msgspec.Raw) -> None:
    """As `Put`."""
    try:
        await pg.execute("agent_query_put", bytes(rows).decode(), timeout_s=PUT_S)
    except StoreError:
        raise
    except Exception as error:
        raise RowsRefused(type(error).__name__) from None
