"""`brewd check -c FILE [--connect]`: is this config right, and are the things it names there?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from brewd.cli import options, output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from brewd.config import Config


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "check",
        parents=[options.config_option(), options.json_option()],
        help="check a config",
        description="Check a config and report every mistake at once. Exit code 0 when it is good, 78 when it is not, 1 when something it names does not answer.",
    )
    parser.add_argument("--connect", action="store_true", help="also connect to the Postgres and the Redis it names")


def run(args: argparse.Namespace) -> int:
    from brewd.config import ConfigErrors, load

    source = args.config or "the defaults"
    try:
        config = load(args.config)
    except ConfigErrors as errors:
        problems = [{name: getattr(problem, name) for name in problem.__struct_fields__} for problem in errors.problems]
        output.emit(args, {"ok": False, "problems": problems, "warnings": [], "connections": {}}, "")
        for problem in errors.problems:
            output.say(str(problem))
        return output.BAD_CONFIG
    connections = _connect(config) if args.connect else {}
    failed = {name: said for name, said in connections.items() if said not in ("ok", "embedded")}
    warnings = _warnings(config)
    output.emit(args, {"ok": not failed, "problems": [], "warnings": warnings, "connections": connections}, output.facts(connections.items()))
    for warning in warnings:
        output.say(f"warning: {warning}")
    output.say(f"{source}: the config is good" + ("" if not failed else f", but {' and '.join(failed)} cannot be used"))
    return output.FAILED if failed else output.OK


def _warnings(config: Config) -> list[str]:
    """What is right and may not be meant: an agent without a key of its own or with a model that ends, a place that nothing is sent to."""
    from brewd.agent.key import api_key
    from brewd.agent.upstream import deprecated
    from brewd.config_agent import PRICES

    found = []
    if not api_key(config.agent):
        if config.agent.api_key_file:
            found.append(f"agent.api_key_file: there is no key in {config.agent.api_key_file}: the agent is off")
        else:
            found.append("agent: there is no API key (agent.api_key_file, or ANTHROPIC_API_KEY in the environment): the agent is off")
    elif config.agent.api_key_file and os.stat(config.agent.api_key_file).st_mode & 0o077:
        found.append(f"agent.api_key_file: others on this machine may read {config.agent.api_key_file}; chmod 600 it")
    for name in ("model", "economy_model"):
        model = getattr(config.agent, name)
        if (end := deprecated(model)) is not None:
            found.append(f"agent.{name}: {model} is deprecated and ends on {end}; take its successor")
        elif model not in PRICES and model not in config.agent.prices:
            found.append(f"agent.{name}: {model} has no price in agent.prices, so it counts as the dearest; is it spelled right?")
    unused = [name for name in ("metrics", "statsd", "sentry_dsn", "otlp") if getattr(config.observe, name)]
    found += [f"observe.{name}: this version of brewd sends nothing there yet" for name in unused]
    return found


def _connect(config: Config) -> dict[str, str]:
    """What each store says: `ok`, `embedded` (brewd starts that one itself), or what is wrong."""
    import trio

    return trio.run(_connect_all, config)


async def _connect_all(config: Config) -> dict[str, str]:
    from brewd.runtime.bridge import open_bridge
    from brewd.store.postgres import open_postgres
    from brewd.store.redis import open_redis

    said: dict[str, str] = {"postgres": "embedded", "redis": "embedded"}
    async with open_bridge() as bridge:
        for name, dsn in (("postgres", config.postgres.url), ("replica", config.postgres.replica_url)):
            if dsn and dsn != "embedded":
                async with open_postgres(bridge, dsn=dsn, pool_max=1) as pg:
                    said[name] = await _said(pg.check)
        if config.redis.url != "embedded":
            async with open_redis(bridge, url=config.redis.url) as redis:
                said["redis"] = await _said(redis.check)
    return said


async def _said(check: Callable[[float], Awaitable[None]]) -> str:
    """One check, given time enough for a server across a network. A wrong password is no `StoreError`, but it is what this is for."""
    try:
        await check(5.0)
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
