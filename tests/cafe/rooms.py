"""Rooms without anything around them, and the people in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Broadcast, Effect, Refuse, Reply
from brewd.cafe.history import HELD_MAX
from brewd.cafe.room import Room, Rules, confirmed, depart, step
from brewd.cafe.standing import Standing
from brewd.runtime.clock import rfc3339
from brewd.runtime.quota import Quota
from brewd.store.records import Key, Line, Message, Recent

NOW_MS = 1_795_341_600_000
CAFE = "00000000-0000-4000-8000-00000000cafe"
EPOCH = "00000000-0000-4000-8000-0000000ebb0c"

ANN = c.Who("user-ann", "ann")
BOB = c.Who("user-bob", "bob", badge="regular")
CID = c.Who("user-cid", "cid")
MOD = c.Who("staff-mo", "mo", staff=True, moderator=True)

JOINS = (c.Join(1, ANN), c.Join(2, BOB))

E = TypeVar("E")


def message(seq: int, who: c.Who = ANN, content: str = "said before", *, id: str = "", deleted: bool = False) -> Message:
    return Message(id or f"m{seq}", CAFE, seq, who.user_id, who.username, who.badge, "" if deleted else content, rfc3339(NOW_MS), deleted)


def messages(first: int, last: int) -> list[Message]:
    return [message(seq) for seq in range(first, last + 1)]


def room(
    stored: Sequence[Message] = (),
    *,
    keys: dict[Key, Message] | None = None,
    rules: Rules | None = None,
    quota: Quota | None = None,
    now_ms: int = NOW_MS,
    standing: Standing | None = None,
) -> Room:
    """A room that starts from these messages; ids of new ones count `id-1`, `id-2`, …; without `standing`, nothing is limited."""
    last = stored[-1].seq if stored else 0
    numbers = itertools.count(1)
    recent = Recent(list(stored[-HELD_MAX:]), keys or {})
    line = Line(CAFE, EPOCH, 1, last)
    return Room(
        line=line, recent=recent, rules=rules or Rules(), quota=quota or Quota(100), new_id=lambda: f"id-{next(numbers)}", now_ms=now_ms, standing=standing,
    )  # fmt: skip


def send(to: int, who: c.Who, content: str = "an espresso please", *, name: str | None = None, ref: str = "r") -> c.Send:
    return c.Send(to, who, content, name, ref)


def play(room: Room, *commands: c.Command, at_ms: int = NOW_MS) -> list[Effect]:
    """The effects of the last command."""
    effects: list[Effect] = []
    for command in commands:
        effects = step(room, command, at_ms)
    return effects


def commit(room: Room, redacted: dict[str, Message] | None = None, *, at_ms: int = NOW_MS) -> list[Effect]:
    """Let what waits depart, and confirm it."""
    assert depart(room, 1000) is not None
    return confirmed(room, room.generation, redacted or {}, at_ms)


def only(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def told(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    """The events of one kind that are broadcast."""
    return [effect.event for effect in effects if isinstance(effect, Broadcast) and isinstance(effect.event, kind)]


def answer(effects: Iterable[Effect], to: int) -> Any:
    """The data of the one reply to `to`."""
    (reply,) = [effect for effect in effects if isinstance(effect, Reply) and effect.to == to]
    return reply.data


def refusal(effects: Iterable[Effect], to: int) -> str:
    """The code of the one refusal to `to`."""
    (refuse,) = [effect for effect in effects if isinstance(effect, Refuse) and effect.to == to]
    return refuse.code


def updates(effects: Iterable[Effect]) -> list[tuple[str, str, int]]:
    """(action, user, count) of every `users:update`."""
    return [(update.action, update.user.username, update.user_count) for update in told(effects, e.UsersUpdate)]


def typing(effects: Iterable[Effect]) -> list[tuple[str, bool]]:
    """(user, is typing) of every `typing:indicator`."""
    return [(indicator.username, indicator.is_typing) for indicator in told(effects, e.TypingIndicator)]
