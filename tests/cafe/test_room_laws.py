"""The laws of a room, whatever happens in which order: a state machine plays people, the journal and the clock.

It keeps its own books (`books.py`) and holds every effect of the room against them. It never looks at how the room does it.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe.company import RESUME_CHARS_MAX
from brewd.cafe.effects import Reply, Tell
from brewd.cafe.room import confirmed, depart, next_deadline_ms, taken_back
from brewd.runtime.clock import from_rfc3339
from brewd.store.records import Batch, Key
from tests.cafe.books import LIMITS, QUOTA, RULES, Books, Guest
from tests.cafe.rooms import ANN, BOB, EPOCH, MOD

PEOPLE = [ANN, ANN, BOB, MOD]


class RoomLaws(Books, RuleBasedStateMachine):
    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Books.__init__(self)

    # People

    @rule(who=st.sampled_from(PEOPLE), joins=st.sampled_from([True, True, True, False]))
    def arrive(self, who: c.Who, joins: bool) -> None:
        if len(self.guests) < 5:
            guest = Guest(next(self.numbers), who)
            self.guests[guest.to] = guest
            if joins:
                self.enter(guest, None, None)

    @rule(nth=st.integers(0, 7), back=st.none() | st.integers(0, 8), epoch=st.sampled_from([None, EPOCH, "another"]))
    def join(self, nth: int, back: int | None, epoch: str | None) -> None:
        guest = self.pick(nth)
        if guest is not None:
            self.enter(guest, back, epoch)

    def enter(self, guest: Guest, back: int | None, epoch: str | None) -> None:
        since = None if back is None else max(0, len(self.rows) + 1 - back)
        if not guest.who.staff:
            self.lost_ms.pop(guest.who.user_id, None)
        guest.inside, guest.next_seq = True, len(self.rows) + 1
        ref = self.ask(guest, "join")
        effects = self.tell(c.Join(guest.to, guest.who, ref, since, epoch))
        (answer,) = [effect.data for effect in effects if isinstance(effect, Reply)]
        recovered = since is not None and since <= len(self.rows) and epoch != "another"
        assert answer.recovered is recovered
        assert answer.messages == (self.rows[since:] if recovered else self.rows[-RULES.history :])
        assert (answer.seq, answer.epoch, answer.user_count) == (len(self.rows), EPOCH, len(self.expected_present()))

    @rule(
        nth=st.integers(0, 7),
        content=st.sampled_from(["espresso", "crema crema", "hi", "what else", " \n", "x" * 21, "gold", "HELLO EVERYBODY"])
        | st.text("abc", min_size=1, max_size=6),
        name=st.sampled_from([None, "a", "b", "old"]),
    )
    def send(self, nth: int, content: str, name: str | None) -> None:
        guest = self.pick(nth)
        if guest is not None:
            key = None if name is None else (guest.who.user_id, name)
            ref = self.ask(guest, "send", key=key)
            if key is not None and self.fits(guest, content):  # a resend prolongs the patience of all who wait for the same draft
                for other in self.asked.values():
                    if other.key == key:
                        other.due_ms = self.now_ms + RULES.reply_timeout_ms
            muted = guest.who.user_id in self.muted_ms
            self.tell(c.Send(guest.to, guest.who, content, name, ref))
            assert not (muted and key is None and ref in self.asked), "taken from somebody who is muted"

    @rule(nth=st.integers(0, 7), back=st.integers(0, 6))
    def delete(self, nth: int, back: int) -> None:
        guest = self.pick(nth)
        if guest is not None:
            message_id = self.rows[-1 - back].id if back < len(self.rows) else "unheard-of"
            self.tell(c.Delete(guest.who, message_id, guest.to, self.ask(guest, "delete", message_id=message_id)))

    @rule(nth=st.integers(0, 7), on=st.booleans())
    def type(self, nth: int, on: bool) -> None:
        guest = self.pick(nth)
        if guest is not None:
            if on and guest.inside and guest.who.user_id in self.typing:
                self.typing[guest.who.user_id] = self.now_ms + RULES.typing_ms
            self.tell(c.Typing(guest.to, on))

    @rule(nth=st.integers(0, 7), status=st.sampled_from(["online", "away", "busy"]))
    def set_status(self, nth: int, status: str) -> None:
        guest = self.pick(nth)
        if guest is not None:
            self.tell(c.SetStatus(guest.to, status, self.ask(guest, "status")))

    @rule(nth=st.integers(0, 7))
    def leave(self, nth: int) -> None:
        guest = self.pick(nth)
        if guest is not None:
            guest.inside = False
            self.tell(c.Leave(guest.to, self.ask(guest, "leave")))

    @rule(nth=st.integers(0, 7))
    def lose(self, nth: int) -> None:
        guest = self.pick(nth)
        if guest is not None:
            del self.guests[guest.to]
            if guest.inside and not guest.who.staff and not self.devices(guest.who):
                self.lost_ms[guest.who.user_id] = self.now_ms + RULES.presence_grace_ms
            guest.inside = False
            self.tell(c.Drop(guest.to))

    @rule(who=st.sampled_from([ANN, BOB]))
    def end_of_time(self, who: c.Who) -> None:
        self.lost_ms.pop(who.user_id, None)
        for guest in self.guests.values():
            guest.inside = guest.inside and guest.who != who
        self.tell(c.Remove(who.user_id))

    @rule(who=st.sampled_from([ANN, BOB]), ms=st.sampled_from([1, 4000, 40_000]))
    def mute(self, who: c.Who, ms: int) -> None:
        self.silence(who.user_id, self.now_ms + ms)
        effects = self.tell(c.Mute(who.user_id, self.now_ms + ms, "", -1))
        told = {effect.to for effect in effects if isinstance(effect, Tell)}
        assert told == self.devices(who), "a device that does not know"

    @rule(who=st.sampled_from([ANN, BOB]))
    def unmute(self, who: c.Who) -> None:
        self.free(who.user_id)
        self.tell(c.Unmute(who.user_id, -1))

    @rule(limit=st.integers(0, 60))
    def look(self, limit: int) -> None:
        (who,) = self.tell(c.PresenceQuery(-1))
        assert isinstance(who, Reply)
        assert {view.id for view in who.data.users} == self.expected_present()
        (topics,) = self.tell(c.TopicsQuery(limit, -1))
        assert isinstance(topics, Reply)
        assert len(topics.data.topics) <= min(limit, 50)

    # The clock and the journal

    @rule(ms=st.sampled_from([1, 500, 999, 1000, 2999, 3000, 4999, 5000, 29_999, 30_000]))
    def wait(self, ms: int) -> None:
        until_ms = self.now_ms + ms
        while (due_ms := next_deadline_ms(self.room)) is not None and due_ms <= until_ms:
            self.now_ms = max(self.now_ms, due_ms)
            for user_id in [user_id for user_id, at_ms in self.lost_ms.items() if at_ms <= self.now_ms]:
                del self.lost_ms[user_id]
            for user_id in [user_id for user_id, at_ms in self.muted_ms.items() if at_ms <= self.now_ms]:
                del self.muted_ms[user_id]
            self.tell(c.Tick())
            again_ms = next_deadline_ms(self.room)
            assert again_ms is None or again_ms > self.now_ms, "a deadline that a tick does not move would ring for ever"
        self.now_ms = until_ms

    @precondition(lambda self: self.ready and self.out is None)
    @rule(rows_max=st.sampled_from([1, 2, 1000]))
    def departs(self, rows_max: int) -> None:
        self.ready = False
        self.out = depart(self.room, rows_max)
        if self.out is not None:
            assert self.out.first_seq == len(self.rows) + 1
            assert [entry.message.seq for entry in self.out.entries] == list(range(self.out.first_seq, self.out.last_seq + 1))
            assert 0 < self.out.rows <= rows_max

    @precondition(lambda self: self.out is not None)
    @rule(settled=st.booleans())
    def commit(self, settled: bool) -> None:
        """Postgres takes the batch, or finds clientMsgIds in it that it has. `settled`: that came out only later, under a new generation."""
        assert self.out is not None
        batch, self.out = self.out, None
        generation = batch.generation + settled
        known = {key: self.stored[key] for key in _keys(batch) if key in self.stored}
        if known:
            self.hear(taken_back(self.room, batch.generation, known))
            return
        if batch.redactions and settled:  # deletions are done again: once more does no harm
            self.hear(taken_back(self.room, generation, {}))
            return
        redacted = self.redact(batch)
        self.rows += [entry.message for entry in batch.entries]
        self.stored |= {key: entry.message for entry in batch.entries for key in _keys(replace(batch, entries=(entry,)))}
        self.hear(confirmed(self.room, generation, redacted, self.now_ms))

    @precondition(lambda self: self.ready and self.out is None)
    @rule()
    def departs_and_is_stored(self) -> None:
        self.departs(1000)
        if self.out is not None:
            self.commit(settled=False)

    @precondition(lambda self: self.out is not None)
    @rule()
    def lost_commit(self) -> None:
        assert self.out is not None
        batch, self.out = self.out, None
        self.hear(taken_back(self.room, batch.generation + 1, {}))

    # What always holds

    @invariant()
    def the_books_agree(self) -> None:
        assert self.present == self.expected_present()
        assert self.expected_members() == set(self.room.presence.members)
        assert len(self.room.presence) == len(self.present)
        assert self.quota.used == len(self.room.pending) <= QUOTA
        assert self.room.history.last == len(self.rows)
        assert {row.seq for row in self.rows if row.deleted} == self.told_deleted
        assert self.ready or self.out is not None or not self.room.pending.waiting, "something waits and the journal does not know"

    @invariant()
    def nobody_said_more_than_they_may(self) -> None:
        for who in (ANN, BOB):
            rate = LIMITS.of(who.badge).message
            times_ms = [from_rfc3339(row.created_at) for row in self.rows[3:] if row.user_id == who.user_id]
            for first, from_ms in enumerate(times_ms):
                for count, to_ms in enumerate(times_ms[first:], 1):
                    assert count <= rate.burst + (to_ms - from_ms) * rate.tokens // rate.period_ms
        for row in self.rows[3:]:
            assert "gold" not in row.content
            assert not [user_id for user_id, from_ms, until_ms in self.silences if user_id == row.user_id and from_ms < from_rfc3339(row.created_at) < until_ms]

    @invariant()
    def nobody_waits_or_types_for_ever(self) -> None:
        assert [asked for asked in self.asked.values() if asked.due_ms < self.now_ms] == []
        assert {user_id: until_ms for user_id, until_ms in self.typing.items() if until_ms < self.now_ms} == {}
        assert self.typing.keys() <= {guest.who.user_id for guest in self.guests.values() if guest.inside}

    def teardown(self) -> None:
        """When everything has settled nothing is left: no request without its answer, nobody in the room, nothing taken."""
        while self.ready or self.out is not None:
            if self.out is not None:
                self.commit(settled=False)
            else:
                self.departs(1000)
        assert self.asked == {}
        for guest in list(self.guests.values()):
            del self.guests[guest.to]
            guest.inside = False
            self.tell(c.Drop(guest.to))
        self.lost_ms = dict.fromkeys(self.present, self.now_ms + RULES.presence_grace_ms)
        self.wait(RULES.presence_grace_ms)
        assert (self.present, self.typing, self.quota.used) == (set(), {}, 0)
        assert self.room.idle


def _keys(batch: Batch) -> list[Key]:
    return [(entry.message.user_id, entry.client_msg_id) for entry in batch.entries if entry.client_msg_id is not None]


assert 100 * RULES.message_max_chars < RESUME_CHARS_MAX  # or a long run would have a reason not to recover

TestRoomLaws = RoomLaws.TestCase
TestRoomLaws.settings = settings(max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
