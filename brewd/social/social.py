"""How people find each other and talk, as one: made once, for the daemon."""

from __future__ import annotations

from msgspec import Struct

from brewd.cafe.directory import Directory
from brewd.people.sessions import Sessions
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.delivery import Delivery
from brewd.social.dm import DirectMessages
from brewd.social.interests import Interests
from brewd.social.matching import Matching
from brewd.social.pokes import Pokes
from brewd.store.postgres import Postgres


class Social(Struct, frozen=True):
    """`delivery.run` is an actor: whoever makes this lets it run."""

    interests: Interests
    matching: Matching
    pokes: Pokes
    dms: DirectMessages
    delivery: Delivery


def make_social(*, pg: Postgres, clock: Clock, ids: Ids, sessions: Sessions, rooms: Directory) -> Social:
    delivery = Delivery(clock=clock, notify=rooms.notify)
    return Social(
        interests=Interests(pg=pg, clock=clock),
        matching=Matching(pg=pg, clock=clock, rooms=rooms, bans=sessions),
        pokes=Pokes(pg=pg, clock=clock, ids=ids, rooms=rooms, bans=sessions, delivery=delivery, notify=rooms.notify),
        dms=DirectMessages(pg=pg, clock=clock, ids=ids, rooms=rooms, guests=sessions),
        delivery=delivery,
    )
