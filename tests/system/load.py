"""The load under which things are broken: twenty people who talk in five cafés, and every promise checked at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.patience import PATIENCE
from tests.system.daemon import Daemon, Row
from tests.system.guests import Answer, Guest, Talk, caught_up, check_laws, gathered, talking

CAFES = 5
SENDERS = 20
ANSWER_MAX_S = 5.0 * PATIENCE
"""By then a sender knows, one way or the other."""


@asynccontextmanager
async def load(daemon: Daemon) -> AsyncIterator[tuple[list[Guest], Talk]]:
    """They talk before, during and after the block; nobody may lose the socket meanwhile."""
    guests = await people(daemon)
    async with gathered(guests):
        async with talking(guests) as talk:
            await talk.goes_on(300)
            yield guests, talk
            await talk.goes_on(300)
        rows = await daemon.rows({guest.cafe_id for guest in guests})
        await caught_up(guests, rows)
    check_laws(guests, rows)
    check_answers([answer for guest in guests for answer in guest.answers])
    check_complete(guests, rows)
    assert all(guest.joins == 1 for guest in guests), "an outage of a store is no reason to lose a socket"


async def people(daemon: Daemon) -> list[Guest]:
    cafes = await daemon.cafes(CAFES)
    return [Guest(daemon.address, *user) for user in await daemon.users(cafes, SENDERS // CAFES)]


def check_answers(answers: Sequence[Answer]) -> None:
    refused = Counter(answer.code for answer in answers if answer.code)
    assert set(refused) <= {"storage_unavailable"}, refused
    assert max(answer.took_s for answer in answers) < ANSWER_MAX_S


def check_complete(guests: Sequence[Guest], rows: Sequence[Row]) -> None:
    """Everyone said it again until it was acknowledged: so all of it is there, once."""
    assert all(len(guest.acked) == len(guest.said) for guest in guests)
    assert {(row.user_id, row.client_msg_id) for row in rows if row.client_msg_id} == {(guest.user_id, id) for guest in guests for id in guest.said}
