"""The books of the room laws: who has which socket, what Postgres has, who was promised an answer, who may speak and how much.

They are kept from what was told alone, and every effect of the room is held against them.
"""

from __future__ import annotations

import itertools
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from brewd.cafe import commands as c
from brewd.cafe import events as e
from brewd.cafe.effects import Attach, Broadcast, Detach, Effect, Record, Refuse, Reply, Tell, Wake
from brewd.cafe.limits import Terms, limits_of
from brewd.cafe.looks import index_of
from brewd.cafe.room import TOPICS_GAP_MS, Rules, step
from brewd.cafe.spam import SpamRules
from brewd.cafe.standing import Standing
from brewd.config import Bucket, Profile
from brewd.runtime.clock import rfc3339
from brewd.runtime.quota import Quota
from brewd.store.records import Batch, Key, Message
from tests.cafe.rooms import ANN, BOB, CID, NOW_MS, message, room

RULES = Rules(message_max_chars=20, history=5, presence_grace_ms=30_000, typing_ms=3000, reply_timeout_ms=5000)
QUOTA = 6
LIMITS = limits_of(Profile(message=Bucket(per_hour=1800, burst=4, gap_s=0.5), badge_message=Bucket(per_hour=3600, burst=8, gap_s=0)))
TERMS = Terms(LIMITS, SpamRules(duplicate_ms=3000, words=index_of(["gold"]), raid_chars_min=8, warnings_ms=60_000, mute_ms=20_000))
FORGOTTEN = {(who.user_id, "old"): message(seq, who) for seq, who in ((1, ANN), (2, BOB))}
"""Stored long ago: Postgres knows these clientMsgIds, the room does not."""


class Guest(Struct):
    """A socket. `next_seq`: the number of the next message it must hear, when it is in the room."""

    to: int
    who: c.Who
    inside: bool = False
    next_seq: int = 0


class Asked(Struct):
    """A request with a ref that has no answer yet."""

    to: int
    kind: str
    due_ms: int
    key: Key | None = None
    message_id: str = ""


