"""The small pure rules: chunks, the circuit, the cache's key, places in flight."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from brewd.agent.cache import key_of, normalised
from brewd.agent.calls import Trouble
from brewd.agent.chunks import CHARS_MAX, GAP_S, Chunker, Gatherer
from brewd.agent.circuit import FAILURES_MAX, PAUSE_FIRST_MS, PAUSE_MAX_MS, Circuit
from brewd.agent.slots import WAITING_CAFE_MAX, WAITING_MAX, Slots

# Chunks


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(0, 0.05))))
def test_chunks_lose_nothing_and_are_as_far_apart_or_as_long_as_they_shall(texts: list[tuple[str, float]]) -> None:
    chunker, now_s, told = Chunker(), 0.0, list[tuple[float, str]]()
    for text, pause_s in texts:
        if chunker.due_s <= now_s + pause_s:
            now_s = max(now_s, chunker.due_s)
            told.append((now_s, chunker.take(now_s)))
        now_s += pause_s
        chunk = chunker.add(text, now_s)
        if chunk:
            told.append((now_s, chunk))
        assert chunker.due_s == math.inf or chunker.due_s <= told[-1][0] + GAP_S
    rest = chunker.take(now_s)
    assert "".join(chunk for _, chunk in told) + rest == "".join(text for text, _ in texts)
    assert all(chunk for _, chunk in told)
    for (before_s, _), (at_s, chunk) in itertools.pairwise(told):
        assert at_s >= before_s + GAP_S or len(chunk) >= CHARS_MAX


def test_the_first_words_go_out_at_once() -> None:
    chunker = Chunker()
    assert chunker.add("H", 5.0) == "H"
    assert chunker.add("el", 5.001) == ""
    assert chunker.due_s == 5.0 + GAP_S
    assert chunker.add("x" * 62, 5.002) == "el" + "x" * 62


async def test_words_that_are_held_back_go_in_time_and_the_last_with_the_end(autojump_clock: object) -> None:
    told: list[tuple[float, str]] = []
    start_s = trio.current_time()
    gatherer = Gatherer(lambda chunk: told.append((trio.current_time() - start_s, chunk)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gatherer.run)
        for text in ("The", " flat", " white"):
            gatherer.add(text)
            await trio.sleep(GAP_S / 4)
        await trio.sleep(10)
        for text in (" is", " good"):
            gatherer.add(text)
        gatherer.end()
    assert told == [
        (0.0, "The"),
        (pytest.approx(GAP_S), " flat white"),
        (pytest.approx(10 + GAP_S * 3 / 4), " is"),
        (pytest.approx(10 + GAP_S * 3 / 4), " good"),
    ]


# The circuit


troubles: st.SearchStrategy[Trouble] = st.sampled_from(
    ["unreachable", "timeout", "server_error", "overloaded", "key_refused", "key_missing", "cut", "bad_request"]
)
happenings = st.sampled_from(["enter", "enter", "enter", "ok", "fail", "fail", "leave", "wait"])
numbers = st.sampled_from([0, 1, 2, 1000, PAUSE_FIRST_MS, PAUSE_MAX_MS, PAUSE_MAX_MS])
events = st.lists(st.tuples(happenings, troubles | st.just("key_refused"), numbers), min_size=20, max_size=80)
"""So that it opens often, while calls are under way."""


@settings(max_examples=400, deadline=None)
@given(events)
def test_the_circuit_lets_one_probe_through_and_never_stays_shut_for_ever(steps: list[tuple[str, Trouble, int]]) -> None:
    """Calls end in any order, those from before it opened too. `probing`: the probe that has not ended since it opened."""
    circuit, now_ms, flying, probing = Circuit(), 0, list[int](), 0
    for what, trouble, number in steps:
        if what == "wait":
            now_ms += number
        elif what == "enter":
            closed, wait_ms = circuit.state == "closed", circuit.wait_ms(now_ms)
            probe = circuit.enter(now_ms)
            assert (probe is None) is (wait_ms > 0)
            assert (probe == 0) is closed
            if probe is not None:
                assert not (probe and probing)  # one probe at a time
                probing = probing or probe
                flying.append(probe)
        elif flying:
            probe = flying.pop(number % len(flying))
            if what == "ok":
                circuit.succeeded()
                assert circuit.state == "closed"
            elif what == "fail":
                circuit.failed(trouble, now_ms, probe=probe)
            circuit.left(probe)
            probing = 0 if circuit.state == "closed" or probe == probing else probing
        assert (circuit.state == "closed") is (circuit.reason == "")
        assert (circuit.state == "half_open") is (probing > 0)
        assert circuit.wait_ms(now_ms) <= PAUSE_MAX_MS
    for probe in flying:
        circuit.left(probe)
    assert circuit.wait_ms(now_ms + PAUSE_MAX_MS) == 0


def test_a_call_from_before_the_circuit_opened_does_not_end_the_probe() -> None:
    circuit = Circuit()
    early = [circuit.enter(0) for _ in range(3)]
    assert early == [0, 0, 0]
    for _ in range(FAILURES_MAX):
        circuit.failed("unreachable", 0)
    first = circuit.enter(5000)
    assert first
    circuit.left(0)
    assert circuit.enter(5000) is None
    assert not circuit.failed("unreachable", 5000)
    assert circuit.wait_ms(5000) == 1000  # what shows whether the API answers is the probe
    circuit.succeeded()
    for _ in range(FAILURES_MAX):
        circuit.failed("unreachable", 5000)
    second = circuit.enter(10_000)
    assert second not in (None, first)
    circuit.left(first)  # nor does an earlier probe
    assert circuit.enter(10_000) is None
    circuit.left(second or 0)
    assert circuit.enter(10_000)


def test_the_circuit_opens_after_several_failures_in_a_row_or_one_that_says_enough() -> None:
    circuit = Circuit()
    for _ in range(3):  # what was good in between counts
        for _ in range(FAILURES_MAX - 1):
            assert not circuit.failed("timeout", 0)
        assert circuit.state == "closed"
        circuit.succeeded()
    for number in range(FAILURES_MAX):
        assert circuit.failed("timeout", 0) is (number == FAILURES_MAX - 1)
    assert (circuit.state, circuit.wait_ms(0)) == ("open", 5000)
    circuit = Circuit()
    assert circuit.failed("rate_limited", 0, 7000)
    assert circuit.wait_ms(0) == 7000
    assert circuit.is_down(6999)
    assert not circuit.is_down(7000)  # nothing is known against it any more
    circuit = Circuit()
    assert circuit.failed("key_refused", 0)
    probe = circuit.enter(60_000)
    assert probe
    assert not circuit.failed("key_refused", 60_000, probe=probe)  # no news
    for at_ms in (120_000, 125_000, 130_000):  # to look for a key costs nothing
        circuit.failed("key_missing", at_ms, probe=circuit.enter(at_ms) or 0)
        assert circuit.wait_ms(at_ms) == 5000


def test_calls_that_were_under_way_when_it_opened_do_not_make_it_worse() -> None:
    circuit = Circuit()
    for _ in range(3 * FAILURES_MAX):
        circuit.failed("unreachable", 0)
    assert circuit.wait_ms(0) == 5000
    assert circuit.is_down(5000)


def test_pauses_double_up_to_a_minute() -> None:
    circuit, now_ms, pauses = Circuit(), 0, list[int]()
    for _ in range(FAILURES_MAX):
        circuit.failed("unreachable", now_ms)
    for _ in range(6):
        pauses.append(circuit.wait_ms(now_ms))
        now_ms += pauses[-1]
        circuit.failed("unreachable", now_ms, probe=circuit.enter(now_ms) or 0)
    assert pauses == [5000, 10_000, 20_000, 40_000, 60_000, 60_000]


# The cache's key


@given(st.text())
def test_a_question_as_it_is_compared_is_compared_the_same_again(query: str) -> None:
    assert normalised(normalised(query)) == normalised(query)


def test_questions_that_differ_in_looks_are_one() -> None:
    assert len({normalised(query) for query in ("What's good?", "  what's  GOOD ", "what's good!?", "Ｗhat's good…")}) == 1
    assert normalised("STRASSE") == normalised("straße")


@given(st.text(st.characters(max_codepoint=127)))
def test_a_question_without_other_signs_is_compared_like_any_other(query: str) -> None:
    folded = normalised(query + "é")  # goes the long way
    assert normalised(query) == folded.removesuffix("é").strip()


parts = st.tuples(st.text(max_size=4), st.text(max_size=4), st.sampled_from(["bartender", "quirky"]), st.text(max_size=4))


@given(parts, parts)
def test_keys_of_two_cafes_questions_personas_or_contexts_are_never_the_same(one: tuple[str, str, str, str], other: tuple[str, str, str, str]) -> None:
    def what(p: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
        return p[0], normalised(p[1]) or p[1], p[2], p[3]

    same = key_of(*one) == key_of(*other)  # type: ignore[arg-type]
    assert same is (what(one) == what(other))


# Places in flight


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 3), st.integers(1, 5))
def test_places_are_never_more_than_there_are(steps: list[tuple[str, bool]], cafe_max: int, all_max: int) -> None:
    slots, taken = Slots(cafe_max=cafe_max, all_max=all_max), Counter[str]()
    for cafe, gives in steps:
        if gives and taken[cafe]:
            slots.give(cafe)
            taken[cafe] -= 1
        elif not gives:
            free = taken[cafe] < cafe_max and taken.total() < all_max
            assert slots.try_take(cafe) is free
            taken[cafe] += free
        assert slots.in_flight == taken.total()


async def test_a_place_goes_to_the_first_who_can_have_it(autojump_clock: object) -> None:
    slots, got = Slots(cafe_max=1, all_max=2), list[str]()

    async def want(name: str, cafe: str, timeout_s: float = 100) -> None:
        got.append(f"{name} {'yes' if await slots.take(cafe, timeout_s) else 'no'}")

    assert slots.try_take("a")
    assert slots.try_take("b")
    async with trio.open_nursery() as nursery:
        for name, cafe, timeout_s in (("late", "a", 1.0), ("first", "a", 100), ("second", "c", 100), ("third", "a", 100)):
            nursery.start_soon(want, name, cafe, timeout_s)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(2)
        assert got == ["late no"]
        slots.give("b")  # "first" waits for "a" alone
        await trio.sleep(1)
        assert got == ["late no", "second yes"]
        slots.give("a")
        await trio.sleep(1)
        assert got == ["late no", "second yes", "first yes"]
        nursery.cancel_scope.cancel()
    slots.give("a")
    slots.give("c")
    assert slots.in_flight == 0
    assert slots.try_take("a")


async def test_one_cafe_does_not_fill_the_line(autojump_clock: object) -> None:
    slots, got = Slots(cafe_max=1, all_max=2), Counter[str]()

    async def want(cafe: str) -> None:
        got[f"{cafe} {'yes' if await slots.take(cafe, 100) else 'no'}"] += 1

    assert slots.try_take("full")
    assert slots.try_take("other")
    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX):
            nursery.start_soon(want, "full")
        await trio.testing.wait_all_tasks_blocked()
        assert got == {"full no": WAITING_MAX - WAITING_CAFE_MAX}
        nursery.start_soon(want, "new")
        await trio.testing.wait_all_tasks_blocked()
        slots.give("other")
        await trio.testing.wait_all_tasks_blocked()
        assert got["new yes"] == 1
        nursery.start_soon(want, "full")  # the line of its own is as long as before
        await trio.testing.wait_all_tasks_blocked()
        slots.give("full")
        await trio.testing.wait_all_tasks_blocked()
        assert got == {"full no": WAITING_MAX - WAITING_CAFE_MAX + 1, "full yes": 1, "new yes": 1}
        nursery.cancel_scope.cancel()
