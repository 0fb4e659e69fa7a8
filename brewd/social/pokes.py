"""Pokes: anonymous until both want it.

What a sender sees of their poke never depends on the recipient, unless they match: whoever cannot be reached (no such user, gone, in
another café, muted, banned, not to be poked, or has declined before) gets a poke that is like any other and is shown to nobody.
What a recipient sees never depends on the sender: ids are random, the order is that of the ids, times are whole hours, it comes up
to `JITTER_MS` late, and its interest is named only while `CROWD` people could have sent it.

Every poke is one transaction that holds the lock of its pair, so two who poke each other at once are a first and a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import trio
from msgspec import Struct

from brewd.cafe.commands import MuteQuery, Take, Who
from brewd.cafe.events import Event, MatchedUser, MuteAnswer, PokeMatched, PokeReceived
from brewd.errors import Rejected
from brewd.people.records import invalid
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock, as_datetime, as_ms, from_rfc3339
from brewd.runtime.ids import Ids
from brewd.social.company import Bans, Rooms, company
from brewd.social.delivery import Delivery
from brewd.social.interests import normalised
from brewd.social.poking import CROWD, TTL_MS, Answering, Match, Outcome, Response, Sending, hour, respond, send, shown_since_ms
from brewd.store.postgres import Postgres

JITTER_MS: Final = 3000
LISTED_MAX: Final = 100
KEPT_MS: Final = 7 * 86_400_000
"""A poke that is over is still in `sent`, and a decline still counts, for this long; or until one of the two is gone."""

NEUTRAL: Final = "a shared interest"
"""Stands for an interest that would give the sender away."""

Action = Literal["accept", "decline"]
SeenStatus = Literal["pending", "matched", "expired"]
Notify = Callable[[str, str, Event], None]
"""`fn(cafe_id, user_id, event)`: tell every socket of a user. Must not block."""


class Pending(Struct, frozen=True):
    """A poke to its recipient. Times are whole hours."""

    id: str
    interest: str
    created_ms: int
    expires_ms: int


class SentPoke(Struct, frozen=True):
    """A poke to its sender."""

    id: str
    to_user_id: str
    interest: str
    status: SeenStatus
    created_ms: int
    expires_ms: int
    channel_id: str | None


class Pokes:
    """Raises `StoreError`, and `Rejected` as the room does. One for the process."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, rooms: Rooms, bans: Bans, delivery: Delivery, notify: Notify) -> None:
        self.on_match: list[Callable[[str, str], object]] = []
        """Told of both who have just got a channel, which is stored. Must not block."""
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._rooms = rooms
        self._bans = bans
        self._delivery = delivery
        self._notify = notify

    async def send(self, who: Identity, to_user_id: str, interest: str) -> Outcome:
        """Poke somebody. Costs a poke of the day, unless they were poked before and it is not over, or the two know each other: then the answer is the same again.

        `Rejected`: `invalid_request` for oneself, and for an interest that is not one's own; `muted`, `rate_limited`, `user_expired`.
        Cancelled once it is being stored, it is stored and told all the same.
        """
        if to_user_id == who.user_id:
            raise invalid("toUserId", "nobody pokes themselves")
        interest = normalised("sharedInterest", interest)
        row = await self._pg.fetchrow("poke_sender", who.user_id, to_user_id, as_datetime(self._clock.now_ms()))
        if row is None:
            raise _over()
        if interest not in row["interests"]:
            raise invalid("sharedInterest", "must be one of your own interests")
        around = await company(self._rooms, self._bans, who.cafe_id)
        if not row["known"] or who.user_id in around.muted:
            await self._rooms.ref(who.cafe_id).ask(Take("poke", Who(who.user_id, who.username, who.badge), who.session_id))
        now_ms = self._clock.now_ms()
        sending = Sending(
            id=self._ids.uuid4(), channel_id=self._ids.uuid4(), cafe_id=who.cafe_id, from_user_id=who.user_id, to_user_id=to_user_id,
            interest=interest, now_ms=now_ms, deliver_ms=now_ms + self._ids.below(JITTER_MS + 1),
            barred=around.barred, banned=around.banned,
        )  # fmt: skip
        with trio.CancelScope(shield=True):  # the transaction has a deadline of its own
            outcome = await self._pg.transaction(send, sending)
            if outcome is not None:
                self._tell(who.cafe_id, outcome)
        if outcome is None:
            raise _over()
        return outcome

    async def respond(self, who: Identity, poke_id: str, action: Action) -> Response:
        """Answer a poke. The sender hears of a match, and of nothing else.

        `Rejected`: `not_found` when no such poke is open for this user, or its sender is not there any more; `conflict` when it was answered otherwise; `muted`.
        """
        around = await company(self._rooms, self._bans, who.cafe_id)
        if action == "accept" and who.user_id in around.muted:
            await self._refuse_muted(who)
        answering = Answering(
            poke_id=poke_id, channel_id=self._ids.uuid4(), me=who.user_id, accept=action == "accept", now_ms=self._clock.now_ms(), banned=around.banned
        )
        with trio.CancelScope(shield=True):
            answer = await self._pg.transaction(respond, answering)
            if answer.match is not None:
                self._tell_match(who.cafe_id, answer.match)
        if answer.status == "expired":
            raise Rejected("not_found", "There is no such poke for you, or it is over.")
        if (answer.status == "matched") != (action == "accept"):
            raise Rejected("conflict", "You accepted this poke before." if action == "decline" else "You declined this poke before.")
        return answer

    async def pending(self, who: Identity) -> Sequence[Pending]:
        """The open pokes to this user, at most `LISTED_MAX`, in no order that means anything."""
        around = await company(self._rooms, self._bans, who.cafe_id)
        now_ms = self._clock.now_ms()
        since = as_datetime(shown_since_ms(now_ms))
        rows = await self._pg.fetch("poke_pending", who.user_id, since, as_datetime(now_ms), around.barred, CROWD, LISTED_MAX)
        return [_pending(row["id"], row["shared_interest"] if row["named"] else NEUTRAL, as_ms(row["deliver_at"])) for row in rows]

    async def sent(self, who: Identity) -> Sequence[SentPoke]:
        """What this user sent, newest first, at most `LISTED_MAX`. One that was declined is pending until its time is over, as it is if nobody looked at it."""
        now_ms = self._clock.now_ms()
        return [
            SentPoke(
                row["id"], row["to_user_id"], row["shared_interest"], seen_by_sender(row["status"], as_ms(row["expires_at"]), now_ms),
                as_ms(row["created_at"]), as_ms(row["expires_at"]), row["channel_id"],
            )
            for row in await self._pg.fetch("poke_sent", who.user_id, LISTED_MAX)
        ]  # fmt: skip

    async def expire(self) -> dict[str, int]:
        """The job: see `expire_pokes`."""
        return {"pokes": await expire_pokes(self._pg, self._clock.now_ms())}

    async def _refuse_muted(self, who: Identity) -> None:
        answer: MuteAnswer = await self._rooms.ref(who.cafe_id).ask(MuteQuery(who.user_id))
        if isinstance(answer.until, str):
            wait_ms = from_rfc3339(answer.until) - self._clock.now_ms()
            raise Rejected("muted", f"You are muted until {answer.until}.", until=answer.until, reason=answer.reason, retryAfterMs=wait_ms)

    def _tell(self, cafe_id: str, outcome: Outcome) -> None:
        if outcome.match is not None:
            self._tell_match(cafe_id, outcome.match)
        elif outcome.deliver_ms is not None:
            event = PokeReceived(outcome.id, outcome.interest if outcome.crowd else NEUTRAL)
            self._delivery.later(outcome.id, outcome.deliver_ms, cafe_id, outcome.to_user_id, event)

    def _tell_match(self, cafe_id: str, match: Match) -> None:
        """To both, on every socket. A poke of theirs that was still on its way is no news any more."""
        for poke_id in match.poke_ids:
            self._delivery.drop(poke_id)
        for told in self.on_match:
            told(match.pair[0][0], match.pair[1][0])
        for (user_id, _), other in zip(match.pair, reversed(match.pair), strict=True):
            self._notify(cafe_id, user_id, PokeMatched(MatchedUser(*other), match.channel_id, match.interest))


def seen_by_sender(status: str, expires_ms: int, now_ms: int) -> SeenStatus:
    """What a sender is told of a poke: whether it matched, and else only whether its time is over."""
    return "matched" if status == "matched" else "pending" if expires_ms > now_ms else "expired"


async def expire_pokes(pg: Postgres, now_ms: int, *, batch: int = 500) -> int:
    """End the pokes whose time is over, and delete those that were over long ago; how many. `batch` at a time, each a short statement. Raises `StoreError`."""
    done = 0
    for name, args in (
        ("poke_expire", (as_datetime(now_ms),)),
        ("poke_purge", (as_datetime(now_ms), as_datetime(now_ms - KEPT_MS))),
    ):
        rows = [None] * batch
        while len(rows) == batch:
            rows = await pg.fetch(name, *args, batch)
            done += len(rows)
    return done


def _pending(id: str, interest: str, deliver_ms: int) -> Pending:
    return Pending(id, interest, hour(deliver_ms), hour(deliver_ms) + TTL_MS)


def _over() -> Rejected:
    return Rejected("user_expired", "This user's time is over; join again with a new receipt.")
