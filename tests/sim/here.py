"""Who is present, as one client was told. Whoever was told everything can count for himself."""

from __future__ import annotations

from brewd.cafe.events import JoinAnswer, UsersUpdate


class Here:
    """Both methods return what does not add up, or nothing."""

    def __init__(self) -> None:
        self._users: set[str] | None = None

    def withheld(self) -> None:
        """Something was not told: nothing is known until the next join."""
        self._users = None

    def shown(self, answer: JoinAnswer) -> str:
        self._users = {user.id for user in answer.users}
        return "" if len(self._users) == answer.user_count else f"{answer.user_count} users, of which {len(self._users)} are shown"

    def changed(self, event: UsersUpdate) -> str:
        users, user_id = self._users, event.user.id
        if users is None:
            return ""
        if (user_id in users) is (event.action == "join"):
            return f"a {event.action} of {user_id}, with {sorted(users)} there"
        if event.action == "join":
            users.add(user_id)
        elif event.action == "leave":
            users.discard(user_id)
        return "" if len(users) == event.user_count else f"{event.user_count} users, with {sorted(users)} there"
