"""Which answers are looked for in Redis, and how long."""

from __future__ import annotations

from collections.abc import Sequence

from trio.testing import MockClock

from brewd.agent.cache import ENTRIES_MAX, MARK_KEY, TTL_MS, AnswerCache, Key, key_of
from brewd.runtime.clock import Clock
from brewd.store.mirror import Mirror, RedisCommand
from brewd.store.redis import Redis
from tests.store.test_mirror import Line


class Process:
    """What one daemon keeps of answers. `looks`: how often it asked Redis for one."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self.line = Line(redis)
        self.mirror = Mirror(redis=redis, name="test")
        self.cache = AnswerCache(clock=clock, redis=self.line, mirror=self.mirror)

    @property
    def looks(self) -> int:
        return len(self.line.trips)

    async def knows(self, key: Key) -> bool:
        return await self.cache.find(key) is not None


def key(number: int) -> Key:
    return key_of("c1", f"question {number}", "bartender", "v1")


async def begun(redis: Redis, clock: Clock) -> Process:
    process = Process(redis, clock)
    await process.mirror.flush()
    return process


async def test_where_no_process_before_can_have_left_any_redis_is_asked_once(redis: Redis, clock: Clock) -> None:
    process = await begun(redis, clock)
    assert not await process.knows(key(1))
    process.cache.put(key(1), "a", ())
    await process.mirror.flush()
    assert await process.knows(key(1))
    assert not await process.knows(key(2))
    assert process.looks == 1


async def test_what_a_process_before_has_left_is_looked_for_until_it_is_over(redis: Redis, clock: Clock, mock_clock: MockClock) -> None:
    before = await begun(redis, clock)
    before.cache.put(key(1), "a", ())
    await before.mirror.flush()
    process = await begun(redis, clock)
    assert not await process.knows(key(2))
    process.cache.put(key(2), "b", ())
    await process.mirror.flush()
    assert await process.knows(key(1))
    assert process.looks == 2
    mock_clock.jump(TTL_MS / 1000)
    for number in range(3):
        assert not await process.knows(key(number))
    assert process.looks == 2


async def test_while_redis_says_nothing_it_is_asked_again(redis: Redis, clock: Clock) -> None:
    before = await begun(redis, clock)
    before.cache.put(key(1), "a", ())
    await before.mirror.flush()
    process = await begun(redis, clock)
    process.line.down = True
    assert not await process.knows(key(1))
    process.line.down = False
    assert await process.knows(key(1))


async def test_what_memory_had_no_room_for_is_looked_for(redis: Redis, clock: Clock) -> None:
    process = await begun(redis, clock)
    assert not await process.knows(key(0))
    process.cache.put(key(0), "a", ())
    await process.mirror.flush()
    for number in range(1, ENTRIES_MAX + 1):
        process.cache.put(key(number), "a", ())
    assert len(process.cache) == ENTRIES_MAX
    assert process.looks == 1
    assert await process.knows(key(0))
    assert process.looks == 2


async def test_the_mark_goes_with_the_last_answer(redis: Redis, clock: Clock) -> None:
    process = await begun(redis, clock)
    process.cache.put(key(1), "a", ())
    await process.mirror.flush()
    commands: Sequence[RedisCommand] = [("PTTL", key(1).redis), ("PTTL", MARK_KEY)]
    answer_ms, mark_ms = await redis.pipeline(commands)
    assert 0 < answer_ms <= mark_ms <= TTL_MS
