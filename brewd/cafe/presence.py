"""Who is in the room: users with any number of devices, and staff who only watch.

A user is present from the first device that joins until the last one says goodbye, or until the grace time has passed since the
last one dropped without. Within it a return is silent. Grace is the same for everybody, so those who may be gone wait in the
order in which they dropped, and the first of them is the next deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from msgspec.structs import replace

from brewd.cafe.commands import Who
from brewd.cafe.events import UserView
from brewd.runtime.clock import rfc3339

VIEWS_MAX = 500
"""Users listed in one answer. `userCount` counts them all."""


class Member:
    """One present user."""

    __slots__ = ("devices", "gone_at_ms", "hidden", "quarter", "seen_ms", "status", "typing_until_ms", "view", "who")

    def __init__(self, who: Who, now_ms: int) -> None:
        self.who = who
        self.view: UserView
        self.status = "online"
        self.devices: set[int] = set()
        self.seen_ms = now_ms
        self.gone_at_ms: int | None = None
        self.hidden = False  # from the others: they are told nothing of this one
        self.typing_until_ms = 0
        self.quarter = 0  # of an hour, in which they were last told to be here
        self._show()

    def set_status(self, status: str) -> bool:
        """Whether that changed anything."""
        if status == self.status:
            return False
        self.status = status
        self._show()
        return True

    def set_badge(self, badge: str | None) -> bool:
        """Whether that changed anything."""
        if badge == self.who.badge:
            return False
        self.who = replace(self.who, badge=badge)
        self._show()
        return True

    def _show(self) -> None:
        self.view = UserView(self.who.user_id, self.who.username, self.status, self.who.badge)


class Presence:
    """All members of one room, by user and by device."""

    __slots__ = ("_dropped", "_grace_ms", "_hidden", "devices", "members", "watchers")

    def __init__(self, grace_ms: int) -> None:
        self._grace_ms = grace_ms
        self.members: dict[str, Member] = {}
        self.devices: dict[int, Member] = {}
        self.watchers: set[int] = set()
        self._hidden = 0
        self._dropped: dict[str, Member] = {}  # in the order of their deadlines

    def __len__(self) -> int:
        """How many the others see."""
        return len(self.members) - self._hidden

    def hide(self, member: Member, hidden: bool) -> None:
        """From here on the others see them, or do not."""
        self._hidden += hidden - member.hidden
        member.hidden = hidden

    def enter(self, to: int, who: Who, now_ms: int) -> Member | None:
        """A device comes in. The new member when the user was not present before, else None."""
        if who.staff:
            self.watchers.add(to)
            return None
        member = self.members.get(who.user_id)
        arrived = member is None
        if member is None:
            member = self.members[who.user_id] = Member(who, now_ms)
        member.devices.add(to)
        member.seen_ms = now_ms
        member.gone_at_ms = None
        self._dropped.pop(who.user_id, None)
        self.devices[to] = member
        return member if arrived else None

    def leave(self, to: int) -> Member | None:
        """A device says goodbye. The member when that was the last device: the user is gone."""
        self.watchers.discard(to)
        member = self.devices.pop(to, None)
        if member is None:
            return None
        member.devices.discard(to)
        if member.devices:
            return None
        self._let_go(member)
        return member

    def drop(self, to: int, now_ms: int) -> None:
        """A device is lost. With the last one the grace time starts."""
        self.watchers.discard(to)
        member = self.devices.pop(to, None)
        if member is None:
            return
        member.devices.discard(to)
        member.seen_ms = now_ms
        if not member.devices:
            member.gone_at_ms = now_ms + self._grace_ms
            self._dropped[member.who.user_id] = member

    def remove(self, user_id: str) -> Member | None:
        """The user is gone at once, with every device."""
        member = self.members.get(user_id)
        if member is not None:
            self._let_go(member)
            self._dropped.pop(user_id, None)
            for to in member.devices:
                del self.devices[to]
        return member

    def expire(self, now_ms: int) -> Iterator[Member]:
        """Those whose grace time is over, each gone when it is handed out, so that the count is right for everyone's farewell."""
        while (at_ms := self.next_expiry_ms()) is not None and at_ms <= now_ms:
            user_id, member = next(iter(self._dropped.items()))
            del self._dropped[user_id]
            self._let_go(member)
            yield member

    def next_expiry_ms(self) -> int | None:
        for member in self._dropped.values():
            return member.gone_at_ms
        return None

    def views(self) -> list[UserView]:
        """The first `VIEWS_MAX` members as the others see them."""
        return [member.view for member in islice(self._seen(), VIEWS_MAX)]

    def seen_views(self, now_ms: int) -> list[UserView]:
        """Every member with the time it was last seen: now, for those with a device."""
        return [
            UserView(v.id, v.username, v.status, v.badge, rfc3339(now_ms if member.devices else member.seen_ms))
            for member in self._seen()
            for v in (member.view,)
        ]

    def seen(self) -> list[str]:
        """The ids of everybody whom the others see."""
        return [user_id for user_id, member in self.members.items() if not member.hidden]

    def _seen(self) -> Iterator[Member]:
        return (member for member in self.members.values() if not member.hidden)

    def _let_go(self, member: Member) -> None:
        del self.members[member.who.user_id]
        self._hidden -= member.hidden
