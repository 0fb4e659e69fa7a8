"""Where a client stands in a café's sequence. Pure: it decides what to show, and shows nothing itself.

The server promises a gapless order. The client keeps the last `seq` it showed, shows each number once, and asks again when one is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum, auto

from brewd.client.events import Joined
from brewd.client.shapes import Message


class Place(Enum):
    NEXT = auto()
    REPEAT = auto()
    AHEAD = auto()  # something before it is missing


class Line:
    """The last message shown: `seq` in the sequence `epoch`, made at `shown_at`."""

    __slots__ = ("epoch", "seq", "shown_at")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.seq = 0
        self.shown_at: datetime | None = None

    def begin(self, joined: Joined) -> None:
        """Stand at the end of the history that `joined` tells of."""
        self.epoch, self.seq = joined.epoch, joined.seq
        for message in joined.messages:
            self._saw(message)

    def place(self, message: Message) -> Place:
        """Where a live message stands. `NEXT` moves the line on."""
        if message.seq <= self.seq:
            return Place.REPEAT
        if message.seq > self.seq + 1:
            return Place.AHEAD
        self._advance(message)
        return Place.NEXT

    def catch_up(self, messages: Iterable[Message]) -> Iterator[tuple[Message, int]]:
        """The messages past the line, from an answer that is complete, each with how many before it are gone for good."""
        for message in messages:
            if message.seq > self.seq:
                gone = message.seq - self.seq - 1
                self._advance(message)
                yield message, gone

    def skip_to(self, seq: int) -> int:
        """Give up everything up to `seq`. The result is how many messages that was."""
        gone = max(seq - self.seq, 0)
        self.seq = max(seq, self.seq)
        return gone

    def restart(self, joined: Joined) -> list[Message]:
        """The sequence was replaced. Numbers do not compare across, so of its last messages the ones made after the newest shown are new."""
        since = self.shown_at
        fresh = [message for message in joined.messages if since is None or message.created_at > since]
        self.begin(joined)
        return fresh

    def _advance(self, message: Message) -> None:
        self.seq = message.seq
        self._saw(message)

    def _saw(self, message: Message) -> None:
        if self.shown_at is None or message.created_at > self.shown_at:
            self.shown_at = message.created_at
