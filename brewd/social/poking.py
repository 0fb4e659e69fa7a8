"""What a poke leads to: the transactions of sending one and of answering one, under the lock of the pair.

They run on the far side of the bridge. A poke is open while it is pending and not past its time; to its sender it looks open as long
as its time runs, whatever became of it, and sending it again while it looks so leads to nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from brewd.people.records import Queries
from brewd.runtime.clock import as_datetime, as_ms

TTL_MS: Final = 86_400_000
CROWD: Final = 3
"""At least so many, the sender among them if the others see them, share an interest before it is named."""

_HOUR_MS: Final = 3_600_000


class Sending(Struct, frozen=True, kw_only=True):
    """`id` and `channel_id`: for what may have to be made. `deliver_ms`: when the recipient may know. `barred`: muted or banned users."""

    id: str
    channel_id: str
    cafe_id: str
    from_user_id: str
    to_user_id: str
    interest: str
    now_ms: int
    deliver_ms: int
    barred: list[str]
    banned: frozenset[str]


class Answering(Struct, frozen=True, kw_only=True):
    """`me` accepts a poke, or declines it."""

    poke_id: str
    channel_id: str
    me: str
    accept: bool
    now_ms: int
    banned: frozenset[str]


class Match(Struct, frozen=True):
    """Two who know each other from now on: both (id, name), and the pokes that led to it."""

    pair: tuple[tuple[str, str], tuple[str, str]]
    channel_id: str
    interest: str
    poke_ids: tuple[str, ...]


class Outcome(Struct, frozen=True, kw_only=True):
    """A poke as its sender sees it. `deliver_ms`: it is new, and to be told then. `match`: it has just matched."""

    id: str
    to_user_id: str
    interest: str
    matched: bool
    expires_ms: int
    channel_id: str | None = None
    deliver_ms: int | None = None
    crowd: bool = False
    match: Match | None = None


class Response(Struct, frozen=True, kw_only=True):
    """A poke as its recipient left it. `expires_ms` is a whole hour; `match`: it has just matched. `expired`: there is none such, or nobody who could match."""

    id: str
    status: str
    expires_ms: int
    channel_id: str | None = None
    match: Match | None = None


def hour(at_ms: int) -> int:
    """The full hour before."""
    return at_ms - at_ms % _HOUR_MS


def shown_since_ms(now_ms: int) -> int:
    """Pokes that were due before are shown no more: by the full hour, so that nobody can tell from its end when a poke began."""
    return hour(now_ms - TTL_MS) + _HOUR_MS


async def send(tx: Queries, sending: Sending) -> Outcome | None:
    """One poke. None: its sender is gone. The same statements for whomever it is to, unless it matches."""
    me, them = sending.from_user_id, sending.to_user_id
    await tx.execute("poke_pair_lock", me, them)
    people = await _people(tx, me, them, sending.now_ms)
    if me not in people or not people[me]["live"]:
        return None
    rows, channel_id = await _between(tx, me, them, sending.now_ms)
    mine = next((row for row in rows if row["mine"] and _looks_open(row, sending.now_ms)), None)
    theirs = next((row for row in rows if not row["mine"] and row["cafe_id"] == sending.cafe_id and _is_open(row, sending.now_ms)), None)
    there = them in people and _is_there(people[them], sending.cafe_id, sending.banned)
    match: Match | None = None
    if channel_id is None and theirs is not None and there:
        channel_id = sending.channel_id
        pokes = (theirs["id"], sending.id if mine is None else mine["id"])
        match = Match(_pair(people, me, them), channel_id, theirs["shared_interest"], pokes)
    if mine is None and channel_id is not None:
        mine = next((row for row in rows if row["mine"] and row["status"] == "matched"), None)
    if mine is None:
        declined = any(row["mine"] and row["status"] == "declined" for row in rows)
        reachable = there and people[them]["poke_enabled"] and them not in sending.barred and not declined
        outcome = await _add(tx, sending, channel_id, deliver_ms=sending.deliver_ms if reachable and channel_id is None else None)
    else:
        outcome = _same(mine, sending, channel_id)
    if match is not None:
        await _match(tx, match, sending.cafe_id, sending.now_ms)
    return Outcome(
        id=outcome.id, to_user_id=them, interest=outcome.interest, matched=outcome.matched, expires_ms=outcome.expires_ms,
        channel_id=channel_id, deliver_ms=outcome.deliver_ms, crowd=outcome.crowd, match=match,
    )  # fmt: skip


async def respond(tx: Queries, answering: Answering) -> Response:
    """Accept or decline. One that was answered before is returned as it is."""
    poke_id, me, now_ms = answering.poke_id, answering.me, answering.now_ms
    due = as_datetime(shown_since_ms(now_ms)), as_datetime(now_ms)
    row = await tx.fetchrow("poke_to_me", poke_id, me, *due)
    if row is not None and row["from_user_id"] is not None:
        await tx.execute("poke_pair_lock", me, row["from_user_id"])
        row = await tx.fetchrow("poke_to_me", poke_id, me, *due)
    if row is None:
        return Response(id=poke_id, status="expired", expires_ms=now_ms)
    expires_ms, them = hour(as_ms(row["deliver_at"])) + TTL_MS, row["from_user_id"]
    rows, channel_id = ([], None) if them is None else await _between(tx, me, them, now_ms)
    if row["status"] != "pending":
        return Response(id=poke_id, status=row["status"], expires_ms=expires_ms, channel_id=channel_id)
    if not answering.accept:
        await tx.execute("poke_end", [poke_id], "declined", as_datetime(now_ms))
        return Response(id=poke_id, status="declined", expires_ms=expires_ms)
    people = {} if them is None else await _people(tx, me, them, now_ms)
    if me not in people or not people[me]["live"] or them not in people or not _is_there(people[them], row["cafe_id"], answering.banned):
        await tx.execute("poke_end", [poke_id], "expired", as_datetime(now_ms))
        return Response(id=poke_id, status="expired", expires_ms=expires_ms)
    mine = [one["id"] for one in rows if one["mine"] and _looks_open(one, now_ms)]
    match = Match(_pair(people, me, them), answering.channel_id, row["shared_interest"], (poke_id, *mine))
    await _match(tx, match, row["cafe_id"], now_ms)
    return Response(id=poke_id, status="matched", expires_ms=expires_ms, channel_id=match.channel_id, match=match)


async def _people(tx: Queries, me: str, them: str, now_ms: int) -> Mapping[str, Any]:
    return {row["id"]: row for row in await tx.fetch("poke_people", [me, them], as_datetime(now_ms))}


async def _between(tx: Queries, me: str, them: str, now_ms: int) -> tuple[Sequence[Any], str | None]:
    """The pokes of two people in both directions, newest first, and their channel. Those that are over are ended."""
    rows = await tx.fetch("poke_between", me, them)
    pokes = [row for row in rows if row["id"] is not None]
    over = [row["id"] for row in pokes if row["status"] == "pending" and not _is_open(row, now_ms)]
    if over:
        await tx.execute("poke_end", over, "expired", as_datetime(now_ms))
    return pokes, rows[0]["channel_id"]


async def _add(tx: Queries, sending: Sending, channel_id: str | None, *, deliver_ms: int | None) -> Outcome:
    expires_ms = sending.now_ms + TTL_MS
    row = await tx.fetchrow(
        "poke_add", sending.id, sending.cafe_id, sending.from_user_id, sending.to_user_id, sending.interest,
        "pending" if channel_id is None else "matched", as_datetime(sending.now_ms),
        None if deliver_ms is None else as_datetime(deliver_ms), as_datetime(expires_ms), sending.barred, CROWD,
    )  # fmt: skip
    return Outcome(
        id=sending.id, to_user_id=sending.to_user_id, interest=sending.interest, matched=channel_id is not None, expires_ms=expires_ms,
        deliver_ms=deliver_ms, crowd=row["crowd"],
    )  # fmt: skip


def _same(mine: Any, sending: Sending, channel_id: str | None) -> Outcome:
    return Outcome(
        id=mine["id"], to_user_id=sending.to_user_id, interest=mine["shared_interest"], matched=channel_id is not None, expires_ms=as_ms(mine["expires_at"])
    )


async def _match(tx: Queries, match: Match, cafe_id: str, now_ms: int) -> None:
    (a, _), (b, _) = match.pair
    await tx.execute("poke_end", list(match.poke_ids), "matched", as_datetime(now_ms))
    await tx.execute("channel_open", match.channel_id, cafe_id, a, b, match.interest, as_datetime(now_ms))


def _pair(people: Mapping[str, Any], me: str, them: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (me, people[me]["username"]), (them, people[them]["username"])


def _is_there(person: Any, cafe_id: str, banned: frozenset[str]) -> bool:
    """Live, in this café, and welcome."""
    return person["live"] and person["cafe_id"] == cafe_id and person["id"] not in banned


def _is_open(row: Any, now_ms: int) -> bool:
    return row["status"] == "pending" and as_ms(row["expires_at"]) > now_ms


def _looks_open(row: Any, now_ms: int) -> bool:
    """To its sender."""
    return row["status"] != "matched" and as_ms(row["expires_at"]) > now_ms
