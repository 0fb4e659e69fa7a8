"""Making calls: who may, what it may cost, and what becomes of it. The one owner of the client, the circuit and the places in flight.

A call is admitted (a place, something left in the budget, whatever else its asker needs); then it is written down and made, in a task
of its own, so that who asks the same need not wait for that; then it is settled, whatever came of it. A bug in one of them ends that one.
Cancelling `run` ends all of them, and they are settled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Literal, NoReturn

import trio
from msgspec import Struct
from msgspec.structs import asdict, replace

from brewd.agent.accounts import Account, AgentLog
from brewd.agent.answers import Answer
from brewd.agent.budget import cost_microcents, dearest_microcents, expected_microcents, price_of
from brewd.agent.calls import BYTES_PER_TOKEN, Answerer, GiveWay, Meter, Opening, Trouble, UpstreamError, Written
from brewd.agent.circuit import Circuit
from brewd.agent.key import api_key
from brewd.agent.pieces import Complete, End, Failed, Usage
from brewd.agent.prompt import Task, size_bytes
from brewd.agent.rows import Entry
from brewd.agent.settings import AgentConfig
from brewd.agent.slots import Slots
from brewd.config_agent import Agent as Config
from brewd.errors import Rejected, StoreError, storage_unavailable
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.runtime.log import get_logger
from brewd.store.postgres import Place

log = get_logger("agent")

OPENING_S: Final = 5.0
BUSY_RETRY_MS: Final = 3000
KEY_LOOK_S: Final = 5.0
"""A daemon that has no key looks for one this often."""

State = Literal["ok", "unavailable", "off"]


class Status(Struct, frozen=True, rename="camel"):
    """`reason` is a sentence; empty when all is well. `may_try`: a question is tried all the same, to see whether it is well again."""

    state: State
    reason: str = ""
    may_try: bool = False

    @property
    def takes_questions(self) -> bool:
        return self.state == "ok" or self.may_try


class Ticket(Struct, frozen=True):
    """A call that was admitted and has to be settled. `probe`: see `Circuit.enter`."""

    account: Account
    entry: Entry
    task: Task
    input_tokens: int
    reserved: int
    probe: int


Done = Callable[[End], None]
OpenClient = Callable[[Opening, GiveWay], AbstractAsyncContextManager[Answerer]]

_SAID: Final[dict[Trouble, tuple[str, int | None]]] = {
    "unreachable": ("The AI service cannot be reached at the moment.", 5000),
    "timeout": ("The AI service took too long to answer.", 5000),
    "server_error": ("The AI service has an error at the moment.", 5000),
    "overloaded": ("The AI service is overloaded at the moment.", 10_000),
    "rate_limited": ("The AI service asks us to wait a little.", 10_000),
    "key_refused": ("The agent is out of order: the AI service refuses its key.", None),
    "key_missing": ("The agent is out of order: its API key is gone.", 5000),
    "nowhere": ("The agent is out of order: the AI service has no such model or address.", None),
    "bad_request": ("The AI service did not take this question.", None),
    "cut": ("The answer broke off.", 1000),
}
"""What an asker is told, and when trying again may help."""

_NO_KEY: Final = "no API key: set agent.api_key_file, or ANTHROPIC_API_KEY in the environment"
_EMPTY_KEY_FILE: Final = "no API key: there is none in the file that agent.api_key_file names"

_MAY_COST: Final = ("timeout", "cut")
"""What came of the question over there is not known. Of the other troubles nothing came, or as good as nothing, unless the answer had begun."""


class Calls:
    """See the module. `find_key` finds the API key; it is asked again with each probe, and when the client is opened anew."""

    def __init__(
        self,
        *,
        config: Config,
        log: AgentLog,
        clock: Clock,
        ids: Ids,
        open_client: OpenClient,
        give_way: GiveWay,
        place: Place,
        find_key: Callable[[Config], str] = api_key,
    ) -> None:
        self._config = config
        self._log = log
        self._clock = clock
        self._ids = ids
        self._open_client = open_client
        self._give_way = give_way
        self._place = place
        self._find_key = find_key
        self._circuit = Circuit()
        self._slots = Slots(cafe_max=config.in_flight_cafe_max, all_max=config.in_flight_max)
        self._key = find_key(config)
        self._opened = trio.Event()
        self._broken = False
        self._client: Answerer | None = None
        self._nursery: trio.Nursery | None = None

    @property
    def status(self) -> Status:
        if not self._key:
            return Status("off", _NO_KEY if not self._config.api_key_file else _EMPTY_KEY_FILE)
        if self._broken:
            return Status("unavailable", "what makes its calls ended, and is started again")
        now_ms = self._clock.now_ms()
        return Status("unavailable", self._circuit.reason, not self._circuit.wait_ms(now_ms)) if self._circuit.is_down(now_ms) else Status("ok")

    async def run(self) -> NoReturn:
        """Open a client and make calls until cancelled, from when there is a key on. Raises what the client raises when it breaks."""
        config = self._config
        if not self._key:
            log.info("off", reason=self.status.reason)
        while not (key := self._find_key(config) or self._key):  # one that is being written is empty for a moment
            await trio.sleep(KEY_LOOK_S)
        self._key = key
        opening = Opening(
            api_key=self._key,
            base_url=config.base_url,
            timeout_s=config.timeout_s,
            retries=config.retries,
            connections_max=config.in_flight_max,
            place=self._place,
        )
        try:
            async with self._open_client(opening, self._give_way) as client, trio.open_nursery() as nursery:
                self._client, self._nursery, self._broken = client, nursery, False
                self._opened.set()
                try:
                    with self._log.writer.written_by(client.put):
                        await trio.sleep_forever()
                finally:
                    self._nursery, self._opened = None, trio.Event()
        except Exception:
            self._broken = True
            raise

    def check(self) -> None:
        """Raises `Rejected` (`agent_unavailable`) when no call can be made now."""
        status = self.status
        if status.state == "off":
            raise Rejected("agent_unavailable", "The agent is off: no API key was set up.")
        wait_ms = self._circuit.wait_ms(self._clock.now_ms())
        if wait_ms:
            raise Rejected("agent_unavailable", f"The agent is out of order at the moment: {self._circuit.reason}.", retryAfterMs=wait_ms)

    def deadline_s(self) -> float:
        """When (trio time) a question that comes now has waited long enough."""
        return trio.current_time() + self._config.queue_s

    async def admit(
        self, entry: Entry, config: AgentConfig, make: Callable[[], Awaitable[Task]], take: Callable[[], Awaitable[object]], until_s: float
    ) -> Ticket:
        """A call may be made, and `start` must be called next, without a wait in between.

        It waits for a place until `until_s`; its task is made when it has one, of what is true then. `take` is what its asker needs besides. Both may
        raise. Raises `Rejected` (`agent_unavailable`, `agent_budget_spent`) and
        `StoreError`, and then nothing is taken but what `take` took.
        """
        await self._open()
        self.check()
        account = await self._log.account(entry.cafe_id, config)
        self._refuse_spent(account)
        if not await self._slots.take(entry.cafe_id, max(0.0, until_s - trio.current_time())):
            raise busy()
        reserved = 0
        try:
            self.check()
            await self._give_way()
            task = await make()
            await self._give_way()  # the café was asked meanwhile, so a message may have come
            account = await self._log.account(entry.cafe_id, config)  # the one of before may have been let go meanwhile
            self._refuse_spent(account)
            model = self._model(account)
            price = price_of(self._config.prices, model)
            input_tokens = size_bytes(task) // BYTES_PER_TOKEN
            reserved = expected_microcents(price, input_tokens=input_tokens, max_tokens=self._max_tokens)
            account.budget.reserve(reserved)
            await take()
            if self._nursery is None:
                raise Rejected("agent_unavailable", "The agent is restarting.", retryAfterMs=1000)
            probe = self._circuit.enter(self._clock.now_ms())
            if probe is None:
                self.check()
                raise Rejected("agent_unavailable", "The agent is out of order at the moment.", retryAfterMs=1000)
            dearest = dearest_microcents(price, input_tokens=input_tokens, max_tokens=self._max_tokens)
            return Ticket(account, replace(entry, model=model, cost_microcents=dearest), task, input_tokens, reserved, probe)
        except BaseException:
            account.budget.settle(reserved, 0)
            self._slots.give(entry.cafe_id)
            raise

    def start(self, ticket: Ticket, answer: Answer, done: Done) -> None:
        """Write the call down and make it. `answer` gets its words and its end; `done` is told right before the end is."""
        assert self._nursery is not None
        self._nursery.start_soon(self._make, ticket, answer, done)

    @property
    def _max_tokens(self) -> int:
        return self._config.max_tokens + self._config.thinking_tokens

    async def _open(self) -> None:
        """Wait a little for the worker: it starts while the daemon serves already."""
        if self._key and self._nursery is None:
            with trio.move_on_after(OPENING_S):
                await self._opened.wait()
            if self._nursery is None:
                raise Rejected("agent_unavailable", "The agent is starting.", retryAfterMs=1000)

    def _refuse_spent(self, account: Account) -> None:
        verdict = account.budget.verdict(self._config.economy_percent)
        if verdict == "spent":
            wait_ms = max(1, account.renewed_ms() - self._clock.now_ms())
            raise Rejected("agent_budget_spent", f"What the agent may cost this café {account.budget.exhausted()} is spent.", retryAfterMs=wait_ms)
        if verdict == "busy":
            raise Rejected(
                "agent_budget_spent", "What is left of the agent's budget is taken by questions that are being answered.", retryAfterMs=BUSY_RETRY_MS
            )

    def _model(self, account: Account) -> str:
        economy = account.budget.verdict(self._config.economy_percent) == "economy"
        return self._config.economy_model if economy else self._config.model

    async def _make(self, ticket: Ticket, answer: Answer, done: Done) -> None:
        began_s, meter = self._clock.monotonic_s(), Meter()
        end: End = _STOPPED
        outcome = "cancelled"
        try:
            with answer.scope:
                end, outcome = await self._called(ticket, answer, meter)
        except Exception as error:
            incident = self._ids.uuid4()
            log.error("answer_crashed", cafe=ticket.entry.cafe_id, incident=incident, exc_info=error)
            end, outcome = Failed("internal", f"Something went wrong here. It has been noted as {incident}."), "internal"
        finally:
            self._circuit.left(ticket.probe)
            self._settle(ticket, answer, meter, outcome, began_s)
            end = replace(end, partial=bool(answer.chunks)) if isinstance(end, Failed) else end
            done(end)
            answer.finish(end)

    async def _called(self, ticket: Ticket, answer: Answer, meter: Meter) -> tuple[End, str]:
        def said(text: str) -> None:
            if answer.first_s is None and self._circuit.succeeded():
                log.info("available")
            answer.said(text)

        try:
            await self._log.begin(ticket.entry)
        except StoreError as error:
            log.debug("store unavailable for a call", reason=str(error))
            return _UNWRITTEN, "unwritten"
        client = self._client
        assert client is not None
        try:
            if ticket.probe:
                client.use_key(self._key_by_now())
            meter.asked(ticket.input_tokens)
            written = await client.answer(ticket.task, model=ticket.entry.model, max_tokens=self._max_tokens, on_chunk=said, meter=meter)
        except UpstreamError as error:
            if error.trouble not in _MAY_COST:
                meter.refused()
            return self._failed(error, ticket.probe), error.trouble
        if self._circuit.succeeded():
            log.info("available")
        return _end(written, answer.text, meter.usage)

    def _key_by_now(self) -> str:
        """Raises `UpstreamError` when it is gone: there is nothing to call with."""
        key = self._find_key(self._config)
        if not key:
            raise UpstreamError("key_missing", f"there is no key in {self._config.api_key_file or 'the environment'}")
        self._key = key
        return key

    def _failed(self, error: UpstreamError, probe: int) -> Failed:
        detail, retry_after_ms = _SAID[error.trouble]
        if error.retry_after_s is not None:
            retry_after_ms = round(error.retry_after_s * 1000)
        if self._circuit.failed(error.trouble, self._clock.now_ms(), retry_after_ms if error.retry_after_s is not None else None, probe=probe):
            say = log.error if error.trouble in ("key_refused", "key_missing", "nowhere") else log.warning
            say("unavailable", reason=self._circuit.reason, detail=error.detail)
        elif error.trouble == "bad_request":
            log.error("bad_request", detail=error.detail)
        return Failed("agent_unavailable", detail, max(retry_after_ms or 0, self._circuit.wait_ms(self._clock.now_ms())) or None)

    def _settle(self, ticket: Ticket, answer: Answer, meter: Meter, outcome: str, began_s: float) -> None:
        entry, first_s = ticket.entry, answer.first_s
        usage = meter.usage
        cost = cost_microcents(price_of(self._config.prices, entry.model), usage)
        ticket.account.budget.settle(ticket.reserved, cost)
        self._slots.give(entry.cafe_id)
        latency_ms = round(((self._clock.monotonic_s() if first_s is None else first_s) - began_s) * 1000)
        self._log.end(replace(entry, outcome=entry.outcome_of(outcome), latency_ms=latency_ms, cost_microcents=cost, **asdict(usage)))


def busy() -> Rejected:
    """For a question whose turn has not come."""
    return Rejected("agent_unavailable", "The agent answers others at the moment. Ask again in a few seconds.", retryAfterMs=BUSY_RETRY_MS)


_AWAY: Final = storage_unavailable()
_UNWRITTEN: Final = Failed(_AWAY.code, _AWAY.detail, _AWAY.extras["retryAfterMs"])
_STOPPED: Final = Failed("agent_unavailable", "The answer was stopped before its end.", 1000)


def _end(written: Written, text: str, usage: Usage) -> tuple[End, str]:
    """What a reason to stop means to whoever asked, and in the log."""
    if written.stop_reason == "refusal":
        return Failed("invalid_request", "The agent does not answer this. Ask something else."), "refused"
    truncated = written.stop_reason in ("max_tokens", "model_context_window_exceeded")
    if not text.strip():
        detail = "The agent ran out of room before it said anything. Ask something simpler." if truncated else "The agent had nothing to say."
        return Failed("agent_unavailable", detail), "max_tokens" if truncated else "empty"
    return Complete(text, False, written.sources, usage, truncated), "max_tokens" if truncated else "answered"
