"""One for one: a crash restarts its own child, with a backoff, up to its intensity, and nobody else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from brewd.runtime.supervisor import ENDLESS, GaveUp, Restart, Supervisor, open_supervisor

RESTART = Restart(intensity=3, period_s=5.0, backoff_s=0.02)


class Moody:
    """A child that crashes at each of the given lives, and then lives on."""

    def __init__(self, crashes: int, *, lives_s: float = 0.0) -> None:
        self.crashes = crashes
        self.lives_s = lives_s
        self.began_s: list[float] = []
        self.told: list[str] = []

    async def run(self) -> None:
        self.began_s.append(trio.current_time())
        if len(self.began_s) <= self.crashes:
            await trio.sleep(self.lives_s)
            raise ValueError(f"life {len(self.began_s)}")
        await trio.sleep_forever()

    def crashed(self, error: Exception) -> None:
        self.told.append(str(error))


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    async with open_supervisor("top") as supervisor:
        yield supervisor


def test_the_pause_before_a_restart_grows_within_the_period_and_is_bounded() -> None:
    assert [RESTART.delay_s(n) for n in range(1, 5)] == pytest.approx([0.0, 0.02, 0.06, 0.14])
    assert RESTART.delay_s(60) == 5.0


async def test_a_crash_restarts_that_child_alone(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    moody, calm = Moody(2), Moody(0)
    supervisor.spawn("moody", moody.run, restart=RESTART, crashed=moody.crashed)
    supervisor.spawn("calm", calm.run)
    await trio.sleep(0.1)
    assert moody.began_s == pytest.approx([0.0, 0.0, 0.02])
    assert moody.told == ["life 1", "life 2"]
    assert len(calm.began_s) == 1
    assert supervisor.state_of("moody") == "running"


async def test_more_crashes_than_its_intensity_quarantine_a_child(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    moody, calm = Moody(99), Moody(0)
    states: list[str] = []
    supervisor.spawn("moody", moody.run, restart=RESTART, crashed=lambda _: states.append(supervisor.state_of("moody")))
    supervisor.spawn("calm", calm.run)
    await trio.sleep(20)
    assert len(moody.began_s) == 4
    assert states == ["running", "running", "running", "quarantined"]
    assert supervisor.state_of("moody") == "quarantined"
    assert supervisor.state_of("calm") == "running"


async def test_crashes_further_apart_than_the_period_are_forgiven(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    moody = Moody(10, lives_s=2.0)
    supervisor.spawn("moody", moody.run, restart=RESTART)
    await trio.sleep(60)
    assert len(moody.began_s) == 11
    assert supervisor.state_of("moody") == "running"


async def test_one_that_cannot_start_is_tried_ever_more_slowly_and_at_once_after_it_was_well(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    moody, restart = Moody(1000, lives_s=0.7), Restart(intensity=ENDLESS, period_s=60.0)
    supervisor.spawn("moody", moody.run, restart=restart)
    await trio.sleep(900)
    pauses_s = [later_s - sooner_s - 0.7 for sooner_s, later_s in pairwise(moody.began_s)]
    assert pauses_s == pytest.approx([restart.delay_s(crashes) for crashes in range(1, len(pauses_s) + 1)])
    assert pauses_s[-1] == pytest.approx(60.0)
    moody.lives_s = 61.0
    await trio.sleep(200)
    assert moody.began_s[-1] - moody.began_s[-2] == pytest.approx(61.0)


async def test_one_without_an_end_that_does_not_live_at_all_is_tried_for_ever(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    moody = Moody(10**9)
    child = supervisor.spawn("moody", moody.run, restart=Restart(intensity=ENDLESS))
    await trio.sleep(5 * ENDLESS)
    assert child.restarts > ENDLESS
    assert child.state == "backoff"


async def test_a_quarantined_name_is_free_again_when_it_is_discarded(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    supervisor.spawn("moody", Moody(99).run, restart=RESTART)
    await trio.sleep(1)
    with pytest.raises(ValueError, match="moody"):
        supervisor.spawn("moody", Moody(0).run)
    supervisor.discard("moody")
    again = Moody(1)
    supervisor.spawn("moody", again.run, restart=RESTART)
    await trio.sleep(1)
    assert supervisor.state_of("moody") == "running"
    supervisor.discard("nobody")


async def test_a_child_that_returns_is_done_and_its_name_is_free(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    async def run() -> None:
        await trio.sleep(1)

    child = supervisor.spawn("short", run)
    await child.ended.wait()
    assert (child.state, supervisor.state_of("short")) == ("stopped", "stopped")
    supervisor.spawn("short", run)


async def test_a_child_can_be_stopped_while_it_runs_and_while_it_waits_for_its_restart(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    running = supervisor.spawn("running", Moody(0).run)
    waiting = supervisor.spawn("waiting", Moody(99, lives_s=1.0).run, restart=Restart(intensity=9, period_s=100.0, backoff_s=10.0))
    await trio.sleep(3)
    assert waiting.state == "backoff"
    for child in (running, waiting):
        child.stop()
        await child.ended.wait()
        assert child.state == "stopped"
    assert trio.current_time() == pytest.approx(3.0)


async def test_one_that_ends_after_its_name_was_given_away_leaves_its_successor_alone(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    old = supervisor.spawn("it", Moody(0).run)
    await wait_all_tasks_blocked()
    supervisor.discard("it")
    supervisor.spawn("it", Moody(0).run)
    await old.ended.wait()
    assert supervisor.state_of("it") == "running"


async def test_an_essential_child_that_cannot_be_helped_ends_its_supervisor(autojump_clock: MockClock) -> None:
    moody, below = Moody(99), Moody(0)
    with pytest.RaisesGroup(GaveUp):
        async with open_supervisor("top") as supervisor:
            supervisor.spawn("calm", below.run)
            supervisor.group("below").spawn("moody", moody.run, restart=RESTART, essential=True)
            await trio.sleep_forever()
    assert len(moody.began_s) == 4


async def test_it_can_be_stopped_as_a_whole_groups_and_all(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    children = [supervisor.spawn("it", Moody(0).run), supervisor.group("below").spawn("it", Moody(0).run)]
    await wait_all_tasks_blocked()
    supervisor.stop()
    for child in children:
        await child.ended.wait()
    assert [child.state for child in children] == ["stopped", "stopped"]
    supervisor.spawn("it", Moody(0).run)


async def test_leaving_the_block_cancels_the_children() -> None:
    async with open_supervisor("top") as supervisor:
        child = supervisor.spawn("it", Moody(0).run)
        await wait_all_tasks_blocked()
    assert child.ended.is_set()


async def test_the_tree_shows_who_is_how(supervisor: Supervisor, autojump_clock: MockClock) -> None:
    below = supervisor.group("below", lambda: {"open": 7})
    supervisor.spawn("calm", Moody(0).run)
    below.spawn("shaky", Moody(1).run, restart=RESTART)
    below.spawn("bad", Moody(99).run, restart=RESTART)
    await trio.sleep(1)
    assert supervisor.tree() == {
        "name": "top",
        "children": [
            {"name": "calm", "state": "running", "restarts": 0},
            {
                "name": "below",
                "open": 7,
                "children": [
                    {"name": "shaky", "state": "running", "restarts": 1, "lastError": "ValueError: life 1"},
                    {"name": "bad", "state": "quarantined", "restarts": 3, "lastError": "ValueError: life 4"},
                ],
            },
        ],
    }
