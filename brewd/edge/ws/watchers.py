"""Who hears what a café's agent says by itself."""

from __future__ import annotations

from collections import defaultdict

from brewd.edge.ws import plain
from brewd.edge.ws.agent_frames import ProactiveMessage
from brewd.edge.ws.outbox import Outbox
from brewd.runtime.clock import rfc3339


class Watchers:
    """Owns the outboxes of the sockets that joined, by café."""

    def __init__(self, dialect: plain.Plain) -> None:
        self._dialect = dialect
        self._outboxes: defaultdict[str, set[Outbox]] = defaultdict(set)

    def add(self, cafe_id: str, outbox: Outbox) -> None:
        self._outboxes[cafe_id].add(outbox)

    def remove(self, cafe_id: str, outbox: Outbox) -> None:
        outboxes = self._outboxes[cafe_id]
        outboxes.discard(outbox)
        if not outboxes:
            del self._outboxes[cafe_id]

    def tell(self, cafe_id: str, text: str, created_ms: int) -> None:
        """What the agent has said. Encoded once; does not block."""
        if cafe_id not in self._outboxes:
            return
        frame = self._dialect.event(ProactiveMessage(cafe_id, text, rfc3339(created_ms)))
        for outbox in list(self._outboxes[cafe_id]):
            outbox.push(frame)
