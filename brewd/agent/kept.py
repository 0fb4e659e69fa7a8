"""Questions that can be resumed: by id, the oldest forgotten first where there are too many. Pure; what is over is decided by whoever owns it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from brewd.agent.answers import Asked

KEPT_MAX: Final = 4096
KEPT_USER_MAX: Final = 32
"""Questions that are kept, in all and of one asker; of one asker's, those that are answered go first."""


class Kept:
    """`is_over`: nobody can resume this one any more."""

    def __init__(self, is_over: Callable[[Asked], bool]) -> None:
        self._is_over = is_over
        self._all: dict[str, Asked] = {}
        self._of: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, asked: Asked) -> None:
        self._all[asked.query_id] = asked
        own = self._of.setdefault(asked.user_id, {})
        own[asked.query_id] = None
        if len(own) > KEPT_USER_MAX:
            self.pop(next((one for one in own if self._all[one].answer.end is not None), next(iter(own))))
        while self._all and (len(self._all) > KEPT_MAX or self._is_over(next(iter(self._all.values())))):
            self.pop(next(iter(self._all)))

    def get(self, query_id: str) -> Asked | None:
        asked = self._all.get(query_id)
        return None if asked is None or self._is_over(asked) else asked

    def pop(self, query_id: str) -> None:
        """Forget it, if it is there."""
        asked = self._all.pop(query_id, None)
        if asked is not None:
            own = self._of[asked.user_id]
            del own[query_id]
            if not own:
                del self._of[asked.user_id]

    def of(self, user_ids: Collection[str]) -> list[Asked]:
        """All of these askers."""
        return [self._all[query_id] for user_id in user_ids for query_id in self._of.get(user_id, ())]
