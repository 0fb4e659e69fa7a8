"""Words and prompts: what a stranger writes, made harmless, and what a prompt is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brewd.agent import words
from brewd.agent.personas import PERSONAS, Persona
from brewd.agent.proactive import alike
from brewd.agent.prompt import CHAT_MAX, MENU_MAX, Live, Prompt, Question, Remark, Stable, menu_lines, prompt_of, size_bytes, version_of
from brewd.agent.words import cut, plain, secrets_of, shown, withheld

FACTS = Stable(name="Corner", address="Main Street 1", menu=("Flat white",), drinks=("latte",), interests=("jazz",), peak_hours=(8, 23))
NOW = Live(local_time="Sunday, 22 November 2026, 10:00", present=3, topics=("cake",), chat=("good morning",))


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
