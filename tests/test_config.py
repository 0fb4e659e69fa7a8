"""The config: its defaults, its reference file, the environment, and every way of getting it wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.config import Address, Bucket, Config, ConfigErrors, load, parse_address, render_config, render_defaults, without_secrets
from brewd.config_file import locate

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "brewd.toml"


def problems(path: Path | None, env: dict[str, str] | None = None) -> list[str]:
    """What `load` complains about, one line each, without the directory."""
    with pytest.raises(ConfigErrors) as caught:
        load(path, env or {})
    return [str(problem).removeprefix(f"{path.parent}/" if path else "") for problem in caught.value.problems]


def test_the_reference_at_the_top_is_what_the_code_says() -> None:
    assert (ROOT / "brewd.toml").read_text() == render_defaults()


def test_the_reference_means_the_same_as_nothing() -> None:
    assert load(ROOT / "brewd.toml", {}) == load(None, {})


def test_the_contract_keeps_its_defaults() -> None:
    config = Config()
    assert config.server.listen == ["127.0.0.1:8080"]
    assert (config.postgres.url, config.redis.url) == ("embedded", "embedded")
    assert config.limits.profiles["standard"].message == Bucket(per_hour=30, burst=30, gap_s=30)
    assert config.limits.profiles["standard"].badge_message == Bucket(per_hour=60, burst=60, gap_s=15)
    assert config.limits.profiles["lively"].message == Bucket(per_hour=1800, burst=10, gap_s=1)
    assert config.room.outbox_max_bytes == 262144


def test_what_is_left_out_keeps_its_default(file: Path) -> None:
    file.write_text('[limits.profiles.standard]\nmessage = { gap_s = 1.5 }\n[limits.profiles.quiet]\npoke = { per_day = 0 }\n[limits]\nprofile = "quiet"\n')
    limits = load(file, {}).limits
    assert limits.profiles["standard"].message == Bucket(per_hour=30, burst=30, gap_s=1.5)
    assert limits.profiles["quiet"].message == Bucket()
    assert limits.profiles["quiet"].poke.per_day == 0
    assert limits.profiles["lively"] == Config().limits.profiles["lively"]
    assert limits.profile == "quiet"


def test_the_environment_overrides_the_file(file: Path) -> None:
    file.write_text('[room]\nhistory = 10\nidle_s = 60\n[data]\ndir = "/srv/a"\n')
    env = {
        "BREWD__ROOM__HISTORY": "20",
        "BREWD__LIMITS__EDGE__FRAMES_PER_S": "0",
        "BREWD__SERVER__LISTEN": '["127.0.0.1:1", "unix:/run/b.sock"]',
        "BREWD__SERVER__PUBLIC_URL": "https://cafe.example",
        "BREWD__LIMITS__PROFILES__STANDARD__MESSAGE__PER_HOUR": "7",
        "BREWD__AUTH__SECRET_FILE": "12",
        "BREWD_SOCKET": "/elsewhere",
        "PATH": "/bin",
    }
    config = load(file, env)
    assert (config.room.history, config.room.idle_s, config.data.dir) == (20, 60, "/srv/a")
    assert config.limits.edge.frames_per_s == 0
    assert config.server.listen == ["127.0.0.1:1", "unix:/run/b.sock"]
    assert config.public_url == "https://cafe.example"
    assert config.limits.profiles["standard"].message.per_hour == 7
    assert config.secret_path == Path("12").absolute()


def test_a_list_in_the_environment_may_be_plain_words() -> None:
    assert load(None, {"BREWD__SERVER__LISTEN": "127.0.0.1:1, [::1]:2"}).server.listen == ["127.0.0.1:1", "[::1]:2"]


def test_a_path_is_relative_to_its_file(file: Path) -> None:
    file.write_text('[data]\ndir = "data"\n[control]\nsocket = "run/c.sock"\n')
    config = load(file, {})
    assert config.data.path == file.parent / "data"
    assert config.control_path == file.parent / "data/run/c.sock"
    assert config.secret_path == file.parent / "data/keys.json"


def test_every_mistake_is_reported_at_once_on_its_line(file: Path) -> None:
    file.write_text(
        """\
