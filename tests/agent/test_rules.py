"""The small pure rules: chunks, the circuit, the cache's key, places in flight, words, and what a prompt is made of."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from brewd.agent import words
from brewd.agent.cache import key_of, normalised
from brewd.agent.calls import Trouble
from brewd.agent.chunks import CHARS_MAX, GAP_S, Chunker, Gatherer
from brewd.agent.circuit import FAILURES_MAX, PAUSE_FIRST_MS, PAUSE_MAX_MS, Circuit
from brewd.agent.personas import PERSONAS, Persona
from brewd.agent.proactive import alike
from brewd.agent.prompt import CHAT_MAX, MENU_MAX, Live, Prompt, Question, Remark, Stable, menu_lines, prompt_of, size_bytes, version_of
from brewd.agent.slots import WAITING_CAFE_MAX, WAITING_MAX, Slots
from brewd.agent.words import cut, plain, secrets_of, shown, withheld

FACTS = Stable(name="Corner", address="Main Street 1", menu=("Flat white",), drinks=("latte",), interests=("jazz",), peak_hours=(8, 23))
NOW = Live(local_time="Sunday, 22 November 2026, 10:00", present=3, topics=("cake",), chat=("good morning",))


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


# Words and prompts


@given(st.text())
def test_plain_text_has_no_markup_and_no_lines_and_stays_as_it_is(text: str) -> None:
    line = plain(text)
    assert not set(line) & set("<>`\n\r\t\x00\u2028")
    assert plain(line) == line
    assert len(cut(line, 10)) <= 10


def test_what_is_ordinary_is_left_alone() -> None:
    for text in (
        "Flat white 4.20, 2 for 8.00",
        "open 08:00-18:00, call 555",
        "I like C++ & jazz (a lot)!",
        "größer, 日本語, émoji 🙂",
        "3.141 is pi",
        "warm cinnamon-glazed buns, a fair olive at 12, 180°C for 20'",
        "skate park",
    ):
        assert withheld(plain(text), ("Corner-Guest",)) == text


FORMS = [pattern for _, pattern in (*words._SECRETS, *words._PERSONAL)]


@given(st.one_of(*(st.from_regex(pattern) for pattern in FORMS)), st.text(), st.booleans())
def test_nothing_withheld_is_taken_for_ordinary(secret: str, around: str, personal: bool) -> None:
    text = (around + secret).casefold()
    found = [match.span() for pattern in FORMS[: None if personal else len(words._SECRETS)] for match in pattern.finditer(text)]
    assert withheld(text, personal=personal) == (words._without(text, found) if found else text)


def test_what_is_withheld_goes_whole_wherever_parts_of_it_overlap() -> None:
    assert withheld("it is Vodafone-12345678, Ben Miller, anna@example.org", ("Vodafone-12345678", "Ben", "Ben Miller", "anna")) == "it is […], […], […]"
    assert withheld("Is this the STRASSENCAFÉ or the Straßencafé", ("Straßencafé",)) == "is this the […] or the […]"


@pytest.mark.parametrize(
    "text",
    [
        "Serene Fern 3852", "Mellow.Otter.4821", "WarmIbis\u20117K2Q9D", "Joe\u2019s", "48\u00b0 12.490' N", "-33.8688, 151.2093", "q" * 43, "a_-" * 20,
    ],
)  # fmt: skip
def test_what_is_spelled_in_another_way_is_found(text: str) -> None:
    assert withheld(plain(f"it is {text}, yes"), ("Joe's",)) == "it is […], yes"


def test_no_half_of_a_secret_is_left_where_a_text_is_cut() -> None:
    for before in range(700, 760):
        assert shown("\u200b" * before + "Corner-Guest 5G", 240, ("Corner-Guest 5G",)) == words.GONE
        line = shown("x " * (before // 2) + "Corner-Guest 5G, SereneFern3852", before, ("Corner-Guest 5G",))
        assert not any(part in line for part in ("Corner", "Gue", "5G", "Serene", "Fern"))


def test_a_short_name_is_not_looked_for() -> None:
    assert secrets_of(["ab", None, "Corner\u200b-Guest", "corner"]) == ("Corner-Guest", "corner")
    assert withheld("the corner of Corners", ("corner",)) == "the […] of Corners"


def asked(facts: Stable, live: Live, query: str) -> Prompt:
    return prompt_of(Question(facts, live, query))


def test_the_stable_part_comes_first_and_does_not_change_with_the_hour() -> None:
    first = asked(FACTS, NOW, "what is good?")
    second = asked(FACTS, Live(local_time="Monday", present=9), "what else?")
    assert first.stable == second.stable
    assert first.live != second.live
    assert first.sources == ("menu", "popular_drinks", "interests_of_guests", "peak_hours", "topics", "chat")
    assert "08:00-09:00, 23:00-00:00" in first.stable
    assert "<question>what is good?</question>" in first.live[-1]
    assert "<people_around>3</people_around>" in first.live[0]


def test_sections_have_their_size_and_the_newest_talk_stays() -> None:
    facts = Stable(
        name="nnn " * 250,
        address="aaa " * 250,
        menu=("mmm " * 250,) * 500,
        drinks=("ddd " * 250,) * 99,
        interests=("iii " * 250,) * 99,
        custom_text="ccc " * 2500,
        persona="custom",
    )
    live = Live(local_time="ttt " * 250, present=1, topics=("xxx " * 250,) * 99, chat=tuple(f"{n} " + "ccc " * 250 for n in range(99)))
    prompt = asked(facts, live, "qqq " * 2500)
    assert len(prompt.stable) < 10_000
    assert len(prompt.live[0]) < CHAT_MAX + 1000
    assert prompt.stable.count("- mmm") == MENU_MAX // 163
    assert "- 98 c" in prompt.live[0]
    assert "- 50 c" not in prompt.live[0]


@pytest.mark.parametrize("live", [NOW, Live(local_time="Sunday", present=1, chat=("é" * 200,) * 30, topics=("cake",) * 10)], ids=["little", "much"])
@pytest.mark.parametrize("persona", PERSONAS)
def test_how_long_a_prompt_is_is_known_before_it_is_made(live: Live, persona: Persona) -> None:
    facts = Stable(name="Corner", persona=persona, custom_text="Talk like a sailor.", menu=("Flat white, 3.50",) * 60)
    for task in (Question(facts, live, "what is good?"), Remark(facts, live, ("Try the cake",) * 10)):
        prompt = prompt_of(task)
        made_bytes = sum(len(part.encode()) for part in (prompt.stable, *prompt.live))
        assert made_bytes <= size_bytes(task) <= made_bytes * 2


def test_a_menu_is_read_whatever_its_owner_made_of_it() -> None:
    assert menu_lines(["Espresso", {"name": "Latte", "price": 3.5, "vegan": True, "tags": ["x"]}, 7, None, [], {}]) == ("Espresso", "Latte, 3.5", "7")


def test_an_answer_holds_for_an_hour_of_the_day_and_about_as_many_people() -> None:
    version = version_of(FACTS, 3, "10")
    assert version == version_of(FACTS, 4, "10")
    assert version != version_of(FACTS, 3, "11")
    assert version != version_of(FACTS, 30, "10")
    assert version != version_of(Stable(name="Corner"), 3, "10")


def test_what_was_said_is_not_said_again() -> None:
    assert "<said_before>\n- Try the cake\n</said_before>" in prompt_of(Remark(FACTS, NOW, ("Try the cake",))).live[-1]
    assert alike("Has anyone tried the new cake today?", "has anyone tried the new cake, today")
    assert alike("Who is up for a round of chess?", "Who is up for a game of chess?")
    assert not alike("Has anyone tried the new cake?", "It is a rainy morning, a good one for cocoa.")


def test_what_was_said_before_is_shown_as_what_others_said_is() -> None:
    facts, live = Stable(name="Corner", secrets=("Corner-Guest 5G",)), Live(local_time="ten", present=3, names=("Rosalinde",))
    said = ("Rosalinde and SereneFern3852 like cake", "", "\u200b", "join Corner-Guest 5G <b>", "word " * 99)
    assert "<said_before>\n- […] and […] like cake\n- join […] ‹b›\n- word word" in prompt_of(Remark(facts, live, said)).live[-1]
    assert "said_before" not in prompt_of(Remark(facts, live, ("",))).live[-1]


def test_what_is_written_without_spaces_or_with_invisible_signs_is_not_said_again() -> None:
    assert alike("今天有人想下棋吗？", "今天有没有人想下棋？")
    assert alike("ใครอยากเล่นหมากรุกบ้าง", "ใครอยากเล่นหมากรุกไหม")
    assert not alike("今天有人想下棋吗？", "新的柠檬蛋糕很好吃，有人试过吗？")
    assert alike("Who is up for a round of chess?", "W\u200bho is u\u034fp for a ro\u200dund of chess?")
    assert alike("今天下雨，来杯热可可，怎么样？", "今天下雨，来一杯热可可，怎么样？")
    assert alike("棋", "棋！")
    assert not alike("Frühstücksspezialitäten: Zimtschnecken!", "Mittagsgerichte: Kürbiscremesuppe!")
    assert not alike("", "cake")


def test_every_persona_talks_in_its_own_way() -> None:
    assert len({asked(Stable(name="Corner", persona=persona), NOW, "q").stable for persona in PERSONAS}) == len(PERSONAS)
