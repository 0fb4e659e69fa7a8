"""`brewd check` and `brewd migrate`, against real servers and against none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
import trio

from brewd.config import Config, Data, Postgres
from brewd.runtime.bridge import Bridge
from brewd.runtime.clock import Clock
from brewd.store.migrate import migrations_dir
from brewd.store.postgres import open_postgres
from brewd.store.stores import migrated
from brewd.store.where import where
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "brewd.toml"


def test_a_good_config(run: Run, file: Path) -> None:
    file.write_text("[room]\nhistory = 7\n")
    assert run("check", "-c", str(file)) == (0, "", f"{file}: the config is good\n")
    assert run("check", "-c", str(file), "--json").json == {"ok": True, "problems": [], "warnings": [], "connections": {}}


def test_a_bad_one_with_everything_that_is_wrong(run: Run, file: Path) -> None:
    file.write_text("[room]\nhistry = 7\nidle_s = 0\n")
    ran = run("check", "-c", str(file), "--json")
    assert ran.code == 78
    assert [(problem["line"], problem["key"], problem["nearest"]) for problem in ran.json["problems"]] == [
        (2, "room.histry", "room.history"),
        (3, "room.idle_s", None),
    ]
    assert ran.err == f"{file}:2: room.histry: unknown key; did you mean room.history?\n{file}:3: room.idle_s: must be a number above 0, not 0\n"


def test_what_is_right_and_may_not_be_meant(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[agent]\nmodel = "claude-sonnet-4-5"\n')
    ran = run("check", "-c", str(file))
    assert (ran.code, ran.err.splitlines()[0]) == (
        0,
        "warning: agent.model: claude-sonnet-4-5 is deprecated and ends on November 30th, 2026; take its successor",
    )
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    file.write_text("")
    (warning,) = run("check", "-c", str(file), "--json").json["warnings"]
    assert "the agent is off" in warning
    (file.parent / "empty").write_text("\n")
    file.write_text('[agent]\napi_key_file = "empty"\n')
    (warning,) = run("check", "-c", str(file), "--json").json["warnings"]
    assert warning == f"agent.api_key_file: there is no key in {file.parent / 'empty'}: the agent is off"


def test_an_agent_that_may_not_be_meant_so_is_warned_of(run: Run, file: Path) -> None:
    key = file.parent / "key"
    key.write_text("sk-x\n")
    key.chmod(0o640)
    file.write_text('[agent]\napi_key_file = "key"\nmodel = "claude-sonet-5-5"\n')
    assert run("check", "-c", str(file), "--json").json["warnings"] == [
        f"agent.api_key_file: others on this machine may read {key}; chmod 600 it",
        "agent.model: claude-sonet-5-5 has no price in agent.prices, so it counts as the dearest; is it spelled right?",
    ]
    key.chmod(0o600)
    file.write_text('[agent]\napi_key_file = "key"\n')
    assert run("check", "-c", str(file), "--json").json["warnings"] == []


def test_a_missing_file(run: Run, file: Path) -> None:
    assert run("check", "-c", str(file)) == (78, "", f"{file}: cannot be read: No such file or directory\n")


def test_the_stores_are_there(run: Run, file: Path, postgres_dsn: str, redis_url: str) -> None:
    file.write_text(f'[postgres]\nurl = "{postgres_dsn}"\nreplica_url = "{postgres_dsn}"\n[redis]\nurl = "{redis_url}"\n')
    ran = run("check", "-c", str(file), "--connect", "--json")
    assert (ran.code, ran.json["connections"]) == (0, {"postgres": "ok", "replica": "ok", "redis": "ok"})


def test_embedded_stores_are_not_connected_to(run: Run) -> None:
    assert run("check", "--connect") == (0, "postgres  embedded\nredis     embedded\n", "the defaults: the config is good\n")


def test_the_stores_are_not_there(run: Run, file: Path) -> None:
    file.write_text('[postgres]\nurl = "postgresql://nobody:sesame@127.0.0.1:1/x"\n[redis]\nurl = "redis://127.0.0.1:1/0"\n')
    ran = run("check", "-c", str(file), "--connect")
    assert ran.code == 1
    assert ran.err == f"{file}: the config is good, but postgres and redis cannot be used\n"
    assert "sesame" not in ran.out


def test_migrate_finds_nothing_to_do(run: Run, file: Path, postgres_dsn: str) -> None:
    file.write_text(f'[postgres]\nurl = "{postgres_dsn}"\n')
    ran = run("migrate", "-c", str(file))
    assert (ran.code, ran.out, ran.err.endswith(": the database is up to date\n")) == (0, "", True)
    assert run("migrate", "-c", str(file), "--dry-run", "--json").json == {"pending": []}


def test_migrate_brings_an_empty_database_up(run: Run, file: Path, empty_dsn: str) -> None:
    file.write_text(f'[postgres]\nurl = "{empty_dsn}"\n')
    names = sorted(path.name for path in migrations_dir().glob("*.sql"))
    assert run("migrate", "-c", str(file), "--dry-run", "--json").json == {"pending": names}
    assert run("migrate", "-c", str(file)).out.split() == names
    assert run("migrate", "-c", str(file), "--json").json == {"applied": []}


def test_migrate_without_a_postgres(run: Run, file: Path) -> None:
    file.write_text('[postgres]\nurl = "postgresql://127.0.0.1:1/x"\n')
    ran = run("migrate", "-c", str(file))
    assert ran.code == 3
    assert "Postgres does not answer (postgresql://127.0.0.1:1/x): " in ran.err


def test_migrate_says_which_database_it_looked_at(run: Run, file: Path, empty_dsn: str) -> None:
    file.write_text(f'[postgres]\nurl = "{empty_dsn}&password=sesame"\n')
    ran = run("migrate", "-c", str(file), "--dry-run")
    name, (_, host) = empty_dsn.partition("?")[0].rpartition("/")[2], empty_dsn.split("host=")
    assert (f"/{name}?host={unquote(host.partition('&')[0])}: " in ran.err, ran.err.endswith(" missing\n"), "sesame" in ran.err) == (True, True, False)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://ann:sesame@db.example:5432/brewd?sslmode=require&password=sesame", "postgresql://db.example:5432/brewd"),
        ("postgresql://ann:ses@me/sesame@db.example/brewd", "postgresql://db.example/brewd"),
        ("postgresql://ann:sesame?sesame@db.example/brewd", "postgres.url"),
        ("postgresql:///brewd?user=ann&password=ses@me&host=/run/pg", "postgresql:///brewd?host=/run/pg"),
        ("postgresql://[::1]:5432/brewd", "postgresql://[::1]:5432/brewd"),
        ("embedded", "the embedded Postgres in /srv/a"),
    ],
)
def test_where_a_database_is_has_no_password(url: str, place: str) -> None:
    assert where(Config(postgres=Postgres(url=url), data=Data(dir="/srv/a"))) == place


async def test_who_waits_for_postgres_says_where(bridge: Bridge, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_postgres(bridge, dsn="postgresql://127.0.0.1:1/x", pool_max=1) as nobody:
        with trio.move_on_after(0.2):
            await migrated(nobody, clock, "postgresql://127.0.0.1:1/x")
    said = "".join(capsys.readouterr())
    assert "waiting_for_postgres" in said
    assert "postgresql://127.0.0.1:1/x" in said


def test_a_place_that_nothing_is_sent_to_yet_is_named(run: Run, file: Path) -> None:
    file.write_text('[observe]\nmetrics = "127.0.0.1:9100"\n')
    assert run("check", "-c", str(file), "--json").json["warnings"] == ["observe.metrics: this version of brewd sends nothing there yet"]
