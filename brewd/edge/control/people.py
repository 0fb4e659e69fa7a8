"""`staff.*` and `user.*`: accounts made by the operator, and customers made, listed and sent home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from brewd.edge.control.server import Method, Params, method
from brewd.errors import Rejected
from brewd.people.records import Role, invalid
from brewd.runtime.clock import rfc3339

if TYPE_CHECKING:
    from brewd.people.cafes import Cafes
    from brewd.people.moderation import InForce, Moderation
    from brewd.people.records import StaffMember, User
    from brewd.people.staff import Staff
    from brewd.people.users import Users

_ADD_USERS_S = 300.0


class AddStaff(Params, frozen=True, kw_only=True):
    cafe_id: UUID
    name: str
    role: Role
    password: str

    def __repr__(self) -> str:
        return f"AddStaff(cafe_id={self.cafe_id}, name={self.name!r}, role={self.role!r})"  # no password in any log


class ListStaff(Params, frozen=True, kw_only=True):
    cafe_id: UUID | None = None


class OneStaff(Params, frozen=True, kw_only=True):
    staff_id: UUID


class ChangePassword(Params, frozen=True, kw_only=True):
    staff_id: UUID
    password: str

    def __repr__(self) -> str:
        return f"ChangePassword(staff_id={self.staff_id})"


class OneCafe(Params, frozen=True, kw_only=True):
    cafe_id: UUID


class AddUsers(Params, frozen=True, kw_only=True):
    cafe_id: UUID
    count: int = 1


class WhichUser(Params, frozen=True, kw_only=True):
    """By id; or by id or name, in a café."""

    user_id: UUID | None = None
    cafe_id: UUID | None = None
    user: str | None = None


def staff_methods(*, staff: Staff, cafes: Cafes) -> dict[str, Method]:
    async def add(params: AddStaff) -> dict[str, Any]:
        return {"staff": _staff_json(await staff.add(str(params.cafe_id), params.name, params.role, params.password))}

    async def list_all(params: ListStaff) -> dict[str, Any]:
        if params.cafe_id is None:
            return {"staff": [_staff_json(member) for member in await staff.list()]}
        cafe = await cafes.get(str(params.cafe_id))
        return {"staff": [_staff_json(member) for member in await staff.list(cafe.id)]}

    async def disable(params: OneStaff) -> dict[str, Any]:
        return {"staff": _staff_json(await staff.disable(str(params.staff_id)))}

    async def passwd(params: ChangePassword) -> dict[str, Any]:
        return {"staff": _staff_json(await staff.passwd(str(params.staff_id), params.password))}

    return {
        "staff.add": method(AddStaff, add),
        "staff.list": method(ListStaff, list_all),
        "staff.disable": method(OneStaff, disable),
        "staff.passwd": method(ChangePassword, passwd),
    }


def user_methods(*, users: Users, cafes: Cafes, moderation: Moderation) -> dict[str, Method]:
    async def add(params: AddUsers) -> dict[str, Any]:
        return {"users": await users.add_many(str(params.cafe_id), params.count)}

    async def list_live(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        return {"users": [_user_json(user) for user in await users.list(cafe.id)]}

    async def show(params: WhichUser) -> dict[str, Any]:
        user = await users.show(await find(params))
        mute, ban = await moderation.state(user.id)
        return {"user": {**_user_json(user), "mute": _in_force_json(mute), "ban": _in_force_json(ban)}}

    async def find(params: WhichUser) -> str:
        if params.user_id is not None:
            return str(params.user_id)
        if params.cafe_id is None or params.user is None:
            raise invalid("user", "say which user: userId, or cafeId and their id or name there")
        cafe = await cafes.get(str(params.cafe_id))
        user_id = await moderation.find(cafe.id, params.user)
        if (await users.show(user_id)).cafe_id != cafe.id:
            raise Rejected("not_found", "There is no such user in this café.")
        return user_id

    async def expire(params: WhichUser) -> dict[str, Any]:
        return {"user": _user_json(await users.expire(await find(params)))}

    return {
        "user.add": method(AddUsers, add, deadline_s=_ADD_USERS_S),
        "user.list": method(OneCafe, list_live),
        "user.show": method(WhichUser, show),
        "user.expire": method(WhichUser, expire),
    }


def _staff_json(member: StaffMember) -> dict[str, Any]:
    return {
        "id": member.id,
        "cafeId": member.cafe_id,
        "name": member.name,
        "role": member.role,
        "createdAt": rfc3339(member.created_ms),
        "disabledAt": None if member.disabled_ms is None else rfc3339(member.disabled_ms),
    }


def _in_force_json(held: InForce | None) -> dict[str, Any] | None:
    return None if held is None else {"until": rfc3339(held.until_ms), "reason": held.reason}


def _user_json(user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "cafeId": user.cafe_id,
        "username": user.username,
        "badgeStatus": user.badge_status,
        "interests": user.interests,
        "pokeEnabled": user.poke_enabled,
        "createdAt": rfc3339(user.created_ms),
        "expiresAt": rfc3339(user.expires_ms),
        "endedAt": None if user.ended_ms is None else rfc3339(user.ended_ms),
    }
