"""How much a guest of one café may do: the café's profile with the café's own values on top, as rates and windows.

Policy, not code: everything here comes from `limits.profiles` in the config and from what `limits set` left with the café.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from brewd.cafe.spam import SpamRules
from brewd.config import Bucket, PerSession, Profile
from brewd.errors import Rejected
from brewd.runtime.bucket import Rate, Window

Action = Literal["message", "poke", "agent"]
ACTIONS: tuple[Action, ...] = get_args(Action)

HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class Tier(Struct, frozen=True):
    """What one kind of guest may do. `agent` counts for a session; `agent_gap_ms` lies between any two questions in the café."""

    message: Rate
    poke: Window
    agent: Window
    agent_gap_ms: int


class Limits(Struct, frozen=True):
    """Guests with a badge have limits of their own."""

    plain: Tier
    badge: Tier

    def of(self, badge: str | None) -> Tier:
        return self.plain if badge is None else self.badge

    @property
    def memory_ms(self) -> int:
        """After this long a message counts for nothing any more.

        What is used depends on everything since the bucket was last full, and who goes on sending may not have had it full since
        they came: a guest stays for a day.
        """
        rates = (self.plain.message, self.badge.message)
        return max(DAY_MS, *(max(-(-rate.burst * rate.period_ms // rate.tokens), rate.gap_ms) for rate in rates))


class Terms(Struct, frozen=True):
    """What a room judges by. None: not at all."""

    limits: Limits | None = None
    spam: SpamRules | None = None


def limits_of(profile: Profile) -> Limits:
    return Limits(
        _tier(profile.message, profile.poke.per_day, profile.agent),
        _tier(profile.badge_message, profile.badge_poke.per_day, profile.badge_agent),
    )


Overrides = dict[str, Any]
"""Single values by limit and name: `{"message": {"per_hour": 40}}`."""


def overridden(profile: Profile, overrides: Overrides) -> Profile:
    """`profile` with single values replaced; None leaves one as it is. Raises `Rejected` (`invalid_request`) naming the value that makes no sense."""
    values = msgspec.to_builtins(profile)
    for name, changes in overrides.items():
        if not isinstance(changes, dict):
            raise _invalid(f"limits.{name}", "takes a value for each of its names")
        known = values.get(name)
        if known is None:
            raise _unknown(f"{name}.{next(iter(changes), '')}".rstrip("."), values)
        for key in changes:
            if key not in known:
                raise _unknown(f"{name}.{key}", values)
        values[name] = {**known, **{key: value for key, value in changes.items() if value is not None}}
    try:
        return msgspec.convert(values, type=Profile)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise _invalid(f"limits.{path.rstrip('`')}", problem) from error


def _unknown(path: str, values: Mapping[str, Mapping[str, Any]]) -> Rejected:
    """Says which one may have been meant; where nothing is near, which there are."""
    known = [f"{name}.{key}" for name, keys in values.items() for key in keys]
    near = difflib.get_close_matches(path.strip("."), known, n=1)
    return _invalid(
        f"limits.{path.strip('.')}", f"there is no such limit; did you mean {near[0]}?" if near else f"there is no such limit; there are {', '.join(known)}"
    )


def _invalid(path: str, detail: str) -> Rejected:
    return Rejected("invalid_request", f"{path}: {detail}", errors=[{"path": path, "detail": detail}])


def _tier(message: Bucket, per_day: int, agent: PerSession) -> Tier:
    rate = Rate(tokens=message.per_hour, period_ms=HOUR_MS, burst=message.burst, gap_ms=round(message.gap_s * 1000))
    return Tier(rate, Window(per_day, DAY_MS), Window(agent.per_session), round(agent.gap_s * 1000))
