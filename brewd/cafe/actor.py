"""The café actor: the one writer of one café.

Owns the room, in memory. Receives commands through the mailbox of its `CafeRef`, and from the journal what became of the batch
that is out. Emits frames to sockets, answers to asks, batches to the journal, notes to the mirror. A turn is synchronous:
it takes what gathered, steps the room with each command, and puts everything that was said on the sockets together.

On a crash: what the turn had said before is still sent, the command at fault is answered `internal` with an incident id and not
replayed, senders who were waiting are told to send again, and the next actor starts from what Postgres has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from brewd.cafe.commands import Command, Drop, Ref, Rejoin, Tick, Who
from brewd.cafe.effects import Broadcast, Effect, Quiet, Wake
from brewd.cafe.events import MessageDeleted, MessageNew, UsersUpdate
from brewd.cafe.ref import CafeRef
from brewd.cafe.room import Room, confirmed, depart, fall_silent, next_deadline_ms, step, taken_back
from brewd.errors import Rejected
from brewd.runtime.alarm import Alarm, Alarms
from brewd.runtime.clock import Clock
from brewd.runtime.log import get_logger
from brewd.store.journal import Committed, Duplicates, Fenced, Journal, Outcome, TakenBack
from brewd.store.records import Batch

log = get_logger("cafe")

TURN_COMMANDS_MAX = 256
"""Commands in one turn; other cafés get theirs before the rest."""

Step = Callable[[Room, Command, int], list[Effect]]


class FencedOff(Exception):
    """This actor no longer holds the café's line."""


class Observer(Protocol):
    """Whoever wants to know that a room changed (the mirror)."""

    def touched(self, room: Room) -> None: ...

    def unsaid(self, cafe_id: str) -> None:
        """Something that was said there is deleted, and nobody was told yet."""


class Keeper(Protocol):
    """Whoever writes down what was decided (the ledger)."""

    def note(self, cafe_id: str, kept: Quiet) -> None: ...


