"""What an operator can set, with its default, its bounds and what it means: the one place a key is described.

`load` reads a TOML file and `BREWD__SECTION__KEY` from the environment, and reports every mistake at once as `ConfigErrors`.
The structs are frozen: a changed config is a new `Config`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field

from brewd.config_agent import Agent
from brewd.config_file import ConfigErrors, ConfigProblem, Inline, Section, decode, render
from brewd.config_spam import Spam, check_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Address", "Config", "ConfigErrors", "ConfigProblem", "load", "parse_address", "render_config", "render_defaults", "without_secrets"]

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Address(msgspec.Struct, frozen=True):
    """One parsed entry of `server.listen`. `kind` says which fields count: tcp → host, port; unix → path; fd → fd."""

    kind: Literal["tcp", "unix", "fd"]
    host: str = ""
    port: int = 0
    path: str = ""
    fd: int = -1


def parse_address(text: str) -> Address:
    """`host:port`, `[::1]:port`, `unix:/path` or `fd://3`. Raises `ValueError` with a sentence."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{text!r} needs an absolute path after 'unix:'")
        return Address(kind="unix", path=path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not number.isdecimal():
            raise ValueError(f"{text!r} needs the number of an open file descriptor after 'fd://'")
        return Address(kind="fd", fd=int(number))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not host:
        raise ValueError(f"{text!r} is not an address; write host:port, [IPv6]:port, unix:/path or fd://N")
    if int(port) > 65535:
        raise ValueError(f"{text!r} has port {port}; ports end at 65535")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} needs its IPv6 address in square brackets, like [::1]:8080")
    return Address(kind="tcp", host=host.strip("[]"), port=int(port))


class Tls(Inline, frozen=True, kw_only=True):
    cert: Annotated[str, Meta(description="PEM file with the chain")] = ""
    key: Annotated[str, Meta(description="PEM file with the private key")] = ""


class Server(Section, frozen=True, kw_only=True):
    listen: Annotated[list[str], Meta(description="host:port, [::1]:port, unix:/path or fd://3; port 0 takes a free one")] = field(
        default_factory=lambda: ["127.0.0.1:8080"]
    )
    public_url: Annotated[str, Meta(description="what customers open, for links on receipts; empty: made from listen")] = ""
    origins: Annotated[list[str], Meta(description='foreign web pages that may call, like "https://menu.example"')] = field(default_factory=list)
    trusted_proxies: Annotated[list[str], Meta(description="addresses or networks whose X-Forwarded-For is believed")] = field(default_factory=list)
    drain_s: Annotated[Seconds, Meta(description="a stop ends within this")] = 20
    tls: Annotated[Tls, Meta(description="both files, or neither for plain HTTP")] = Tls()

    def addresses(self) -> list[Address]:
        return [parse_address(text) for text in self.listen]


class Data(Section, frozen=True, kw_only=True):
    dir: Annotated[str, Meta(description="embedded servers, keys, control socket; relative to this file")] = "~/.local/share/brewd"
    numbers_days: Annotated[int, Meta(ge=62, le=36500, description="hourly numbers, and what each question cost, are kept for so long; at least 62")] = 400

    @property
    def path(self) -> Path:
        return Path(self.dir).expanduser()


class Postgres(Section, frozen=True, kw_only=True):
    url: Annotated[str, Meta(description='"embedded", or postgresql://…')] = "embedded"
    replica_url: Annotated[str, Meta(description="a read replica for analytics; empty: none")] = ""
    pool_max: Annotated[Count, Meta(le=1000, description="connections at most, beside the journal's own, the ledger's, and four of the agent's worker")] = 10
    prepared: Annotated[bool, Meta(description="false behind a PgBouncer in transaction mode")] = True


class Redis(Section, frozen=True, kw_only=True):
    url: Annotated[str, Meta(description='"embedded", or redis://…, rediss://…, unix://…')] = "embedded"


class Auth(Section, frozen=True, kw_only=True):
    access_ttl_s: Annotated[int, Meta(ge=1, description="life of an access token")] = 3600
    user_ttl_s: Annotated[int, Meta(ge=1, description="life of a customer, and of a refresh token")] = 86400
    join_token_ttl_s: Annotated[int, Meta(ge=1, description="life of the code on a receipt")] = 900
    secret_file: Annotated[str, Meta(description="token keys, mode 0600, made when absent; empty: keys.json in data.dir")] = ""


