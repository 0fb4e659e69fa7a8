"""`cafe.*`: cafés made, shown, changed, and their actors looked after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from brewd.cafe.commands import SetTerms
from brewd.edge.control.server import Method, Params, method
from brewd.runtime.clock import rfc3339

if TYPE_CHECKING:
    from brewd.cafe.directory import Directory
    from brewd.cafe.ref import CafeStatus
    from brewd.edge.networks import Networks
    from brewd.people.cafes import Cafes
    from brewd.people.records import Cafe

_STOP_S = 5.0


class OneCafe(Params, frozen=True, kw_only=True):
    cafe_id: UUID


class CafeFields(Params, frozen=True, kw_only=True):
    """What can be set of a café; null takes a value away, absent leaves it as it is."""

    name: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    wifi_ssid: str | UnsetType | None = UNSET
    latitude: float | UnsetType | None = UNSET
    longitude: float | UnsetType | None = UNSET
    radius_meters: int | UnsetType = UNSET
    cidrs: list[str] | UnsetType = UNSET
    join_policy: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    profile: str | UnsetType | None = UNSET
    menu: list[Any] | UnsetType = UNSET
    retention_days: int | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        """The fields that are there, under the names `Cafes` has for them."""
        names = {name: "limits_profile" if name == "profile" else name for name in CafeFields.__struct_fields__}
        return {names[name]: value for name in names if (value := getattr(self, name)) is not UNSET}


class AddCafe(CafeFields, frozen=True, kw_only=True):
    name: str  # the only one that a café cannot do without


class SetCafe(CafeFields, frozen=True, kw_only=True):
    cafe_id: UUID


def cafe_methods(*, cafes: Cafes, networks: Networks, directory: Directory) -> dict[str, Method]:
    """`networks` hears of every café whose networks may have changed."""

    async def add(params: AddCafe) -> dict[str, Any]:
        cafe = await cafes.add(**params.given())
        networks.learn(cafe.id, cafe.cidrs)
        return _answer(cafe, None)

    async def show(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        return _answer(cafe, _running(directory).get(cafe.id))

    async def list_all(_: Params) -> dict[str, Any]:
        running = _running(directory)
        return {"cafes": [_json(cafe, running.get(cafe.id)) for cafe in await cafes.list()]}

    async def change(params: SetCafe) -> dict[str, Any]:
        cafe = await cafes.set(str(params.cafe_id), **params.given())
        networks.learn(cafe.id, cafe.cidrs)
        if params.profile is not UNSET:
            directory.order(cafe.id, SetTerms(await cafes.terms(cafe.id)))
        return _answer(cafe, _running(directory).get(cafe.id))

    async def revive(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        return _answer(cafe, await directory.revive(cafe.id) if cafe.id in _running(directory) else None)

    async def stop(params: OneCafe) -> dict[str, Any]:
        cafe = await cafes.get(str(params.cafe_id))
        return _answer(cafe, await directory.stop(cafe.id, _STOP_S) if cafe.id in _running(directory) else None)

    return {
        "cafe.add": method(AddCafe, add),
        "cafe.show": method(OneCafe, show),
        "cafe.list": method(Params, list_all),
        "cafe.set": method(SetCafe, change),
        "cafe.revive": method(OneCafe, revive),
        "cafe.stop": method(OneCafe, stop, deadline_s=2 * _STOP_S),
    }


def _running(directory: Directory) -> dict[str, CafeStatus]:
    return {status.cafe_id: status for status in directory.list()}


def _answer(cafe: Cafe, status: CafeStatus | None) -> dict[str, Any]:
    return {"cafe": _json(cafe, status)}


def _json(cafe: Cafe, status: CafeStatus | None) -> dict[str, Any]:
    """The café as configured, what a join there has to prove, and how its actor is; a café that nobody uses has none, and is `idle`."""
    return {
        "id": cafe.id,
        "name": cafe.name,
        "address": cafe.address,
        "wifiSsid": cafe.wifi_ssid,
        "latitude": cafe.latitude,
        "longitude": cafe.longitude,
        "radiusMeters": cafe.radius_meters,
        "cidrs": cafe.cidrs,
        "joinPolicy": cafe.join_policy,
        "joinNeeds": cafe.policy().proofs(),
        "timezone": cafe.timezone,
        "profile": cafe.limits_profile,
        "menu": cafe.menu,
        "retentionDays": cafe.retention_days,
        "createdAt": rfc3339(cafe.created_ms),
        "state": "idle" if status is None or status.state == "stopped" else status.state,
        "members": 0 if status is None else status.members,
        "sockets": 0 if status is None else status.sockets,
        "seq": None if status is None else status.seq,
        "mailbox": 0 if status is None else status.mailbox,
        "crashes": 0 if status is None else status.crashes,
    }
