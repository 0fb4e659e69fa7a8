"""An agent that is off, has a wrong key, or calls an API that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from trio.testing import MockClock

from brewd.agent.calling import KEY_LOOK_S, Status
from brewd.agent.pieces import Failed
from brewd.cafe.commands import Who
from brewd.errors import Rejected
from brewd.runtime.clock import Clock
from tests.agent.conftest import Open
from tests.agent.table import listening, until
from tests.agent.upstream import ANSWER, Script

TEXT = "".join(ANSWER)
ANNA, BEN = Who("00000000-0000-4000-8000-00000000000a", "Anna"), Who("00000000-0000-4000-8000-00000000000b", "Ben")


async def test_without_a_key_the_agent_is_off_and_says_why(opened: Open, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    async with opened(key_file="") as table:
        cafe = await table.cafe()
        assert (table.agent.status.state, table.agent.status.reason) == ("off", "no API key: set agent.api_key_file, or ANTHROPIC_API_KEY in the environment")
        with pytest.raises(Rejected, match="no API key") as caught:
            await table.ask(cafe)
        assert caught.value.code == "agent_unavailable"


async def test_a_key_that_comes_later_is_found(opened: Open, key_file: str, flow: MockClock) -> None:
    Path(key_file).write_text("")
    async with opened() as table:
        cafe = await table.cafe()
        assert table.agent.status == Status("off", "no API key: there is none in the file that agent.api_key_file names")
        with pytest.raises(Rejected, match="no API key"):
            await table.ask(cafe)
        Path(key_file).write_text("sk-ant-new-key\n")
        flow.jump(KEY_LOOK_S)
        await until(lambda: table.agent.status.state == "ok")
        assert (await table.heard(cafe))[0] == TEXT
        assert "sk-ant-new-key" in str(table.upstream.requests[0].headers)


async def test_a_model_that_is_not_there_is_one_line_in_the_log_and_nobody_is_made_to_ask_for_it(
    opened: Open, flow: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        table.upstream.script = Script(status=404)
        _, end = await table.heard(cafe)
        assert isinstance(end, Failed)
        assert 59_000 < (end.retry_after_ms or 0) <= 60_000  # time flows, if slowly
        assert table.agent.status == Status("unavailable", "the AI service has no such model or address")
        with pytest.raises(Rejected, match="no such model"):
            await table.ask(cafe)
        out, err = capsys.readouterr()
        assert (out + err).count("no such model") == 1
        assert len(table.upstream.requests) == 1


async def test_a_wrong_key_is_one_line_in_the_log_and_a_new_one_is_found(
    opened: Open, clock: Clock, key_file: str, flow: MockClock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(retries=0) as table:
        cafe = await table.cafe()
        table.upstream.script = lambda request: Script() if "new-key" in str(request.headers) else Script(status=401)
        _, end = await table.heard(cafe)
        assert isinstance(end, Failed)
        assert "refuses its key" in end.detail
        assert (table.agent.status.state, table.agent.status.reason) == ("unavailable", "the AI service refuses the API key")
        for _ in range(3):
            with pytest.raises(Rejected, match="refuses the API key"):
                await table.ask(cafe)
        flow.jump(60)
        await table.heard(cafe, "and now?")
        assert len(table.upstream.requests) == 2
        out, err = capsys.readouterr()
        assert (out + err).count("refuses the API key") == 1
        with open(key_file, "w") as file:
            file.write("new-key")
        flow.jump(60)
        assert (await table.heard(cafe))[0] == TEXT
        assert table.agent.status.state == "ok"


def unlink(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    """As `open(path, "w")` does before anything is written."""
    path.write_text("")


@pytest.mark.parametrize("lose", [unlink, truncate])
async def test_a_key_that_is_gone_is_told_and_looked_for_again_soon(
    opened: Open, key_file: str, flow: MockClock, capsys: pytest.CaptureFixture[str], lose: Callable[[Path], None]
) -> None:
    async with opened() as table:
        cafe = await table.cafe()
        table.upstream.script = lambda request: Script() if "new-key" in str(request.headers) else Script(status=401)
        await table.heard(cafe)
        lose(Path(key_file))
        flow.jump(60)
        _, end = await table.heard(cafe, "and now?")
        assert isinstance(end, Failed)
        assert (end.code, end.detail) == ("agent_unavailable", "The agent is out of order: its API key is gone.")
        assert (table.agent.status.state, table.agent.status.reason) == ("unavailable", "the API key is gone")
        with pytest.raises(Rejected, match="the API key is gone") as caught:
            await table.ask(cafe)
        assert caught.value.extras["retryAfterMs"] <= 5000
        assert len(table.upstream.requests) == 1
        out, err = capsys.readouterr()
        assert (out + err).count("the API key is gone") == 1
        Path(key_file).write_text("new-key")
        flow.jump(5)
        assert (await table.heard(cafe))[0] == TEXT
        assert table.agent.status.state == "ok"


async def test_an_api_that_is_not_there_opens_the_circuit_which_probes_and_closes(opened: Open, flow: MockClock) -> None:
    async with opened(retries=0) as table:
        cafe = await table.cafe()
        table.upstream.script = Script(status=500)
        for number in range(5):
            assert table.agent.status.state == "ok"
            await table.heard(cafe, f"question {number}")
        assert table.agent.status.reason == "the AI service reports errors"
        with pytest.raises(Rejected) as caught:
            await table.ask(cafe)
        assert 4000 < caught.value.extras["retryAfterMs"] <= 5000  # time flows, if slowly
        assert len(table.upstream.requests) == 5
        flow.jump(5)
        assert table.agent.status == Status("unavailable", "the AI service reports errors", may_try=True)
        _, end = await table.heard(cafe)  # the probe fails, and the pause doubles
        assert isinstance(end, Failed)
        assert 9000 < (end.retry_after_ms or 0) <= 10_000
        assert not table.agent.status.may_try
        with pytest.raises(Rejected):
            await table.ask(cafe)
        flow.jump(5)
        with pytest.raises(Rejected):
            await table.ask(cafe)
        flow.jump(5)
        table.upstream.script = Script()
        assert (await table.heard(cafe))[0] == TEXT
        assert table.agent.status.state == "ok"


async def test_who_gives_up_a_question_from_before_lets_no_second_probe_through(opened: Open, flow: MockClock) -> None:
    async with opened(retries=0) as table:
        cafe = await table.cafe()
        table.upstream.script = lambda request: Script(held=True) if "slowly" in str(request.body) else Script(status=500)
        early = await table.ask(cafe, "slowly, the first")
        async with listening(early):
            await until(lambda: table.upstream.streaming)
            for number in range(5):
                await table.heard(cafe, f"question {number}")
            flow.jump(5)
            await table.ask(cafe, "slowly, the probe")
            early.cancel()
            await early.answer.ended.wait()
            with pytest.raises(Rejected, match="reports errors"):
                await table.ask(cafe, "slowly, another")
