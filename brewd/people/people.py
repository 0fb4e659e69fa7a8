"""Those who look after people and cafés, wired together over one Postgres."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from brewd.config import Config
from brewd.people.cafes import Cafes
from brewd.people.join import Joins
from brewd.people.keys import KeyRing
from brewd.people.passwords import Passwords
from brewd.people.receipts import Receipts
from brewd.people.sessions import Sessions
from brewd.people.staff import Staff
from brewd.people.tokens import Tokens
from brewd.people.users import Users
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres


class People(Struct, frozen=True):
    cafes: Cafes
    staff: Staff
    users: Users
    receipts: Receipts
    joins: Joins
    tokens: Tokens
    sessions: Sessions


async def open_people(config: Config, *, pg: Postgres, clock: Clock, ids: Ids) -> People:
    """Ready to serve: what was revoked before counts. Raises `StoreError`, and `KeyFileError` or `OSError` for the file of keys."""
    auth = config.auth
    secret_file = Path(auth.secret_file).expanduser() if auth.secret_file else config.data.path / "keys.json"
    tokens = Tokens(clock=clock, ids=ids, keys=KeyRing.open(secret_file, clock=clock, ids=ids, lifetime_s=auth.user_ttl_s), access_ttl_s=auth.access_ttl_s)
    sessions = Sessions(pg=pg, clock=clock, ids=ids, tokens=tokens, user_ttl_s=auth.user_ttl_s)
    await sessions.warm()
    cafes = Cafes(pg=pg, clock=clock, ids=ids, limits=lambda: config.limits)
    return People(
        cafes=cafes,
        staff=Staff(pg=pg, clock=clock, ids=ids, hasher=Passwords(), sessions=sessions),
        users=Users(pg=pg, clock=clock, ids=ids, tokens=tokens, sessions=sessions, user_ttl_s=auth.user_ttl_s),
        receipts=Receipts(pg=pg, clock=clock, ids=ids, public_url=config.server.public_url, ttl_s=auth.join_token_ttl_s),
        joins=Joins(pg=pg, clock=clock, ids=ids, cafes=cafes, tokens=tokens, sessions=sessions, user_ttl_s=auth.user_ttl_s),
        tokens=tokens,
        sessions=sessions,
    )
