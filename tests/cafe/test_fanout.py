"""Fan-out: every socket hears what was decided, in the order in which it was decided, encoded once and in one push."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.cafe import events as e
from brewd.cafe.effects import Attach, Broadcast, Detach, Effect, Refuse, Reply, TellUser, Wake
from brewd.cafe.fanout import SAID_MAX_BYTES, FanOut
from brewd.errors import Rejected
from brewd.runtime.mailbox import Slot
from tests.cafe.rooms import ANN, BOB, CAFE, message
from tests.cafe.sockets import Socket, Spelling

SPELLING = Spelling()


def said(seq: int) -> e.MessageNew:
    return e.MessageNew(message(seq))


def types(name: str) -> e.TypingIndicator:
    return e.TypingIndicator(CAFE, f"user-{name}", name, is_typing=True)


@dataclass
class Sockets:
    """A fan-out with sockets at the addresses 1…n, those in `inside` in the room already."""

    count: int
    inside: tuple[int, ...] = ()
    dialect: Spelling = field(default_factory=Spelling)

    def __post_init__(self) -> None:
        self.fanout = FanOut()
        self.at = {to: Socket(self.dialect) for to in range(1, self.count + 1)}
        for to, socket in self.at.items():
            self.fanout.add(to, socket, ANN if to % 2 else BOB)
        self.turn(*(Attach(to) for to in self.inside))

    def turn(self, *effects: Effect, seq: int = 0) -> None:
        self.fanout.perform(effects)
        self.fanout.flush(seq)

    def brief(self) -> dict[int, list[str]]:
        return {to: brief for to, socket in self.at.items() if (brief := socket.brief())}


def test_members_hear_a_broadcast_and_nobody_else_does() -> None:
    sockets = Sockets(3, inside=(1, 2))
    sockets.turn(Broadcast(said(1)))
    assert sockets.brief() == {1: ["message:new 1"], 2: ["message:new 1"]}
    assert sorted(sockets.fanout.heard_by()) == [1, 2]


def test_a_turn_is_one_push_a_socket_and_one_encoding_an_event() -> None:
    sockets = Sockets(4, inside=(1, 2, 3))
    sockets.turn(Broadcast(said(1)), Reply(2, "r", {}), Broadcast(said(2)), Attach(4), Broadcast(said(3)), Detach(3))
    assert {to: len(socket.pushes) for to, socket in sockets.at.items()} == {1: 1, 2: 1, 3: 1, 4: 1}
    assert sockets.dialect.encoded == {"message:new": 3}


def test_what_is_for_one_user_is_heard_on_all_their_sockets_in_the_room_or_not_and_nowhere_else() -> None:
    sockets = Sockets(4, inside=(1, 2))  # 1 and 3 are Ann's
    sockets.turn(Broadcast(said(1)), TellUser(ANN.user_id, types("bob")), TellUser("nobody", types("eve")), Broadcast(said(2)))
    assert sockets.brief() == {
        1: ["message:new 1", "typing:indicator bob on", "message:new 2"],
        2: ["message:new 1", "message:new 2"],
        3: ["typing:indicator bob on"],
    }
    assert sockets.fanout.reaches(ANN.user_id)
    for to in (1, 3):
        sockets.fanout.forget(to)
    assert not sockets.fanout.reaches(ANN.user_id)


def test_what_is_for_one_user_and_droppable_does_not_queue_up_for_a_slow_socket() -> None:
    sockets = Sockets(1)
    sockets.at[1].slow = True
    sockets.turn(TellUser(ANN.user_id, types("bob")), TellUser(ANN.user_id, said(1)))
    assert sockets.brief() == {1: ["message:new 1"]}


def test_each_dialect_spells_an_event_once() -> None:
    sockets = Sockets(2, inside=(1, 2))
    other = Spelling()
    for to in (3, 4):
        sockets.at[to] = Socket(other)
        sockets.fanout.add(to, sockets.at[to], ANN)
    sockets.turn(Attach(3), Attach(4))
    sockets.turn(Broadcast(said(1)), Broadcast(said(2)))
    assert sockets.dialect.encoded == other.encoded == {"message:new": 2}
    assert sockets.brief() == {to: ["message:new 1", "message:new 2"] for to in (1, 2, 3, 4)}


def test_an_event_is_spelt_once_even_when_everyone_leaves_in_that_turn() -> None:
    sockets = Sockets(3, inside=(1, 2, 3))
    sockets.turn(Broadcast(said(1)), Detach(1), Detach(2), Detach(3))
    assert sockets.dialect.encoded == {"message:new": 1}
    assert sockets.brief() == {to: ["message:new 1"] for to in (1, 2, 3)}


def test_a_reply_stands_where_it_was_decided() -> None:
    sockets = Sockets(2, inside=(1, 2))
    sockets.turn(Broadcast(said(1)), Reply(1, "a", {}), Broadcast(said(2)), Refuse(1, "b", "muted", "No."), Broadcast(said(3)))
    assert sockets.brief() == {
        1: ["message:new 1", "reply a", "message:new 2", "error b muted", "message:new 3"],
        2: ["message:new 1", "message:new 2", "message:new 3"],
    }


def test_one_who_enters_hears_what_follows_and_nothing_before() -> None:
    sockets = Sockets(2, inside=(1,))
    sockets.turn(Broadcast(said(1)), Attach(2), Reply(2, "in", {}), Broadcast(said(2)))
    assert sockets.brief() == {1: ["message:new 1", "message:new 2"], 2: ["reply in", "message:new 2"]}
    sockets.turn(Broadcast(said(3)))
    assert sockets.brief() == {to: ["message:new 3"] for to in (1, 2)}


def test_one_who_leaves_hears_what_came_before_and_nothing_after() -> None:
    sockets = Sockets(2, inside=(1, 2))
    sockets.turn(Broadcast(said(1)), Detach(2), Broadcast(said(2)), Reply(2, "out", {}))
    assert sockets.brief() == {1: ["message:new 1", "message:new 2"], 2: ["message:new 1", "reply out"]}
    sockets.turn(Broadcast(said(3)))
    assert sockets.brief() == {1: ["message:new 3"]}


def test_leaving_and_entering_again_in_one_turn_misses_what_was_between() -> None:
    sockets = Sockets(1, inside=(1,))
    sockets.turn(Broadcast(said(1)), Detach(1), Broadcast(said(2)), Attach(1), Broadcast(said(3)))
    assert sockets.brief() == {1: ["message:new 1", "message:new 3"]}


def test_an_event_skips_those_it_is_not_for_and_only_them() -> None:
    sockets = Sockets(3, inside=(1, 2))
    sockets.turn(Broadcast(said(1)), Broadcast(types("ann"), frozenset({1, 3})), Broadcast(types("bob"), frozenset({1})), Broadcast(said(2)))
    assert sockets.brief() == {
        1: ["message:new 1", "message:new 2"],
        2: ["message:new 1", "typing:indicator ann on", "typing:indicator bob on", "message:new 2"],
    }


def test_a_request_without_a_ref_has_no_reply_but_is_told_when_it_is_refused() -> None:
    sockets = Sockets(1)
    sockets.turn(Reply(1, None, {}))
    assert sockets.brief() == {}
    sockets.turn(Refuse(1, None, "muted", "No.", {"until": "later"}))
    assert sockets.at[1].told == [{"event": "error", "ref": None, "data": {"code": "muted", "detail": "No.", "until": "later"}}]


def test_slow_sockets_get_messages_and_are_noted_for_the_rest() -> None:
    sockets = Sockets(4, inside=(1, 2, 3, 4))
    sockets.at[2].slow = sockets.at[3].slow = True
    sockets.turn(Broadcast(types("ann")), Broadcast(said(7)), Reply(3, "r", {}), seq=7)
    whole = ["typing:indicator ann on", "message:new 7"]
    assert sockets.brief() == {1: whole, 2: ["message:new 7"], 3: ["message:new 7", "reply r"], 4: whole}
    assert {to: socket.withheld for to, socket in sockets.at.items()} == {1: [], 2: [7], 3: [7], 4: []}


def test_a_slow_socket_is_not_bothered_when_nothing_is_left_for_it() -> None:
    sockets = Sockets(2, inside=(1, 2))
    sockets.at[1].slow = sockets.at[2].slow = True
    sockets.turn(Broadcast(types("ann"), frozenset({1})), Broadcast(types("bob")), seq=3)
    assert [socket.pushes for socket in sockets.at.values()] == [[], []]
    assert [socket.withheld for socket in sockets.at.values()] == [[3], [3]]


def test_a_deletion_is_never_withheld() -> None:
    sockets = Sockets(1, inside=(1,))
    sockets.at[1].slow = True
    sockets.turn(Broadcast(e.MessageDeleted("m1", CAFE, 1)))
    assert sockets.brief() == {1: ["message:deleted"]}
    assert sockets.at[1].withheld == []


def test_one_that_is_gone_is_forgotten_whatever_is_still_said_to_it() -> None:
    sockets = Sockets(2, inside=(1, 2))
    sockets.fanout.perform([Broadcast(said(1)), Reply(2, "r", {})])
    sockets.fanout.forget(2)
    sockets.fanout.forget(2)
    sockets.turn(Attach(2), Detach(2), Reply(2, "r", {}), Refuse(2, "r", "muted", ""), Broadcast(said(2), frozenset({2})), Wake())
    assert sockets.brief() == {1: ["message:new 1", "message:new 2"]}
    assert (sockets.fanout.heard_by(), list(sockets.fanout.people)) == ([1], [1])


def test_it_remembers_the_last_message_it_told() -> None:
    sockets = Sockets(1)
    assert sockets.fanout.told_seq is None
    sockets.turn(Broadcast(said(7)), Broadcast(types("ann")))
    assert sockets.fanout.told_seq == 7


def test_one_who_asks_for_too_much_at_once_is_sent_away() -> None:
    sockets = Sockets(2, inside=(1, 2))
    large = {"all": "x" * (SAID_MAX_BYTES // 3)}
    sockets.turn(*(Reply(1, f"r{n}", large) for n in range(10)), Broadcast(said(1)))
    assert sockets.at[1].closed == (4008, "too much asked at once: reconnect and join with since")
    assert sum(len(frames) for frames in sockets.at[1].pushes) < 2 * SAID_MAX_BYTES
    assert (sockets.at[2].closed, sockets.at[2].brief()) == (None, ["message:new 1"])
    sockets.turn(Reply(2, "r", large))
    assert sockets.at[2].brief() == ["reply r"]


async def test_questions_from_elsewhere_are_answered_once_and_at_once() -> None:
    fanout = FanOut()
    one, two = Slot[str](), Slot[str]()
    fanout.asks = {-1: one, -2: two}
    fanout.perform([Reply(-1, None, "yes"), Reply(-1, None, "twice"), Refuse(-2, None, "muted", "No."), Refuse(-2, None, "banned", "No.")])
    assert await one.get(1) == "yes"
    with pytest.raises(Rejected, match=r"No\.") as refused:
        await two.get(1)
    assert refused.value.code == "muted"
    assert fanout.asks == {}


def naive(count: int, effects: list[Effect]) -> dict[int, list[bytes]]:
    """What every socket should hear, said one effect at a time."""
    inside: set[int] = set()
    heard: dict[int, list[bytes]] = {to: [] for to in range(1, count + 1)}
    for effect in effects:
        match effect:
            case Attach(to=to):
                inside.add(to)
            case Detach(to=to):
                inside.discard(to)
            case Reply(to=to, ref=ref, data=data):
                heard[to].append(SPELLING.reply(ref, data))
            case Broadcast(event=event, skip=skip):
                for to in inside - skip:
                    heard[to].append(SPELLING.event(event))
            case _:
                raise AssertionError(effect)
    return heard


addresses = st.integers(1, 4)
effects = st.one_of(
    st.builds(Attach, addresses),
    st.builds(Detach, addresses),
    st.builds(Reply, addresses, st.text("rst", min_size=1, max_size=2), st.just({})),
    st.builds(Broadcast, st.builds(said, st.integers(1, 9)), st.frozensets(addresses, max_size=2)),
)


@given(turns=st.lists(st.lists(effects, max_size=12), max_size=6))
def test_whatever_a_turn_decides_everyone_hears_it_as_if_it_were_said_one_by_one(turns: list[list[Effect]]) -> None:
    sockets = Sockets(4)
    for turn in turns:
        sockets.turn(*turn)
    expected = naive(4, [effect for turn in turns for effect in turn])
    assert {to: b"".join(socket.pushes) for to, socket in sockets.at.items()} == {to: b"".join(heard) for to, heard in expected.items()}
