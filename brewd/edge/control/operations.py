"""`status`, `actors.tree`, `config.show`, `log.level`, `drain`, `stop`: the daemon itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from brewd.config import without_secrets
from brewd.edge.control.server import Method, Params, method
from brewd.runtime.log import set_level

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from brewd.cafe.directory import Directory
    from brewd.config import Config
    from brewd.runtime.supervisor import Supervisor


class LogLevel(Params, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"]


def operation_methods(
    *,
    directory: Directory,
    supervisor: Supervisor,
    config: Config,
    urls: Sequence[str],
    health: Callable[[], Awaitable[dict[str, Any]]],
    drain: Callable[[], None],
    stop: Callable[[], None],
) -> dict[str, Method]:
    """`urls`: where the daemon really listens. `drain` and `stop` only ask for it: the answer goes out before the socket closes."""

    async def status(_: Params) -> dict[str, Any]:
        rooms = directory.list()
        return {
            **await health(),
            "pid": os.getpid(),
            "listen": urls,
            "dataDir": str(config.data.path),
            "cafes": {
                "inUse": len(rooms),
                "quarantined": [room.cafe_id for room in rooms if room.state == "quarantined"],
                "members": sum(room.members for room in rooms),
                "sockets": sum(room.sockets for room in rooms),
            },
        }

    async def tree(_: Params) -> dict[str, Any]:
        return supervisor.tree()

    async def show_config(_: Params) -> dict[str, Any]:
        return {"config": msgspec.to_builtins(without_secrets(config))}

    async def log_level(params: LogLevel) -> dict[str, Any]:
        set_level(params.level)
        return {"level": params.level}

    async def start_drain(_: Params) -> dict[str, Any]:
        drain()
        return {"draining": True, "drainS": config.server.drain_s}

    async def start_stop(_: Params) -> dict[str, Any]:
        stop()
        return {"stopping": True}

    return {
        "status": method(Params, status),
        "actors.tree": method(Params, tree),
        "config.show": method(Params, show_config),
        "log.level": method(LogLevel, log_level),
        "drain": method(Params, start_drain),
        "stop": method(Params, start_stop),
    }
