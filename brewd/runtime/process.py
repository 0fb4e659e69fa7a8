"""What brewd asks of its own process: files enough for everybody, and garbage looked for where there is some."""

from __future__ import annotations

import gc
import resource


def raise_file_limit() -> None:
    """A socket is a file: use as many as the machine lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def calm_gc(new_objects: int = 50_000) -> None:
    """What lives now lives on; and sockets and messages make no cycles worth looking for every few hundred objects.

    With fewer `new_objects` between two looks each is shorter.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(new_objects, 20, 50)
    gc.enable()
