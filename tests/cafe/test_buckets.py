"""Limits in a room: nobody gets more than their bucket holds, whatever happens around it, and everybody is told exactly when to come back."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe.buckets import RARE_MAX, Buckets, LimitView
from brewd.cafe.effects import Refuse, Reply, Used
from brewd.cafe.limits import DAY_MS, Limits, Terms, limits_of
from brewd.cafe.room import Room, confirmed, depart, taken_back
from brewd.cafe.standing import Reset, Sent, Standing
from brewd.config import LIVELY, Bucket, PerDay, PerSession, Profile
from brewd.runtime.clock import from_rfc3339, rfc3339
from brewd.runtime.quota import Quota
from brewd.store.records import Batch, Message
from tests.cafe.rooms import ANN, BOB, NOW_MS, answer, commit, message, only, play, refusal, room, send

STANDARD = limits_of(Profile())
STAY = "11111111-0000-4000-8000-000000000000"
HOUR_MS = 3_600_000


def limited(limits: Limits = STANDARD, stored: list[Message] | None = None, **parts: Any) -> Room:
    """Ann and Bob, who has a badge, in a room with limits."""
    standing = Standing(Terms(limits), **parts)
    cafe = room(stored or (), standing=standing)
    play(cafe, c.Join(1, ANN), c.Join(2, BOB))
    return cafe


def view(cafe: Room, who: c.Who = ANN, action: str = "message", *, at_ms: int = NOW_MS) -> LimitView:
    found: LimitView = answer(play(cafe, c.LimitsQuery(who, STAY, -1), at_ms=at_ms), -1).limits[action]
    return found


# Messages


def test_a_message_takes_a_token_and_the_next_has_to_wait_for_the_gap() -> None:
    cafe = limited()
    assert view(cafe) == LimitView(30, 30, rfc3339(NOW_MS), 0, 30_000)
    play(cafe, send(1, ANN))
    assert view(cafe, at_ms=NOW_MS + 1) == LimitView(30, 29, rfc3339(NOW_MS + 120_000), 29_999, 30_000)
    (refuse,) = play(cafe, send(1, ANN, "more"), at_ms=NOW_MS + 29_999)
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.extras) == ("rate_limited", {"action": "message", "retryAfterMs": 1})
    assert refuse.detail == "The next message may go in 1 s."
    assert only(play(cafe, send(1, ANN, "more"), at_ms=NOW_MS + 30_000), Refuse) == []


def test_a_badge_is_worth_more() -> None:
    cafe = limited()
    play(cafe, send(2, BOB))
    assert view(cafe, BOB) == LimitView(60, 59, rfc3339(NOW_MS + 60_000), 15_000, 15_000)


def test_when_the_bucket_is_empty_they_come_back_one_by_one() -> None:
    cafe = limited(limits_of(LIVELY))
    at_ms = NOW_MS
    for _ in range(10):
        assert only(play(cafe, send(1, ANN), at_ms=at_ms), Refuse) == []
        at_ms += 1000
    # Ten at once, and one more every two seconds: five of them came back meanwhile.
    assert view(cafe, at_ms=at_ms).remaining == 5
    taken = 0
    for _ in range(60):
        taken += not only(play(cafe, send(1, ANN), at_ms=at_ms), Refuse)
        at_ms += 1000
    assert taken == 5 + 29


def test_what_is_refused_costs_nothing() -> None:
    cafe = limited()
    cafe.quota = Quota(0)
    assert refusal(play(cafe, send(1, ANN)), 1) == "storage_unavailable"
    assert refusal(play(cafe, send(1, ANN, "x" * 1001)), 1) == "invalid_request"
    assert view(cafe).remaining == 30
    cafe.quota = Quota(10)
    play(cafe, send(1, ANN))
    cafe.quota = Quota(0)
    assert refusal(play(cafe, send(1, ANN), at_ms=NOW_MS + 30_000), 1) == "storage_unavailable"
    assert view(cafe, at_ms=NOW_MS + 30_000).remaining == 29


def test_a_resend_is_answered_and_not_charged() -> None:
    cafe = limited()
    play(cafe, send(1, ANN, name="k"))
    assert only(play(cafe, send(1, ANN, name="k", ref="again")), Refuse) == []
    depart(cafe, 10)
    confirmed(cafe, 1, {}, NOW_MS)
    assert answer(play(cafe, send(1, ANN, name="k", ref="and again")), 1).duplicate
    assert view(cafe).remaining == 29


def test_a_message_that_turns_out_to_be_known_gives_its_token_back_and_no_other() -> None:
    cafe = limited(limits_of(LIVELY), [message(1), message(2)])
    play(cafe, send(1, ANN, name="old"))
    play(cafe, send(1, ANN, name="new"), at_ms=NOW_MS + 1000)
    depart(cafe, 10)
    taken_back(cafe, 1, {(ANN.user_id, "old"): message(2)})
    alone = limited(limits_of(LIVELY), [message(1), message(2)])
    play(alone, send(1, ANN, name="new"), at_ms=NOW_MS + 1000)
    assert view(cafe, at_ms=NOW_MS + 1000) == view(alone, at_ms=NOW_MS + 1000)


# Pokes and questions


def test_pokes_are_counted_by_the_day() -> None:
    cafe = limited()
    for n in range(5):
        used, reply = play(cafe, c.Take("poke", ANN, STAY, -1), at_ms=NOW_MS + n)
        assert (used, reply) == (Used("poke", ANN.user_id, STAY, NOW_MS + n), Reply(-1, None, {}))
    (refuse,) = play(cafe, c.Take("poke", ANN, "another session", -1), at_ms=NOW_MS + 10)
    assert isinstance(refuse, Refuse)
    assert refuse.extras == {"action": "poke", "retryAfterMs": DAY_MS - 10}
    assert view(cafe, ANN, "poke") == LimitView(5, 0, rfc3339(NOW_MS + 4 + DAY_MS), DAY_MS, 0)
    assert view(cafe, BOB, "poke").remaining == 10
    assert only(play(cafe, c.Take("poke", ANN, STAY, -1), at_ms=NOW_MS + DAY_MS), Refuse) == []


def test_questions_are_counted_by_the_session_with_a_gap_for_the_whole_cafe() -> None:
    cafe = limited()
    play(cafe, c.Take("agent", ANN, STAY, -1))
    assert view(cafe, ANN, "agent", at_ms=NOW_MS + 1) == LimitView(2, 1, None, 119_999, 120_000)
    (refuse,) = play(cafe, c.Take("agent", BOB, "his", -1), at_ms=NOW_MS + 59_999)
    assert isinstance(refuse, Refuse)
    assert refuse.extras == {"action": "agent", "retryAfterMs": 1}
    play(cafe, c.Take("agent", BOB, "his", -1), at_ms=NOW_MS + 60_000)
    play(cafe, c.Take("agent", ANN, STAY, -1), at_ms=NOW_MS + 180_000)
    (refuse,) = play(cafe, c.Take("agent", ANN, STAY, -1), at_ms=NOW_MS + DAY_MS)
    assert isinstance(refuse, Refuse)
    assert (refuse.detail, refuse.extras) == ("You have no question left for this stay.", {"action": "agent"})
    assert view(cafe, ANN, "agent", at_ms=NOW_MS + DAY_MS).retry_after_ms is None


def test_none_at_all_is_a_limit_too() -> None:
    cafe = limited(limits_of(Profile(poke=PerDay(per_day=0), agent=PerSession(per_session=0))))
    assert refusal(play(cafe, c.Take("poke", ANN, STAY, -1)), -1) == "rate_limited"
    assert refusal(play(cafe, c.Take("agent", ANN, STAY, -1)), -1) == "rate_limited"


def test_without_limits_nothing_is_counted() -> None:
    cafe = room(standing=Standing())
    play(cafe, c.Join(1, ANN))
    assert only([effect for _ in range(100) for effect in play(cafe, send(1, ANN))], Refuse) == []
    assert play(cafe, c.Take("poke", ANN, STAY, -1)) == [Reply(-1, None, {})]
    assert answer(play(cafe, c.LimitsQuery(ANN, STAY, -1)), -1).limits == {}
    assert play(cafe, c.ResetLimits(ANN.user_id, None, -1)) == [Reply(-1, None, {})]


def test_those_who_began_first_are_forgotten_first() -> None:
    buckets = Buckets(STANDARD)
    for n in range(RARE_MAX + 5):
        buckets.take_rare("poke", str(n), STAY, NOW_MS)
    assert len(buckets.rare) == RARE_MAX
    assert (buckets.wait_ms("poke", "4", STAY, None, NOW_MS), ("poke", "5") in buckets.rare) == (0, True)


# Changes


def test_other_limits_count_at_once_and_what_was_used_is_used() -> None:
    cafe = limited(limits_of(LIVELY))
    for n in range(9):
        play(cafe, send(1, ANN), at_ms=NOW_MS + 1000 * n)
    at_ms = NOW_MS + 8000
    assert view(cafe, at_ms=at_ms).remaining == 5
    strict = limits_of(replace(LIVELY, message=Bucket(per_hour=1800, burst=6, gap_s=1)))
    play(cafe, c.SetTerms(Terms(strict), -1), at_ms=at_ms)
    assert view(cafe, at_ms=at_ms).remaining == 1
    play(cafe, c.SetTerms(Terms(None), -1), at_ms=at_ms)
    assert only(play(cafe, send(1, ANN), at_ms=at_ms), Refuse) == []
    play(cafe, c.SetTerms(Terms(strict), -1), at_ms=at_ms)
    assert view(cafe, at_ms=at_ms).remaining == 6


@pytest.mark.parametrize(("action", "left"), [(None, (30, 5, 2)), ("message", (30, 4, 1)), ("poke", (29, 5, 1)), ("agent", (29, 4, 2))])
def test_a_reset_gives_everything_of_one_action_back(action: Any, left: tuple[int, int, int]) -> None:
    cafe = limited()
    play(cafe, send(1, ANN), c.Take("poke", ANN, STAY, -1), c.Take("agent", ANN, STAY, -1), send(2, BOB))
    play(cafe, c.ResetLimits(ANN.user_id, action, -1))
    assert tuple(view(cafe, ANN, one).remaining for one in ("message", "poke", "agent")) == left
    assert view(cafe, BOB).remaining == 59


def test_a_token_given_back_by_a_reset_is_not_given_back_again() -> None:
    cafe = limited(limits_of(replace(LIVELY, message=Bucket(per_hour=60, burst=10, gap_s=0))))
    play(cafe, send(1, ANN, "stored"))
    commit(cafe)
    play(cafe, send(1, ANN, "given up"), c.ResetLimits(ANN.user_id))
    play(cafe, send(1, ANN, "waits"), at_ms=NOW_MS + 1000)
    play(cafe, c.Tick(), at_ms=NOW_MS + 5000)
    assert view(cafe, at_ms=NOW_MS + 5000).remaining == 9


# Restarts


def test_a_restart_knows_what_was_sent_and_what_was_given_back() -> None:
    sent = (Sent(ANN.user_id, [NOW_MS - 60_000, NOW_MS - 30_000], [False, False]), Sent(BOB.user_id, [NOW_MS - 1], [True]))
    used = (Used("poke", ANN.user_id, STAY, NOW_MS - DAY_MS + 1), Used("agent", ANN.user_id, STAY, NOW_MS - 1000))
    cafe = limited(sent=sent, used=used, resets=(Reset(BOB.user_id, "message", NOW_MS), Reset(ANN.user_id, "poke", NOW_MS - DAY_MS)))
    # Two taken, and half an hour's thirtieth part back for each of the last two half minutes.
    assert view(cafe).remaining == 28
    assert view(cafe, BOB).remaining == 60
    assert view(cafe, ANN, "poke").remaining == 4
    assert view(cafe, ANN, "agent") == LimitView(2, 1, None, 119_000, 120_000)
    forgiven = limited(sent=sent, used=used, resets=(Reset(ANN.user_id, None, NOW_MS),))
    assert [view(forgiven, ANN, one).remaining for one in ("message", "poke", "agent")] == [30, 5, 2]


def test_a_restart_in_the_middle_of_a_long_talk_neither_refills_nor_eats() -> None:
    """A bucket that was never full again owes something to every message before, however long ago."""
    story = Story(limits_of(LIVELY))
    for n in range(100):
        story.now_ms += 1900 if n % 3 else 2100
        story.send(1, ANN)
        story.settle(stored=True)
    assert view(story.room, at_ms=story.now_ms).remaining < 10
    story.restart()


RATES = st.sampled_from(
    [
        STANDARD,
        limits_of(LIVELY),
        limits_of(Profile(message=Bucket(per_hour=7, burst=3, gap_s=0), badge_message=Bucket(per_hour=3600, burst=2, gap_s=0.5))),
        limits_of(Profile(message=Bucket(per_hour=36_000, burst=1, gap_s=0), badge_message=Bucket(per_hour=1, burst=5, gap_s=90))),
    ]
)
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "leave", "commit", "lose", "expire", "restart", "reset"]),
        st.sampled_from([(1, ANN), (2, BOB)]),
        st.sampled_from([0, 0, 1, 500, 1000, 1999, 15_000, 30_000, 120_000, 900_000]),
    ),
    max_size=60,
)


class Story:
    """A room, what Postgres has of it, and the clock."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now_ms = NOW_MS
        self.rows: list[Message] = []
        self.resets: list[Reset] = []
        self.open()

    def open(self) -> None:
        """From Postgres, and from nothing else: as when Redis was lost."""
        since_ms = self.now_ms - self.limits.memory_ms
        counted = [(m.user_id, at_ms, m.badge is not None) for m in self.rows if (at_ms := from_rfc3339(m.created_at)) > since_ms]
        sent = tuple(
            Sent(who.user_id, [at_ms for one, at_ms, _ in counted if one == who.user_id], [badged for one, _, badged in counted if one == who.user_id])
            for who in (ANN, BOB)
        )
        self.out: Batch | None = None
        self.room = room(self.rows, now_ms=self.now_ms, standing=Standing(Terms(self.limits), sent=sent, resets=tuple(self.resets)))
        play(self.room, c.Join(1, ANN), c.Join(2, BOB), at_ms=self.now_ms)

    def views(self) -> list[LimitView]:
        return [view(self.room, who, at_ms=self.now_ms) for who in (ANN, BOB)]

    def send(self, to: int, who: c.Who) -> None:
        waits_ms = view(self.room, who, at_ms=self.now_ms).retry_after_ms
        refusals = only(play(self.room, send(to, who), at_ms=self.now_ms), Refuse)
        if not refusals:
            assert waits_ms == 0
            return
        (refuse,) = refusals
        assert (refuse.code, refuse.extras["retryAfterMs"]) == ("rate_limited", waits_ms)
        assert waits_ms
        # One ms earlier it would be refused as well, and then it would not.
        assert view(self.room, who, at_ms=self.now_ms + waits_ms - 1).retry_after_ms == 1
        assert view(self.room, who, at_ms=self.now_ms + waits_ms).retry_after_ms == 0

    def leave(self) -> None:
        self.out = self.out or depart(self.room, 2)

    def settle(self, *, stored: bool) -> None:
        self.leave()
        batch, self.out = self.out, None
        if batch is None:
            return
        if stored:
            self.rows += [entry.message for entry in batch.entries]
            confirmed(self.room, 1, {}, self.now_ms)
        else:
            taken_back(self.room, 1, {})

    def restart(self) -> None:
        """Everything that waits is stored first; then nothing may have changed. What is lost with a crash is given back."""
        while len(self.room.pending):
            self.settle(stored=True)
        before = self.views()
        self.open()
        assert self.views() == before

    def check(self) -> None:
        """Among those that are stored and not forgiven, no more in any window than the bucket allows."""
        for who in (ANN, BOB):
            rate = self.limits.of(who.badge).message
            since_ms = max((reset.at_ms for reset in self.resets if reset.user_id == who.user_id), default=0)
            times_ms = [at_ms for m in self.rows if m.user_id == who.user_id and (at_ms := from_rfc3339(m.created_at)) > since_ms]
            for first, from_ms in enumerate(times_ms):
                for count, to_ms in enumerate(times_ms[first:], 1):
                    assert count <= rate.burst + (to_ms - from_ms) * rate.tokens // rate.period_ms
                    assert count != 2 or to_ms - from_ms >= rate.gap_ms


