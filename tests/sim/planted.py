"""Bugs to plant: each is brewd with one piece replaced by what somebody might have written.

Several laws are guarded twice, by the code and again by the statement in Postgres. Where the second guard alone would make the
first one's failure harmless, the simulation notices the first one's failure as such: a current writer that proposes a wrong
number, say, although Postgres would refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brewd.cafe import actor as actor_module
from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe import room as room_module
from brewd.cafe.directory import Directory
from brewd.cafe.effects import Broadcast, Detach, Effect, Reply
from brewd.cafe.fanout import FanOut
from brewd.cafe.pending import Draft, Pending, Waiter
from brewd.cafe.ref import CafeRef, State
from brewd.cafe.room import Room
from brewd.cafe.standing import Sent
from brewd.errors import Rejected
from brewd.people.standings import Standings
from brewd.runtime.clock import rfc3339
from brewd.runtime.mailbox import Mailbox
from brewd.runtime.quota import Quota
from brewd.store.journal import Departed, Journal, TakenBack
from brewd.store.messages import Messages
from brewd.store.records import Batch, Entry, Key, Message, Settled
from tests.sim.decisions import Decisions
from tests.sim.laws import ALLOWED, BOUNDED, CONTAINED, DURABLE, ONCE, ONE_ORDER, ONE_WRITER, SILENT
from tests.sim.store import Tables

Place = tuple[Any, str, Any]

_step = room_module.step
_confirmed = room_module.confirmed
_taken_back = room_module.taken_back
_entry = Draft.entry
_crashed = Directory._crashed


def _acknowledge_early(room: Room, command: c.Command, now_ms: int) -> list[Effect]:
    """The number is as good as certain, so why let the sender wait?"""
    effects = _step(room, command, now_ms)
    if isinstance(command, c.Send) and room.pending.waiting and (draft := room.pending.waiting[-1]).waiters == [Waiter(command.to, command.ref)]:
        draft.waiters.clear()
        sent = e.SentMessage(draft.id, room.history.last + len(room.pending), rfc3339(now_ms))
        return [Reply(command.to, command.ref, e.SendAnswer(sent, False)), *effects]
    return effects


def _show_early(room: Room, command: c.Command, now_ms: int) -> list[Effect]:
    """The others see it at once, and the store gets it when there is time."""
    effects = _step(room, command, now_ms)
    if isinstance(command, c.Send) and room.pending.waiting and (draft := room.pending.waiting[-1]).waiters == [Waiter(command.to, command.ref)]:
        return [Broadcast(e.MessageNew(draft.entry(room.cafe_id, room.history.last + len(room.pending)).message)), *effects]
    return effects


def _give_numbers_back_twice(room: Room, generation: int, known: dict[Key, Message]) -> list[Effect]:
    """A refused batch gives back numbers, although `last` never counted them."""
    room.history.last -= sum(not draft.redaction for draft in room.pending.out)
    return _taken_back(room, generation, known)


async def _take_silence_for_no(self: Journal, out: Departed) -> None:
    """No answer, so nothing was written."""
    for source, batch in out:
        source.settled(TakenBack(batch.generation))


def _forget_client_ids(self: Draft, cafe_id: str, seq: int) -> Entry:
    """Who resends is known in memory, so the store need not know."""
    entry = _entry(self, cafe_id, seq)
    return Entry(entry.message, None, entry.created_ms)


async def _settle_without_fence(self: Messages, batches: Sequence[Batch]) -> list[Settled]:
    """Looking whether the ids are there is enough, isn't it."""
    firsts = [b.entries[0].message.id for b in batches if b.entries]
    present = {row["id"] for row in await self._lane.fetch("message_present", firsts)}
    return [Settled(b.cafe_id, b.generation, bool(b.entries) and b.entries[0].message.id in present) for b in batches]


def _own_everything(self: Tables, cafe_id: str, generation: int) -> bool:
    """A statement without its condition on the generation."""
    return cafe_id in self.lines


def _reversed_broadcasts(room: Room, generation: int, redacted: dict[str, Message], now_ms: int) -> list[Effect]:
    """The last of a batch is told first."""
    effects = _confirmed(room, generation, redacted, now_ms)
    news = iter([effect for effect in effects if isinstance(effect, Broadcast) and isinstance(effect.event, e.MessageNew)][::-1])
    return [next(news) if isinstance(effect, Broadcast) and isinstance(effect.event, e.MessageNew) else effect for effect in effects]


def _leave_without_detach(room: Room, command: c.Command, now_ms: int) -> list[Effect]:
    """The user is gone, the socket still listens."""
    effects = _step(room, command, now_ms)
    return [effect for effect in effects if not isinstance(effect, Detach)] if isinstance(command, c.Leave) else effects


