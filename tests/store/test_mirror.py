"""The mirror on the real Valkey: what changed is written, and everything is written anew when Redis may have lost it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from brewd.errors import StoreError
from brewd.store.mirror import FLUSH_S, MARKER, ONCE_MAX, RETRY_S, SOURCES_AT_ONCE, Mirror, RedisCommand
from brewd.store.redis import Redis


class Line:
    """The way to Redis. `down`: nothing gets there. `loses`: that many answers are lost on their way back. `gate`: writes wait for it. `trips`: commands in each round trip."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.down = False
        self.loses = 0
        self.trips: list[int] = []
        self.gate: trio.Event | None = None

    async def pipeline(self, commands: Sequence[RedisCommand], *, timeout_s: float = 1.0) -> list[Any]:
        self.trips.append(len(commands))
        if self.down:
            await trio.lowlevel.checkpoint()
            raise StoreError("down")
        if self.gate is not None and commands[0][0] == "SET":
            await self.gate.wait()
        answers = await self._redis.pipeline(commands, timeout_s=timeout_s)
        if self.loses:
            self.loses -= 1
            raise StoreError("lost")
        return answers


class Source:
    """A number that is mirrored. `renders`: how it was asked, full or not."""

    def __init__(self, mirror: Mirror, key: str) -> None:
        self.mirror = mirror
        self.key = key
        self.value = 0
        self.renders: list[bool] = []

    def set(self, value: int) -> None:
        self.value = value
        self.mirror.note(self.key, self.render)

    def render(self, full: bool) -> list[RedisCommand]:
        self.renders.append(full)
        return [("SET", self.key, self.value, "EX", 60)]