@settings(max_examples=150, deadline=None)
@given(RATES, DEEDS)
def test_nobody_ever_gets_more_and_nobody_is_ever_kept_waiting_longer(limits: Limits, deeds: list[tuple[str, tuple[int, c.Who], int]]) -> None:
    story = Story(limits)
    for deed, (to, who), pause_ms in deeds:
        story.now_ms += pause_ms
        if deed == "send":
            story.send(to, who)
        elif deed == "leave":
            story.leave()
        elif deed in ("commit", "lose"):
            story.settle(stored=deed == "commit")
        elif deed == "expire":
            story.now_ms += 5000
            play(story.room, c.Tick(), at_ms=story.now_ms)
        elif deed == "reset":
            story.restart()  # so that nothing waits that was sent before
            story.now_ms += 1
            story.resets.append(Reset(who.user_id, "message", story.now_ms))
            play(story.room, c.ResetLimits(who.user_id, "message", -1), at_ms=story.now_ms)
            story.now_ms += 1
        else:
            story.restart()
    story.restart()
    story.check()


@settings(max_examples=150, deadline=None)
@given(
    RATES,
    st.lists(st.tuples(st.sampled_from(["send", "send", "leave", "lose", "crash", "expire"]), st.sampled_from([0, 1, 1000, 30_000, 120_000])), max_size=40),
)
def test_what_is_never_stored_costs_nothing(limits: Limits, deeds: list[tuple[str, int]]) -> None:
    """Whatever is sent, out, taken back and given up: when nothing of it was stored, the bucket is as full as ever."""
    story = Story(limits)
    for deed, pause_ms in deeds:
        story.now_ms += pause_ms
        if deed == "send":
            story.send(1, ANN)
        elif deed == "leave":
            story.leave()
        elif deed == "lose":
            story.settle(stored=False)
        elif deed == "crash":
            story.open()
        else:
            story.now_ms += 5000
            play(story.room, c.Tick(), at_ms=story.now_ms)
    story.settle(stored=False)
    story.now_ms += 5000
    play(story.room, c.Tick(), at_ms=story.now_ms)
    assert len(story.room.pending) == 0
    full = limits.plain.message
    assert view(story.room, at_ms=story.now_ms) == LimitView(full.burst, full.burst, rfc3339(story.now_ms), 0, full.gap_ms)


# Memory


def test_a_hundred_thousand_known_users_cost_no_more_than_200_bytes_each() -> None:
    count = 100_000
    buckets = Buckets(STANDARD)
    tracemalloc.start()
    for n in range(count):
        buckets.take_message(f"{n:08x}-0000-7000-8000-{n:012x}", None, None, NOW_MS + n % 1000)
    buckets.changed.clear()
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(buckets.messages) == count
    assert size_bytes <= 200 * count
    assert sys.getsizeof(buckets.messages) <= 120 * count


def test_those_whose_buckets_are_full_again_are_forgotten() -> None:
    buckets = Buckets(STANDARD)
    for n in range(100_000):
        buckets.take_message(str(n), None, None, NOW_MS + 1000 * n)
    assert len(buckets.messages) <= 2048
    assert buckets.changed <= buckets.messages.keys()
