"""Runs the daemon in this process, and turns what keeps it from starting into one clear line."""

from __future__ import annotations

import errno
import gc
from typing import TYPE_CHECKING, Any

from brewd.cli import output
from brewd.cli.output import Exit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from brewd.config import Config


def run_daemon(config: Config, *, ready: Callable[[Any], Awaitable[None]] | None = None) -> int:
    """The daemon's exit code. What an operator can put right ends the command in words; anything else is a bug and keeps its traceback."""
    gc.disable()  # what is imported stays; to look for garbage in it is a tenth of the start. The daemon goes back to it when it is ready.
    import trio

    from brewd import daemon

    async def main() -> int:
        return await daemon.run(config, ready=ready)

    try:
        return trio.run(main)
    except (Exception, BaseExceptionGroup) as error:
        leaves = list(_leaves(error))
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            raise KeyboardInterrupt from None
        explained = [_explain(leaf) for leaf in leaves]
        if not all(explained):  # a bug among them
            raise
        raise Exit(output.FAILED, explained[0]) from None
    finally:
        gc.enable()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside nested groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _explain(error: BaseException) -> str:
    """A sentence for an operator, or nothing when there is none."""
    from brewd.edge.control.server import ControlSocketBusy
    from brewd.edge.door import CannotListen
    from brewd.edge.listener import PortInUse
    from brewd.people.keys import KeyFileError
    from brewd.runtime.supervisor import GaveUp
    from brewd.store.embedded import EmbeddedError
    from brewd.store.migrate import MigrationError

    if isinstance(error, PortInUse):
        return f"{error}; another brewd may run there: stop it, or listen elsewhere (server.listen, --listen)"
    if isinstance(error, CannotListen | ControlSocketBusy | KeyFileError | EmbeddedError | MigrationError | GaveUp):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EADDRNOTAVAIL, errno.ENOSPC, errno.EROFS):
        return f"{error.filename or 'server.listen'}: {error.strerror or error}"
    return ""