def _never_full(self: Mailbox[Any], item: Any) -> bool:
    self.push(item)
    return True


def _forget_the_late(self: Pending, now_ms: int) -> tuple[list[Waiter], list[Draft]]:
    """Deadlines are noted, and nobody looks at them."""
    self.earliest_ms = None
    return [], []


def _keep_one(self: Quota, units: int = 1) -> None:
    self.used -= max(0, units - 1)


def _answer_twice(self: FanOut, to: int, ref: c.Ref, rejected: Rejected) -> None:
    if to < 0 and (slot := self.asks.pop(to, None)) is not None:
        slot.fail(rejected)
    elif (outbox := self.attached.get(to)) is not None:
        self._say(to, outbox.dialect.error(ref, rejected.data()) * 2)


def _close_on_crash(self: Directory, ref: CafeRef, error: Exception) -> None:
    """A clean start: everybody out."""
    _crashed(self, ref, error)
    for outbox in list(ref.fanout.attached.values()):
        outbox.close(1012, "crashed")


def _crash_together(self: Directory, ref: CafeRef, error: Exception) -> None:
    """One café is broken, so none is opened."""
    _crashed(self, ref, error)
    for other in self._refs.values():
        self._supervisor.discard(other.cafe_id)
        other.state = State.QUARANTINED


async def _nothing_was_sent(self: Standings, *_: Any) -> tuple[Sent, ...]:
    """Redis is gone, so who knows; everybody starts with a full bucket."""
    return ()


def _nobody_was_muted(self: Decisions, *_: Any) -> list[Any]:
    return []


def _order_lost(self: Directory, cafe_id: str, command: c.Command) -> None:
    """It is stored, so it will be read some day."""


def _company_as_it_was(self: Any) -> list[Effect]:
    return []


def _deletion_untold(self: Any) -> list[Effect]:
    return []


SIX: dict[str, tuple[set[int], list[Place]]] = {
    "acknowledge before commit": ({DURABLE}, [(room_module, "step", _acknowledge_early)]),
    "number reused after a refused batch": ({ONE_ORDER, ONE_WRITER}, [(actor_module, "taken_back", _give_numbers_back_twice)]),
    "dedupe lost at restart": ({ONCE}, [(Draft, "entry", _forget_client_ids)]),
    "fence skipped": ({ONE_ORDER, ONE_WRITER, DURABLE, ONCE}, [(Messages, "settle", _settle_without_fence)]),
    "broadcast out of order": ({ONE_ORDER}, [(actor_module, "confirmed", _reversed_broadcasts)]),
    "event after leave": ({CONTAINED}, [(room_module, "step", _leave_without_detach)]),
}
"""Name → the laws of which the simulation must find one broken, and what to put where."""

MORE: dict[str, tuple[set[int], list[Place]]] = {
    "show before commit": ({DURABLE, ONE_ORDER}, [(room_module, "step", _show_early)]),
    "silence taken for no": ({DURABLE, ONE_ORDER, ONE_WRITER, ONCE}, [(Journal, "_settle", _take_silence_for_no)]),
    "a statement without the generation": ({ONE_WRITER, ONE_ORDER, DURABLE}, [(Tables, "owns", _own_everything)]),
    "mailbox without a bound": ({BOUNDED}, [(Mailbox, "tell", _never_full)]),
    "deadlines without effect": ({BOUNDED}, [(Pending, "expire", _forget_the_late)]),
    "quota not given back": ({BOUNDED, CONTAINED}, [(Quota, "give", _keep_one)]),
    "refused twice": ({BOUNDED}, [(FanOut, "refuse", _answer_twice)]),
    "sockets closed by a crash": ({CONTAINED}, [(Directory, "_crashed", _close_on_crash)]),
    "a crash that spreads": ({CONTAINED, BOUNDED}, [(Directory, "_crashed", _crash_together)]),
    "buckets refilled by a restart": ({ALLOWED}, [(Standings, "_sent", _nothing_was_sent)]),
    "mutes forgotten by a restart": ({SILENT}, [(Decisions, "standing_acts", _nobody_was_muted)]),
    "an order that does not reach the room": ({SILENT, BOUNDED}, [(Directory, "order", _order_lost)]),
    "the muted seen after a restart": ({CONTAINED}, [(actor_module.CafeActor, "_changed_company", _company_as_it_was)]),
    "deletions not caught up on": ({ONE_ORDER}, [(actor_module.CafeActor, "_untold_deletions", _deletion_untold)]),
}
