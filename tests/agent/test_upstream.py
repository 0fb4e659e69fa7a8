"""One call of the Messages API, over real sockets: what goes out, what comes back, and what is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from brewd.agent.calls import Meter, Opening, UpstreamError
from brewd.agent.pieces import Usage
from brewd.agent.prompt import Prompt
from brewd.agent.upstream import Claude, deprecated, open_claude
from brewd.config_agent import Agent as Config
from tests.agent.upstream import Script, Upstream, open_upstream
from tests.patience import PATIENCE

WAIT_S = 2 * PATIENCE
PROMPT = Prompt("You are a host.", ("It is ten.", "<question>what is good?</question>"), ("menu",))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@asynccontextmanager
async def client(upstream: Upstream, *, timeout_s: float = 30.0, retries: int = 0) -> AsyncIterator[Claude]:
    async with open_claude(Opening(api_key="sk-test", base_url=upstream.url, timeout_s=timeout_s, retries=retries, connections_max=4)) as claude:
        yield claude


async def said(claude: Claude, meter: Meter | None = None, model: str = "claude-sonnet-5-5") -> tuple[str, list[str]]:
    """The reason to stop, and the words."""
    texts: list[str] = []
    with trio.fail_after(WAIT_S):
        reason = await claude.answer(PROMPT, model=model, max_tokens=1536, on_text=texts.append, meter=meter or Meter())
    return reason, texts


async def test_the_words_come_by_type_and_the_usage_from_the_end(upstream: Upstream) -> None:
    upstream.script = Script(input_tokens=11, output_tokens=22, cache_read_tokens=33, cache_write_tokens=44)
    meter = Meter()
    async with client(upstream) as claude:
        assert await said(claude, meter) == ("end_turn", ["The flat ", "white is ", "what people ", "love here."])
    assert meter.usage == Usage(11, 22, 33, 44)


async def test_what_is_sent_is_what_the_model_takes(upstream: Upstream) -> None:
    async with client(upstream) as claude:
        await said(claude)
    (request,) = upstream.requests
    assert request.path == "/v1/messages"
    assert "sk-test" in request.headers.get("authorization", "") + request.headers.get("x-api-key", "")
    assert request.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 1536,
        "stream": True,
        "output_config": {"effort": "low"},
        "system": [{"type": "text", "text": "You are a host.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "It is ten."}, {"type": "text", "text": "<question>what is good?</question>"}]}],
    }  # no temperature, top_p, top_k, thinking, and no turn of the assistant to go on from


@pytest.mark.parametrize(
    ("script", "trouble", "retry_after_s"),
    [
        (Script(status=401), "key_refused", None),
        (Script(status=403), "key_refused", None),
        (Script(status=429, headers=(("retry-after", "7"),)), "rate_limited", 7.0),
        (Script(status=429), "rate_limited", None),
        (Script(status=500), "server_error", None),
        (Script(status=504), "server_error", None),
        (Script(status=529), "overloaded", None),
        (Script(status=400), "bad_request", None),
        (Script(status=404), "nowhere", None),
        (Script(cut_after=2), "cut", None),
        (Script(cut_after=0), "cut", None),
        (Script(ends_early=True), "cut", None),
        (Script(error_after="overloaded_error"), "overloaded", None),
        (Script(error_after="api_error"), "server_error", None),
    ],
    ids=str,
)
async def test_a_failure_is_told_by_its_kind(upstream: Upstream, script: Script, trouble: str, retry_after_s: float | None) -> None:
    upstream.script = script
    async with client(upstream) as claude:
        with pytest.raises(UpstreamError) as caught:
            await said(claude)
    assert (caught.value.trouble, caught.value.retry_after_s) == (trouble, retry_after_s)


async def test_something_else_than_the_api_is_told_apart(upstream: Upstream) -> None:
    async with open_claude(Opening(api_key="k", base_url="http://127.0.0.1:1", timeout_s=30, retries=0, connections_max=1)) as claude:
        with pytest.raises(UpstreamError, match="unreachable"):
            await said(claude)


async def test_a_failure_that_may_pass_is_tried_again_but_never_after_the_first_word(upstream: Upstream) -> None:
    answers = [Script(status=529, headers=(("retry-after", "0"),)), Script()]
    upstream.script = lambda request: answers[len(upstream.requests) - 1]
    async with client(upstream, retries=1) as claude:
        assert (await said(claude))[0] == "end_turn"
        assert len(upstream.requests) == 2
        upstream.script = Script(cut_after=1)
        with pytest.raises(UpstreamError, match="cut"):
            await said(claude)
        assert len(upstream.requests) == 3


async def test_who_is_asked_to_wait_long_does_not_try_again(upstream: Upstream) -> None:
    upstream.script = Script(status=429, headers=(("retry-after", "60"),))
    async with client(upstream, retries=3) as claude:
        with pytest.raises(UpstreamError, match="rate_limited"):
            await said(claude)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("script", [Script(before_s=3600), Script(held=True)], ids=["before the answer", "in the middle"])
async def test_an_answer_has_a_deadline(upstream: Upstream, script: Script) -> None:
    upstream.script = script
    async with client(upstream, timeout_s=0.2) as claude:
        with pytest.raises(UpstreamError, match="timeout"):
            await said(claude)
        await gone(upstream)


async def test_cancelling_closes_the_connection_and_what_was_used_is_still_known(upstream: Upstream) -> None:
    upstream.script = Script(texts=("x" * 30, "never"), held=True, thinking=None)
    meter, texts = Meter(), list[str]()
    async with client(upstream) as claude:
        with trio.fail_after(WAIT_S):
            async with trio.open_nursery() as nursery:

                async def hear(text: str = "") -> None:
                    await claude.answer(PROMPT, model="m", max_tokens=9, on_text=texts.append, meter=meter)

                nursery.start_soon(hear)
                upstream.let()
                while not texts:
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel()
            await gone(upstream)
    assert upstream.gone == 1
    assert meter.usage == Usage(400, 10)


async def test_a_connection_is_used_again(upstream: Upstream) -> None:
    async with client(upstream) as claude:
        for _ in range(3):
            await said(claude)
        assert upstream.connections == 1
    await gone(upstream)


async def gone(upstream: Upstream) -> None:
    with trio.fail_after(WAIT_S):
        while upstream.connections:
            await trio.sleep(0.001)


def test_the_sdk_knows_which_models_end() -> None:
    assert deprecated("claude-sonnet-4-5") == "November 30th, 2026"
    assert deprecated(Config().model) is None
    assert deprecated(Config().economy_model) is None
