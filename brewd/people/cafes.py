"""Cafés: made and changed by the operator, read on every join. Owns a cache of them, which `set` replaces in place."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from brewd.errors import Rejected
from brewd.people.network import parse_networks
from brewd.people.records import Cafe, Queries, cafe_from, clean_text, invalid
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres

_CACHED_MAX: Final = 20_000
_FIELDS: Final = frozenset(Cafe.__struct_fields__) - {"id", "created_ms"}


class Cafes:
    """`profiles`: the limits profiles the config knows; None accepts any name."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, profiles: Callable[[], frozenset[str]] | None = None) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._profiles = profiles
        self._cached: dict[str, Cafe] = {}
        self._changes = 0

    async def add(self, **fields: Any) -> Cafe:
        """Make a café, and the line its messages will stand in. `fields` are those of `Cafe`; only `name` is needed.

        Raises `Rejected` (`invalid_request`) for a field that makes no sense, and `StoreError`.
        """
        if "name" not in fields:
            raise invalid("name", "is missing")
        blank = Cafe(id=self._ids.uuid7(), name="", created_ms=self._clock.now_ms())
        cafe = self._changed(blank, fields)
        await self._pg.execute("cafe_add", *_columns(cafe), as_datetime(cafe.created_ms), self._ids.uuid4())
        self._keep(cafe)
        return cafe

    async def get(self, cafe_id: str) -> Cafe:
        """From memory, if it was asked for before. Raises `Rejected` (`not_found`) and `StoreError`."""
        cafe = self._cached.get(cafe_id)
        if cafe is not None:
            return cafe
        changes = self._changes
        row = await self._pg.fetchrow("cafe_get", cafe_id)
        if row is None:
            raise _no_such_cafe()
        cafe = cafe_from(row)
        if changes == self._changes:  # else a change overtook this answer, which may be from before it
            self._keep(cafe)
        return cafe

    async def list(self) -> Sequence[Cafe]:
        """All of them, oldest first."""
        return [cafe_from(row) for row in await self._pg.fetch("cafe_list")]

    async def set(self, cafe_id: str, **fields: Any) -> Cafe:
        """Change the named fields. Raises `Rejected` (`not_found`, `invalid_request`) and `StoreError`."""
        self._changed(Cafe(id=cafe_id, name="-", created_ms=0), {k: v for k, v in fields.items() if k not in ("latitude", "longitude")})
        cafe = await self._pg.transaction(_set, cafe_id, fields, self._changed)
        self._changes += 1
        self._keep(cafe)
        return cafe

    async def epoch(self, cafe_id: str) -> str:
        """Which sequence of messages the café is on. Raises `Rejected` (`not_found`) and `StoreError`."""
        epoch = await self._pg.fetchval("cafe_epoch", cafe_id)
        if epoch is None:
            raise _no_such_cafe()
        return str(epoch)

    def forget(self, cafe_id: str | None = None) -> None:
        """Drop what is remembered of one café, or of all: somebody changed them in the database."""
        self._changes += 1
        if cafe_id is None:
            self._cached.clear()
        else:
            self._cached.pop(cafe_id, None)

    def _keep(self, cafe: Cafe) -> None:
        if len(self._cached) >= _CACHED_MAX:
            self._cached.clear()
        self._cached[cafe.id] = cafe

    def _changed(self, cafe: Cafe, fields: dict[str, Any]) -> Cafe:
        """`cafe` with `fields` on top, everything checked. Pure but for the profiles it asks for."""
        for name in fields:
            if name not in _FIELDS:
                raise invalid(name, "unknown field")
        try:
            changed = msgspec.convert({**msgspec.structs.asdict(cafe), **fields}, type=Cafe)
        except msgspec.ValidationError as error:
            raise Rejected("invalid_request", str(error)) from error
        _check_place(changed)
        _check_timezone(changed.timezone)
        if changed.limits_profile is not None and self._profiles is not None and changed.limits_profile not in self._profiles():
            raise invalid("limits_profile", f"there is no profile {changed.limits_profile!r}")
        return replace(
            changed,
            name=clean_text("name", changed.name, max_chars=120),
            address=clean_text("address", changed.address, min_chars=0, max_chars=300),
            wifi_ssid=clean_text("wifi_ssid", changed.wifi_ssid, max_chars=64) if changed.wifi_ssid else None,
            cidrs=_networks(changed.cidrs),
        )


def _check_place(cafe: Cafe) -> None:
    if (cafe.latitude is None) != (cafe.longitude is None):
        raise invalid("latitude", "needs longitude with it, and the other way round")
    if cafe.latitude is not None and not -90 <= cafe.latitude <= 90:
        raise invalid("latitude", "must be between -90 and 90 degrees")
    if cafe.longitude is not None and not -180 <= cafe.longitude <= 180:
        raise invalid("longitude", "must be between -180 and 180 degrees")
    if not 1 <= cafe.radius_meters <= 100_000:
        raise invalid("radius_meters", "must be between 1 and 100,000")


def _check_timezone(name: str) -> None:
    if name == "UTC":
        return
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid("timezone", f"{name!r} is not a time zone this machine knows, like Europe/Vienna") from error


def _networks(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(network) for network in parse_networks(cidrs))
    except ValueError as error:
        raise invalid("cidrs", str(error)) from error


async def _set(tx: Queries, cafe_id: str, fields: dict[str, Any], changed: Callable[[Cafe, dict[str, Any]], Cafe]) -> Cafe:
    row = await tx.fetchrow("cafe_lock", cafe_id)
    if row is None:
        raise _no_such_cafe()
    cafe = changed(cafe_from(row), fields)
    await tx.execute("cafe_set", *_columns(cafe))
    return cafe


def _columns(cafe: Cafe) -> tuple[Any, ...]:
    return (
        cafe.id,
        cafe.name,
        cafe.address,
        cafe.wifi_ssid,
        cafe.latitude,
        cafe.longitude,
        cafe.radius_meters,
        list(cafe.cidrs),
        cafe.join_policy,
        cafe.timezone,
        cafe.limits_profile,
        msgspec.json.encode(cafe.menu).decode(),
    )


def _no_such_cafe() -> Rejected:
    return Rejected("not_found", "There is no such café.")
