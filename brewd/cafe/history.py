"""The newest messages of a room, held in memory: what a join shows, what a resume needs, what a resend is compared with.

Numbers run without a gap, so a message's place follows from its `seq`. Both bounds are counts; what has been let go is still in
Postgres, where the unique clientMsgId stays the last word on resends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from brewd.store.records import Key, Message

HELD_MAX = 256
KEYS_MAX = 4096
REDACTED_MAX = 256


class History:
    """Messages `first`…`last`, at most twice `HELD_MAX` of them, the clientMsgIds seen most recently, and what was deleted last.

    Who reads older messages from Postgres does so before the room hears of it: what was deleted in between is known here, held or not.
    """

    __slots__ = ("_by_id", "_keys", "_messages", "_redacted", "last", "redactions")

    def __init__(self, last: int, messages: Iterable[Message] = (), keys: dict[Key, Message] | None = None) -> None:
        self.last = last
        self.redactions = 0
        self._messages = _unbroken(last, list(messages))
        self._by_id = {m.id: m.seq for m in self._messages}
        self._keys: dict[Key, Message] = dict(keys or {})
        self._redacted: dict[str, Message] = {}

    @property
    def first(self) -> int:
        """The oldest `seq` held; `last` + 1 when none is."""
        return self.last + 1 - len(self._messages)

    def append(self, message: Message, key: Key | None) -> None:
        """Hold the next message. Its `seq` must be the one after `last`."""
        if message.seq != self.last + 1:
            raise AssertionError(f"message {message.seq} after {self.last}")
        self.last = message.seq
        self._messages.append(message)
        self._by_id[message.id] = message.seq
        if key is not None:
            self._keys[key] = message
            self._trim_keys()
        if len(self._messages) > 2 * HELD_MAX:  # letting go in bulk costs one copy in HELD_MAX messages
            for old in self._messages[:HELD_MAX]:
                del self._by_id[old.id]
            self._messages = self._messages[HELD_MAX:]

    def redact(self, redacted: Message) -> None:
        """Forget what a message said."""
        self._redacted[redacted.id] = redacted
        if len(self._redacted) > REDACTED_MAX:
            del self._redacted[next(iter(self._redacted))]
        seq = self._by_id.get(redacted.id)
        if seq is not None:
            self._messages[seq - self.first] = redacted
            self.redactions += 1

    def disown(self, disowned: Callable[[Message], Message], authors: Collection[str]) -> None:
        """Show what these people wrote as `disowned` makes it. Their clientMsgIds are forgotten: nobody resends."""
        for at, message in enumerate(self._messages):
            if message.user_id in authors:
                self._messages[at] = disowned(message)
                self.redactions += 1
        self._redacted = {id: disowned(message) for id, message in self._redacted.items()}
        for key in [key for key in self._keys if key[0] in authors]:
            del self._keys[key]

    def discard(self, before: str) -> None:
        """Let go of what was made before that time (RFC 3339), and of its clientMsgIds."""
        old = 0
        while old < len(self._messages) and self._messages[old].created_at < before:
            del self._by_id[self._messages[old].id]
            old += 1
        if old:
            self._messages = self._messages[old:]
            self.redactions += 1
        self._redacted = {id: message for id, message in self._redacted.items() if message.created_at >= before}
        self._keys = {key: message for key, message in self._keys.items() if message.created_at >= before}

    def sent_as(self, key: Key) -> Message | None:
        """The message that carries this clientMsgId, if it was among the latest."""
        return self._keys.get(key)

    def learn(self, known: dict[Key, Message]) -> None:
        """Remember older clientMsgIds that Postgres knew: who resent them once may do so again."""
        self._keys.update(known)
        self._trim_keys()

    def get(self, message_id: str) -> Message | None:
        """The message, if it is held or was deleted lately."""
        seq = self._by_id.get(message_id)
        return self._redacted.get(message_id) if seq is None else self._messages[seq - self.first]

    def tail(self, limit: int) -> list[Message]:
        return self._messages[-limit:] if limit > 0 else []

    def after(self, seq: int) -> list[Message] | None:
        """Every message that follows `seq`; None when some of them are no longer held, or `seq` has not been yet."""
        if not self.first - 1 <= seq <= self.last:
            return None
        return self._messages[seq + 1 - self.first :]

    def deleted_upto(self, seq: int) -> list[str]:
        """The ids of held messages up to `seq` that were deleted."""
        return [m.id for m in self._messages[: max(0, seq + 1 - self.first)] if m.deleted]

    def _trim_keys(self) -> None:
        while len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]


def _unbroken(last: int, messages: list[Message]) -> list[Message]:
    """Those that lead up to `last` without a gap, since places follow from numbers.

    What was deleted from Postgres for good may have left a gap. A writer that took over after this one read where its line stands
    may have gone on; what it wrote is not this one's to show.
    """
    messages = [message for message in messages if message.seq <= last]
    kept = 0
    while kept < len(messages) and messages[-1 - kept].seq == last - kept:
        kept += 1
    return messages[len(messages) - kept :]
