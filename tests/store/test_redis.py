"""Commands in one round trip, and no waiting for a Redis that is not there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trio
from redis.exceptions import ResponseError

from brewd.errors import StoreError
from brewd.runtime.bridge import Bridge
from brewd.store.embedded import RedisServer
from brewd.store.redis import Redis, open_redis


async def test_answers_come_in_the_order_of_the_commands(redis: Redis) -> None:
    answers = await redis.pipeline([("SET", "a", 1), ("INCR", "a"), ("HSET", "h", "x", "é"), ("HGETALL", "h"), ("GET", "none"), ("LRANGE", "l", 0, -1)])
    assert answers == [True, 2, 1, {"x": "é"}, None, []]
    assert await redis.pipeline([]) == []
    await redis.check()


async def test_a_command_redis_refuses_is_a_bug(redis: Redis) -> None:
    await redis.pipeline([("SET", "a", "text")])
    with pytest.raises(ResponseError):
        await redis.pipeline([("LPUSH", "a", 1)])
    assert await redis.pipeline([("GET", "a")]) == ["text"]


async def test_no_server_is_a_store_error_at_once(bridge: Bridge, tmp_path: Path) -> None:
    async with open_redis(bridge, url=f"unix://{tmp_path}/none.sock") as redis:
        before = time.monotonic()
        with pytest.raises(StoreError, match="Redis"):
            await redis.check()
        assert time.monotonic() - before < 0.5


async def test_a_paused_server_costs_the_deadline_and_its_late_answers_reach_nobody(redis: Redis, redis_server: RedisServer) -> None:
    await redis.pipeline([("SET", "who", "first")])
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        before = time.monotonic()
        with pytest.raises(StoreError, match=r"within 0\.1 s"):
            await redis.pipeline([("GET", "who")], timeout_s=0.1)
        with trio.move_on_after(0.1) as scope:
            await redis.pipeline([("GET", "who")])
        assert scope.cancelled_caught
        assert time.monotonic() - before < 1
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)
    assert await redis.pipeline([("PING",), ("SET", "who", "second"), ("GET", "who")]) == [True, True, "second"]


async def test_many_callers_share_a_few_connections(redis: Redis) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(redis.pipeline, [("INCR", "n")])
    assert await redis.pipeline([("GET", "n")]) == ["100"]
    (clients,) = await redis.pipeline([("CLIENT", "LIST")])
    assert clients.count(" addr=") <= 9
