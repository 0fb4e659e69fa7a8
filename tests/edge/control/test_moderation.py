"""The operator's methods over a real Postgres: who is meant, in whose name it is done, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from brewd.cafe import commands as c
from brewd.cafe.ref import CafeRef
from brewd.edge.control.limits import limits_methods
from brewd.edge.control.moderation import moderation_methods
from brewd.edge.control.people import user_methods
from brewd.edge.control.server import Method
from brewd.errors import Rejected
from brewd.people.allowances import Allowances
from brewd.people.moderation import Moderation
from brewd.people.records import Cafe
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from tests.people.world import World, make_world

NOBODY = "01a20581-0000-7000-8000-000000000000"


class Rooms:
    """Where orders go when no café is open; what was ordered is kept."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, c.Command]] = []

    def order(self, cafe_id: str, command: c.Command) -> None:
        self.orders.append((cafe_id, command))

    def ref(self, cafe_id: str) -> CafeRef:
        raise Rejected("cafe_unavailable", "no room is open here")


class Desk:
    """The methods, called as the socket calls them."""

    def __init__(self, world: World) -> None:
        self.rooms = Rooms()
        self.closed: list[tuple[str, int]] = []
        self.sockets = 1
        moderation = Moderation(
            pg=world.pg,
            clock=world.clock,
            ids=world.ids,
            sessions=world.sessions,
            rooms=self.rooms,
            send_away=self._send_away,
        )
        allowances = Allowances(pg=world.pg, clock=world.clock, ids=world.ids, cafes=world.cafes, rooms=self.rooms)
        self.methods: dict[str, Method] = {
            **user_methods(users=world.users, cafes=world.cafes, moderation=moderation),
            **moderation_methods(moderation=moderation, cafes=world.cafes),
            **limits_methods(allowances=allowances, moderation=moderation, cafes=world.cafes),
        }

    def _send_away(self, user_id: str, code: int, reason: str) -> int:
        self.closed.append((user_id, code))
        return self.sockets

    async def call(self, name: str, /, **params: Any) -> Any:
        entry = self.methods[name]
        answer = await entry.run(msgspec.convert(params, entry.params))
        return msgspec.json.decode(msgspec.json.encode(answer))


@pytest.fixture
async def world(pg: Postgres, clock: Clock, ids: Ids) -> World:
    return make_world(pg, clock, ids)


@pytest.fixture
async def desk(world: World) -> Desk:
    return Desk(world)


async def guest(world: World, cafe: Cafe) -> tuple[str, str]:
    (user,) = await world.users.add_many(cafe.id, 1)
    return user.id, user.username


async def test_a_user_is_meant_by_id_or_by_name_and_the_operator_is_in_the_log(world: World, desk: Desk) -> None:
    cafe = await world.cafe()
    user_id, name = await guest(world, cafe)
    muted = (await desk.call("user.mute", cafeId=cafe.id, user=name.upper(), reason="loud", durationS=90))["action"]
    assert (muted["action"], muted["userId"], muted["username"], muted["staffName"], muted["staffId"]) == ("mute", user_id, name, "operator", None)
    assert (await desk.call("user.unmute", cafeId=cafe.id, user=user_id))["action"]["until"] is None
    assert [type(command) for _, command in desk.rooms.orders] == [c.Mute, c.Unmute]
    page = await desk.call("moderation.log", cafeId=cafe.id, user=name)
    assert [(one["action"], one["reason"]) for one in page["actions"]] == [("unmute", ""), ("mute", "loud")]
    first = await desk.call("moderation.log", cafeId=cafe.id, limit=1)
    assert (len(first["actions"]), first["hasMore"]) == (1, True)
    rest = await desk.call("moderation.log", cafeId=cafe.id, before=first["actions"][0]["id"])
    assert [one["action"] for one in rest["actions"]] == ["mute"]


async def test_kick_and_ban_close_the_sockets(world: World, desk: Desk) -> None:
    cafe = await world.cafe()
    user_id, name = await guest(world, cafe)
    await desk.call("user.kick", cafeId=cafe.id, user=name)
    assert (await desk.call("user.ban", cafeId=cafe.id, user=name))["action"]["until"] is not None
    await desk.call("user.unban", cafeId=cafe.id, user=name)
    assert desk.closed == [(user_id, 4003), (user_id, 4004)]


