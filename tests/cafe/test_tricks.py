"""What people try who know the rules: texts that look like others, floods of what costs no token, and the order of a story."""

from __future__ import annotations

import pytest
import trio.testing

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe import looks
from brewd.cafe.effects import Record, Refuse, Reply
from brewd.cafe.folding import skeleton, words
from brewd.cafe.ledger import Ledger
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.room import Room
from brewd.cafe.signs import RATE, Signs
from brewd.cafe.standing import Standing
from brewd.config import Profile
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from tests.cafe.rooms import ANN, CAFE, CID, JOINS, MOD, NOW_MS, answer, commit, message, play, refusal, room, told, typing, updates

INVISIBLE = ["\u17b4", "\U0001d173", "\U0001bca0", "\ufff3", "\U0001d159", "\U000e0800", "\u200d", "\u202e", "\u00ad", "\u0338"]


@pytest.mark.parametrize("sign", INVISIBLE)
def test_what_is_not_seen_makes_no_other_text(sign: str) -> None:
    assert skeleton(f"cheap go{sign}ld") == skeleton("cheap gold")
    assert words(f"cheap go{sign}ld") == ["cheap", "gold"]


@pytest.mark.parametrize("text", ["go\x01ld", "go\x7fld é", "\x1fgold"])
def test_a_control_does_not_split_a_word(text: str) -> None:
    assert words(text)[0] == "gold"


@pytest.mark.parametrize(
    ("text", "many"),
    [
        ("a．com b．com c．com", True),
        ("a。com b｡com c․com", True),
        ("ａ．ｃｏｍ b.com c.com", True),
        ("http：//1.example http:／/2.example http://3.example", True),
        ("so…it is…me again…at last", False),
        ("so...it is...me again...at last", False),
        ("こんにちは。元気。はい。", False),
    ],
)
def test_a_link_is_one_however_its_dots_are_drawn(text: str, many: bool) -> None:
    assert looks.links(text, 2) == many


@pytest.mark.parametrize(("text", "stuck"), [("n" + "o\u200b" * 7, True), ("e\u0301" * 7, True), ("o\u200b" * 6, False), ("……", False)])
def test_a_key_is_stuck_also_between_what_is_not_seen(text: str, stuck: bool) -> None:
    assert looks.repeats(text, 7) == stuck


def test_capitals_in_squares_are_capitals() -> None:
    assert looks.shouts("🅱🆄🆈 🅼🆈 🅱🅴🅰🅽🆂 🅽🅾🆆", 50, 10)


def test_what_is_deleted_is_not_deleted_again_at_the_cost_of_the_store() -> None:
    cafe = room([message(1, id="m")])
    play(cafe, *JOINS, c.Delete(ANN, "m", 1, "r"))
    effects = commit(cafe, {"m": message(1, id="m", deleted=True)})
    assert told(effects, e.MessageDeleted)
    again = play(cafe, c.Delete(ANN, "m", 1, "again"))
    assert again == [Reply(1, "again", {})]
    assert answer(play(cafe, c.Delete(ANN, "m", -1)), -1).message.deleted
    assert refusal(play(cafe, c.Join(3, CID), c.Delete(CID, "m", 3)), 3) == "forbidden"
    assert not len(cafe.pending)


class _Noted:
    async def fetch(self, name: str, *args: object, timeout_s: float = 5.0) -> list[object]:
        raise NotImplementedError


async def test_what_is_decided_in_one_millisecond_is_kept_in_its_order(autojump_clock: trio.testing.MockClock) -> None:
    ledger = Ledger(pg=_Noted(), ids=Ids(Clock(NOW_MS)))
    for n in range(100):
        ledger.note(CAFE, Record("block" if n % 4 else "mute", "u", "u", NOW_MS))
    ids = [noted.id for noted in ledger._pending]
    assert ids == sorted(set(ids))


# Floods of what takes no token of a message


@pytest.fixture
def limited() -> Room:
    cafe = room(standing=Standing(terms=Terms(limits=limits_of(Profile()))))
    play(cafe, *JOINS)
    return cafe


def test_statuses_by_turns_are_told_as_often_as_there_are_signs(limited: Room) -> None:
    heard = 0
    for n in range(200):
        effects = play(limited, c.SetStatus(1, ("busy", "away")[n % 2], "r"))
        heard += len(updates(effects))
    assert heard == RATE.burst - 1, "coming in was the first"
    (refuse,) = effects
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.extras["retryAfterMs"]) == ("rate_limited", 1000)
    same = limited.presence.members[ANN.user_id].status
    assert play(limited, c.SetStatus(1, same, "r")) == [Reply(1, "r", {})], "what changes nothing is told to nobody"
    other = {"busy": "away", "away": "busy"}[same]
    assert refusal(play(limited, c.SetStatus(1, other, "r"), at_ms=NOW_MS + 999), 1) == "rate_limited"
    assert updates(play(limited, c.SetStatus(1, other, "r"), at_ms=NOW_MS + 1000)) == [("status", "ann", 2)]
    assert updates(play(limited, c.SetStatus(2, "busy", "r"))), "the others are not held to it"


def test_a_typing_flood_is_told_as_often_as_there_are_signs(limited: Room) -> None:
    heard = [indicator for n in range(400) for indicator in typing(play(limited, c.Typing(1, on=n % 2 == 0)))]
    assert heard == [("ann", True), ("ann", False)] * (RATE.burst - 1)
    assert not limited.typing


def test_who_comes_and_goes_all_the_time_is_let_in_as_often_as_there_are_signs(limited: Room) -> None:
    heard = [update for _ in range(200) for command in (c.Leave(1, "l"), c.Join(1, ANN, "j")) for update in updates(play(limited, command))]
    assert len(heard) == 2 * RATE.burst - 1
    assert refusal(play(limited, c.Join(1, ANN, "j")), 1) == "rate_limited"
    assert answer(play(limited, c.Join(3, MOD, "j")), 3).user_count == 1, "staff are not counted, nor held back"
    assert answer(play(limited, c.Join(1, ANN, "j"), at_ms=NOW_MS + 1000), 1).user_count == 2


def test_signs_of_those_who_are_long_gone_are_forgotten() -> None:
    signs = Signs()
    for n in range(5000):
        assert not signs.take(f"user-{n}", NOW_MS + n * 10)
    assert len(signs) <= 1200
