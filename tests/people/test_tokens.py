"""What a token proves, and everything that does not pass for one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from brewd.errors import Rejected
from brewd.people.keys import KeyFileError, KeyRing
from brewd.people.tokens import Tokens
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids

DAY_MS = 86_400_000


@pytest.fixture
async def keys(clock: Clock, ids: Ids) -> KeyRing:
    return KeyRing.in_memory(clock=clock, ids=ids)


@pytest.fixture
async def tokens(clock: Clock, ids: Ids, keys: KeyRing) -> Tokens:
    return Tokens(clock=clock, ids=ids, keys=keys, access_ttl_s=3600)


def access(tokens: Tokens, clock: Clock, **change: Any) -> str:
    given = {"user_id": "u", "cafe_id": "c", "role": "user", "session_id": "s", "username": "MellowOtter4821", "badge": None}
    return tokens.issue_access(**{**given, "user_expires_ms": clock.now_ms() + DAY_MS, **change})[0]


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(Rejected) as caught:
        tokens.verify_access(token)
    return caught.value.code


async def test_an_access_token_proves_what_it_was_issued_for(tokens: Tokens, clock: Clock) -> None:
    user_expires_ms = clock.now_ms() + DAY_MS + 123
    token, expires_ms = tokens.issue_access(
        user_id="u", cafe_id="c", role="user", session_id="s", username="Möwe 7 🦦", badge="regular", user_expires_ms=user_expires_ms
    )
    identity = tokens.verify_access(token)
    assert (identity.user_id, identity.cafe_id, identity.role, identity.session_id) == ("u", "c", "user", "s")
    assert (identity.username, identity.badge, identity.expires_ms, identity.user_expires_ms) == ("Möwe 7 🦦", "regular", expires_ms, user_expires_ms)
    assert not identity.is_staff


async def test_an_access_token_never_outlives_its_user(tokens: Tokens, clock: Clock) -> None:
    ends_ms = clock.now_ms() + 60_001
    _, expires_ms = tokens.issue_access(user_id="u", cafe_id="c", role="user", session_id="s", username="n", badge=None, user_expires_ms=ends_ms)
    assert expires_ms == ends_ms


async def test_other_libraries_read_our_tokens_and_we_read_theirs(tokens: Tokens, clock: Clock, keys: KeyRing) -> None:
    claims = jwt.decode(access(tokens, clock), keys.current.secret, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert {"typ", "sub", "cafe", "role", "sid", "jti", "iat", "exp"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == pytest.approx(3600, abs=1)
    theirs = jwt.encode(claims, keys.current.secret, algorithm="HS256", headers={"kid": keys.current.kid})
    assert tokens.verify_access(theirs).user_id == "u"


async def test_an_algorithm_is_never_taken_from_the_token(tokens: Tokens, clock: Clock, keys: KeyRing) -> None:
    header, payload, signature = access(tokens, clock).split(".")
    secret, kid = keys.current.secret, keys.current.kid
    for alg in ("none", "None", "NONE", "HS384", "HS512", "RS256", ""):
        forged = f"{part({'alg': alg, 'typ': 'JWT', 'kid': kid})}.{payload}"
        mac = base64.urlsafe_b64encode(hmac.digest(secret, forged.encode(), hashlib.sha256)).rstrip(b"=").decode()
        for end in ("", signature, mac):
            assert refused(tokens, f"{forged}.{end}") == "unauthorized"
    critical = f"{part({'alg': 'HS256', 'kid': kid, 'crit': ['exp']})}.{payload}"
    mac = base64.urlsafe_b64encode(hmac.digest(secret, critical.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert refused(tokens, f"{critical}.{mac}") == "unauthorized"
    assert refused(tokens, f"{header}.{payload}.") == "unauthorized"


async def test_another_key_is_refused_also_under_our_name_for_it(tokens: Tokens, clock: Clock, ids: Ids, keys: KeyRing) -> None:
    foreign = Tokens(clock=clock, ids=ids, keys=KeyRing.in_memory(clock=clock, ids=ids), access_ttl_s=3600)
    token = access(foreign, clock)
    assert refused(tokens, token) == "unauthorized"
    _, payload, signature = token.split(".")
    assert refused(tokens, f"{access(tokens, clock).split('.')[0]}.{payload}.{signature}") == "unauthorized"


async def test_a_broken_signature_is_refused(tokens: Tokens, clock: Clock) -> None:
    head, _, signature = access(tokens, clock).rpartition(".")
    for wrong in (signature[:-4], "", signature.swapcase(), "A" + signature[1:]):
        assert refused(tokens, f"{head}.{wrong}") == "unauthorized"


@given(st.text(max_size=200) | st.builds(".".join, st.lists(st.text("abcXYZ019-_=é\0", max_size=30), min_size=3, max_size=3)))
def test_nothing_but_a_token_is_a_token(text: str) -> None:
    async def main() -> None:
        clock = Clock(0)
        ids = Ids(clock)
        tokens = Tokens(clock=clock, ids=ids, keys=KeyRing.in_memory(clock=clock, ids=ids), access_ttl_s=60)
        assert refused(tokens, text) == "unauthorized"

    trio.run(main)


async def test_a_long_token_is_refused_unread(tokens: Tokens, clock: Clock) -> None:
    assert refused(tokens, access(tokens, clock, username="x" * 8000)) == "unauthorized"


async def test_refresh_and_access_do_not_stand_in_for_each_other(tokens: Tokens, clock: Clock) -> None:
    refresh = tokens.issue_refresh(user_id="u", cafe_id="c", role="user", session_id="s", jti="j", expires_ms=clock.now_ms() + DAY_MS)
    assert refused(tokens, refresh) == "unauthorized"
    with pytest.raises(Rejected) as caught:
        tokens.verify_refresh(access(tokens, clock))
    assert caught.value.code == "unauthorized"
    assert tokens.verify_refresh(refresh).jti == "j"


async def test_tokens_expire_to_the_millisecond(tokens: Tokens, clock: Clock, mock_clock: trio.testing.MockClock) -> None:
    token = access(tokens, clock)
    short = access(tokens, clock, user_expires_ms=clock.now_ms() + 1800_000)
    mock_clock.jump(1799.999)
    assert tokens.verify_access(short).user_id == "u"
    mock_clock.jump(0.001)
    assert refused(tokens, short) == "user_expired"
    mock_clock.jump(1799.999)
    assert tokens.verify_access(token).user_id == "u"
    mock_clock.jump(0.001)
    assert refused(tokens, token) == "token_expired"


async def test_rotating_keys_logs_nobody_out(tokens: Tokens, clock: Clock, keys: KeyRing, mock_clock: trio.testing.MockClock) -> None:
    before = access(tokens, clock)
    old = keys.current.kid
    mock_clock.jump(60)
    assert await keys.rotate() == keys.current.kid != old
    assert tokens.verify_access(before).user_id == "u"
    assert tokens.verify_access(access(tokens, clock)).user_id == "u"
    assert jwt.get_unverified_header(access(tokens, clock))["kid"] == keys.current.kid


async def test_a_key_leaves_when_nothing_it_signed_can_be_alive(clock: Clock, ids: Ids, mock_clock: trio.testing.MockClock) -> None:
    keys = KeyRing.in_memory(clock=clock, ids=ids, lifetime_s=86_400)
    first = keys.current.kid
    mock_clock.jump(100_000)
    await keys.rotate()  # the first key signed until now, so it is needed for a day from now
    mock_clock.jump(86_000)
    await keys.rotate()
    assert first in keys.kids
    mock_clock.jump(500)
    await keys.rotate()
    assert first not in keys.kids
    assert len(keys.kids) == 3


async def test_the_number_of_keys_is_bounded(keys: KeyRing) -> None:
    for _ in range(40):
        await keys.rotate()
    assert len(keys.kids) == 16


async def test_keys_are_kept_in_a_file_of_their_own(tmp_path: Path, clock: Clock, ids: Ids) -> None:
    path = tmp_path / "keys.json"
    keys = KeyRing.open(path, clock=clock, ids=ids)
    assert path.stat().st_mode & 0o777 == 0o600
    await keys.rotate()
    assert path.stat().st_mode & 0o777 == 0o600
    again = KeyRing.open(path, clock=clock, ids=ids)
    assert (again.kids, again.current) == (keys.kids, keys.current)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["keys.json"]


async def test_a_secret_written_by_hand_is_taken(tmp_path: Path, clock: Clock, ids: Ids) -> None:
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    path.chmod(0o600)
    keys = KeyRing.open(path, clock=clock, ids=ids)
    assert keys.current.secret == b"0123456789abcdef0123456789abcdef"
    assert KeyRing.open(path, clock=clock, ids=ids).kids == keys.kids
    await keys.rotate()
    assert KeyRing.open(path, clock=clock, ids=ids).kids == keys.kids


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("x" * 32, 0o640, "chmod 600"),
        ("short", 0o600, "shorter than 32"),
        ("", 0o600, "holds no key"),
        ('{"keys":[]}', 0o600, "holds no key"),
        ('{"keys":7}', 0o600, "not a key file"),
        ('{"keys":[{"kid":"a","secret":"?","createdMs":0}]}', 0o600, "not a key file"),
    ],
)
async def test_a_key_file_that_cannot_be_used_says_why(tmp_path: Path, clock: Clock, ids: Ids, content: str, mode: int, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=message):
        KeyRing.open(path, clock=clock, ids=ids)


async def test_a_key_file_that_cannot_be_written_says_why(tmp_path: Path, clock: Clock, ids: Ids) -> None:
    with pytest.raises(KeyFileError, match="cannot be written"):
        KeyRing.open(tmp_path / "missing" / "keys.json", clock=clock, ids=ids)