async def test_of_several_with_one_name_the_live_one_is_meant_and_one_who_is_gone_is_found(world: World, desk: Desk) -> None:
    cafe = await world.cafe()
    user_id, name = await guest(world, cafe)
    await world.users.expire(user_id)
    assert (await desk.call("user.mute", cafeId=cafe.id, user=name))["action"]["userId"] == user_id
    again, now_ms = world.ids.uuid7(), world.clock.now_ms()
    await world.pg.execute("customer_add_many", cafe.id, [again], [name], as_datetime(now_ms - 1000), as_datetime(now_ms + 1000))
    assert (await desk.call("user.mute", cafeId=cafe.id, user=name))["action"]["userId"] == again


async def test_limits_change_and_come_back(world: World, desk: Desk) -> None:
    cafe = await world.cafe()
    user_id, name = await guest(world, cafe)
    answer = await desk.call("limits.set", cafeId=cafe.id, values={"message.per_hour": 40, "message.gap_s": 10})
    assert answer["changed"] == [{"name": "message.per_hour", "old": 30, "new": 40}, {"name": "message.gap_s", "old": 30, "new": 10}]
    assert type(desk.rooms.orders[-1][1]) is c.SetTerms
    shown = await desk.call("limits.show", cafeId=cafe.id)
    assert (shown["own"], shown["limits"]["message"]) == ({"message": {"per_hour": 40, "gap_s": 10}}, {"per_hour": 40, "burst": 30, "gap_s": 10})
    assert (await desk.call("limits.set", cafeId=cafe.id, values={"message.gap_s": None}))["changed"] == [{"name": "message.gap_s", "old": 10, "new": 30}]
    assert (await desk.call("limits.set", cafeId=cafe.id, profile="lively"))["changed"]
    assert await desk.call("limits.reset", cafeId=cafe.id, user=name, action="poke") == {"userId": user_id, "action": "poke"}
    assert desk.rooms.orders[-1] == (cafe.id, c.ResetLimits(user_id, "poke"))


async def test_a_trial_is_of_the_limits_that_set_would_leave(world: World, desk: Desk) -> None:
    """Also where the café's own values are taken away and another profile is chosen."""
    cafe = await world.cafe()
    user_id, name = await guest(world, cafe)
    await desk.call("limits.set", cafeId=cafe.id, values={"message.gap_s": 0})
    await say(world, cafe, user_id, name, 3)
    refused = []
    for params in ({}, {"values": {"message.gap_s": None}}, {"values": {"message.gap_s": None}, "profile": "lively"}, {"values": {"message.burst": 1}}):
        trial = await desk.call("limits.try", cafeId=cafe.id, **params)
        assert trial["sends"] == 3
        refused.append(trial["refused"])
    assert refused == [0, 2, 0, 2]
    assert (await desk.call("limits.show", cafeId=cafe.id))["own"] == {"message": {"gap_s": 0}}
    assert trial["senders"] == [{"userId": user_id, "username": name, "sends": 3, "refused": 2}]


async def say(world: World, cafe: Cafe, user_id: str, name: str, count: int) -> None:
    """Messages of the last seconds, two seconds apart, as the journal stores them."""
    line, start_ms = await world.pg.fetchrow("line_open", cafe.id), world.clock.now_ms() - 2000 * count
    assert line is not None
    messages = [(cafe.id, seq, world.ids.uuid7(), user_id, name, None, f"cup {seq}", None, as_datetime(start_ms + 2000 * seq)) for seq in range(1, count + 1)]
    await world.pg.fetch("line_commit", [cafe.id], [line["generation"]], [1], [count], *map(list, zip(*messages, strict=True)))


