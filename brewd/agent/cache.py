"""Answers that were given before: in memory, and in Redis under `agent:cache:{cafeId}:{hash}`, for an hour.

Owns the memory, which is bounded. The hash is made of the café, the question as it is compared, the persona and what the answer
rests on; what is read back names its café, and is not taken for another's.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from typing import Any, Final

import msgspec
from msgspec import Struct

from brewd.agent.personas import Persona
from brewd.errors import StoreError
from brewd.people.erasure import FORGOTTEN_KEY, FORGOTTEN_MS
from brewd.runtime.clock import Clock
from brewd.runtime.log import get_logger
from brewd.store.mirror import Mirror, Pipeline

log = get_logger("agent")

TTL_MS: Final = FORGOTTEN_MS
ENTRIES_MAX: Final = 5000
REDIS_S: Final = 0.25
"""An asker waits no longer for Redis to know."""

MARK_KEY: Final = "agent:cached"
"""In Redis for as long as there may be an answer, of any café."""

_NOISE: Final = re.compile(r"[\s?!.,;:…¿¡。？！、]+")

_ASCII_NOISE: Final = str.maketrans(dict.fromkeys("?!.,;:", " "))


class Key(Struct, frozen=True):
    cafe_id: str
    digest: str

    @property
    def redis(self) -> str:
        return f"agent:cache:{self.cafe_id}:{self.digest}"


class Answered(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept. `expires_ms` is wall time."""

    cafe_id: str
    text: str
    sources: tuple[str, ...]
    expires_ms: int


def normalised(query: str) -> str:
    """Two questions that differ in case, spacing, punctuation or the spelling of signs are one. Pure; doing it twice changes nothing."""
    if query.isascii():  # most are, and then there is little to do
        return " ".join(query.lower().translate(_ASCII_NOISE).split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return _NOISE.sub(" ", folded).strip()


def key_of(cafe_id: str, query: str, persona: Persona, version: str) -> Key:
    """`version`: see `prompt.version_of`. Each part is fenced by its length, so no two make the same."""
    parts = (cafe_id, normalised(query) or query, persona, version)
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return Key(cafe_id, hashlib.sha256(text.encode()).hexdigest()[:32])


class AnswerCache:
    """Redis is asked only while it may know what is not in memory: for as long as an answer may be there that an earlier process has left, or that
    memory had no room for."""

    def __init__(self, *, clock: Clock, redis: Pipeline, mirror: Mirror) -> None:
        self._clock = clock
        self._redis = redis
        self._mirror = mirror
        self._held: dict[Key, Answered] = {}
        self._elsewhere_ms = math.inf  # until when Redis may know more; not known before it was asked once
        self._forgotten_ms: dict[str, int] = {}  # when a café's answers were, as long as Redis may have one from before

    def get(self, key: Key) -> Answered | None:
        """From memory."""
        held = self._held.get(key)
        if held is None or held.expires_ms > self._clock.now_ms():
            return held
        del self._held[key]
        return None

    async def find(self, key: Key) -> Answered | None:
        """From memory, or else from Redis, which is asked briefly and may be away. Never raises."""
        held = self.get(key)
        if held is not None or self._clock.now_ms() >= self._elsewhere_ms:
            return held
        look = [("GET", key.redis), ("GET", FORGOTTEN_KEY.replace("{id}", key.cafe_id)), ("PTTL", MARK_KEY)]
        try:
            found, forgotten, left_ms = await self._redis.pipeline(look, timeout_s=REDIS_S)
        except StoreError:
            return None
        if self._elsewhere_ms == math.inf:
            self._elsewhere_ms = self._clock.now_ms() + max(left_ms, 0)
        answered = _decoded(found)
        if answered is None or answered.cafe_id != key.cafe_id or answered.expires_ms <= self._clock.now_ms():
            return None
        before_us_ms = int(forgotten) if forgotten and forgotten.isdigit() else 0  # an earlier process may have erased somebody
        if answered.expires_ms <= max(self._forgotten_ms.get(key.cafe_id, 0), before_us_ms) + TTL_MS:
            return None
        self._keep(key, answered)
        return answered

    def put(self, key: Key, text: str, sources: tuple[str, ...]) -> None:
        answered = Answered(key.cafe_id, text, sources, self._clock.now_ms() + TTL_MS)
        self._keep(key, answered)
        self._mirror.write(key.redis, [("SET", key.redis, msgspec.json.encode(answered), "PX", TTL_MS), ("SET", MARK_KEY, 1, "PX", TTL_MS)])

    def forget(self, cafe_id: str) -> None:
        """Nothing that was answered in this café is answered again: it may speak of what is gone."""
        for key in [key for key in self._held if key.cafe_id == cafe_id]:
            del self._held[key]
            self._mirror.write(key.redis, [("DEL", key.redis)])
        now_ms = self._clock.now_ms()
        mark = FORGOTTEN_KEY.replace("{id}", cafe_id)
        self._mirror.write(mark, [("SET", mark, now_ms, "PX", TTL_MS)])  # for whoever starts after us
        self._forgotten_ms.pop(cafe_id, None)
        self._forgotten_ms[cafe_id] = now_ms
        while (first := next(iter(self._forgotten_ms))) != cafe_id and self._forgotten_ms[first] + TTL_MS <= now_ms:
            del self._forgotten_ms[first]

    def __len__(self) -> int:
        return len(self._held)

    def _keep(self, key: Key, answered: Answered) -> None:
        self._held.pop(key, None)
        self._held[key] = answered
        if len(self._held) > ENTRIES_MAX:
            dropped = self._held.pop(next(iter(self._held)))
            self._elsewhere_ms = max(self._elsewhere_ms, dropped.expires_ms)


def _decoded(found: Any) -> Answered | None:
    try:
        return None if found is None else msgspec.json.decode(found, type=Answered)
    except msgspec.DecodeError as error:
        log.warning("cache_unreadable", error=str(error))
        return None
