"""Baristas and moderators: accounts of one café, made by the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from brewd.errors import Rejected, StoreConflict
from brewd.people.passwords import Passwords
from brewd.people.records import Role, StaffMember, clean_text, invalid, staff_from
from brewd.people.sessions import Sessions
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

_PASSWORD_MAX_CHARS: Final = 1024


class Staff:
    """Every method raises `StoreError` when Postgres does not answer."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, hasher: Passwords, sessions: Sessions) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._hasher = hasher
        self._sessions = sessions

    async def add(self, cafe_id: str, name: str, role: Role, password: str) -> StaffMember:
        """Raises `Rejected`: `not_found` (the café), `conflict` (the name), `invalid_request`."""
        name = clean_text("name", name, max_chars=80)
        if role not in get_args(Role):
            raise invalid("role", f"must be {' or '.join(get_args(Role))}")
        _check_password(password)
        password_hash = await self._hasher.hash(password)
        staff_id, now_ms = self._ids.uuid7(), self._clock.now_ms()
        try:
            row = await self._pg.fetchrow("staff_add", staff_id, cafe_id, name, role, password_hash, as_datetime(now_ms))
        except StoreConflict as error:
            raise Rejected("conflict", f"The café already has staff named {name}.") from error
        if row is None:
            raise Rejected("not_found", "There is no such café.")
        return StaffMember(id=staff_id, cafe_id=cafe_id, name=name, role=role, created_ms=now_ms)

    async def list(self, cafe_id: str | None = None) -> Sequence[StaffMember]:
        """Of one café, or of all."""
        return [staff_from(row) for row in await self._pg.fetch("staff_list", cafe_id)]

    async def show(self, staff_id: str) -> StaffMember:
        """Raises `Rejected` (`not_found`)."""
        row = await self._pg.fetchrow("staff_by_id", staff_id)
        if row is None:
            raise _no_such_staff()
        return staff_from(row)

    async def login(self, cafe_id: str, name: str, password: str) -> StaffMember:
        """Raises `Rejected` (`unauthorized`), with the same words and after the same time whether the café, the name or the password is wrong."""
        row = await self._pg.fetchrow("staff_by_name", cafe_id, name.strip())
        stored = None if row is None else row["password_hash"]
        verdict = await self._hasher.verify(stored, password)
        if row is None or not verdict.matches or row["disabled_at"] is not None:
            raise Rejected("unauthorized", "The name or the password is wrong.")
        if verdict.rehashed is not None:
            await self._pg.execute("staff_rehash", row["id"], stored, verdict.rehashed)
        return staff_from(row)

    async def disable(self, staff_id: str) -> StaffMember:
        """No login from now on, and those there are end. Raises `Rejected` (`not_found`)."""
        row = await self._pg.fetchrow("staff_disable", staff_id, as_datetime(self._clock.now_ms()))
        if row is None:
            raise _no_such_staff()
        await self._sessions.revoke_staff(staff_id)
        return staff_from(row)

    async def passwd(self, staff_id: str, password: str) -> StaffMember:
        """A new password; logins with the old one end, and a disabled account is enabled again. Raises `Rejected` (`not_found`)."""
        _check_password(password)
        password_hash = await self._hasher.hash(password)
        row = await self._pg.fetchrow("staff_passwd", staff_id, password_hash)
        if row is None:
            raise _no_such_staff()
        await self._sessions.revoke_staff(staff_id)
        return staff_from(row)


def _check_password(password: str) -> None:
    if not 1 <= len(password) <= _PASSWORD_MAX_CHARS:
        raise invalid("password", f"must have 1 to {_PASSWORD_MAX_CHARS} characters")


def _no_such_staff() -> Rejected:
    return Rejected("not_found", "There is no such staff member.")