class Room(Section, frozen=True, kw_only=True):
    message_max_chars: Annotated[Count, Meta(le=100_000, description="a longer message is refused")] = 1000
    history: Annotated[int, Meta(ge=0, le=1000, description="messages a newcomer gets")] = 50
    presence_grace_s: Annotated[float, Meta(ge=0, description="a dropped user is still present for this long")] = 30
    typing_s: Annotated[Seconds, Meta(description="a typing sign ends by itself after this")] = 3
    idle_s: Annotated[Seconds, Meta(description="an empty café leaves memory after this")] = 300
    mailbox_max: Annotated[Count, Meta(description="commands waiting for one café; more are answered mailbox_full")] = 1024
    outbox_max_bytes: Annotated[int, Meta(ge=4096, description="bytes waiting for one slow socket; more end in close code 4008")] = 262144
    frame_max_bytes: Annotated[int, Meta(ge=1024, description="a larger WebSocket frame is refused")] = 16384
    retention_days: Annotated[Count, Meta(le=3650, description="messages are kept for so long, unless a café says otherwise")] = 7


class Journal(Section, frozen=True, kw_only=True):
    batch_max: Annotated[Count, Meta(description="messages in one commit")] = 1000
    pending_max: Annotated[Count, Meta(description="messages waiting for Postgres; more are answered storage_unavailable")] = 20000
    timeout_s: Annotated[Seconds, Meta(description="one commit may take this long")] = 5


Gap = Annotated[float, Meta(ge=0, le=86400)]


class Bucket(Inline, frozen=True, kw_only=True):
    """A token bucket: `burst` tokens at most, `per_hour` come back, and `gap_s` between two."""

    per_hour: Annotated[Count, Meta(le=10**9)] = 30
    burst: Annotated[Count, Meta(le=10**9)] = 30
    gap_s: Gap = 30


class PerDay(Inline, frozen=True, kw_only=True):
    per_day: Annotated[int, Meta(ge=0, le=1000)] = 5


class PerSession(Inline, frozen=True, kw_only=True):
    per_session: Annotated[int, Meta(ge=0, le=1000)] = 2
    gap_s: Gap = 120


class Profile(Section, frozen=True, kw_only=True):
    """How much one customer may do; a café names its profile. What a new profile leaves out is as in `standard`."""

    message: Annotated[Bucket, Meta(description="burst at once, per_hour come back, gap_s between two")] = Bucket()
    badge_message: Annotated[Bucket, Meta(description="the same for a customer with a badge")] = Bucket(per_hour=60, burst=60, gap_s=15)
    poke: Annotated[PerDay, Meta(description="0 = none")] = PerDay()
    badge_poke: PerDay = PerDay(per_day=10)
    agent: Annotated[PerSession, Meta(description="questions to the agent, and gap_s between any two in the café; 0 = none")] = PerSession()
    badge_agent: PerSession = PerSession(per_session=5, gap_s=60)


LIVELY: Final = Profile(
    message=Bucket(per_hour=1800, burst=10, gap_s=1),
    badge_message=Bucket(per_hour=3600, burst=20, gap_s=1),
    agent=PerSession(per_session=20, gap_s=2),
    badge_agent=PerSession(per_session=40, gap_s=1),
)

NoLimit = Annotated[int, Meta(ge=0)]


class EdgeLimits(Section, frozen=True, kw_only=True):
    """What `brewd/edge` counts before it knows who somebody is, and how much one person may open. 0 is no limit, for each key."""

    anonymous_per_15min: Annotated[NoLimit, Meta(description="requests without a token from one address; 0 = no limit, here and below")] = 100
    failures_per_15min: Annotated[NoLimit, Meta(description="failed logins, joins and refreshes from one address; IPv6 is counted by /64")] = 5
    failures_per_cafe_per_15min: Annotated[NoLimit, Meta(description="failed logins, and failed joins, at one café")] = 50
    failures_per_username_per_15min: Annotated[NoLimit, Meta(description="failed joins with one name, wherever they come from")] = 5
    cafe_network_factor: Annotated[NoLimit, Meta(description="an address of a café's own network gets this many times as much")] = 50
    receipts_per_hour: Annotated[NoLimit, Meta(description="receipts one barista can make")] = 10
    tips_per_minute: Annotated[NoLimit, Meta(description="tips one barista can record of one user")] = 3
    sockets_per_address: Annotated[NoLimit, Meta(description="WebSockets open at once")] = 200
    sockets_per_user: NoLimit = 5
    frames_per_s: Annotated[NoLimit, Meta(description="WebSocket frames from one socket")] = 20


