"""Every verb that talks to a daemon, against a real one."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brewd.edge.control.client import ControlClient, Refused
from tests.cli.conftest import ROOT, Dev, Ran

Brewd = Callable[..., Ran]
NOBODY = "01a20581-0000-7000-8000-000000000000"


def post(dev: Dev, path: str, body: dict[str, Any], token: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(dev.demo["url"] + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.fixture
def cafe(brewd: Brewd) -> str:
    return str(brewd("cafe", "add", "--name", "Corner", "--json").json["cafe"]["id"])


def test_dev_is_ready_to_be_joined(dev: Dev) -> None:
    demo = dev.demo
    status, staff = post(dev, "/api/auth/staff/login", {"cafeId": demo["cafe"]["id"], "name": demo["staff"]["name"], "password": demo["staff"]["password"]})
    assert status == 200
    assert staff["staff"]["role"] == "barista"
    first, second = demo["receipts"]
    for receipt in (first, second):
        status, _ = post(dev, "/api/auth/join", {"cafeId": demo["cafe"]["id"], "username": receipt["username"], "joinToken": receipt["joinToken"]})
        assert status == 201
        assert receipt["joinUrl"].startswith(demo["url"] + "/join#")


def test_status(brewd: Brewd, dev: Dev) -> None:
    ran = brewd("status")
    assert ran.code == 0
    assert ran.out.startswith("status        ok\n")
    raw = brewd("status", "--json").json
    assert raw["pid"] == dev.process.pid
    assert raw["checks"]["postgres"] == "ok"
    assert raw["cafes"]["quarantined"] == []


def test_ps(brewd: Brewd) -> None:
    assert "journal" in brewd("ps").out
    assert brewd("ps", "--tree").out.startswith("brewd\n├─ ")
    assert {"name": "journal", "state": "running", "restarts": 0, "supervisor": "brewd"} in brewd("ps", "--json").json
    assert brewd("ps", "--tree", "--json").json["name"] == "brewd"


def test_a_cafe_that_cannot_check_anybody_says_so(brewd: Brewd) -> None:
    ran = brewd("cafe", "add", "--name", "Corner")
    assert ran.code == 0
    assert len(ran.out.strip()) == 36
    assert "nobody can be checked to be there, and anyone with a receipt may join" in ran.err
    ran = brewd("cafe", "set", ran.out.strip(), "--cidr", "203.0.113.7")
    assert (ran.code, ran.err) == (0, "")
    assert "networks      203.0.113.7/32" in ran.out
    ran = brewd("cafe", "add", "--name", "Open", "--wifi-ssid", "Open", "--policy", "none")
    assert "anyone with a receipt may join" in ran.err


def test_a_cafe_with_everything(brewd: Brewd) -> None:
    raw = brewd(
        "cafe", "add", "--name", "Korb", "--address", "Ring 1", "--wifi-ssid", "Korb", "--latitude", "48.2", "--longitude", "16.37", "--radius-meters", "50",
        "--cidr", "203.0.113.0/24", "--cidr", "2001:db8::/32", "--timezone", "Europe/Vienna", "--profile", "lively", "--policy", "all", "--json",
    ).json["cafe"]  # fmt: skip
    assert raw["joinNeeds"] == ["wifi", "location", "network"]
    assert brewd("cafe", "show", raw["id"], "--json").json["cafe"] == raw
    wanted = {
        "name": "Korb",
        "address": "Ring 1",
        "wifiSsid": "Korb",
        "latitude": 48.2,
        "longitude": 16.37,
        "radiusMeters": 50,
        "cidrs": ["203.0.113.0/24", "2001:db8::/32"],
        "timezone": "Europe/Vienna",
        "profile": "lively",
        "joinPolicy": "all",
        "state": "idle",
    }
    assert {name: raw[name] for name in wanted} == wanted
    bare = brewd("cafe", "set", raw["id"], "--wifi-ssid", "", "--latitude", "", "--longitude", "", "--cidr", "", "--profile", "", "--json").json["cafe"]
    assert (bare["joinNeeds"], bare["profile"], bare["address"]) == ([], None, "Ring 1")


def test_cafes_are_listed(brewd: Brewd, cafe: str, dev: Dev) -> None:
    listed = brewd("cafe", "list").out
    assert cafe in listed
    assert dev.demo["cafe"]["id"] in listed
    assert cafe in [one["id"] for one in brewd("cafe", "list", "--json").json["cafes"]]


def test_a_cafe_that_runs_is_left_alone_by_revive_and_ended_by_stop(brewd: Brewd, cafe: str) -> None:
    assert brewd("cafe", "revive", cafe).code == 0
    assert brewd("cafe", "stop", cafe, "--json").json["cafe"]["state"] == "idle"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("cafe", "show", NOBODY), 4, "There is no such café."),
        (("cafe", "revive", NOBODY), 4, "There is no such café."),
        (("cafe", "set", NOBODY, "--name", "x"), 4, "There is no such café."),
        (("cafe", "show", "corner"), 2, "brewd: ID: Invalid UUID"),
        (("cafe", "set", NOBODY), 2, "nothing to set"),
        (("cafe", "add", "--name", ""), 2, "brewd: --name: must have 1 to 120 characters"),
        (("cafe", "add", "--name", "x", "--latitude", "1"), 2, "brewd: --latitude: needs longitude"),
        (("cafe", "add", "--name", "x", "--profile", "wild"), 2, "there is no profile 'wild'"),
        (("cafe", "add", "--name", "x", "--timezone", "Mars/Base"), 2, "is not a time zone"),
        (("staff", "list", "--cafe", NOBODY), 4, "There is no such café."),
        (("staff", "disable", NOBODY), 4, "There is no such staff member."),
        (("user", "list", "--cafe", NOBODY), 4, "There is no such café."),
        (("user", "add", "--cafe", NOBODY), 4, "There is no such café."),
        (("user", "show", NOBODY), 4, "There is no such user."),
    ],
)
def test_refusals_are_words_and_a_code(brewd: Brewd, argv: tuple[str, ...], code: int, words: str) -> None:
    ran = brewd(*argv)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


def test_staff(brewd: Brewd, cafe: str, dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    typed("pass word \r\nnot this\n")
    added = brewd("staff", "add", "--cafe", cafe, "--name", "Mia", "--role", "moderator", "--password-stdin", "--json").json["staff"]
    login = {"cafeId": cafe, "name": "Mia", "password": "pass word "}
    assert post(dev, "/api/auth/staff/login", login)[1]["staff"]["id"] == added["id"]

    typed("again\n")
    ran = brewd("staff", "add", "--cafe", cafe, "--name", "Mia", "--role", "barista", "--password-stdin")
    assert (ran.code, ran.err) == (1, "brewd: The café already has staff named Mia.\n")
    assert added["id"] in brewd("staff", "list", "--cafe", cafe).out

    typed("new\n")
    assert brewd("staff", "passwd", added["id"], "--password-stdin").code == 0
    assert post(dev, "/api/auth/staff/login", login)[0] == 401
    assert brewd("staff", "disable", added["id"], "--json").json["staff"]["disabledAt"]
    assert post(dev, "/api/auth/staff/login", {**login, "password": "new"})[0] == 401

    typed("")
    assert brewd("staff", "passwd", added["id"], "--password-stdin").code == 2
    assert "--password-stdin" in brewd("staff", "passwd", added["id"]).err


def test_users(brewd: Brewd, cafe: str) -> None:
    made = brewd("user", "add", "--cafe", cafe, "--count", "1001", "--json").json["users"]
    assert len({user["id"] for user in made}) == len({user["username"] for user in made}) == 1001
    assert set(made[0]) == {"id", "username", "accessToken"}
    assert len(brewd("user", "list", "--cafe", cafe, "--json").json["users"]) == 1001
    assert made[0]["username"] in brewd("user", "show", made[0]["id"]).out
    assert brewd("user", "expire", made[0]["id"], "--json").json["user"]["endedAt"]
    assert len(brewd("user", "list", "--cafe", cafe, "--json").json["users"]) == 1000
    assert brewd("user", "add", "--cafe", cafe).out.count("\t") == 2


def test_a_name_will_do_where_an_id_does(brewd: Brewd, cafe: str) -> None:
    (user,) = brewd("user", "add", "--cafe", cafe, "--json").json["users"]
    other = brewd("cafe", "add", "--name", "Elsewhere", "--json").json["cafe"]["id"]
    assert brewd("user", "expire", user["username"]).err == f"brewd: {user['username']!r} is no id; a name is looked for in the café that --cafe says\n"
    assert brewd("user", "expire", user["id"], "--cafe", other).code == 4
    ended = brewd("user", "expire", user["username"].lower(), "--cafe", cafe)
    assert (ended.code, "ended at" in ended.out, "endedAt" in ended.out) == (0, True, False)


def test_where_there_is_nothing_a_sentence_says_so(brewd: Brewd) -> None:
    cafe = brewd("cafe", "add", "--name", "Empty", "--json").json["cafe"]["id"]
    for argv, name, words in (
        (("user", "list", "--cafe", cafe), "users", "no customers there yet"),
        (("staff", "list", "--cafe", cafe), "staff", "no staff yet"),
        (("cafe", "analytics", cafe), "rows", "nothing in the last 24 hours yet"),
        (("moderation", "log", "--cafe", cafe), "actions", "nothing in the log yet"),
    ):
        ran = brewd(*argv)
        assert (ran.code, ran.out, ran.err.startswith(words)) == (0, "", True), ran
        as_json = brewd(*argv, "--json")
        assert (as_json.json[name], as_json.err) == ([], "")


def test_what_is_wrong_is_named_as_it_was_typed(brewd: Brewd, cafe: str) -> None:
    for argv, words in (
        (("cafe", "set", cafe, "--profile", "x"), "--profile: there is no profile 'x'"),
        (("cafe", "set", cafe, "--retention-days", "0"), "--retention-days: must be between"),
        (("cafe", "set", cafe, "--radius-meters", "0"), "--radius-meters: must be"),
        (("cafe", "set", cafe, "--wifi-ssid", "x" * 65), "--wifi-ssid: must have"),
        (("cafe", "analytics", cafe, "--hours", "0"), "--hours: must be"),
        (("limits", "set", "--cafe", cafe, "--profile", "x"), "--profile: there is no profile 'x'"),
        (("limits", "set", "--cafe", cafe, "message.per_hour=0"), "message.per_hour: "),
        (("agent", "set", "--cafe", cafe, "--custom-text", "x" * 100_000), "--custom-text: "),
        (("agent", "set", "--cafe", cafe, "--daily-budget-cents", "9" * 18), "--daily-budget-cents: "),
    ):
        ran = brewd(*argv)
        assert (ran.code, ran.err.startswith(f"brewd: {words}")) == (2, True), ran


def test_the_running_config(brewd: Brewd, dev: Dev) -> None:
    assert f'dir = "{dev.demo["dataDir"]}"' in brewd("config", "show", "--running").out


def test_the_log_level_changes_while_it_runs(dev: Dev) -> None:
    with ControlClient(Path(dev.socket)) as client:
        assert client.call("log.level", level="debug") == {"level": "debug"}
        with pytest.raises(Refused, match="level: Invalid enum value 'loud'"):
            client.call("log.level", level="loud")
        client.call("log.level", level="info")


def start(*argv: str) -> Ran:
    """A daemon that will not start, in a process of its own: one sets up logging and signals for the whole process."""
    done = subprocess.run([sys.executable, "-m", "brewd", *argv], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_second_daemon_is_refused_in_one_line(dev: Dev, tmp_path: Path) -> None:
    port = dev.demo["url"].rpartition(":")[2]
    words = f"brewd: 127.0.0.1:{port} is in use already; another brewd may run there: stop it, or listen elsewhere (server.listen, --listen)\n"
    assert start("dev", "--data", str(tmp_path / "other"), "--listen", f"127.0.0.1:{port}") == (1, "", words)
    words = f"brewd: another brewd (process {dev.process.pid}) uses the data directory {dev.demo['dataDir']}\n"
    assert start("dev", "--data", dev.demo["dataDir"], "--listen", "127.0.0.1:0") == (1, "", words)
