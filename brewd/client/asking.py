"""The café's agent as a program sees it: ask, and iterate over the answer as it is made.

    async with brewd.client.agent(url, token=…) as agent:
        answer = await agent.ask("What goes with a flat white?")
        async for text in answer:
            print(text, end="")

It is one connection, and it does not come back by itself. When it is lost, every answer under way raises `Unreachable`; on another one
`resume` gets the rest for two minutes.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from brewd.client.events import Connected, Reply, Unknown, decode
from brewd.client.failures import Unreachable, rejected
from brewd.client.http import plain_url
from brewd.client.link import Link, LinkLost, Stream, dial
from brewd.client.visit import Policy, turned_away

_DEFAULT: Final = Policy()
_ANSWER_MAX_BYTES: Final = 1 << 20
_PROACTIVE_MAX: Final = 64


class Answer:
    """Iterate for the texts of its chunks. `started` and `complete` are the data of `query:start` and `query:complete`, once they have come.

    The iteration raises `Rejected` when the answer ended with an error (what came before stays), and `Unreachable` when the connection was lost.
    `next_index` is what to resume with.
    """

    def __init__(self, query_id: str) -> None:
        self.query_id: Final = query_id
        self.next_index = 0
        self.started: dict[str, Any] | None = None
        self.complete: dict[str, Any] | None = None
        self.claimed = False
        self.over = False
        self._failure: Exception | None = None
        self._chunks, self._texts = trio.open_memory_channel[dict[str, Any]](math.inf)  # an answer has an end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            chunk = await self._texts.receive()
        except trio.EndOfChannel:
            raise self._failure or StopAsyncIteration from None
        self.next_index = chunk["index"] + 1
        return str(chunk["text"])

    async def text(self) -> str:
        """The whole of it. Raises as the iteration does."""
        return "".join([text async for text in self])

    def take(self, event: str, data: dict[str, Any]) -> None:
        """For the connection that brings it."""
        if event == "query:chunk":
            self._chunks.send_nowait(data)
        elif event == "query:start":
            self.started = data
        else:
            self.complete = data if event == "query:complete" else None
            self.end(None if event == "query:complete" else rejected(data))

    def end(self, failure: Exception | None) -> None:
        self.over = True
        self._failure = failure
        self._chunks.close()


class Agent:
    """Made by `agent`. `proactive` receives what the agent says by itself, as the data of `proactive:message`, after `watch`."""

    def __init__(self, ws: WebSocketConnection) -> None:
        self.link: Final = Link(ws)
        self.cafe_id = ""
        self.greeted: Final = trio.Event()
        self.closed = ""
        self._ws = ws
        self._answers: dict[str, Answer] = {}  # those that are under way, and those that nobody has asked for yet
        self._said, self.proactive = trio.open_memory_channel[dict[str, Any]](_PROACTIVE_MAX)

    async def ask(self, query: str, *, personality: str | None = None, deadline_s: float = 10.0) -> Answer:
        """Ask; returns when the question is taken. Raises `Rejected` for a no, `Unreachable` when no word came."""
        more = {} if personality is None else {"personality": personality}
        return self._claim(await self._call("query:stream", {"cafeId": self.cafe_id, "query": query, **more}, deadline_s))

    async def resume(self, query_id: str, index: int = 0, *, deadline_s: float = 10.0) -> Answer:
        """The chunks from `index` on, of an answer that was begun on another connection. Raises as `ask` does."""
        return self._claim(await self._call("query:resume", {"queryId": query_id, "index": index}, deadline_s))

    async def cancel(self, query_id: str, *, deadline_s: float = 10.0) -> None:
        """Nothing more comes of it, and its iteration ends. Raises as `ask` does."""
        await self._call("query:cancel", {"queryId": query_id}, deadline_s)
        if (answer := self._answers.pop(query_id, None)) is not None:
            answer.end(None)

    async def watch(self, *, deadline_s: float = 10.0) -> dict[str, Any]:
        """Hear what the agent says by itself from now on; how it is. Raises as `ask` does."""
        return await self._call("cafe:join", {"cafeId": self.cafe_id}, deadline_s)

    async def read(self) -> None:
        """Take what comes until the connection ends; then whatever waits for it ends too."""
        try:
            while True:
                self._take(decode(await self._ws.get_message()))
        except ConnectionClosed as closed:
            reason = closed.reason
            self.closed = f"{reason.code} {reason.reason}" if reason else "without a word"
        finally:
            self.link.lose()
            for answer in self._answers.values():
                answer.end(Unreachable(f"the connection was lost: {self.closed}"))
            self._said.close()
            self.greeted.set()

    def _take(self, item: Any) -> None:
        if isinstance(item, Reply):
            self.link.settle(item)
        elif isinstance(item, Connected):
            self.cafe_id = item.cafe_id
            self.greeted.set()
        elif isinstance(item, Unknown) and item.event == "proactive:message":
            if self.proactive.statistics().current_buffer_used == _PROACTIVE_MAX:
                self.proactive.receive_nowait()  # whoever does not listen misses the oldest
            self._said.send_nowait(item.data)
        elif isinstance(item, Unknown) and item.event.startswith("query:"):
            # The first chunks may be here before whoever asked has seen the reply: then the answer waits for them.
            answer = self._answers.setdefault(item.data["queryId"], Answer(item.data["queryId"]))
            answer.take(item.event, item.data)
            if answer.claimed and answer.over:
                del self._answers[answer.query_id]

    def _claim(self, reply: dict[str, Any]) -> Answer:
        query_id: str = reply["queryId"]
        answer = self._answers.setdefault(query_id, Answer(query_id))
        answer.claimed = True
        if answer.over:
            del self._answers[query_id]
        return answer

    async def _call(self, event: str, data: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        with trio.move_on_after(deadline_s):
            try:
                return msgspec.json.decode(await self.link.call(event, data), type=dict[str, Any])
            except LinkLost:
                raise Unreachable(f"the connection was lost before {event} was answered") from None
        raise Unreachable(f"no answer to {event} within {deadline_s:g} s")


@asynccontextmanager
async def agent(url: str, *, token: str, policy: Policy = _DEFAULT) -> AsyncIterator[Agent]:
    """A connection to the agent of the café that the access token is for. Raises `Rejected` or `Unreachable`."""
    failed: Exception | None = None
    stream = await dial(plain_url(url), timeout_s=policy.connect_s)
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield await _greeted(nursery, stream, plain_url(url), token, policy)
            except Exception as error:
                failed = error  # carried around the nursery, and raised behind it
            finally:
                nursery.cancel_scope.cancel()
    except* ConnectionRejected as answers:
        ending = turned_away(answers.exceptions[0])
        failed = ending.refusal or Unreachable(ending.reason, retry_after_s=ending.wait_s)
    finally:
        await trio.aclose_forcefully(stream)
    if failed is not None:
        raise failed


async def _greeted(nursery: trio.Nursery, stream: Stream, url: str, token: str, policy: Policy) -> Agent:
    """The agent, once the server has said whom it takes this for."""
    parts = urlsplit(url)
    with trio.move_on_after(policy.answer_s):
        ws = await wrap_client_stream(
            nursery,
            stream,
            parts.netloc,
            f"{parts.path}/ws/agent",
            extra_headers=[(b"Authorization", b"Bearer " + token.encode())],
            max_message_size=_ANSWER_MAX_BYTES,
        )
        opened = Agent(ws)
        nursery.start_soon(opened.link.write)
        nursery.start_soon(opened.read)
        await opened.greeted.wait()
        if opened.cafe_id:
            return opened
        raise Unreachable(f"the connection was lost: {opened.closed}")
    raise Unreachable(f"no greeting within {policy.answer_s:g} s")
