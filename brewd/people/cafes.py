"""Cafés: made and changed by the operator, read on every join. Owns a cache of them, which `set` replaces in place."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from brewd.cafe.limits import Terms, limits_of, overridden
from brewd.cafe.spam import SpamRules, rules_of
from brewd.config import Limits, Profile
from brewd.config_spam import Spam
from brewd.errors import Rejected
from brewd.people import menu
from brewd.people.network import parse_networks
from brewd.people.records import Cafe, Queries, cafe_from, clean_text, invalid
from brewd.runtime.clock import Clock, as_datetime
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Postgres

log = get_logger("cafes")

RETENTION_MAX_DAYS: Final = 3650
_CACHED_MAX: Final = 20_000
_FIELDS: Final = frozenset(Cafe.__struct_fields__) - {"id", "created_ms"}


class Cafes:
    """`limits`: what the config says of limits and spam, at the moment."""

    def __init__(self, *, pg: Postgres, clock: Clock, ids: Ids, limits: Callable[[], Limits] = Limits) -> None:
        self._pg = pg
        self._clock = clock
        self._ids = ids
        self._limits = limits
        self._spam_rules: tuple[Spam, SpamRules | None] | None = None
        self._cached: dict[str, Cafe] = {}
        self._changes = 0

    async def add(self, **fields: Any) -> Cafe:
        """Make a café, and the line its messages will stand in. `fields` are those of `Cafe`; only `name` is needed.

        Raises `Rejected` (`invalid_request`) for a field that makes no sense, and `StoreError`.
        """
        if "name" not in fields:
            raise invalid("name", "is missing")
        blank = Cafe(id=self._ids.uuid7(), name="", created_ms=self._clock.now_ms())
        cafe = self.changed(blank, fields)
        await self._pg.execute("cafe_add", *_columns(cafe), as_datetime(cafe.created_ms), self._ids.uuid4())
        self._keep(cafe)
        return cafe

    async def get(self, cafe_id: str) -> Cafe:
        """From memory, if it was asked for before. Raises `Rejected` (`not_found`) and `StoreError`."""
        cafe = self.remembered(cafe_id)
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

    def remembered(self, cafe_id: str) -> Cafe | None:
        """From memory. Never blocks."""
        return self._cached.get(cafe_id)

    async def list(self) -> Sequence[Cafe]:
        """All of them, oldest first."""
        return [cafe_from(row) for row in await self._pg.fetch("cafe_list")]

    async def set(self, cafe_id: str, **fields: Any) -> Cafe:
        """Change the named fields. Raises `Rejected` (`not_found`, `invalid_request`) and `StoreError`."""
        self.changed(Cafe(id=cafe_id, name="-", created_ms=0), {k: v for k, v in fields.items() if k not in ("latitude", "longitude")})
        _, cafe = await self.change(cafe_id, lambda _: fields)
        return cafe

    async def change(self, cafe_id: str, fields_for: Callable[[Cafe], dict[str, Any]]) -> tuple[Cafe, Cafe]:
        """Change the fields that `fields_for` makes of the café as it stands; how it was, and how it is. Raises as `set` does."""
        earlier = self._changes
        try:
            before, after = await self._pg.transaction(_change, cafe_id, lambda cafe: self.changed(cafe, fields_for(cafe)))
        finally:  # also when nobody waits for it any more: it may be written all the same
            self.forget(cafe_id)
        if self._changes == earlier + 1:  # else another change overlapped, and may be the later one
            self._keep(after)
        return before, after

    async def terms(self, cafe_id: str) -> Terms:
        """What the café's room judges by. Raises `Rejected` (`not_found`) and `StoreError`."""
        cafe = await self.get(cafe_id)
        config = self._limits()
        if self._spam_rules is None or self._spam_rules[0] is not config.spam:
            self._spam_rules = (config.spam, rules_of(config.spam))  # one word list for all cafés
        return Terms(limits_of(self.profile(cafe)) if config.enabled else None, self._spam_rules[1])

    def profile(self, cafe: Cafe) -> Profile:
        """The limits of a café: its profile with its own values on top. A profile that is no longer in the config is as the default one."""
        config = self._limits()
        profile = config.profiles.get(cafe.limits_profile or config.profile)
        if profile is None:
            log.warning("profile_gone", cafe=cafe.id, profile=cafe.limits_profile, instead=config.profile)
            profile = config.profiles[config.profile]
        try:
            return overridden(profile, cafe.limits_overrides)
        except Rejected as error:  # they were right when they were set, by an earlier brewd
            log.warning("overrides_unreadable", cafe=cafe.id, error=str(error))
            return profile

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

    def changed(self, cafe: Cafe, fields: dict[str, Any]) -> Cafe:
        """`cafe` with `fields` on top, as a change would leave it. Raises `Rejected` (`invalid_request`). Pure but for the config it asks for."""
        for name in fields:
            if name not in _FIELDS:
                raise invalid(name, "unknown field")
        try:
            changed = msgspec.convert({**msgspec.structs.asdict(cafe), **fields}, type=Cafe)
        except msgspec.ValidationError as error:
            raise Rejected("invalid_request", str(error)) from error
        _check_place(changed)
        _check_timezone(changed.timezone)
        if changed.retention_days is not None and not 1 <= changed.retention_days <= RETENTION_MAX_DAYS:
            raise invalid("retention_days", f"must be between 1 and {RETENTION_MAX_DAYS:,} days, or nothing, for what the config says")
        profiles = self._limits().profiles
        if changed.limits_profile is not None and changed.limits_profile not in profiles:
            raise invalid("limits_profile", f"there is no profile {changed.limits_profile!r}; there are {', '.join(sorted(profiles))}")
        if "limits_overrides" in fields:
            overridden(Profile(), changed.limits_overrides)
        return replace(
            changed,
            name=clean_text("name", changed.name, max_chars=120),
            address=clean_text("address", changed.address, min_chars=0, max_chars=300),
            wifi_ssid=clean_text("wifi_ssid", changed.wifi_ssid, max_chars=64) if changed.wifi_ssid else None,
            cidrs=_networks(changed.cidrs),
            menu=menu.checked(changed.menu) if "menu" in fields else changed.menu,
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


async def _change(tx: Queries, cafe_id: str, changed: Callable[[Cafe], Cafe]) -> tuple[Cafe, Cafe]:
    row = await tx.fetchrow("cafe_lock", cafe_id)
    if row is None:
        raise _no_such_cafe()
    before = cafe_from(row)
    after = changed(before)
    await tx.execute("cafe_set", *_columns(after))
    return before, after


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
        msgspec.json.encode(cafe.limits_overrides).decode(),
        msgspec.json.encode(cafe.menu).decode(),
        cafe.retention_days,
    )


def _no_such_cafe() -> Rejected:
    return Rejected("not_found", "There is no such café.")