class Desk:
    """A mirror with some sources, and a way to look at what Redis has."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.line = Line(redis)
        self.mirror = Mirror(redis=self.line, name="this one")
        self.rewritten: list[int] = []
        self.mirror.rewritten.append(lambda: self.rewritten.append(1))

    def source(self, key: str, value: int = 1) -> Source:
        source = Source(self.mirror, key)
        source.set(value)
        return source

    async def has(self, *keys: str) -> list[str | None]:
        return list(await self.redis.pipeline([("GET", key) for key in keys]))


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def desk(redis: Redis) -> Desk:
    return Desk(redis)


async def test_the_first_flush_writes_everything_and_the_next_what_changed(desk: Desk) -> None:
    one, two = desk.source("one"), desk.source("two")
    assert await desk.mirror.flush()
    assert await desk.has("one", "two", MARKER) == ["1", "1", "this one"]
    two.set(5)
    two.set(7)
    assert await desk.mirror.flush()
    assert await desk.mirror.flush()
    assert await desk.has("one", "two") == ["1", "7"]
    assert (one.renders, two.renders) == ([True], [True, False])
    assert len(desk.rewritten) == 1


async def test_everything_of_ours_ends_by_itself(desk: Desk) -> None:
    await desk.mirror.flush()
    (left_s,) = await desk.redis.pipeline([("TTL", MARKER)])
    assert 0 < left_s <= 86_400


async def test_a_redis_that_was_emptied_is_filled_again(desk: Desk) -> None:
    one, two = desk.source("one"), desk.source("two")
    await desk.mirror.flush()
    await desk.redis.pipeline([("FLUSHALL",)])
    two.set(2)
    assert await desk.mirror.flush()
    assert await desk.has("one", "two") == ["1", "2"]
    assert (one.renders, two.renders) == ([True, True], [True, True])
    assert len(desk.rewritten) == 2


async def test_another_process_that_wrote_there_is_overwritten(desk: Desk) -> None:
    one = desk.source("one")
    await desk.mirror.flush()
    await desk.redis.pipeline([("SET", MARKER, "another one"), ("SET", "one", "theirs")])
    await desk.mirror.flush()
    assert await desk.has("one", MARKER) == ["1", "this one"]
    assert one.renders == [True, True]


async def test_after_an_outage_everything_is_written_anew(desk: Desk, logged: list[Any]) -> None:
    one, two = desk.source("one"), desk.source("two")
    await desk.mirror.flush()
    desk.line.down = True
    two.set(2)
    assert [await desk.mirror.flush() for _ in range(3)] == [False, False, False]
    assert desk.mirror.failures == 3
    desk.line.down = False
    two.set(3)
    assert await desk.mirror.flush()
    assert desk.mirror.failures == 0
    assert await desk.has("one", "two") == ["1", "3"]
    assert all(one.renders)
    assert [line["event"] for line in logged] == ["rewritten", "redis_unavailable", "rewritten"]


async def test_an_answer_that_was_lost_counts_as_nothing_written(desk: Desk) -> None:
    one = desk.source("one")
    await desk.mirror.flush()
    one.set(2)
    desk.line.loses = 2
    assert not await desk.mirror.flush()
    assert not await desk.mirror.flush()
    assert await desk.mirror.flush()
    assert one.renders == [True, True, True]
    assert await desk.has("one") == ["2"]


async def test_what_changes_during_a_flush_is_written_by_the_next(desk: Desk) -> None:
    one = desk.source("one")
    await desk.mirror.flush()
    one.set(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.mirror.flush)
        while len(one.renders) < 2:
            await trio.sleep(0.001)
        one.set(3)
    assert await desk.has("one") == ["2"]
    await desk.mirror.flush()
    assert await desk.has("one") == ["3"]


async def test_a_flush_waits_for_the_one_before_it(desk: Desk) -> None:
    one = desk.source("one")
    await desk.mirror.flush()
    one.set(2)
    desk.line.gate = gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.mirror.flush)
        while len(one.renders) < 2:  # it is on its way to Redis
            await trio.sleep(0.001)
        nursery.start_soon(_opens, gate)
        await desk.mirror.flush()
        assert await desk.has("one") == ["2"]


async def _opens(gate: trio.Event) -> None:
    await trio.sleep(0.05)  # in which a flush that waits for nothing is over
    gate.set()


async def test_many_sources_go_in_several_trips(desk: Desk) -> None:
    sources = [desk.source(f"s{n}", n) for n in range(2 * SOURCES_AT_ONCE + 10)]
    await desk.mirror.flush()
    assert desk.line.trips == [SOURCES_AT_ONCE, SOURCES_AT_ONCE, 10, 1]
    last = len(sources) - 1
    assert await desk.has("s0", f"s{last}") == ["0", f"{last}"]
    assert all(source.renders == [True] for source in sources)


async def test_a_source_that_is_forgotten_is_not_written(desk: Desk) -> None:
    one, two = desk.source("one"), desk.source("two")
    desk.mirror.forget("one")
    desk.mirror.forget("never there")
    await desk.mirror.flush()
    assert (one.renders, two.renders) == ([], [True])


async def test_one_that_is_forgotten_while_others_are_written_is_left_out(desk: Desk) -> None:
    sources = [desk.source(f"s{n}", n) for n in range(SOURCES_AT_ONCE + 1)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.mirror.flush)
        while not desk.line.trips:
            await trio.lowlevel.checkpoint()
        desk.mirror.forget(sources[-1].key)
    assert sources[-1].renders == []
    assert desk.line.trips == [SOURCES_AT_ONCE, 1]


async def test_what_is_no_source_is_written_once(desk: Desk) -> None:
    desk.mirror.write("early", [("SET", "early", "dropped: nobody has been told yet to write everything")])
    await desk.mirror.flush()
    desk.mirror.write("once", [("SET", "once", 1)])
    desk.mirror.write("once", [("SET", "once", 2)])
    await desk.mirror.flush()
    assert await desk.has("early", "once") == [None, "2"]
    await desk.redis.pipeline([("DEL", "once")])
    await desk.mirror.flush()
    assert await desk.has("once") == [None]


async def test_once_is_dropped_by_an_outage_after_which_its_owner_is_told(desk: Desk) -> None:
    await desk.mirror.flush()
    desk.mirror.write("once", [("SET", "once", 1)])
    desk.line.down = True
    await desk.mirror.flush()
    desk.mirror.write("once", [("SET", "once", 2)])
    desk.line.down = False
    await desk.mirror.flush()
    assert await desk.has("once") == [None]
    assert len(desk.rewritten) == 2


async def test_too_much_to_write_once_is_everything_to_be_written_anew(desk: Desk) -> None:
    one = desk.source("one")
    await desk.mirror.flush()
    for n in range(ONCE_MAX + 1):
        desk.mirror.write(f"once{n}", [("SET", f"once{n}", n)])
    await desk.mirror.flush()
    assert one.renders == [True, True]
    assert len(desk.rewritten) == 2
    assert await desk.has("once0") == [None]


class Nothing:
    """No Redis, and one that does not even answer a deadline; or one that takes everything and keeps nothing but the marker."""

    def __init__(self, *, down: bool) -> None:
        self.down = down
        self.asked_s: list[float] = []

    async def pipeline(self, commands: Sequence[RedisCommand], *, timeout_s: float = 1.0) -> list[Any]:
        self.asked_s.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.down:
            raise StoreError("gone")
        return ["this one"] * len(commands)


async def test_it_tries_less_often_while_redis_is_away_however_long_that_is(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    redis = Nothing(down=True)
    mirror = Mirror(redis=redis, name="this one")
    nursery.start_soon(mirror.run)
    await trio.sleep(4000)
    gaps = [after - before for before, after in zip(redis.asked_s, redis.asked_s[1:], strict=False)]
    assert gaps[:4] == pytest.approx([RETRY_S[1], RETRY_S[2], RETRY_S[2], RETRY_S[2]])
    assert mirror.failures > 1024
    redis.down = False
    await trio.sleep(RETRY_S[-1] + 0.1)
    assert mirror.failures == 0


async def test_it_writes_a_few_times_a_second_and_everything_anew_when_it_starts_again(autojump_clock: MockClock) -> None:
    mirror = Mirror(redis=Nothing(down=False), name="this one")
    source = Source(mirror, "one")
    for lives in (1, 2):
        with trio.move_on_after(10 * FLUSH_S + 0.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mirror.run)
                for n in range(20):
                    source.set(n)
                    await trio.sleep(FLUSH_S / 2)
                await trio.sleep_forever()
        assert source.renders.count(True) == lives
        assert 8 <= source.renders.count(False) / lives <= 10