WIDE_OPEN: Final = EdgeLimits(
    anonymous_per_15min=0,
    failures_per_15min=0,
    failures_per_cafe_per_15min=0,
    failures_per_username_per_15min=0,
    receipts_per_hour=0,
    tips_per_minute=0,
    sockets_per_address=0,
    sockets_per_user=0,
    frames_per_s=0,
)
"""No limit at all, for where there are no strangers."""


class Limits(Section, frozen=True, kw_only=True):
    enabled: Annotated[bool, Meta(description="false: nobody is limited in a room, whatever the profiles say")] = True
    profile: Annotated[str, Meta(description="the default for new cafés: a name below limits.profiles")] = "standard"
    profiles: dict[str, Profile] = field(default_factory=lambda: {"standard": Profile(), "lively": LIVELY})
    edge: EdgeLimits = EdgeLimits()
    spam: Spam = field(default_factory=Spam)


class Control(Section, frozen=True, kw_only=True):
    socket: Annotated[str, Meta(min_length=1, description="relative to data.dir")] = "control.sock"


class Observe(Section, frozen=True, kw_only=True):
    log: Annotated[Literal["json", "console"], Meta(description='"json" or "console", on stderr')] = "json"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description='"debug", "info", "warning" or "error"')] = "info"
    metrics: Annotated[str, Meta(description="host:port that answers Prometheus at /metrics; empty: off. Of no effect yet, as are the next three")] = ""
    statsd: Annotated[str, Meta(description="host:port of a StatsD server; empty: off")] = ""
    sentry_dsn: Annotated[str, Meta(description="empty: off")] = ""
    otlp: Annotated[str, Meta(description="URL of an OpenTelemetry collector; empty: off")] = ""


class Config(Section, frozen=True, kw_only=True):
    server: Server = field(default_factory=Server)
    data: Data = Data()
    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    auth: Auth = Auth()
    room: Room = Room()
    journal: Journal = Journal()
    limits: Limits = field(default_factory=Limits)
    agent: Agent = field(default_factory=Agent)
    control: Control = Control()
    observe: Observe = Observe()

    @property
    def control_path(self) -> Path:
        """Where the control socket is."""
        return self.data.path / Path(self.control.socket).expanduser()

    @property
    def secret_path(self) -> Path:
        """Where the token keys are."""
        return Path(self.auth.secret_file).expanduser() if self.auth.secret_file else self.data.path / "keys.json"

    @property
    def public_url(self) -> str:
        """`server.public_url`, or what the first TCP address makes of it. No slash at the end."""
        if self.server.public_url:
            return self.server.public_url.rstrip("/")
        scheme = "https" if self.server.tls.cert else "http"
        for address in self.server.addresses():
            if address.kind == "tcp":
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
                return f"{scheme}://[{host}]:{address.port}" if ":" in host else f"{scheme}://{host}:{address.port}"
        return f"{scheme}://localhost"


def load(path: Path | str | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """The config of `path` (None: no file, defaults only) with `env` on top. Raises `ConfigErrors` with every problem found."""
    return decode(Config, Path(path) if path is not None else None, env, check=_check, files=_FILES)


def render_defaults() -> str:
    """The commented reference: a TOML file with every key at its default."""
    head = (
        "# Every key brewd knows, with its default: an empty file means the same as this one.\n"
        "# BREWD__SECTION__KEY in the environment overrides a key (BREWD__LIMITS__EDGE__FRAMES_PER_S=50).\n"
        "# Durations are in seconds. A path is relative to the file it stands in; ~ is the home directory.\n"
    )
    return head + render(Config())


def render_config(config: Config) -> str:
    """`config` as a TOML file that loads as the same config."""
    return render(config).removeprefix("\n")


def without_secrets(config: Config) -> Config:
    """The same, fit to be shown: the passwords in its URLs are stars."""
    change = msgspec.structs.replace
    return change(
        config,
        postgres=change(config.postgres, url=_starred(config.postgres.url), replica_url=_starred(config.postgres.replica_url)),
        redis=change(config.redis, url=_starred(config.redis.url)),
        observe=change(config.observe, sentry_dsn=_starred(config.observe.sentry_dsn), otlp=_starred(config.observe.otlp)),
    )


def _starred(url: str) -> str:
    """The password of `scheme://user:password@host`, and one given as a parameter, replaced."""
    hidden = re.sub(r"(://[^:/@?]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", hidden)


_FILES: Final = ("data.dir", "auth.secret_file", "agent.api_key_file", "server.tls.cert", "server.tls.key")
"""Keys that hold a path, taken relative to the config file."""


def _check(config: Config) -> Iterator[tuple[str, str]]:
    """What one type cannot say: (key, sentence) for everything that would fail later, and less clearly."""
    yield from _check_server(config.server)
    yield from _check_urls(config)
    yield from _check_sizes(config)
    for key, text in (("observe.metrics", config.observe.metrics), ("observe.statsd", config.observe.statsd)):
        if text and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}", text):
            yield key, f"{text!r} is not host:port"
    if config.limits.profile not in config.limits.profiles:
        yield "limits.profile", f"there is no profile {config.limits.profile!r}; there are {', '.join(sorted(config.limits.profiles))}"
    for sentence in check_words(config.limits.spam.words):
        yield "limits.spam.words", sentence
    key_file = Path(config.agent.api_key_file).expanduser()
    if config.agent.api_key_file and not _readable(key_file):
        yield "agent.api_key_file", f"{key_file} cannot be read"


