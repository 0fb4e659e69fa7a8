"""The secrets that sign tokens: a file only brewd's user may read, holding several keys, the newest of which signs.

Rotation adds a key and keeps the older ones, so nobody is logged out; a key leaves when no token it signed can still be alive.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

import msgspec
import trio

from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

_SECRET_SIZE_BYTES: Final = 32
_KEYS_MAX: Final = 16
_OTHERS: Final = 0o077


class KeyFileError(Exception):
    """The key file cannot be used; the message says what to do about it."""


class Key(msgspec.Struct, frozen=True):
    """One signing key."""

    kid: str
    secret: bytes
    created_ms: int


class _StoredKey(msgspec.Struct, frozen=True, rename="camel"):
    kid: str
    secret: str
    created_ms: int


class _KeyFile(msgspec.Struct, frozen=True):
    keys: list[_StoredKey]  # newest first


class KeyRing:
    """The keys in use, newest first. `lifetime_s`: how long the longest-lived token (a refresh token) may outlive its key's rotation."""

    __slots__ = ("_by_kid", "_clock", "_ids", "_keys", "_lifetime_ms", "_path", "_rotating")

    def __init__(self, *, keys: tuple[Key, ...], path: Path | None, clock: Clock, ids: Ids, lifetime_s: float) -> None:
        self._path = path
        self._clock = clock
        self._ids = ids
        self._lifetime_ms = int(lifetime_s * 1000)
        self._rotating = trio.Lock()
        self._use(keys)

    @classmethod
    def open(cls, path: Path, *, clock: Clock, ids: Ids, lifetime_s: float = 86_400) -> KeyRing:
        """Read the file, or make it with a first key. Blocks on the disk; raises `KeyFileError`."""
        keys = _read(path)
        if keys is None:
            keys = (_new_key(clock, ids),)
            _write(path, keys)
        return cls(keys=keys, path=path, clock=clock, ids=ids, lifetime_s=lifetime_s)

    @classmethod
    def in_memory(cls, *, clock: Clock, ids: Ids, lifetime_s: float = 86_400) -> KeyRing:
        """A ring that lives as long as the process, for tests and tools."""
        return cls(keys=(_new_key(clock, ids),), path=None, clock=clock, ids=ids, lifetime_s=lifetime_s)

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self._keys[0]

    @property
    def kids(self) -> tuple[str, ...]:
        return tuple(self._by_kid)

    def by_kid(self, kid: str) -> Key | None:
        return self._by_kid.get(kid)

    async def rotate(self) -> str:
        """Sign with a new key from now on; answer its kid. The file is written before the key is used, so a crash loses no login."""
        async with self._rotating:
            fresh = _new_key(self._clock, self._ids)
            keys = (fresh, *_still_needed(self._keys, self._clock.now_ms() - self._lifetime_ms))[:_KEYS_MAX]
            if self._path is not None:
                await trio.to_thread.run_sync(_write, self._path, keys)
            self._use(keys)
            return fresh.kid

    def _use(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys}


def _still_needed(keys: tuple[Key, ...], horizon_ms: int) -> tuple[Key, ...]:
    """A key stopped signing when the next newer one was made; past the horizon, all it signed has expired."""
    return keys[:1] + tuple(older for newer, older in itertools.pairwise(keys) if newer.created_ms > horizon_ms)


def _new_key(clock: Clock, ids: Ids) -> Key:
    return _key(ids.code(10).lower(), ids.secret(_SECRET_SIZE_BYTES), clock.now_ms())


def _key(kid: str, secret: bytes, created_ms: int) -> Key:
    return Key(kid=kid, secret=secret, created_ms=created_ms)


def _read(path: Path) -> tuple[Key, ...] | None:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise KeyFileError(f"{path} can be read by others than its owner; run: chmod 600 {path}")
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    keys = _parse_json(path, content) if content.lstrip().startswith(b"{") else _parse_lines(content)
    if not keys:
        raise KeyFileError(f"{path} holds no key; remove it to have a new one made")
    if any(len(key.secret) < _SECRET_SIZE_BYTES for key in keys):
        raise KeyFileError(f"{path} holds a secret shorter than {_SECRET_SIZE_BYTES} bytes")
    return keys


def _parse_json(path: Path, content: bytes) -> tuple[Key, ...]:
    try:
        stored = msgspec.json.decode(content, type=_KeyFile).keys
        return tuple(_key(key.kid, b64decode(key.secret, validate=True), key.created_ms) for key in stored)
    except (ValueError, msgspec.MsgspecError) as error:
        raise KeyFileError(f"{path} is not a key file of brewd's: {error}") from error


def _parse_lines(content: bytes) -> tuple[Key, ...]:
    """A file an operator wrote by hand: one secret a line, newest first. The kid is derived, so it survives a restart."""
    secrets = [line.strip() for line in content.splitlines() if line.strip()]
    return tuple(_key(hashlib.sha256(b"brewd kid:" + secret).hexdigest()[:10], secret, 0) for secret in secrets)


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    """Write a sibling and rename it over, so that a crash leaves the old keys or the new ones, never half a file."""
    stored = _KeyFile(keys=[_StoredKey(kid=key.kid, secret=b64encode(key.secret).decode(), created_ms=key.created_ms) for key in keys])
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(stored)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
