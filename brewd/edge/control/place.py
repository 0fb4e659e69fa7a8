"""Where a Unix socket is, for paths of any length: the kernel takes 107 bytes, and data directories go deeper than that."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUN_PATH_MAX_BYTES: Final = 107


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """What to bind or connect to, good within the block: too long a path is reached through its directory, held open. Raises `OSError`."""
    if len(os.fsencode(path)) <= _SUN_PATH_MAX_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
