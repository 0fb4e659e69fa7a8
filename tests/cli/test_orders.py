"""The verbs that keep order, against a real daemon: limits changed and tried, users muted and banned, a message deleted, the log of it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from brewd.client import connect
from tests.cli.conftest import Dev, Ran
from tests.cli.test_live import NOBODY

Brewd = Callable[..., Ran]


@pytest.fixture
def cafe(brewd: Brewd) -> str:
    return str(brewd("cafe", "add", "--name", "Corner", "--json").json["cafe"]["id"])


@pytest.fixture
def user(brewd: Brewd, cafe: str) -> dict[str, str]:
    made: dict[str, str] = brewd("user", "add", "--cafe", cafe, "--json").json["users"][0]
    return made


def said(dev: Dev, user: dict[str, str], *texts: str) -> list[Any]:
    """What the room answered, one message after the other: the message, or the refusal."""

    async def talk() -> list[Any]:
        answers: list[Any] = []
        async with connect(dev.demo["url"], token=user["accessToken"]) as room:
            for text in texts:
                try:
                    answers.append(await room.send(text))
                except Exception as refusal:  # whatever the client makes of it
                    answers.append(refusal)
        return answers

    return trio.run(talk)


def test_limits_change_at_once_and_come_back(brewd: Brewd, cafe: str, user: dict[str, str], dev: Dev) -> None:
    ran = brewd("limits", "set", "--cafe", cafe, "message.per_hour=40", "message.gap_s=0")
    assert (ran.code, ran.out, ran.err) == (0, "message.per_hour  30 → 40\nmessage.gap_s  30 → 0\n", "")
    assert len([answer for answer in said(dev, user, "one cup", "two more") if not isinstance(answer, Exception)]) == 2
    tried = brewd("limits", "try", "--cafe", cafe, "message.gap_s=default")
    assert (tried.code, tried.out.split()[-4:]) == (0, [user["id"], user["username"], "2", "1"])
    assert "1 of 2 sends since" in tried.err
    assert brewd("limits", "try", "--cafe", cafe).out == ""
    assert ["message.gap_s", "0", "own"] in [line.split() for line in brewd("limits", "show", "--cafe", cafe).out.splitlines()]
    assert brewd("limits", "set", "--cafe", cafe, "message.gap_s=default").out == "message.gap_s  0 → 30\n"
    assert brewd("limits", "set", "--cafe", cafe, "message.gap_s=30").err == "nothing is different\n"
    assert brewd("limits", "set", "--cafe", cafe, "--profile", "lively", "--json").json["changed"]
    assert brewd("limits", "reset", "--cafe", cafe, user["username"]).out == f"{user['id']}\n"


def test_the_demo_cafe_is_lively(brewd: Brewd, dev: Dev) -> None:
    shown = brewd("limits", "show", "--cafe", dev.demo["cafe"]["id"], "--json").json
    assert (shown["profile"], shown["limits"]["message"]) == ("lively", {"per_hour": 1800, "burst": 10, "gap_s": 1})


def test_a_muted_user_is_refused_until_unmuted(brewd: Brewd, cafe: str, user: dict[str, str], dev: Dev) -> None:
    muted = brewd("user", "mute", "--cafe", cafe, user["username"].lower(), "--for", "2h", "--reason", "too loud", "--json").json["action"]
    assert (muted["userId"], muted["reason"], muted["staffName"]) == (user["id"], "too loud", "operator")
    (refusal,) = said(dev, user, "hello")
    assert "muted" in repr(refusal)
    assert brewd("user", "unmute", "--cafe", cafe, user["id"]).code == 0
    (sent,) = said(dev, user, "hello again")
    assert not isinstance(sent, Exception)
    assert brewd("message", "delete", "--cafe", cafe, sent.message.id).out == f"{sent.message.id}\n"
    log = brewd("moderation", "log", "--cafe", cafe)
    assert [line.split()[1] for line in log.out.splitlines()][-2:] == ["unmute", "mute"]
    first = brewd("moderation", "log", "--cafe", cafe, "--user", user["username"], "--limit", "1", "--json")
    assert first.json["hasMore"]
    assert first.err == f"older ones follow: --before {first.json['actions'][0]['id']}\n"


def test_a_user_is_shown_by_name_with_what_holds_for_them(brewd: Brewd, cafe: str, user: dict[str, str]) -> None:
    assert brewd("user", "show", user["id"], "--json").json["user"]["mute"] is None
    brewd("user", "mute", "--cafe", cafe, user["username"], "--reason", "too loud")
    shown = brewd("user", "show", "--cafe", cafe, user["username"])
    (mute,) = [line for line in shown.out.splitlines() if line.startswith("mute ")]
    assert mute.endswith(": too loud")
    ran = brewd("user", "show", user["username"])
    assert (ran.code, ran.out, "--cafe" in ran.err) == (2, "", True)


def test_an_order_that_changes_nothing_says_so(brewd: Brewd, cafe: str, user: dict[str, str]) -> None:
    for verb, words in (("unmute", "was not muted"), ("unban", "was not banned"), ("kick", "had no socket open")):
        ran = brewd("user", verb, "--cafe", cafe, user["id"], "--json")
        assert (ran.code, ran.json["changed"], ran.err) == (0, False, f"{user['username']} {words}\n")


def test_an_announcement_is_a_message_and_can_be_taken_back(brewd: Brewd, cafe: str) -> None:
    announced = brewd("message", "announce", "--cafe", cafe, "We close at six.", "--json").json["message"]
    again = brewd("message", "announce", "--cafe", cafe, "Last orders!", "--name", "The bar")
    assert again.code == 0
    assert announced["seq"] >= 1
    assert brewd("message", "delete", "--cafe", cafe, again.out.strip()).out == again.out


def test_a_banned_user_is_out_until_unbanned(brewd: Brewd, cafe: str, user: dict[str, str], dev: Dev) -> None:
    assert brewd("user", "kick", "--cafe", cafe, user["id"]).out.startswith("action    kick\n")
    assert "until" in brewd("user", "ban", "--cafe", cafe, user["id"], "--for", "3d").out
    with pytest.raises(BaseException, match="ban"):
        said(dev, user, "hello")
    assert brewd("user", "unban", "--cafe", cafe, user["username"]).code == 0
    (message,) = said(dev, user, "back again")
    assert not isinstance(message, Exception)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("user", "mute", "Nobody"), 4, "There is no user named 'Nobody' in this café."),
        (("user", "ban", NOBODY), 4, "There is no such user in this café."),
        (("user", "mute", NOBODY, "--for", "0s"), 2, "brewd: --for: must be between 1 and"),
        (("user", "show", "Nobody"), 4, "There is no user named"),
        (("user", "kick", NOBODY, "--reason", "x" * 201), 2, "brewd: --reason: must have"),
        (("user", "kick", NOBODY, "--for", "3d"), 2, "usage: brewd user kick "),
        (("user", "mute", NOBODY, "--for", "32d"), 2, "must be between 1 and"),
        (("limits", "set"), 2, "nothing to set"),
        (("limits", "set", "message.perhour=4"), 2, "did you mean message.per_hour?"),
        (("limits", "set", "message.per_hour=-4"), 2, ": message.per_hour: "),
        (("limits", "try", "poke.per_day=1.5"), 2, ": poke.per_day: "),
        (("limits", "try", "--profile", "wild"), 2, "there is no profile 'wild'"),
        (("limits", "reset", "Nobody"), 4, "There is no user named"),
        (("message", "delete", NOBODY), 4, ""),
        (("message", "delete", "x"), 2, "brewd: ID: Invalid UUID"),
        (("message", "announce", "  "), 2, "There is nothing in it to read."),
        (("moderation", "log", "--user", "Nobody"), 4, "There is no user named"),
    ],
)
def test_refusals_are_words_and_a_code(brewd: Brewd, cafe: str, argv: tuple[str, ...], code: int, words: str) -> None:
    ran = brewd(*argv, "--cafe", cafe)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


@pytest.mark.parametrize("argv", [("limits", "show"), ("limits", "try"), ("user", "kick", "Otter"), ("moderation", "log"), ("message", "delete", NOBODY)])
def test_an_unknown_cafe_is_not_found(brewd: Brewd, argv: tuple[str, ...]) -> None:
    ran = brewd(*argv, "--cafe", NOBODY)
    assert (ran.code, ran.err) == (4, "brewd: There is no such café.\n")
