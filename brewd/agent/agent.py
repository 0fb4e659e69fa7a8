"""The agent: one for the daemon. See the package for the way of a question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct

from brewd.agent.pieces import Piece
from brewd.cafe.commands import Who

State = Literal["ok", "unavailable", "off"]


class Status(Struct, frozen=True):
    """`reason` is a sentence; empty when all is well."""

    state: State
    reason: str = ""


class Asked:
    """One question of one asker. The answer may be shared with others who asked the same."""

    query_id: str
    query: str
    cached: bool

    def pieces(self, index: int = 0) -> AsyncIterator[Piece]:
        """The answer from chunk `index` on, as it comes, then its end.

        An async generator: close it (`contextlib.aclosing`) when the socket is gone. With nobody listening the call is stopped within a second.
        """
        raise NotImplementedError


class Agent:
    """Owns the answers under way, and what was answered lately."""

    @property
    def status(self) -> Status:
        raise NotImplementedError

    async def ask(self, *, cafe_id: str, who: Who, session_id: str, query: str, personality: str | None = None) -> Asked:
        """Raises `Rejected`: `invalid_request`, `rate_limited`, `muted`, `agent_unavailable`, `agent_budget_spent`, `not_found`, …; and `StoreError`.

        Takes as long as a question may wait for its turn (`agent.queue_s`), and a bit. Cancelling it forgets the question.
        """
        raise NotImplementedError

    def resume(self, query_id: str, user_id: str) -> Asked:
        """A question asked before, until 2 min after its end. Raises `Rejected` (`not_found`), alike for one that never was and for another's."""
        raise NotImplementedError

    def cancel(self, query_id: str, user_id: str) -> None:
        """The asker wants no more: their pieces end at once, and the call, unless another shares it. Raises as `resume` does; harmless after the end."""
        raise NotImplementedError