@pytest.mark.parametrize(
    ("name", "params", "code", "words"),
    [
        ("user.mute", {"user": "Nobody"}, "not_found", "no user named 'Nobody'"),
        ("user.mute", {"user": NOBODY}, "not_found", "no such user in this café"),
        ("user.kick", {"user": ""}, "not_found", "no user named ''"),
        ("user.mute", {"durationS": -5}, "invalid_request", "durationS: must be between"),
        ("user.mute", {"durationS": 1e12}, "invalid_request", "durationS: must be between"),
        ("user.ban", {"durationS": 0}, "invalid_request", "durationS: must be between"),
        ("user.kick", {"reason": "x" * 201}, "invalid_request", "reason: must have"),
        ("limits.reset", {"user": "Nobody"}, "not_found", "no user named"),
        ("limits.reset", {"action": "shout"}, "invalid_request", "there are message, poke, agent"),
        ("limits.set", {"values": {"mesage.per_hour": 4}}, "invalid_request", "did you mean message.per_hour?"),
        ("limits.set", {"values": {"message.per_hours": 4}}, "invalid_request", "did you mean message.per_hour?"),
        ("limits.set", {"values": {"per_session": 4}}, "invalid_request", "did you mean agent.per_session?"),
        ("limits.set", {"values": {"x.y": 4}}, "invalid_request", "there are message.per_hour, "),
        ("limits.set", {"values": {"message.gap_s": -1}}, "invalid_request", "limits.message.gap_s: "),
        ("limits.try", {"values": {"message.per_hour": 0}}, "invalid_request", "limits.message.per_hour: "),
        ("limits.try", {"profile": "wild"}, "invalid_request", "there is no profile 'wild'"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_and_does_nothing(world: World, desk: Desk, name: str, params: dict[str, Any], code: str, words: str) -> None:
    cafe = await world.cafe()
    _, username = await guest(world, cafe)
    takes = desk.methods[name].params.__struct_fields__
    with pytest.raises(Rejected, match=code) as caught:
        await desk.call(name, cafeId=cafe.id, **{**({"user": username} if "user" in takes else {}), **params})
    assert caught.value.code == code
    assert words in caught.value.detail
    assert (desk.rooms.orders, desk.closed) == ([], [])


async def test_a_user_of_another_cafe_is_nobody_here(world: World, desk: Desk) -> None:
    here, elsewhere = await world.cafe(), await world.cafe(name="Elsewhere")
    user_id, name = await guest(world, elsewhere)
    for user in (user_id, name):
        with pytest.raises(Rejected, match="not_found"):
            await desk.call("user.ban", cafeId=here.id, user=user)
    with pytest.raises(Rejected, match="There is no such café"):
        await desk.call("user.ban", cafeId=NOBODY, user=user_id)


async def test_a_user_is_shown_by_id_or_name_with_what_holds_for_them(desk: Desk, world: World) -> None:
    cafe, other = await world.cafe(), await world.cafe(name="Other")
    user_id, name = await guest(world, cafe)
    shown = (await desk.call("user.show", userId=user_id))["user"]
    assert (shown["username"], shown["mute"], shown["ban"]) == (name, None, None)
    muted = (await desk.call("user.mute", cafeId=cafe.id, user=name, reason="loud"))["action"]
    await desk.call("user.ban", cafeId=cafe.id, user=name)
    shown = (await desk.call("user.show", cafeId=cafe.id, user=name.lower()))["user"]
    assert shown["mute"] == {"until": muted["until"], "reason": "loud"}
    assert shown["ban"]["reason"] == ""
    for wrong, code in (({}, "invalid_request"), ({"user": name}, "invalid_request"), ({"cafeId": other.id, "user": user_id}, "not_found")):
        with pytest.raises(Rejected) as caught:
            await desk.call("user.show", **wrong)
        assert caught.value.code == code


async def test_whether_an_order_changed_anything_is_told(desk: Desk, world: World) -> None:
    cafe = await world.cafe()
    user_id, _ = await guest(world, cafe)
    desk.sockets = 0
    for verb, changed in (("mute", True), ("unmute", True), ("unmute", False), ("ban", True), ("unban", True), ("unban", False), ("kick", False)):
        assert (await desk.call(f"user.{verb}", cafeId=cafe.id, user=user_id))["changed"] is changed, verb


@pytest.mark.parametrize("verb", ["kick", "unmute", "unban"])
async def test_an_order_without_an_end_takes_no_duration(desk: Desk, world: World, verb: str) -> None:
    cafe = await world.cafe()
    user_id, _ = await guest(world, cafe)
    with pytest.raises(msgspec.ValidationError, match="durationS"):
        await desk.call(f"user.{verb}", cafeId=cafe.id, user=user_id, durationS=60)
