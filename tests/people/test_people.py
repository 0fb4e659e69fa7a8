"""Cafés, staff, receipts, customers and patrons over the real Postgres."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import brewd.people
from brewd.errors import Rejected, StoreConflict, StoreError
from brewd.people.join import JoinRequest
from brewd.people.passwords import Passwords
from brewd.people.sessions import Sessions
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.people.world import JOIN_TTL_S, USER_TTL_S, World, make_world

NO_ONE = "01890000-0000-7000-8000-000000000000"


def code_of(caught: pytest.ExceptionInfo[Rejected]) -> str:
    return caught.value.code


class Counted:
    """A Postgres that counts what it is asked."""

    def __init__(self, pg: Postgres) -> None:
        self.pg = pg
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.pg, name)

        async def call(query: Any, *args: Any, **options: Any) -> Any:
            self.names.append(str(query))
            return await real(query, *args, **options)

        return call


def test_no_query_is_left_over() -> None:
    used = "".join(file.read_text() for file in Path(brewd.people.__file__).parent.glob("*.py"))
    sql = Path(brewd.people.__file__).parent.parent / "store" / "people.sql"
    names = [line.split()[-1] for line in sql.read_text().splitlines() if line.startswith("-- name:")]
    assert [name for name in names if f'"{name}"' not in used] == []


async def test_a_cafe_is_made_read_and_changed(world: World) -> None:
    cafe = await world.cafe(
        name=" Corner ", wifi_ssid="Guests", latitude=48.2, longitude=16, cidrs=["10.0.0.7/8"], timezone="Europe/Vienna", menu=[{"name": "Melange"}]
    )
    assert (cafe.name, cafe.cidrs, cafe.longitude) == ("Corner", ("10.0.0.0/8",), 16.0)
    world.cafes.forget()
    assert await world.cafes.get(cafe.id) == cafe
    assert await world.cafes.list() == [cafe]
    assert await world.cafes.epoch(cafe.id)
    changed = await world.cafes.set(cafe.id, name="Korner", latitude=None, longitude=None)
    assert (changed.name, changed.latitude, changed.wifi_ssid) == ("Korner", None, "Guests")
    assert await world.cafes.get(cafe.id) == changed
    world.cafes.forget(cafe.id)
    assert await world.cafes.get(cafe.id) == changed


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a\0b"},
        {"name": 7},
        {"surprise": 1},
        {"id": NO_ONE},
        {"latitude": 48.2},
        {"latitude": 91.0, "longitude": 0.0},
        {"latitude": 0.0, "longitude": 181.0},
        {"radius_meters": 0},
        {"cidrs": ["corner"]},
        {"timezone": "Europe/Atlantis"},
        {"timezone": "../../etc/passwd"},
        {"timezone": ""},
        {"join_policy": "some"},
        {"limits_profile": "generous"},
    ],
)
async def test_a_cafe_that_makes_no_sense_is_refused(world: World, fields: dict[str, Any]) -> None:
    cafe = await world.cafe()
    with pytest.raises(Rejected) as caught:
        await world.cafe(**fields)
    assert code_of(caught) == "invalid_request"
    with pytest.raises(Rejected) as caught:
        await world.cafes.set(cafe.id, **fields)
    assert code_of(caught) == "invalid_request"
    assert await world.cafes.get(cafe.id) == cafe


async def test_a_cafe_that_is_not_there(world: World) -> None:
    for attempt in (world.cafes.get(NO_ONE), world.cafes.set(NO_ONE, name="x"), world.cafes.epoch(NO_ONE), world.users.add_many(NO_ONE, 1)):
        with pytest.raises(Rejected) as caught:
            await attempt
        assert code_of(caught) == "not_found"


async def test_cafes_are_read_from_memory(world: World) -> None:
    cafe = await world.cafe()
    counted = Counted(world.pg)
    world.cafes._pg = counted  # type: ignore[assignment]
    for _ in range(3):
        await world.cafes.get(cafe.id)
    assert counted.names == []


async def test_a_change_that_overtakes_a_read_is_not_undone_by_it(world: World) -> None:
    cafe = await world.cafe()
    world.cafes.forget()
    gate = trio.Event()
    real = world.pg

    class Slow:
        async def fetchrow(self, *args: Any) -> Any:
            row = await real.fetchrow(*args)
            await gate.wait()
            return row

        transaction = staticmethod(real.transaction)

    world.cafes._pg = Slow()  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cafes.get, cafe.id)
        await trio.testing.wait_all_tasks_blocked()
        await world.cafes.set(cafe.id, name="New")
        gate.set()
    assert (await world.cafes.get(cafe.id)).name == "New"


async def test_staff_names_are_one_of_a_kind_in_a_cafe(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    ana = await world.staff.add(cafe.id, "Ana", "barista", "pw")
    await world.staff.add(other.id, "Ana", "barista", "pw")
    with pytest.raises(Rejected) as caught:
        await world.staff.add(cafe.id, " ANA ", "moderator", "pw")
    assert code_of(caught) == "conflict"
    with pytest.raises(Rejected) as caught:
        await world.staff.add(NO_ONE, "Ana", "barista", "pw")
    assert code_of(caught) == "not_found"
    assert [member.id for member in await world.staff.list(cafe.id)] == [ana.id]
    assert len(await world.staff.list()) == 2
    assert await world.staff.show(ana.id) == ana


async def test_a_new_password_ends_the_old_one_and_its_logins(world: World) -> None:
    told: list[Any] = []
    world.sessions.on_revoke.append(lambda *what: told.append(what))
    cafe = await world.cafe()
    ana = await world.staff.add(cafe.id, "Ana", "barista", "old")
    token, _ = await world.sessions.open_staff(await world.staff.login(cafe.id, "ana", "old"))
    await world.staff.passwd(ana.id, "new")
    assert told == [(None, ana.id, 4002)]
    assert world.sessions.is_revoked(world.tokens.verify_access(token))
    with pytest.raises(Rejected) as caught:
        await world.staff.login(cafe.id, "Ana", "old")
    assert code_of(caught) == "unauthorized"
    fresh, _ = await world.sessions.open_staff(await world.staff.login(cafe.id, "Ana", "new"))
    assert not world.sessions.is_revoked(world.tokens.verify_access(fresh))


async def test_disabled_staff_stay_out_until_they_get_a_password(world: World) -> None:
    cafe = await world.cafe()
    ana = await world.staff.add(cafe.id, "Ana", "barista", "pw")
    assert (await world.staff.disable(ana.id)).disabled_ms is not None
    with pytest.raises(Rejected):
        await world.staff.login(cafe.id, "Ana", "pw")
    assert (await world.staff.passwd(ana.id, "pw2")).disabled_ms is None
    assert (await world.staff.login(cafe.id, "Ana", "pw2")).id == ana.id
    for attempt in (world.staff.disable(NO_ONE), world.staff.passwd(NO_ONE, "x"), world.staff.show(NO_ONE)):
        with pytest.raises(Rejected) as caught:
            await attempt
        assert code_of(caught) == "not_found"


async def test_a_hash_made_with_other_parameters_is_renewed(world: World) -> None:
    cafe = await world.cafe()
    await world.staff.add(cafe.id, "Ana", "barista", "pw")
    before = await world.pg.fetchrow("staff_by_name", cafe.id, "Ana")
    world.staff._hasher = Passwords(time_cost=2, memory_kib=64)
    await world.staff.login(cafe.id, "Ana", "pw")
    after = await world.pg.fetchrow("staff_by_name", cafe.id, "Ana")
    assert before is not None
    assert after is not None
    assert "t=1" in before["password_hash"]
    assert "t=2" in after["password_hash"]
    await world.staff.login(cafe.id, "Ana", "pw")


async def test_a_crowd_of_logins_is_told_to_wait() -> None:
    hasher = Passwords(time_cost=1, memory_kib=64)
    outcomes: list[str] = []

    async def login() -> None:
        try:
            await hasher.verify(None, "x")
            outcomes.append("done")
        except Rejected as refused:
            outcomes.append(f"{refused.code} {refused.extras['retryAfterMs']}")

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(login)
    assert outcomes.count("rate_limited 1000") >= 60
    assert outcomes.count("done") >= 33


async def test_a_wrong_password_is_wrong() -> None:
    hasher = Passwords(time_cost=1, memory_kib=64)
    stored = await hasher.hash("right")
    assert "argon2id" in stored
    assert (await hasher.verify(stored, "right")).matches
    assert not (await hasher.verify(stored, "wrong")).matches
    assert not (await hasher.verify(None, "nobody has this password")).matches
    assert not (await hasher.verify("not a hash", "x")).matches


async def test_a_live_name_is_one_of_a_kind_and_an_ended_one_is_free(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    printed = await world.receipt(cafe)
    now, later = world.clock.now_ms(), world.clock.now_ms() + USER_TTL_S * 1000

    async def take(name: str) -> None:
        await world.pg.execute("customer_add", world.ids.uuid7(), cafe.id, None, name, as_datetime(now), as_datetime(later))

    await take(printed.username.upper())
    with pytest.raises(Rejected) as caught:
        await world.join_with(cafe, printed)
    assert code_of(caught) == "conflict"
    first = (await world.users.list(cafe.id))[0]
    await world.users.expire(first.id)
    joined = await world.join_with(cafe, printed)  # the refused join has not used the token up
    assert joined.user.username == printed.username
    await take("Unmarked1234")
    mock_clock.jump(USER_TTL_S + 1)
    row = await world.pg.fetchrow("customer_add", world.ids.uuid7(), cafe.id, None, "Other1234", as_datetime(now), as_datetime(later))
    assert row is not None
    await world.pg.execute("customer_free_name", cafe.id, "unmarked1234", as_datetime(world.clock.now_ms()))
    await take("Unmarked1234")


async def test_a_token_is_good_until_the_last_millisecond(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    printed = await world.receipt(cafe)
    mock_clock.jump(JOIN_TTL_S - 0.001)
    assert (await world.join_with(cafe, printed)).user.username == printed.username


async def test_a_used_token_stays_used_after_it_expired(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    printed = await world.receipt(cafe)
    await world.join_with(cafe, printed)
    mock_clock.jump(JOIN_TTL_S + 1)
    with pytest.raises(Rejected) as caught:
        await world.join_with(cafe, printed)
    assert code_of(caught) == "join_token_used"


async def test_the_token_is_taken_however_it_is_typed_and_from_its_own_cafe_only(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    printed = await world.receipt(cafe)
    with pytest.raises(Rejected) as caught:
        await world.join_with(other, printed)
    assert code_of(caught) == "unauthorized"
    typed = printed.join_token.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    await world.joins.join(JoinRequest(cafe_id=cafe.id, username=f" {printed.username.lower()} ", join_token=typed), None)


async def test_no_token_and_no_key_is_stored_as_it_is(world: World) -> None:
    cafe = await world.cafe()
    printed = await world.receipt(cafe)
    joined = await world.join_with(cafe, printed)
    receipt = await world.pg.fetchrow("receipt_lock", cafe.id, printed.username)
    assert receipt is not None
    assert printed.join_token.replace("-", "") not in str(dict(receipt))
    assert joined.patron_key.encode() not in world.joins._plan(JoinRequest(cafe_id=cafe.id, username="x", join_token="0"), joined.patron_key).fresh_patron_hash
    assert len(joined.patron_key) == 43  # 256 bits


async def test_a_patron_key_links_visits_to_one_cafe_only(world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    first = await world.join(cafe, "r-1")
    second = await world.join(cafe, "r-2", patron_key=first.patron_key)
    assert second.patron_key == first.patron_key
    stranger = await world.join(cafe, "r-3")
    elsewhere = await world.join(other, "r-1", patron_key=first.patron_key)
    made_up = await world.join(cafe, "r-4", patron_key="made up")
    assert len({first.patron_key, stranger.patron_key, elsewhere.patron_key, made_up.patron_key}) == 4
    assert "made up" not in made_up.patron_key


async def test_a_patron_key_is_forgotten_after_three_months_away(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    first = await world.join(cafe, "r-1")
    mock_clock.jump(89 * 86_400)
    assert (await world.join(cafe, "r-2", patron_key=first.patron_key)).patron_key == first.patron_key
    mock_clock.jump(91 * 86_400)
    assert (await world.join(cafe, "r-3", patron_key=first.patron_key)).patron_key != first.patron_key


async def test_users_are_made_in_bulk_and_their_tokens_work(world: World) -> None:
    cafe = await world.cafe()
    made = await world.users.add_many(cafe.id, 600)
    assert len({user.id for user in made}) == len({user.username for user in made}) == 600
    assert len(await world.users.list(cafe.id)) == 600
    assert len(await world.users.list(cafe.id, limit=7)) == 7
    identity = world.tokens.verify_access(made[-1].access_token)
    assert (identity.cafe_id, identity.role, identity.username) == (cafe.id, "user", made[-1].username)
    assert (await world.users.me(identity)).username == made[-1].username
    await world.sessions.revoke(identity.session_id, identity.user_id)
    assert world.sessions.is_revoked(identity)


@pytest.mark.parametrize("count", [0, -1, 100_001])
async def test_how_many_users_are_made_at_once_is_bounded(world: World, count: int) -> None:
    cafe = await world.cafe()
    with pytest.raises(Rejected) as caught:
        await world.users.add_many(cafe.id, count)
    assert code_of(caught) == "invalid_request"


async def test_a_user_sent_home_is_out_everywhere(world: World) -> None:
    told: list[Any] = []
    world.sessions.on_revoke.append(lambda *what: told.append(what))
    cafe = await world.cafe()
    joined = await world.join(cafe)
    identity = world.tokens.verify_access(joined.access_token)
    assert (await world.users.show(joined.user.id)) == joined.user
    ended = await world.users.expire(joined.user.id)
    assert ended.ended_ms is not None
    assert told == [(None, joined.user.id, 4001)]
    for attempt in (world.sessions.refresh(joined.refresh_token), world.users.me(identity)):
        with pytest.raises(Rejected) as caught:
            await attempt
        assert code_of(caught) == "user_expired"
    with pytest.raises(Rejected) as caught:
        world.sessions.check(identity)
    assert code_of(caught) == "user_expired"
    assert await world.users.list(cafe.id) == []
    assert (await world.users.expire(joined.user.id)).ended_ms == ended.ended_ms
    for missing in (world.users.show(NO_ONE), world.users.expire(NO_ONE)):
        with pytest.raises(Rejected) as caught:
            await missing
        assert code_of(caught) == "not_found"


def restarted(world: World) -> Sessions:
    return Sessions(pg=world.pg, clock=world.clock, ids=world.ids, tokens=world.tokens, user_ttl_s=USER_TTL_S)


async def test_revocations_outlive_a_restart(world: World) -> None:
    cafe = await world.cafe()
    out, home, stays = await world.join(cafe, "r-1"), await world.join(cafe, "r-2"), await world.join(cafe, "r-3")
    identities = [world.tokens.verify_access(joined.access_token) for joined in (out, home, stays)]
    await world.sessions.revoke(identities[0].session_id, out.user.id)
    await world.users.expire(home.user.id)
    sessions = restarted(world)
    await sessions.warm()
    assert [sessions.is_revoked(identity) for identity in identities] == [True, True, False]
    assert (await sessions.refresh(stays.refresh_token)).user == stays.user


async def test_a_revocation_is_forgotten_when_nothing_it_forbids_is_alive(world: World, mock_clock: trio.testing.MockClock) -> None:
    cafe = await world.cafe()
    for number in range(5):
        joined = await world.join(cafe, f"r-{number}")
        await world.sessions.revoke(world.tokens.verify_access(joined.access_token).session_id, joined.user.id)
    mock_clock.jump(USER_TTL_S + 61)
    last = await world.join(cafe, "r-last")
    await world.sessions.revoke(world.tokens.verify_access(last.access_token).session_id, last.user.id)
    assert len(world.sessions._revoked) == 1
    sessions = restarted(world)
    await sessions.warm()
    assert len(sessions._revoked) == 1


async def test_of_two_uses_of_a_refresh_token_at_once_one_wins_and_the_session_ends(world: World) -> None:
    cafe = await world.cafe()
    joined = await world.join(cafe)
    outcomes: list[str] = []

    async def refresh() -> None:
        try:
            await world.sessions.refresh(joined.refresh_token)
            outcomes.append("ok")
        except Rejected as refused:
            outcomes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(refresh)
    assert sorted(outcomes) == ["ok"] + ["unauthorized"] * 9
    assert world.sessions.is_revoked(world.tokens.verify_access(joined.access_token))


async def test_a_store_that_is_away_revokes_nothing_and_says_so(world: World) -> None:
    cafe = await world.cafe()
    joined = await world.join(cafe)
    identity = world.tokens.verify_access(joined.access_token)

    class Away:
        async def execute(self, *_: Any) -> None:
            raise StoreError("away")

    told: list[Any] = []
    world.sessions.on_revoke.append(lambda *what: told.append(what))
    real, world.sessions._pg = world.sessions._pg, Away()  # type: ignore[assignment]
    with pytest.raises(StoreError):
        await world.sessions.revoke(identity.session_id, identity.user_id)
    assert (told, world.sessions.is_revoked(identity)) == ([], False)
    world.sessions._pg = real
    await world.sessions.revoke(identity.session_id, identity.user_id)
    assert (len(told), world.sessions.is_revoked(identity)) == (1, True)


async def test_a_revocation_is_written_though_its_caller_hangs_up(world: World) -> None:
    told: list[Any] = []
    world.sessions.on_revoke.append(lambda *what: told.append(what))
    identity = world.tokens.verify_access((await world.join(await world.cafe())).access_token)
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.sessions.revoke(identity.session_id, identity.user_id)
    assert (len(told), world.sessions.is_revoked(identity)) == (1, True)
    sessions = restarted(world)
    await sessions.warm()
    assert sessions.is_revoked(identity)


class Stuck:
    """Chance that gives names (4 and 8 bytes at a time) the same bytes for the next `times` draws, and is fair otherwise."""

    def __init__(self) -> None:
        self.times = 0
        self._fair = random.Random(3)

    def __call__(self, size_bytes: int) -> bytes:
        if size_bytes in (4, 8) and self.times > 0:
            self.times -= 1
            return bytes(size_bytes)
        return self._fair.randbytes(size_bytes)


async def test_a_name_that_is_taken_is_drawn_again(pg: Postgres, clock: Clock) -> None:
    stuck = Stuck()
    world = make_world(pg, clock, Ids(clock, stuck))
    cafe = await world.cafe()
    stuck.times = 3
    first = await world.receipt(cafe, "r-1")
    stuck.times = 3
    second = await world.receipt(cafe, "r-2")
    assert first.username != second.username
    stuck.times = 10_000
    with pytest.raises(RuntimeError, match="no free username"):
        await world.receipt(cafe, "r-3")
    stuck.times = 3
    made = await world.users.add_many(cafe.id, 1)
    stuck.times = 3
    assert (await world.users.add_many(cafe.id, 1))[0].username != made[0].username
    stuck.times = 10_000
    with pytest.raises(StoreConflict):
        await world.users.add_many(cafe.id, 1)
