"""What an owner chose for the agent of their café: the table `agent_config`, remembered in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from brewd.agent.personas import CUSTOM_MAX_CHARS, PERSONAS, Persona
from brewd.errors import Rejected
from brewd.people.records import Queries
from brewd.store.postgres import Postgres

Proactivity = Literal["silent", "occasional", "active", "hype"]
Cents = Annotated[int, Meta(ge=0, le=10**9)]

_CACHED_MAX: Final = 20_000


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """As the owner set it. `custom_text`: how the persona `custom` talks. A budget of None has no end, one of 0 allows nothing."""

    enabled: bool = True
    persona: Persona = "bartender"
    custom_text: Annotated[str, Meta(max_length=CUSTOM_MAX_CHARS)] = ""
    proactivity: Proactivity = "occasional"
    monthly_budget_cents: Cents | None = 2000
    daily_budget_cents: Cents | None = 200


class AgentConfigs:
    """Owns a cache of them, which `set` replaces in place."""

    def __init__(self, *, pg: Postgres) -> None:
        self._pg = pg
        self._cached: dict[str, AgentConfig] = {}
        self._changes = 0

    async def get(self, cafe_id: str) -> AgentConfig:
        """From memory, if it was asked for before. A café that is not there is as one where nothing was set. Raises `StoreError`."""
        config = self.remembered(cafe_id)
        if config is not None:
            return config
        changes = self._changes
        row = await self._pg.fetchrow("agent_config_get", cafe_id)
        config = AgentConfig() if row is None else _from(row)
        if changes == self._changes:  # else a change overtook this answer
            self._keep(cafe_id, config)
        return config

    def remembered(self, cafe_id: str) -> AgentConfig | None:
        """From memory. Never blocks."""
        return self._cached.get(cafe_id)

    async def set(self, cafe_id: str, **changes: Any) -> AgentConfig:
        """Change the named fields (those of `AgentConfig`). Raises `Rejected` (`not_found`, `invalid_request` naming the field) and `StoreError`."""
        earlier = self._changes
        try:
            config = await self._pg.transaction(_set, cafe_id, changes)
        finally:  # also when nobody waits for it any more: it may be written all the same
            self._changes += 1
            self._cached.pop(cafe_id, None)
        if self._changes == earlier + 1:  # else another change overlapped, and may be the later one
            self._keep(cafe_id, config)
        return config

    def _keep(self, cafe_id: str, config: AgentConfig) -> None:
        if len(self._cached) >= _CACHED_MAX:
            self._cached.clear()
        self._cached[cafe_id] = config


def changed(config: AgentConfig, changes: Mapping[str, Any]) -> AgentConfig:
    """`config` with the changes on top. Raises `Rejected` (`invalid_request`). Pure."""
    values = msgspec.structs.asdict(config)
    for name, value in changes.items():
        if name not in values:
            raise _invalid(name, f"unknown field; there are {', '.join(values)}")
        values[name] = value
        if name == "persona" and value not in PERSONAS:
            raise _invalid(name, f"there is no persona {value!r}; there are {', '.join(PERSONAS)}")
    try:
        after = msgspec.convert({_camel(name): value for name, value in values.items()}, type=AgentConfig)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise _invalid(path.rstrip("`") or "agent", problem) from error
    if any(not sign.isprintable() and sign != "\n" for sign in after.custom_text):
        raise _invalid("customText", "must not have control characters")
    if after.persona == "custom" and not after.custom_text.strip():
        raise _invalid("customText", "is missing: the persona `custom` talks as it says")
    return after


async def _set(tx: Queries, cafe_id: str, changes: Mapping[str, Any]) -> AgentConfig:
    if await tx.fetchrow("agent_config_lock", cafe_id) is None:
        raise Rejected("not_found", "There is no such café.")
    row = await tx.fetchrow("agent_config_get", cafe_id)
    after = changed(AgentConfig() if row is None else _from(row), changes)
    await tx.execute("agent_config_set", cafe_id, *msgspec.structs.astuple(after))
    return after


def _from(row: Mapping[str, Any]) -> AgentConfig:
    return AgentConfig(**{name: row[name] for name in AgentConfig.__struct_fields__})


def _invalid(path: str, detail: str) -> Rejected:
    return Rejected("invalid_request", f"{path}: {detail}", errors=[{"path": path, "detail": detail}])


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
