"""The circuit breaker before the API: after several failures in a row nobody is made to wait for the next one.

A pure state machine; times in ms are passed in. Closed: calls go through. Open: none does, until a pause is over, which doubles
with each failed probe. Half open: one call probes, the others are told; it closes the circuit, or opens it again.
"""

from __future__ import annotations

from typing import Final, Literal

from brewd.agent.calls import Trouble

FAILURES_MAX: Final = 5
PAUSE_FIRST_MS: Final = 5_000
PAUSE_MAX_MS: Final = 60_000
REFUSED_PAUSE_MS: Final = 60_000
"""A key that was refused, or a model that is not there, is not good again by itself; an operator may have replaced it, though."""

MISSING_PAUSE_MS: Final = 5_000
"""A key file that is being written has none in it for a moment, and to look for one costs nothing."""

State = Literal["closed", "open", "half_open"]

_WHY: Final[dict[Trouble, str]] = {
    "unreachable": "the AI service cannot be reached",
    "timeout": "the AI service does not answer in time",
    "server_error": "the AI service reports errors",
    "overloaded": "the AI service is overloaded",
    "rate_limited": "the AI service asks for a pause",
    "key_refused": "the AI service refuses the API key",
    "key_missing": "the API key is gone",
    "nowhere": "the AI service has no such model or address",
    "bad_request": "the AI service does not take the request",
    "cut": "the AI service breaks off its answers",
}


class Circuit:
    """`reason` says why it is not closed; empty when it is."""

    __slots__ = ("_asked_to_wait", "_failures", "_pause_ms", "_probe", "_probes", "_until_ms", "reason", "state")

    def __init__(self) -> None:
        self.state: State = "closed"
        self.reason = ""
        self._failures = 0
        self._pause_ms = PAUSE_FIRST_MS
        self._until_ms = 0
        self._probe = 0  # the one under way; 0: none
        self._probes = 0  # so many there were
        self._asked_to_wait = False

    def is_down(self, now_ms: int) -> bool:
        """Whether the API is known not to answer. One that only asked for a pause, which is over, is not."""
        return self.state != "closed" and not (self._asked_to_wait and self.wait_ms(now_ms) == 0)

    def wait_ms(self, now_ms: int) -> int:
        """0: a call may go through now. Takes nothing."""
        if self.state == "closed":
            return 0
        if self.state == "open" and now_ms < self._until_ms:
            return self._until_ms - now_ms
        return 1000 if self._probe else 0

    def enter(self, now_ms: int) -> int | None:
        """A call is about to be made: the number of the probe that it is, 0 for one that is none; None when it may not.

        Each one that may is followed by `left`, whatever was told of it before. It brings its number along, so that a call from
        before the circuit opened is not taken for the probe.
        """
        if self.wait_ms(now_ms):
            return None
        if self.state == "closed":
            return 0
        self._probes += 1
        self.state, self._probe = "half_open", self._probes
        return self._probe

    def succeeded(self) -> bool:
        """The API answered. Whether that is news."""
        news = self.state != "closed"
        self.state, self.reason = "closed", ""
        self._failures, self._pause_ms, self._probe = 0, PAUSE_FIRST_MS, 0
        return news

    def failed(self, trouble: Trouble, now_ms: int, retry_after_ms: int | None = None, *, probe: int = 0) -> bool:
        """It did not. Whether the circuit opened just now, or for another reason than before: worth a line in the log."""
        if trouble == "bad_request":  # it answered, and another question may be fine
            self.left(probe)
            return False
        probed = probe != 0 and probe == self._probe
        if self.state != "closed" and not probed:  # a call from before it opened: the same trouble, seen again
            return False
        self._failures += 1
        at_once = trouble in ("key_refused", "key_missing", "nowhere") or retry_after_ms is not None or probed
        if not at_once and self._failures < FAILURES_MAX:
            return False
        if trouble in ("key_refused", "nowhere"):
            pause_ms = REFUSED_PAUSE_MS
        elif trouble == "key_missing":
            pause_ms = MISSING_PAUSE_MS
        elif retry_after_ms is not None:
            pause_ms = min(retry_after_ms, PAUSE_MAX_MS)
        else:
            pause_ms, self._pause_ms = self._pause_ms, min(2 * self._pause_ms, PAUSE_MAX_MS)
        news = self.reason != _WHY[trouble]
        self.state, self.reason, self._probe = "open", _WHY[trouble], 0
        self._until_ms = now_ms + pause_ms
        self._asked_to_wait = retry_after_ms is not None and trouble != "key_refused"
        return news

    def left(self, probe: int) -> None:
        """The call ended. A probe of which nothing was told, because it was cancelled, has shown nothing: the next call may be one."""
        if probe and probe == self._probe:
            self.state, self._probe = "open", 0
