"""What stands before everyone who has not said who they are, put together from the config."""

from __future__ import annotations

from msgspec import Struct

from brewd.config import EdgeLimits
from brewd.edge.attempts import Attempts
from brewd.edge.limits import Limits
from brewd.edge.networks import Networks
from brewd.people.cafes import Cafes
from brewd.runtime.clock import Clock


class Guard(Struct, frozen=True):
    """See each of them."""

    networks: Networks
    limits: Limits
    attempts: Attempts


async def open_guard(config: EdgeLimits, *, clock: Clock, cafes: Cafes) -> Guard:
    """With the networks of every café there is. Raises `StoreError`."""
    networks = Networks(clock)
    await networks.warm(cafes)
    limits = Limits(config=config, clock=clock, networks=networks)
    return Guard(networks, limits, Attempts(config=config, clock=clock, networks=networks, cafes=cafes))