def _check_server(server: Server) -> Iterator[tuple[str, str]]:
    if not server.listen:
        yield "server.listen", "needs at least one address"
    for text in server.listen:
        try:
            parse_address(text)
        except ValueError as error:
            yield "server.listen", str(error)
    if len(set(server.listen)) < len(server.listen):
        yield "server.listen", "names the same address twice"
    for origin in server.origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
            yield "server.origins", f"{origin!r} is not an origin; write scheme://host[:port] with nothing after it"
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            yield "server.trusted_proxies", f"{network!r} is not an address or a network: {error}"
    if bool(server.tls.cert) != bool(server.tls.key):
        yield "server.tls", "needs both cert and key, or neither"
    named = [(name, Path(text).expanduser()) for name, text in (("cert", server.tls.cert), ("key", server.tls.key)) if text]
    for name, path in named:
        if not _readable(path):
            yield f"server.tls.{name}", f"{path} cannot be read"
    if len(named) == 2 and all(_readable(path) for _, path in named) and not _is_pair(named[0][1], named[1][1]):
        yield "server.tls", f"{named[0][1]} and {named[1][1]} are not a certificate and its key, or the key has a password"


def _is_pair(cert: Path, key: Path) -> bool:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        return False
    return True


def _check_urls(config: Config) -> Iterator[tuple[str, str]]:
    expected = (
        ("server.public_url", config.server.public_url, ("http", "https"), True),
        ("postgres.url", config.postgres.url, ("postgresql", "postgres"), False),
        ("postgres.replica_url", config.postgres.replica_url, ("postgresql", "postgres"), True),
        ("redis.url", config.redis.url, ("redis", "rediss", "unix"), False),
        ("agent.base_url", config.agent.base_url, ("http", "https"), True),
        ("observe.sentry_dsn", config.observe.sentry_dsn, ("http", "https"), True),
        ("observe.otlp", config.observe.otlp, ("http", "https"), True),
    )
    for key, text, schemes, may_be_empty in expected:
        if (not text and may_be_empty) or (text == "embedded" and not may_be_empty):
            continue
        if urlsplit(text).scheme not in schemes or "://" not in text:
            # The value itself stays out of the message: a database URL has a password in it.
            other = "" if may_be_empty else '"embedded" or '
            yield key, f"must be {other}a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"


def _check_sizes(config: Config) -> Iterator[tuple[str, str]]:
    """Sizes that do not fit together are blamed on the one of the two that was changed."""
    room, journal = config.room, config.journal
    needed_bytes = room.message_max_chars * 4 + 512
    if room.frame_max_bytes < needed_bytes:
        key = "message_max_chars" if room.frame_max_bytes == Room().frame_max_bytes else "frame_max_bytes"
        yield f"room.{key}", f"{room.message_max_chars} characters can need {needed_bytes} bytes, and room.frame_max_bytes is {room.frame_max_bytes}"
    if room.outbox_max_bytes < room.frame_max_bytes:
        key = "frame_max_bytes" if room.outbox_max_bytes == Room().outbox_max_bytes else "outbox_max_bytes"
        yield f"room.{key}", f"a frame of {room.frame_max_bytes} bytes does not fit into room.outbox_max_bytes, which is {room.outbox_max_bytes}"
    if journal.pending_max < journal.batch_max:
        key = "batch_max" if journal.pending_max == Journal().pending_max else "pending_max"
        yield f"journal.{key}", f"a batch of {journal.batch_max} does not fit into journal.pending_max, which is {journal.pending_max}"


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)