class Books:
    """See the module. `tell` a command, and everything it leads to is checked."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.rows = [message(seq, who) for seq, who in ((1, ANN), (2, BOB), (3, CID))]
        self.stored: dict[Key, Message] = dict(FORGOTTEN)
        self.quota = Quota(QUOTA)
        self.room = room(self.rows, rules=RULES, quota=self.quota, standing=Standing(TERMS))
        self.out: Batch | None = None
        self.guests: dict[int, Guest] = {}
        self.lost_ms: dict[str, int] = {}  # users without a device, and until when they are present
        self.present: set[str] = set()  # as the others were told
        self.muted_ms: dict[str, int] = {}  # users who may not speak, and until when
        self.silences: list[list[Any]] = []  # each [user, from, until], as it came to be
        self.typing: dict[str, int] = {}  # as the others were told, and when they must have been told otherwise
        self.asked: dict[str, Asked] = {}
        self.first_answers: set[Key] = set()
        self.topics_told_ms = 0
        self.told_deleted: set[int] = set()
        self.ready = False
        self.numbers = itertools.count(1)
        self.hearing: set[int] = set()

    def silence(self, user_id: str, until_ms: int) -> None:
        self.free(user_id)
        self.muted_ms[user_id] = until_ms
        self.silences.append([user_id, self.now_ms, until_ms])

    def free(self, user_id: str) -> None:
        self.muted_ms.pop(user_id, None)
        for silence in self.silences:
            if silence[0] == user_id:
                silence[2] = min(silence[2], self.now_ms)

    def pick(self, nth: int) -> Guest | None:
        return list(self.guests.values())[nth % len(self.guests)] if self.guests else None

    def ask(self, guest: Guest, kind: str, *, key: Key | None = None, message_id: str = "") -> str:
        ref = f"r{next(self.numbers)}"
        self.asked[ref] = Asked(guest.to, kind, self.now_ms + RULES.reply_timeout_ms, key, message_id)
        return ref

    def fits(self, guest: Guest, content: str) -> bool:
        return guest.inside and not guest.who.staff and content.strip() != "" and len(content) <= RULES.message_max_chars

    def devices(self, who: c.Who) -> set[int]:
        return {guest.to for guest in self.guests.values() if guest.inside and guest.who == who}

    def expected_present(self) -> set[str]:
        """Those the others see."""
        return self.expected_members() - self.muted_ms.keys()

    def expected_members(self) -> set[str]:
        return {guest.who.user_id for guest in self.guests.values() if guest.inside and not guest.who.staff} | self.lost_ms.keys()

    def redact(self, batch: Batch) -> dict[str, Message]:
        redacted = {}
        for removal in batch.redactions:
            for at, row in enumerate(self.rows):
                if row.id == removal.message_id and removal.user_id in (None, row.user_id):
                    redacted[row.id] = self.rows[at] = replace(row, content="", deleted=True)
        return redacted

    def tell(self, command: c.Command) -> list[Effect]:
        effects = step(self.room, command, self.now_ms)
        self.hear(effects)
        return effects

    def hear(self, effects: list[Effect]) -> None:
        for at, effect in enumerate(effects):
            match effect:
                case Attach(to=to):
                    self.hearing.add(to)
                case Detach(to=to):
                    self.hearing.discard(to)
                case Reply(to=to, ref=str(ref), data=data):
                    self.answered(self.asked.pop(ref), to, data)
                case Refuse(to=to, ref=str(ref), code=code, extras=extras):
                    self.refused(self.asked.pop(ref), to, code, extras)
                case Record(action="mute", user_id=user_id, until_ms=int(until_ms)):
                    self.silence(user_id, until_ms)
                case Tell(to=to):
                    assert to in self.hearing
                case Broadcast(event=event, skip=skip):
                    self.broadcast(event, self.hearing - skip)
                case Wake():
                    assert at == len(effects) - 1
                    self.ready = True
        assert self.hearing == {guest.to for guest in self.guests.values() if guest.inside}

    def broadcast(self, event: Any, hearing: set[int]) -> None:
        match event:
            case e.MessageNew(message=said):
                assert self.rows[said.seq - 1].id == said.id, "told before it was stored"
                for to in hearing:
                    assert self.guests[to].next_seq == said.seq, "a gap or a repetition"
                    self.guests[to].next_seq += 1
            case e.UsersUpdate(action="join", user=user):
                assert user.id not in self.present | self.muted_ms.keys()
                self.present.add(user.id)
                assert event.user_count == len(self.present)
            case e.UsersUpdate(action="leave", user=user):
                self.present.remove(user.id)
                assert event.user_count == len(self.present)
            case e.UsersUpdate(user=user):
                assert user.id not in self.muted_ms
            case e.TypingIndicator(user_id=user_id, is_typing=True):
                assert user_id not in self.typing.keys() | self.muted_ms.keys()
                self.typing[user_id] = self.now_ms + RULES.typing_ms
                assert user_id not in {self.guests[to].who.user_id for to in hearing}, "nobody is told what they do themselves"
            case e.TypingIndicator(user_id=user_id):
                del self.typing[user_id]
            case e.TopicsUpdate(topics=topics):
                assert len(topics) <= 50
                assert self.now_ms - self.topics_told_ms >= TOPICS_GAP_MS
                self.topics_told_ms = self.now_ms
            case e.MessageDeleted(seq=seq):
                assert self.rows[seq - 1].deleted
                self.told_deleted.add(seq)

    def answered(self, asked: Asked, to: int, data: Any) -> None:
        assert asked.to == to
        if asked.kind == "send":
            row = self.rows[data.message.seq - 1]
            assert (row.id, row.created_at) == (data.message.id, data.message.created_at)
            if asked.key is not None:
                assert self.stored[asked.key].id == data.message.id, "a second message of the same name"
                assert data.duplicate or asked.key not in self.first_answers
                self.first_answers.add(asked.key)
        elif asked.kind == "delete":
            assert [row.deleted for row in self.rows if row.id == asked.message_id] == [True]

    def refused(self, asked: Asked, to: int, code: str, extras: dict[str, Any]) -> None:
        assert asked.to == to
        if code == "muted":
            until_ms = self.muted_ms[self.guests[to].who.user_id]
            assert (extras["until"], extras["retryAfterMs"]) == (rfc3339(until_ms), until_ms - self.now_ms)
        elif code == "rate_limited":
            assert extras["retryAfterMs"] > 0
        assert code in {
            "send": ("not_in_cafe", "forbidden", "invalid_request", "storage_unavailable", "muted", "rate_limited", "spam_blocked"),
            "delete": ("forbidden", "not_found", "storage_unavailable"),
            "status": ("not_in_cafe",),
        }.get(asked.kind, ())
