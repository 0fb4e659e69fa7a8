"""Erasure over a real Postgres and Redis: everything about a person goes, nothing about anybody else, and no table is forgotten."""

from __future__ import annotations

import re
from typing import Any

import pytest
from trio.testing import MockClock

from brewd.cafe import commands as c
from brewd.cafe.effects import Record, Seen, Used
from brewd.cafe.ledger import Ledger
from brewd.errors import Rejected, StoreError
from brewd.people.badge_rules import TIP_THRESHOLD
from brewd.people.erasure import ERASED, FORGOTTEN_KEY, FORGOTTEN_MS, SESSION_KEYS, USER_KEYS, Erasure
from brewd.people.expiry import Expiry
from brewd.people.join import JoinAnswer, patron_hash
from brewd.people.records import Cafe
from brewd.runtime.clock import as_datetime
from brewd.store.mirror import Mirror
from brewd.store.pool import Tx
from brewd.store.postgres import Postgres
from brewd.store.redis import Redis
from tests.people.world import AllWritten, World, make_world
from tests.traces import in_postgres, in_redis

PERSONAL = re.compile(r"user|patron|author(_id)?$")


class Flaky:
    """A Redis that can be away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.away = False
        self.commands = 0
        self.keys_max = 0

    async def pipeline(self, commands: Any, *, timeout_s: float = 1.0) -> list[Any]:
        if self.away:
            raise StoreError("Redis: gone")
        self.commands += len(commands)
        self.keys_max = max([self.keys_max, *(len(command) - 1 for command in commands)])
        return await self._redis.pipeline(commands, timeout_s=timeout_s)


@pytest.fixture
def flaky(redis: Redis) -> Flaky:
    return Flaky(redis)


@pytest.fixture
def erasure(world: World, flaky: Flaky) -> Erasure:
    return Erasure(
        pg=world.pg, redis=flaky, mirror=Mirror(redis=flaky, name="x"), clock=world.clock, ids=world.ids, sessions=world.sessions, rooms=world.rooms,
        decisions=AllWritten(), questions=AllWritten(), send_away=world.rooms.send_away,
    )  # fmt: skip


async def said(pg: Postgres, cafe: Cafe, user_id: str, username: str, first: int, count: int = 1, at_ms: int = 0) -> None:
    async def work(tx: Tx) -> None:
        await tx._connection.execute(
            "INSERT INTO message (cafe_id, seq, id, user_id, username, badge, content, client_msg_id, created_at)"
            " SELECT $1, n, gen_random_uuid(), $2, $3, 'regular', 'hello ' || n, 'c-' || n, $6 FROM generate_series($4::bigint, $4::bigint + $5::bigint - 1) AS n",
            cafe.id, user_id, username, first, count, as_datetime(at_ms),
        )  # fmt: skip

    await pg.transaction(work)


async def lived(world: World, cafe: Cafe, redis: Redis, receipt_id: str, seq: int) -> JoinAnswer:
    """Somebody of whom there is something in every place."""
    joined = await world.join(cafe, receipt_id)
    user = joined.user
    (sid,) = [row["id"] for row in await world.pg.fetch("session_of_users", [user.id])]
    await said(world.pg, cafe, user.id, user.username, seq, 3, world.clock.now_ms())
    ledger = Ledger(pg=world.pg, ids=world.ids)
    now_ms = world.clock.now_ms()
    ledger.note(cafe.id, Used("poke", user.id, sid, now_ms))
    ledger.note(cafe.id, Record("block", user.id, user.username, now_ms, rule="words", reason=f"{user.username} said it again"))
    await ledger._write(list(ledger._pending))
    keys = [key.replace("{id}", user.id).replace("{sid}", sid) for key in USER_KEYS + SESSION_KEYS]
    await redis.pipeline([*(("SET", key, user.username) for key in keys), ("SADD", f"cafe:{cafe.id}:users", user.id)])
    await redis.pipeline([("LPUSH", f"cafe:{cafe.id}:messages", f'{{"userId":"{user.id}","username":"{user.username}"}}')])
    return joined


async def test_nothing_of_a_person_is_left_and_everything_of_the_others(world: World, erasure: Erasure, redis: Redis) -> None:
    cafe = await world.cafe()
    ann, bob = await lived(world, cafe, redis, "r-ann", 1), await lived(world, cafe, redis, "r-bob", 4)
    before = await in_postgres(world.pg, bob.user.id, bob.user.username)
    receipt = await erasure.user(ann.user.id, cafe.id)
    assert receipt.tables == {
        "message": 3, "limit_use": 1, "moderation_actions": 1, "poke": 0, "dm_message": 0, "dm_channel": 0, "receipt": 1, "tip": 0, "agent_queries": 0, "session": 1,
        "customer": 1,
    }  # fmt: skip
    assert receipt.keys == dict.fromkeys(USER_KEYS + SESSION_KEYS, 1)
    (mark, left_ms) = await redis.pipeline([(verb, FORGOTTEN_KEY.replace("{id}", cafe.id)) for verb in ("GET", "PTTL")])
    assert 0 <= world.clock.now_ms() - int(mark) < FORGOTTEN_MS
    assert 0 < left_ms <= FORGOTTEN_MS
    assert "not included" in receipt.backups
    assert await in_postgres(world.pg, ann.user.id, ann.user.username) == {}
    assert await in_redis(redis, ann.user.id, ann.user.username) == []
    assert await in_postgres(world.pg, bob.user.id, bob.user.username) == before
    assert len(await in_redis(redis, bob.user.id, bob.user.username)) == len(USER_KEYS + SESSION_KEYS) + 1  # the list of messages comes anew
    assert world.rooms.away == [(ann.user.id, ERASED.code, ERASED.reason)]


async def tipped(world: World, cafe: Cafe, joined: JoinAnswer) -> None:
    """Enough for a badge, and seen on one day."""
    for _ in range(TIP_THRESHOLD):
        await world.badges.record_tip(cafe.id, world.ids.uuid7(), joined.user.id, 100, "EUR")
    await world.visits.write([Seen(joined.user.id, world.clock.now_ms())], timeout_s=5.0)


async def test_who_remembers_people_is_told_before_their_rows_go_and_after(
    world: World, erasure: Erasure, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was read in between is forgotten, too."""
    cafe = await world.cafe()
    ann = await lived(world, cafe, redis, "r-ann", 1)
    seen: list[object] = []
    batches = Erasure._in_batches

    async def noting(erasure: Erasure, *args: Any) -> int:
        seen.append("rows")
        return await batches(erasure, *args)

    monkeypatch.setattr(Erasure, "_in_batches", noting)
    erasure.on_people.append(lambda cafe_id, user_ids: seen.append((cafe_id, *user_ids)))
    await erasure.user(ann.user.id, cafe.id)
    told = (cafe.id, ann.user.id)
    assert seen == [told, *["rows"] * seen.count("rows"), told]