[server]
lisen = ["127.0.0.1:80"]
listen = ["localhost", "h:99999", "::1:80"]
origins = ["https://menu.example/path"]
trusted_proxies = ["10.0.0.1/8"]
tls = { cert = "", kee = 3, key = "missing.pem" }

[room]
history = "50"
drain_s = 3
[limits.profiles.quiet]
message = { per_hour = 0 }
[limts]
[observe]
log = "xml"
metrics = "everywhere"
[journal]
timeout_s = nan
"batch_max" = 0.5
pending_max = 10
[postgres]
url = "mysql://root:secret@db/x"
"""
    )
    env = {"BREWD__ROOM__TYPING_S": "-1", "BREWD__SERVER__ORIGIN": "x", "BREWD__LIMITS__PROFILE": "none"}
    assert problems(file, env) == [
        "brewd.toml:2: server.lisen: unknown key; did you mean server.listen?",
        "brewd.toml:3: server.listen: 'localhost' is not an address; write host:port, [IPv6]:port, unix:/path or fd://N",
        "brewd.toml:3: server.listen: 'h:99999' has port 99999; ports end at 65535",
        "brewd.toml:3: server.listen: '::1:80' needs its IPv6 address in square brackets, like [::1]:8080",
        "brewd.toml:4: server.origins: 'https://menu.example/path' is not an origin; write scheme://host[:port] with nothing after it",
        "brewd.toml:5: server.trusted_proxies: '10.0.0.1/8' is not an address or a network: 10.0.0.1/8 has host bits set",
        "brewd.toml:6: server.tls.kee: unknown key; did you mean server.tls.key?",
        f"brewd.toml:6: server.tls.key: {file.parent}/missing.pem cannot be read",
        'brewd.toml:9: room.history: must be a whole number from 0 to 1000, not "50"',
        "brewd.toml:10: room.drain_s: unknown key; did you mean server.drain_s?",
        "brewd.toml:12: limits.profiles.quiet.message.per_hour: must be a whole number from 1 to 1000000000, not 0",
        "brewd.toml:13: limts: unknown key; did you mean limits?",
        'brewd.toml:15: observe.log: must be one of "console", "json", not "xml"',
        "brewd.toml:16: observe.metrics: 'everywhere' is not host:port",
        "brewd.toml:18: journal.timeout_s: must be a number above 0, not nan",
        "brewd.toml:19: journal.batch_max: must be a whole number of at least 1, not 0.5",
        "brewd.toml:20: journal.pending_max: a batch of 1000 does not fit into journal.pending_max, which is 10",
        'brewd.toml:22: postgres.url: must be "embedded" or a URL that starts with postgresql:// or postgres://',
        "environment: BREWD__ROOM__TYPING_S: must be a number above 0, not -1",
        "environment: BREWD__SERVER__ORIGIN: unknown key; did you mean BREWD__SERVER__ORIGINS?",
        "environment: BREWD__LIMITS__PROFILE: there is no profile 'none'; there are lively, quiet, standard",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server\n", "brewd.toml:1: is not TOML: expected ']' at the end of a table declaration"),
        ("[room]\nhistory = 1\nhistory = 2\n", "brewd.toml:3: is not TOML: cannot overwrite a value"),
        ("room = 3\n", "brewd.toml:1: room: must be a table, not 3"),
        ("[server]\ntls = true\n", "brewd.toml:2: server.tls: must be a table, not true"),
        ("[limits]\nprofiles = []\n", "brewd.toml:2: limits.profiles: must be a table, not []"),
        ('[server]\ntls = { cert = "only.pem" }\n', "brewd.toml:2: server.tls: needs both cert and key, or neither"),
        ("[server]\nlisten = []\n", "brewd.toml:2: server.listen: needs at least one address"),
        ('[server]\nlisten = "127.0.0.1:80"\n', 'brewd.toml:2: server.listen: must be a list of texts, like ["one", "two"], not "127.0.0.1:80"'),
        ("[room]\nmessage_max_chars = 5000\n", "brewd.toml:2: room.message_max_chars: 5000 characters can need 20512 bytes, and room.frame_max_bytes is 16384"),
        ('[agent]\nmodel = ""\n', 'brewd.toml:2: agent.model: must be text in quotes, not empty, not ""'),
    ],
)
def test_a_mistake_is_named(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    assert problems(file)[0].startswith(problem)


def test_a_missing_file_is_a_mistake_of_its_own(file: Path) -> None:
    assert problems(file) == ["brewd.toml: cannot be read: No such file or directory"]


def test_a_problem_carries_what_a_program_needs(file: Path) -> None:
    file.write_text("\n[room]\nhistry = 1\n")
    with pytest.raises(ConfigErrors) as caught:
        load(file, {})
    assert msgspec.to_builtins(caught.value.problems) == [
        {"file": str(file), "line": 3, "key": "room.histry", "message": "unknown key", "nearest": "room.history"}
    ]


def test_no_secret_is_in_a_complaint_about_it(file: Path) -> None:
    file.write_text('[redis]\nurl = "http://:sesame@h"\n')
    assert "sesame" not in problems(file)[0]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address(kind="tcp", host="127.0.0.1", port=80)),
        ("[::1]:0", Address(kind="tcp", host="::1", port=0)),
        ("unix:/run/b.sock", Address(kind="unix", path="/run/b.sock")),
        ("unix:///run/b.sock", Address(kind="unix", path="/run/b.sock")),
        ("fd://3", Address(kind="fd", fd=3)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "80", ":80", "h:", "h:x", "h:-1", "unix:relative", "fd://x", "[::1:80", "h:80:90"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@pytest.mark.parametrize(
    ("listen", "url"),
    [("0.0.0.0:80", "http://127.0.0.1:80"), ("[::]:80", "http://[::1]:80"), ("h.example:80", "http://h.example:80"), ("unix:/x", "http://localhost")],
)
def test_links_are_made_from_what_is_listened_at(listen: str, url: str) -> None:
    assert load(None, {"BREWD__SERVER__LISTEN": listen}).public_url == url


def test_a_shown_config_has_no_password_and_is_a_config() -> None:
    env = {
        "BREWD__POSTGRES__URL": "postgresql://brewd:hunter2@db:5432/brewd?sslmode=require",
        "BREWD__POSTGRES__REPLICA_URL": "postgresql://db/brewd?user=x&password=hunter2",
        "BREWD__REDIS__URL": "rediss://:hunter2@r:6380/0",
    }
    shown = render_config(without_secrets(load(None, env)))
    assert "hunter2" not in shown
    assert 'url = "postgresql://brewd:***@db:5432/brewd?sslmode=require"' in shown
    assert tomllib.loads(shown)["redis"]["url"] == "rediss://:***@r:6380/0"


def test_a_rendered_config_reads_back_as_itself(file: Path) -> None:
    config = load(
        None, {"BREWD__SERVER__ORIGINS": r"""["https://a.example"]""", "BREWD__AGENT__MODEL": '"odd \\" \\\\ \\u0007 é"', "BREWD__JOURNAL__TIMEOUT_S": "0.25"}
    )
    file.write_text(render_config(config))
    assert load(file, {}) == config


def test_lines_are_found_through_everything_toml_can_write() -> None:
    text = '''# a comment with [brackets] = and "quotes"
a.b = 1
"q.x" = """
[not.a.table]
c = 1
"""
[t.'u v'] # more
k = [ # open
  "]", 1.5, { z = 1 },
]
d = { e = 1979-05-27T07:32:00Z, f = { g = '}' }, h = "\\"" }
[[list]]
i = 1
'''
    assert locate(text) == {
        ("a", "b"): 2,
        ("q.x",): 3,
        ("t", "u v"): 7,
        ("t", "u v", "k"): 8,
        ("t", "u v", "d"): 11,
        ("t", "u v", "d", "e"): 11,
        ("t", "u v", "d", "f"): 11,
        ("t", "u v", "d", "f", "g"): 11,
        ("t", "u v", "d", "h"): 11,
        ("list",): 12,
        ("list", "i"): 13,
    }


@given(st.text(alphabet="ab[]{}=,.\"'\n# 1\\", max_size=40))
def test_every_text_that_is_toml_has_its_lines_found(text: str) -> None:
    """Whatever tomllib takes, `locate` takes too, and knows every key at the top."""
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(parsed) == {path[0] for path in locate(text) if path}
