"""Direct messages: what the two of one channel say to each other, and nobody else hears.

A message is stored before anybody hears of it, numbered without a gap within its channel, and then told to every socket of both, in
the order of the numbers. Before that the room has judged it (see `brewd.cafe.whispers`). What is done in a channel takes turns.

To anyone but its two a channel is not there, whoever they are. While the other one's time is over, or they are banned, what was
said can be read and taken back, and nothing more said; when either is erased, the channel is gone with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import trio
from msgspec import UNSET, Struct, UnsetType

from brewd.cafe import commands as c
from brewd.cafe.events import CompanyAnswer, DmDeleted, DmMessage, DmRead, Event
from brewd.cafe.ref import CafeRef
from brewd.cafe.spam import Violation
from brewd.cafe.text import is_blank
from brewd.errors import Rejected, StoreConflict, StoreError
from brewd.people.records import invalid
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, as_datetime, as_ms, rfc3339
from brewd.runtime.ids import Ids
from brewd.social.turns import Turn, Turns
from brewd.store.postgres import Postgres
from brewd.store.records import DirectMessage

CONTENT_MAX_CHARS: Final = 2000
CHANNELS_MAX: Final = 500
UNREAD_MAX: Final = 1000
SEND_S: Final = 5.0
"""Sending takes no longer, everything included."""

_STORE_S: Final = 2.0
_ROOM_S: Final = 2.0
_TURN_S: Final = 4.0
_TRIES: Final = 3
_CAUGHT_UP_MAX: Final = 1000


class Rooms(Protocol):
    """The way to the rooms (the directory)."""

    def ref(self, cafe_id: str) -> CafeRef: ...
    def order(self, cafe_id: str, command: c.Command) -> None: ...
    def notify(self, cafe_id: str, user_id: str, event: Event) -> None: ...


class Guests(Protocol):
    """Who knows whose tokens count (`Sessions`)."""

    def is_out(self, user_id: str) -> bool: ...


class OtherUser(Struct, frozen=True):
    """Whom one talks to. `online`: seen in the room now."""

    id: str
    username: str
    online: bool


class Channel(Struct, frozen=True, rename="camel"):
    """`last_message_at` is when the channel was opened while nothing is said in it. `unread`: messages of the other after what was read; 1000 for more."""

    id: str
    user: OtherUser
    last_message_at: str
    unread: int
    last_message: DirectMessage | UnsetType = UNSET


class Sent(Struct, frozen=True):
    """`duplicate`: it is the message that was sent before under this `clientMsgId`, whatever came along now."""

    message: DirectMessage
    duplicate: bool = False
    warnings: tuple[Violation, ...] = ()


class Read(Struct, frozen=True, rename="camel"):
    """Where one stands: everything up to `seq` is read."""

    channel_id: str
    seq: int
    unread: int


class _Draft(Struct, frozen=True):
    """What somebody wants to say."""

    by: Identity
    channel_id: str
    content: str
    client_msg_id: str | None


class _Look(Struct, frozen=True):
    last_seq: int
    other_id: str
    other_gone: bool
    sent: DirectMessage | None


class DirectMessages:
    """Every call raises `StoreError`, and `Rejected` (`not_found`) where there is no such channel or message for whoever asks.

    After a `StoreError` the outcome is not known: do it again, with the same `clientMsgId`; it is never done twice.
    """

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, rooms: Rooms, guests: Guests) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._rooms = rooms
        self._guests = guests
        self._turns = Turns()

    async def channels(self, by: Identity) -> list[Channel]:
        """The newest `CHANNELS_MAX`, the one in which something was said last first. Raises `Rejected` (`cafe_unavailable`, `mailbox_full`), too."""
        rows = await self._pg.fetch("dm_channels", by.user_id, by.cafe_id, CHANNELS_MAX, UNREAD_MAX, timeout_s=_STORE_S)
        if not rows:
            return []
        company: CompanyAnswer = await self._rooms.ref(by.cafe_id).ask(c.CompanyQuery(), _ROOM_S)
        return [_channel(row, online=row["other_id"] in company.present) for row in rows]

    async def messages(self, by: Identity, channel_id: str, *, limit: int, before: int | None = None) -> list[DirectMessage]:
        """The newest `limit`, or those before `before`; ascending."""
        await self._look(by, channel_id)
        rows = await self._pg.fetch("dm_before", channel_id, 2**62 if before is None else before, limit, timeout_s=_STORE_S)
        return [_message(row) for row in reversed(rows)]

    async def send(self, by: Identity, channel_id: str, content: str, client_msg_id: str | None = None) -> Sent:
        """Say something. Raises `Rejected`, too: `invalid_request`, `conflict` (the other is gone), and as the room does: `muted`, `spam_blocked`, `rate_limited`, …"""
        if is_blank(content):
            raise invalid("content", "there is nothing in it to read")
        draft = _Draft(by, channel_id, content, client_msg_id)
        try:
            with trio.fail_after(SEND_S), self._turns.of(channel_id) as turn:
                look = await self._look(by, channel_id, client_msg_id)  # first: who has no part in a channel does not even wait in it
                async with turn.taken(_TURN_S):
                    if turn.unsure or turn.told_seq not in (None, look.last_seq) or look.sent is not None:  # that may be deleted meanwhile
                        look = await self._look_again(turn, draft)
                    turn.told_seq = look.last_seq
                    if look.sent is not None:
                        return Sent(look.sent, duplicate=True)
                    return await self._send(turn, look, draft)
        except trio.TooSlowError:
            raise StoreError(f"a direct message was not stored within {SEND_S:g} s") from None

    async def delete(self, by: Identity, message_id: str) -> DirectMessage:
        """Take back one's own. Raises `Rejected`, too: `forbidden` when it is the other's."""
        row = await self._pg.fetchrow("dm_message_look", message_id, by.user_id, by.cafe_id, timeout_s=_STORE_S)
        if row is None:
            raise _no_message()
        if row["author_id"] != by.user_id:
            raise Rejected("forbidden", "Only its author can delete a message.")
        channel_id, other_id = row["channel_id"], row["other_id"]
        with self._turns.of(channel_id) as turn:
            async with turn.taken(_TURN_S):
                unsure, turn.unsure = turn.unsure, True
                gone = await self._pg.fetchrow("dm_delete", message_id, by.user_id, as_datetime(self._clock.now_ms()), timeout_s=_STORE_S)
                turn.unsure = unsure
                if gone is None:
                    raise _no_message()
                if gone["fresh"] or unsure:  # it may have been deleted by a call that was not answered
                    for user_id in (by.user_id, other_id):
                        self._rooms.notify(by.cafe_id, user_id, DmDeleted(channel_id, message_id))
        return _message(gone)

    async def read(self, by: Identity, channel_id: str, seq: int) -> Read:
        """Everything up to `seq` is read. It never becomes less, nor more than there is."""
        with self._turns.of(channel_id) as turn:
            await self._look(by, channel_id)
            async with turn.taken(_TURN_S):
                row = await self._pg.fetchrow("dm_read", channel_id, by.user_id, by.cafe_id, seq, UNREAD_MAX, timeout_s=_STORE_S)
                if row is None:
                    raise _no_channel()
                if row["moved"]:
                    self._rooms.notify(by.cafe_id, by.user_id, DmRead(channel_id, row["seq"], row["unread"]))
        return Read(channel_id, row["seq"], row["unread"])

    async def typing(self, by: Identity, channel_id: str, *, on: bool) -> None:
        """Let the other know, if the café finds the time. Raises `Rejected`, too: `conflict`, `mailbox_full`, `cafe_unavailable`."""
        look = await self._look(by, channel_id)
        _check_other(look)
        self._rooms.ref(by.cafe_id).tell(c.WhisperTyping(by.user_id, look.other_id, channel_id, on))

    async def _send(self, turn: Turn, look: _Look, draft: _Draft) -> Sent:
        """Have it judged, and store it. What is not stored is unsaid, however that came about."""
        _check_other(look)
        by, content = draft.by, draft.content
        whisper = c.Whisper(c.Who(by.user_id, by.username, by.badge), look.other_id, draft.channel_id, content)
        warnings: tuple[Violation, ...] = await self._rooms.ref(by.cafe_id).ask(whisper, _ROOM_S)
        stored = False
        try:
            for _ in range(_TRIES):
                now_ms = self._clock.now_ms()
                message = DirectMessage(self._ids.uuid7(), draft.channel_id, look.last_seq + 1, by.user_id, by.username, content, rfc3339(now_ms))
                stored = await self._stored(turn, message, draft.client_msg_id, now_ms)
                if stored:
                    self._tell_message(by, look.other_id, message, draft.client_msg_id)
                    turn.told_seq, turn.unsure = message.seq, False
                    return Sent(message, warnings=warnings)
                look = await self._look_again(turn, draft)
                turn.told_seq = look.last_seq
                if look.sent is not None:
                    return Sent(look.sent, duplicate=True)
        finally:
            if not stored:
                self._rooms.order(by.cafe_id, c.Unsay(by.user_id, draft.channel_id, content, bool(warnings)))
        raise StoreError("others write to this channel all the time")

    async def _stored(self, turn: Turn, message: DirectMessage, client_msg_id: str | None, now_ms: int) -> bool:
        """False: its number, or its name, was taken. Until the answer is there the channel is unsure."""
        turn.unsure = True
        try:
            seq = await self._pg.fetchval(
                "dm_send", message.channel_id, message.user_id, message.seq - 1, message.id, message.content, client_msg_id, as_datetime(now_ms),
                timeout_s=_STORE_S,
            )  # fmt: skip
        except StoreConflict:
            return False
        return seq is not None

    async def _look(self, by: Identity, channel_id: str, client_msg_id: str | None = None) -> _Look:
        row = await self._pg.fetchrow("dm_look", channel_id, by.user_id, by.cafe_id, client_msg_id, timeout_s=_STORE_S)
        if row is None:
            raise _no_channel()
        gone = row["other_ended_at"] is not None or as_ms(row["other_expires_at"]) <= self._clock.now_ms() or self._guests.is_out(row["other_id"])
        return _Look(row["last_seq"], row["other_id"], gone, None if row["id"] is None else _message(row))

    async def _look_again(self, turn: Turn, draft: _Draft) -> _Look:
        """In one's turn, when the channel is not as it was: where it stands now. Whatever nobody was told is told first."""
        while True:
            look = await self._look(draft.by, draft.channel_id, draft.client_msg_id)
            if turn.told_seq is None or turn.told_seq >= look.last_seq:
                return look
            rows = await self._pg.fetch("dm_after", draft.channel_id, turn.told_seq, _CAUGHT_UP_MAX, timeout_s=_STORE_S)
            for row in rows:
                self._tell_message(draft.by, look.other_id, _message(row), row["client_msg_id"])
            turn.told_seq = rows[-1]["seq"] if rows else look.last_seq

    def _tell_message(self, by: Identity, other_id: str, message: DirectMessage, client_msg_id: str | None) -> None:
        for user_id in (by.user_id, other_id):
            named = client_msg_id if client_msg_id is not None and user_id == message.user_id else UNSET
            self._rooms.notify(by.cafe_id, user_id, DmMessage(message.channel_id, message, named))


def _check_other(look: _Look) -> None:
    if look.other_gone:
        raise Rejected("conflict", "The other one is not here any more.")


def _no_channel() -> Rejected:
    return Rejected("not_found", "There is no such channel.")


def _no_message() -> Rejected:
    return Rejected("not_found", "There is no such message.")


def _message(row: Mapping[str, Any]) -> DirectMessage:
    return DirectMessage(
        id=row["id"], channel_id=row["channel_id"], seq=row["seq"], user_id=row["author_id"], username=row["username"], content=row["content"],
        created_at=rfc3339(as_ms(row["created_at"])), deleted=row["deleted_at"] is not None,
    )  # fmt: skip


def _channel(row: Mapping[str, Any], *, online: bool) -> Channel:
    return Channel(
        id=row["channel"], user=OtherUser(row["other_id"], row["other_name"], online), last_message_at=rfc3339(as_ms(row["at"])), unread=row["unread"],
        last_message=UNSET if row["id"] is None else _message(row),
    )  # fmt: skip