async def test_what_was_between_them_and_others_goes_but_a_poke_that_would_say_by_going_who_it_was_from(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann, bob, cid = [await world.join(cafe, name) for name in ("r-ann", "r-bob", "r-cid")]
    await tipped(world, cafe, ann)

    now, later = as_datetime(world.clock.now_ms()), as_datetime(world.clock.now_ms() + 86_400_000)

    async def meet(tx: Tx) -> None:
        for sender, recipient in ((ann, bob), (cid, ann), (cid, bob)):
            await tx._connection.execute(
                "INSERT INTO poke (id, cafe_id, from_user_id, to_user_id, shared_interest, created_at, expires_at) VALUES (gen_random_uuid(), $1, $2, $3, 'tea', $4, $5)",
                cafe.id, sender.user.id, recipient.user.id, now, later,
            )  # fmt: skip
        for channel, other in (("c", bob), ("d", cid)):
            pair = sorted((ann.user.id, other.user.id))
            row = await tx._connection.fetchrow(
                "INSERT INTO dm_channel (id, cafe_id, user_a, user_b, shared_interest, created_at, last_seq)"
                " VALUES (gen_random_uuid(), $1, $2, $3, 'tea', $4, 2) RETURNING id",
                cafe.id, *pair, now,
            )  # fmt: skip
            await tx._connection.execute(
                "INSERT INTO dm_message (channel_id, seq, id, author_id, content, created_at)"
                " VALUES ($1, 1, gen_random_uuid(), $2, $4, $5), ($1, 2, gen_random_uuid(), $3, $4, $5)",
                row["id"], ann.user.id, other.user.id, channel, now,
            )  # fmt: skip

    await world.pg.transaction(meet)
    receipt = await erasure.user(ann.user.id, cafe.id)
    assert {table: receipt.tables[table] for table in ("poke", "dm_message", "dm_channel", "tip")} == {"poke": 2, "dm_message": 4, "dm_channel": 2, "tip": 5}
    assert await in_postgres(world.pg, ann.user.id, ann.user.username) == {}
    assert (await in_postgres(world.pg, bob.user.id))["poke"] == 2  # one of them from nobody


async def test_what_they_said_stays_together_under_an_id_that_leads_nowhere(world: World, erasure: Erasure, redis: Redis) -> None:
    cafe = await world.cafe()
    ann = await lived(world, cafe, redis, "r-ann", 1)
    await erasure.user(ann.user.id, cafe.id)
    rows = await world.pg.fetch("message_after", cafe.id, 0, 10)
    assert [(row["username"], row["badge"], row["client_msg_id"], row["content"]) for row in rows] == [("guest", None, None, f"hello {n}") for n in (1, 2, 3)]
    (alias,) = {row["user_id"] for row in rows}
    assert await in_postgres(world.pg, alias) == {"message": 3}  # and the log does not say whose they are


async def test_no_table_is_forgotten(world: World) -> None:
    """A column that is called like one about a person stands in a table that erasure knows."""

    async def columns(tx: Tx) -> Any:
        return await tx._connection.fetch("SELECT table_name AS t, column_name AS c FROM information_schema.columns WHERE table_schema = 'public'")

    found = {(row["t"], row["c"]) for row in await world.pg.transaction(columns) if PERSONAL.search(row["c"])}
    known = {whom: {name.removeprefix(f"erase_{whom}_") for name in world.pg.queries if name.startswith(f"erase_{whom}_")} for whom in ("user", "patron")}
    assert {table for table, column in found if "patron" in column} - known["patron"] == set()
    assert {table for table, column in found if "patron" not in column} - known["user"] == set()
    assert known["patron"] >= {"customer", "moderation_actions", "patron"}
    assert known["user"] >= {"customer", "message", "receipt", "session", "limit_use", "moderation_actions"}


async def test_no_token_of_theirs_counts_here_or_after_a_restart(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await erasure.user(ann.user.id, cafe.id)
    again = make_world(world.pg, world.clock, world.ids)
    await again.sessions.warm()
    again.sessions._tokens = world.tokens  # keys outlive a restart
    identity = world.tokens.verify_access(ann.access_token)
    for sessions in (world.sessions, again.sessions):
        with pytest.raises(Rejected) as caught:
            sessions.check(identity)
        assert caught.value.code == "user_expired"
        assert sessions.is_out(ann.user.id)
        assert not sessions.is_genuine(ann.refresh_token)
    with pytest.raises(Rejected) as caught:
        await world.sessions.refresh(ann.refresh_token)
    assert caught.value.code == "user_expired"


async def test_their_name_is_free_and_their_receipt_is_not(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe, "r-1")
    await erasure.user(ann.user.id, cafe.id)
    with pytest.raises(Rejected) as caught:
        await world.receipt(cafe, "r-1")
    assert caught.value.code == "conflict"


async def test_somebody_elsewhere_or_nobody_is_not_found(world: World, erasure: Erasure) -> None:
    here, away = await world.cafe(), await world.cafe()
    ann = await world.join(away)
    for user_id in (ann.user.id, world.ids.uuid7()):
        with pytest.raises(Rejected) as caught:
            await erasure.user(user_id, here.id)
        assert caught.value.code == "not_found"
    assert (await world.users.show(ann.user.id)).ended_ms is None


async def test_erasing_again_what_is_erased_finds_nobody(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    await erasure.user(ann.user.id, cafe.id)
    with pytest.raises(Rejected):
        await erasure.user(ann.user.id, cafe.id)


async def test_keys_that_redis_could_not_remove_are_owed(world: World, erasure: Erasure, redis: Redis, flaky: Flaky) -> None:
    cafe = await world.cafe()
    ann = await lived(world, cafe, redis, "r-ann", 1)
    flaky.away = True
    receipt = await erasure.user(ann.user.id, cafe.id)
    assert (receipt.keys, receipt.tables["customer"]) == (None, 1)
    await erasure.pay()
    flaky.away = False
    assert await in_redis(redis, ann.user.id)
    await erasure.pay()
    assert [key for key in await in_redis(redis, ann.user.id) if not key.startswith("cafe:")] == []


async def test_a_patron_is_erased_by_the_key_and_the_customer_stays(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    for key in ("wrong", ann.patron_key + "x"):
        with pytest.raises(Rejected) as caught:
            await erasure.patron(cafe.id, key)
        assert caught.value.code == "not_found"
    patron_id = await world.pg.fetchval("patron_by_key", cafe.id, patron_hash(cafe.id, ann.patron_key))
    await tipped(world, cafe, ann)
    receipt = await erasure.patron(cafe.id, ann.patron_key)
    assert receipt.tables == {"customer": 1, "moderation_actions": 0, "tip": 5, "visit": 1, "badge": 1, "patron": 1}
    assert await in_postgres(world.pg, patron_id) == {}
    assert (await world.users.show(ann.user.id)).is_live(world.clock.now_ms())
    assert (await world.join(cafe, "r-2", ann.patron_key)).patron_key != ann.patron_key


async def test_users_whose_time_is_over_go_and_the_others_stay(world: World, erasure: Erasure, redis: Redis, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    early = await lived(world, cafe, redis, "r-early", 1)
    mock_clock.jump(3600)
    sent_home = await lived(world, cafe, redis, "r-home", 4)
    await world.users.expire(sent_home.user.id)
    mock_clock.jump(82_801)
    live = await lived(world, cafe, redis, "r-live", 7)
    mock_clock.jump(1)
    done = await Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0).run()
    assert (done["users"], done["message"], done["moderation_actions"]) == (2, 6, 2)
    assert await in_postgres(world.pg, early.user.id, early.user.username, sent_home.user.id, sent_home.user.username) == {}
    assert await in_redis(redis, early.user.id, sent_home.user.id) == []
    assert set(await in_postgres(world.pg, live.user.id)) == {"customer", "session", "receipt", "limit_use", "message", "moderation_actions"}
    assert {code for _, code, _ in world.rooms.away} == {4001}
    assert not (await Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0).run())


async def test_the_log_names_who_is_banned_for_as_long_as_they_are(world: World, erasure: Erasure, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    by = await world.moderator(cafe)
    people = [await world.join(cafe, f"r-{n}") for n in range(4)]
    banned, freed, muted, kicked = (joined.user for joined in people)
    await world.moderation.ban(by, banned.id, duration_s=3 * 86_400)
    await world.moderation.ban(by, freed.id, duration_s=3 * 86_400)
    await world.moderation.unban(by, freed.id)
    await world.moderation.mute(by, muted.id, duration_s=2 * 86_400)
    await world.moderation.kick(by, kicked.id)
    expiry = Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0)

    async def named() -> set[str]:
        return {action.username for action in (await world.moderation.log(cafe.id)).actions}

    mock_clock.jump(86_401)
    await expiry.run()
    assert await named() == {"guest", banned.username, muted.username}
    mock_clock.jump(86_400)
    await expiry.run()
    assert await named() == {"guest", banned.username}
    with pytest.raises(Rejected) as caught:
        await world.join(cafe, "r-again", people[0].patron_key)
    assert caught.value.code == "banned"
    mock_clock.jump(86_400)
    await expiry.run()
    assert await named() == {"guest"}
    assert await in_postgres(world.pg, banned.id, muted.id) == {}


async def test_the_log_forgets_a_guest_whatever_their_name(world: World, erasure: Erasure, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    ann = (await world.join(cafe)).user
    await world.pg.transaction(lambda tx: tx.script(f"UPDATE customer SET username = 'guest' WHERE id = '{ann.id}'"))
    await world.moderation.kick(await world.moderator(cafe), ann.id)
    mock_clock.jump(86_401)
    expiry = Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0)
    assert (await expiry.run())["moderation_actions"] == 1
    assert await in_postgres(world.pg, ann.id) == {}
    assert not await expiry.run()  # and once is enough


async def test_who_is_erased_at_their_own_wish_is_banned_still_by_the_patron_key(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    by = await world.moderator(cafe)
    ann = await world.join(cafe)
    await world.moderation.ban(by, ann.user.id)
    await erasure.user(ann.user.id, cafe.id)
    assert await in_postgres(world.pg, ann.user.id, ann.user.username) == {}
    with pytest.raises(Rejected) as caught:
        await world.join(cafe, "r-2", ann.patron_key)
    assert caught.value.code == "banned"
    (action,) = (await world.moderation.log(cafe.id)).actions
    await world.moderation.unban(by, action.user_id)
    await world.join(cafe, "r-3", ann.patron_key)


async def test_many_expire_in_batches_none_of_which_is_large(world: World, erasure: Erasure, flaky: Flaky, mock_clock: MockClock) -> None:
    """No statement touches more rows than the bound, however much there is of anybody."""
    cafe = await world.cafe()
    users = await world.users.add_many(cafe.id, 1300)
    await said(world.pg, cafe, users[0].id, users[0].username, 1, 1800, world.clock.now_ms())
    mock_clock.jump(86_401)
    counted: list[int] = []
    real = world.pg.count

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.pg, name)

        async def count(self, name: str, *args: Any, timeout_s: float = 5.0) -> int:
            counted.append(await real(name, *args, timeout_s=timeout_s))
            return counted[-1]

    erasure._pg = Counting()  # type: ignore[assignment]
    done = await Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0).run()
    assert (done["users"], done["message"], done["session"]) == (1300, 1800, 1300)
    assert max(counted) == 500
    assert flaky.keys_max <= 501  # a set and its members
    assert await in_postgres(world.pg, users[0].id, users[-1].username) == {}


async def test_unused_receipts_and_patrons_who_stay_away_go_too(world: World, erasure: Erasure, mock_clock: MockClock) -> None:
    cafe = await world.cafe()
    printed = await world.receipt(cafe, "r-unused")
    ann = await world.join(cafe)
    expiry = Expiry(pg=world.pg, clock=world.clock, erasure=erasure, rest_s=0)
    mock_clock.jump(3600)
    await expiry.run()
    with pytest.raises(Rejected) as caught:
        await world.join_with(cafe, printed)
    assert caught.value.code == "token_expired"
    mock_clock.jump(86_400)
    await expiry.run()
    assert await in_postgres(world.pg, printed.username) == {}
    mock_clock.jump(90 * 86_400)
    assert (await expiry.run())["patrons"] == 1
    assert (await world.join(cafe, "r-2", ann.patron_key)).patron_key != ann.patron_key


async def test_an_open_room_is_asked_until_nothing_of_theirs_is_on_its_way(world: World, erasure: Erasure) -> None:
    cafe = await world.cafe()
    ann = await world.join(cafe)
    asked: list[c.Command] = []

    class Answer:
        def __init__(self, out: int) -> None:
            self.out = out

    class Open:
        async def ask(self, command: c.Command, timeout_s: float = 5.0) -> Answer:
            asked.append(command)
            assert await world.pg.fetchrow("customer_by_id", ann.user.id) is not None
            return Answer(max(0, 3 - len(asked)))

    world.rooms.is_open = lambda cafe_id: True  # type: ignore[method-assign]
    world.rooms.ref = lambda cafe_id: Open()  # type: ignore[method-assign, assignment, return-value]
    await erasure.user(ann.user.id, cafe.id)
    assert len(asked) == 3
    ((cafe_id, told),) = world.rooms.orders
    assert (cafe_id, told) == (cafe.id, asked[0])