class CafeActor:
    """One life of one café. `run` returns when the café has been empty for `idle_s`, and raises when it crashes."""

    def __init__(
        self,
        *,
        ref: CafeRef,
        room: Room,
        journal: Journal,
        clock: Clock,
        alarms: Alarms,
        idle_s: float,
        observer: Observer,
        keeper: Keeper,
        new_incident: Callable[[], str],
        step: Step = step,
    ) -> None:
        self._ref = ref
        self.room = room
        self._journal = journal
        self._clock = clock
        self._alarm = Alarm(alarms, self._rang)
        self._idle_s = idle_s
        self._idle_until_s: float | None = None
        self._due_s = math.inf
        self._observer = observer
        self._keeper = keeper
        self._new_incident = new_incident
        self._step = step
        self._outcome: Outcome | None = None
        self._departure_error: Exception | None = None
        self._command: Command | None = None
        self._blamed: tuple[int, Ref] | None = None
        self._resumed = False
        self._over = False

    def resume(self) -> None:
        """Take over the sockets an earlier actor left, silently, and tell them what was stored but not yet told."""
        fanout, room, now_ms = self._ref.fanout, self.room, self._clock.now_ms()
        for to in fanout.heard_by():
            who = fanout.people[to]
            view = fanout.told_users.get(who.user_id)
            self._perform(self._step(room, Rejoin(to, who, view.status if view else "online"), now_ms))
        for view in list(fanout.told_users.values()):
            if view.id not in room.presence.members:  # lost the last socket meanwhile: the grace time starts now
                rejoin = Rejoin(0, Who(view.id, view.username, view.badge), view.status)
                self._perform(self._step(room, rejoin, now_ms) + self._step(room, Drop(0), now_ms))
        fanout.perform(self._changed_company())
        missed = room.history.after(fanout.told_seq) if fanout.told_seq is not None else []
        if missed is None:
            for to in fanout.heard_by():
                fanout.attached[to].close(1012, "the room was restored")
        fanout.perform([Broadcast(MessageNew(message)) for message in missed or ()] + self._untold_deletions())
        fanout.told_seq = room.history.last
        fanout.flush(room.history.last)
        self._resumed = True
        self._publish()

    def _changed_company(self) -> list[Effect]:
        """Who was muted, or free again, or got another badge while an earlier actor ended: the others see one who is hidden, or not as they are."""
        room, told = self.room, self._ref.fanout.told_users
        members = [(member.view, member.hidden) for member in room.presence.members.values()]
        seen = len(told)
        effects: list[Effect] = []
        for view, hidden in members:
            known = told.get(view.id)
            if hidden is (known is not None):
                seen += -1 if hidden else 1
                effects.append(Broadcast(UsersUpdate(room.cafe_id, "leave" if hidden else "join", view, seen)))
            elif known is not None and known.badge != view.badge:
                effects.append(Broadcast(UsersUpdate(room.cafe_id, "status", view, seen)))
        return effects

    def _untold_deletions(self) -> list[Effect]:
        """What was deleted while an earlier actor ended, or by another writer."""
        fanout, history = self._ref.fanout, self.room.history
        deleted = [id for id in history.deleted_upto(history.last if fanout.told_seq is None else fanout.told_seq) if id not in fanout.told_deleted]
        if deleted:  # where nobody is there to be told, a process before may have ended too early to tell the observer
            self._observer.unsaid(self.room.cafe_id)
        messages = [] if fanout.told_seq is None else [history.get(id) for id in deleted]
        return [Broadcast(MessageDeleted(message.id, message.cafe_id, message.seq)) for message in messages if message is not None]

    async def run(self) -> None:
        """Turn after turn. Cancelling it between turns loses nothing that was acknowledged."""
        mailbox = self._ref.mailbox
        try:
            self.resume()
            while not self._passivates():
                await mailbox.wait()
                self._turn()
        finally:
            self._over = True
            self._alarm.cancel()
            self._journal.withdraw(self.room.cafe_id)
            self._release()

    def depart(self, rows_max: int) -> Batch | None:
        """Called by the journal when a commit can start."""
        try:
            return depart(self.room, rows_max)
        except Exception as error:
            self._departure_error = error
            self._ref.mailbox.wake()
            return None

    def settled(self, outcome: Outcome) -> None:
        """Called by the journal. An actor that is gone takes no notice: its successor reads Postgres."""
        if not self._over:
            self._outcome = outcome
            self._ref.mailbox.wake()

    def _turn(self) -> None:
        mailbox, fanout, now_ms = self._ref.mailbox, self._ref.fanout, self._clock.now_ms()
        try:
            if self._departure_error is not None:
                raise self._departure_error
            if self._outcome is not None:
                self._settle(self._outcome, now_ms)
            for _ in range(min(len(mailbox), TURN_COMMANDS_MAX)):
                self._command = mailbox.take()
                self._perform(self._step(self.room, self._command, now_ms))
            self._command = None
        except Exception as error:
            self._answer_crash(error)
            raise
        finally:
            fanout.flush(self.room.history.last)
        self._publish()

    def _settle(self, outcome: Outcome, now_ms: int) -> None:
        self._outcome = None
        if isinstance(outcome, Committed):
            if outcome.redacted:
                self._observer.unsaid(self.room.cafe_id)
            self._perform(confirmed(self.room, outcome.generation, outcome.redacted, now_ms))
        elif isinstance(outcome, TakenBack):
            self._perform(taken_back(self.room, outcome.generation, {}))
        elif isinstance(outcome, Duplicates):
            self._perform(taken_back(self.room, self.room.generation, outcome.known))
        elif isinstance(outcome, Fenced):
            raise FencedOff(f"generation {self.room.generation} of {self.room.cafe_id} is no longer current")
        else:
            raise outcome.error

    def _perform(self, effects: list[Effect]) -> None:
        for effect in self._ref.fanout.perform(effects):
            if isinstance(effect, Wake):
                self._journal.ready(self.room.cafe_id, self)
            else:
                self._keeper.note(self.room.cafe_id, effect)

    def _publish(self) -> None:
        """Leave what others may see, and arm the next deadline."""
        room, ref = self.room, self._ref
        ref.members, ref.seq, ref.oldest_held = len(room.presence), room.history.last, room.history.first
        self._observer.touched(room)
        if not room.idle:
            self._idle_until_s = None
            due_ms = next_deadline_ms(room)
            self._due_s = math.inf if due_ms is None else self._clock.deadline_s(due_ms)
        else:
            if self._idle_until_s is None:
                self._idle_until_s = self._clock.monotonic_s() + self._idle_s
            self._due_s = self._idle_until_s
        self._alarm.set(self._due_s)

    def _rang(self) -> None:
        """Most deadlines have moved on by the time the alarm rings; only one that is due is worth a turn."""
        if self._due_s > self._clock.monotonic_s():
            self._alarm.set(self._due_s)
        else:
            self._ref.mailbox.push(Tick())  # one at a time: the alarm is set again only by the turn that takes it

    def _passivates(self) -> bool:
        idle_until_s = self._idle_until_s
        return idle_until_s is not None and not len(self._ref.mailbox) and self._clock.monotonic_s() >= idle_until_s

    def _answer_crash(self, error: Exception) -> None:
        """The command at fault gets an incident id that is also in the log."""
        command, self._command = self._command, None
        if isinstance(error, FencedOff):
            log.warning("fenced", cafe=self.room.cafe_id, generation=self.room.generation)
            return
        incident = self._new_incident()
        log.error("command_crashed", cafe=self.room.cafe_id, incident=incident, command=type(command).__name__)
        if command is not None and hasattr(command, "to"):
            rejected = Rejected("internal", "Something went wrong here. It has been noted.", incident=incident)
            self._blamed = (command.to, getattr(command, "ref", None))
            self._ref.fanout.refuse(*self._blamed, rejected)

    def _release(self) -> None:
        """Whoever still waits for a draft is told to send again: a resend with its clientMsgId is never shown twice."""
        again = Rejected("cafe_unavailable", "The café is restarting. Send it again with the same clientMsgId.", retryAfterMs=250)
        for draft in self.room.pending:
            for waiter in draft.waiters:
                if (waiter.to, waiter.ref) != self._blamed:  # the command at fault may have left a draft before it failed
                    self._ref.fanout.refuse(waiter.to, waiter.ref, again)
        self.room.quota.give(len(self.room.pending))
        if self._resumed:  # else nobody was told what it found deleted
            self._ref.fanout.told_deleted = frozenset(self.room.history.deleted_upto(self.room.history.last))
        self._ref.fanout.perform(fall_silent(self.room))
        self._ref.fanout.flush(self.room.history.last)
