"""What the HTTP edge is given: the objects behind its routes, and the clock, config and probes it needs itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from brewd.agent.agent import Status
from brewd.agent.settings import AgentConfigs
from brewd.config import Config
from brewd.edge.guard import Guard
from brewd.people.allowances import Allowances
from brewd.people.analytics import Analytics
from brewd.people.badges import Badges
from brewd.people.cafes import Cafes
from brewd.people.erasure import Erasure
from brewd.people.join import Joins
from brewd.people.moderation import Moderation
from brewd.people.receipts import Receipts
from brewd.people.sessions import Sessions
from brewd.people.staff import Staff
from brewd.people.tokens import Tokens
from brewd.people.users import Users
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.social.dm import DirectMessages
from brewd.social.interests import Interests
from brewd.social.matching import Matching
from brewd.social.pokes import Pokes
from brewd.store.postgres import Postgres


class Ref(Protocol):
    """A café's room, wherever it lives."""

    async def ask(self, command: Any, timeout_s: float = 5.0) -> Any: ...


class Directory(Protocol):
    def ref(self, cafe_id: str) -> Ref: ...


class HttpParts(Struct, frozen=True, kw_only=True):
    """`health` answers the health object; `live` and `ready` answer whether the process is well, and whether it takes requests."""

    config: Config
    clock: Clock
    ids: Ids
    pg: Postgres
    cafes: Cafes
    staff: Staff
    users: Users
    receipts: Receipts
    joins: Joins
    sessions: Sessions
    tokens: Tokens
    directory: Directory
    moderation: Moderation
    allowances: Allowances
    badges: Badges
    dms: DirectMessages
    erasure: Erasure
    analytics: Analytics
    interests: Interests
    matching: Matching
    pokes: Pokes
    agent_configs: AgentConfigs
    agent_status: Callable[[str], Awaitable[Status]]
    guard: Guard
    health: Callable[[], Awaitable[dict[str, Any]]]
    live: Callable[[], Awaitable[bool]]
    ready: Callable[[], Awaitable[bool]]
