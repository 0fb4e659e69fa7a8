"""What strangers wrote, as it is sent: looked at in the very bytes that reach the API."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from brewd.agent.prompt import Live, Question, Remark, Stable, prompt_of
from brewd.agent.words import checked_query, plain
from brewd.cafe.topics import Topics
from brewd.errors import Rejected
from brewd.people.records import Cafe
from tests.agent.table import Table

SSID, LATITUDE, LONGITUDE = "Corner-Guest 5G", 48.208174, 16.373819
TOKEN = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiIwMTkyIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
CODE, KEY, USER = "4G7K-PQ2M-X0Z3T", "sk-ant-api03-verysecretkey", "MellowOtter4821"
PATRON = "q7Zk0vXy3-Lm9_RtB2cWn5sHd8fJg1pKa4oEu6iTzYQ"
VALUES = {
    "ssid": SSID, "ssid_upper": SSID.upper(), "latitude": str(LATITUDE), "longitude": str(LONGITUDE), "token": TOKEN, "code": CODE, "key": KEY, "user": USER, "patron": PATRON,
}  # fmt: skip


def filled(text: str) -> str:
    for name, value in VALUES.items():
        text = text.replace("{" + name + "}", value)
    return text


TEXTS = [filled(text) for text in tomllib.loads((Path(__file__).parent / "injections.toml").read_text("utf-8"))["texts"]]
PLACES = ("chat", "username", "menu", "query", "persona", "name", "interest", "topic", "drink")
TAGS = (
    "menu",
    "popular_drinks",
    "interests_of_guests",
    "peak_hours",
    "name",
    "address",
    "persona",
    "local_time",
    "people_around",
    "topics",
    "chat",
    "question",
    "said_before",
)

SECRETS = re.compile(
    "|".join(re.escape(secret) for secret in (SSID, TOKEN, TOKEN[:40], CODE, KEY, PATRON, "29.4", "25.7", str(LATITUDE), str(LONGITUDE))), re.IGNORECASE
)
PERSONAL = re.compile(rf"{USER}|4821|VXD3BF|KVH812|someone\.private|660 ?123|1904 ?3002|0192f3a4-5b6c", re.IGNORECASE)


def test_the_corpus_is_large_enough_and_each_text_is_one_of_its_own() -> None:
    assert len(TEXTS) >= 60
    assert len(set(TEXTS)) == len(TEXTS)


def check(system: str, parts: list[str], *, personal: bool) -> None:
    """Nothing secret in it, and not one sign of markup that is not ours."""
    whole = re.sub("[\u2010-\u2015\u2212]", "-", "\n".join([system, *parts]))
    assert not SECRETS.search(whole)
    if personal:
        assert not PERSONAL.search(whole)
    body = re.sub(r"Everything between tags such as <menu>, <chat> or <question>", "", whole)
    found = re.findall(r"</?(\w+)>", body)
    assert set(found) <= set(TAGS)
    assert all(found.count(tag) == 2 for tag in found), found  # opened once, closed once
    assert len(re.findall("[<>]", body)) == 2 * len(found)
    assert "`" not in body
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u034f\u2800\U0001d159\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ufe00-\ufe0f\U000e0000-\U000e0fff]", body
    )
    for tag in ("question", "name", "topics", "persona", "address"):  # one line each: nothing in there can look like another turn
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", body, re.DOTALL):
            assert "\n" not in text
    for tag in ("chat", "menu"):
        for text in re.findall(rf"<{tag}>(.*?)</{tag}>", body, re.DOTALL):
            assert all(line.startswith("- ") for line in text.strip().split("\n"))


@pytest.mark.parametrize("place", PLACES)
def test_every_attempt_stays_in_its_place(place: str) -> None:
    for text in TEXTS:
        facts: dict[str, Any] = {"name": "Corner", "address": "Main Street 1", "secrets": (SSID,), "menu": ("Flat white 4.20",)}
        now: dict[str, Any] = {"local_time": "Sunday", "present": 3, "chat": ("hello", "good morning"), "names": (USER,)}
        query = "what is good here?"
        if place == "chat":
            now["chat"] = ("before", text, "after")
        elif place == "username":
            now |= {"names": (plain(text), USER), "chat": (f"{text} was here",)}
        elif place == "menu":
            facts["menu"] = ("Espresso", text)
        elif place == "query":
            try:
                query = checked_query(text)
            except Rejected:
                continue  # not even let in
        elif place == "persona":
            facts |= {"persona": "custom", "custom_text": text}
        elif place == "name":
            if SECRETS.search(plain(text)):
                continue  # what the owner calls the café is not taken apart
            facts["name"] = text
        elif place == "interest":
            facts["interests"] = (text, "jazz")
        elif place == "topic":
            now["topics"] = (text, "cake")
        else:
            facts["drinks"] = (text, "latte")
        stable, live = Stable(**facts), Live(**now)
        personal = place in ("chat", "topic")
        asked, unasked = prompt_of(Question(stable, live, query)), prompt_of(Remark(stable, live, ()))
        check(asked.stable, list(asked.live), personal=personal)
        check(unasked.stable, list(unasked.live), personal=personal)


def topics_of(facts: Stable, live: Live) -> list[str]:
    found = re.search("<topics>(.*?)</topics>", prompt_of(Question(facts, live, "what is good?")).live[0])
    return found[1].split(", ") if found else []


@pytest.mark.parametrize(
    "text",
    [
        "hi MellowIbis-KVH812!", "the wifi is Hinterzimmer5G", "mail me: someone.private@example.org", "Schreib mir, some\u200bone.pri\u034fvate＠example.org",
        "我喜欢SereneFern3852的外套", "我喜欢Serene Fern 3852的外套", "无线网密码Hinterzimmer5G密码", "is Rosalinde-Q here", "@Rosalinde",
        "code 4G7K-ABCD-XYZAB", "Bearer verysecretkey", "BEARER verysecretkey", "eyJhbGciOiJIUzIGNiJ.payloadpayload.signature", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwIn0.secretsign", "key sk-ant-verysecretkey", "GB29 NWBK ABCD EFGH ABCD 19",
        "a_Zero-Patronfernkeyabcdefgh_ijklmnopqrstuvwxyz-zz",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["last", "not shown", "not lately", "too long ago to be read"])
def test_no_topic_is_made_of_what_is_withheld(text: str, place: str) -> None:
    """They are single words, which no longer look like a name, an address or a key."""
    talk, topics = Topics(0), ("cake", "music", "天气很好")
    talk.add(text, 0)
    live = Live(local_time="ten", present=3, topics=(*topics, *(view.topic for view in talk.top(10, 0))), names=("Rosalinde-Q",))
    if place == "last":
        live = replace(live, chat=("good morning", text))
    elif place == "not shown":
        live = replace(live, chat=(text, *("what a day it was " * 20,) * 29))
    elif place == "not lately":
        live = replace(live, earlier=(text,))
    elif not re.search("MellowIbis|SereneFern|Hinter|Rosalinde", text):
        return  # nobody can know
    kept = topics_of(Stable(name="Corner", secrets=("Hinterzimmer5G",)), live)
    assert kept[:3] == list(topics)  # whether or not somebody said so lately
    assert set(kept[3:]) <= {"code", "mail", "wifi", "schreib"}


@pytest.fixture
async def cafe(table: Table) -> Cafe:
    return await table.cafe(
        wifi_ssid=SSID,
        latitude=LATITUDE,
        longitude=LONGITUDE,
        cidrs=["203.0.113.0/24"],
        address="Main Street 1",
        menu=[{"name": "Espresso", "price": 2.8}, *({"name": "Special", "note": text} for text in TEXTS[:40] if len(text) <= 200 and text.isprintable())],
    )


async def test_what_reaches_the_api_has_nothing_private_in_it(table: Table, cafe: Cafe) -> None:
    """The whole way: a café with everything secret there is, a room full of attempts, and one more as the question; in batches, as much as a prompt takes."""
    guest = await table.guest(cafe, USER, interests=("secretly-knitting",))
    await table.configs.set(cafe.id, persona="custom", custom_text=" ".join(TEXTS[16:24])[:900].replace("\x1b", "").replace("\x07", ""))
    asked = 0
    for start in range(0, len(TEXTS), 20):
        for text in TEXTS[start : start + 20]:
            if text.isascii() or "\x00" not in text:
                await table.said(cafe, guest.user_id, guest.username, text)
        for text in TEXTS[start : start + 20 : 4]:
            with suppress(Rejected):  # of those with control characters
                await table.heard(cafe, text[:500], who=guest)
                asked += 1
    assert asked == len(table.upstream.requests) > 15
    for request in table.upstream.requests:
        system, (turn,) = request.body["system"][0]["text"], request.body["messages"]
        parts = [part["text"] for part in turn["content"]]
        check(system, parts, personal=False)
        assert not PERSONAL.search("\n".join(parts[:1]))  # what others said; the question is the asker's own
        sent = request.raw.decode()
        for secret in ("secretly-knitting", "203.0.113", guest.user_id, cafe.id):
            assert secret not in sent
        assert set(request.body) == {"model", "max_tokens", "stream", "output_config", "system", "messages"}


async def test_the_names_of_those_who_talk_are_taken_out_and_so_are_deleted_words_and_those_of_other_cafes(table: Table, cafe: Cafe) -> None:
    other = await table.cafe()
    anna, ben = await table.guest(cafe, "QuietHeron1234"), await table.guest(cafe, "Ben <b>")
    await table.said(cafe, anna.user_id, anna.username, "is ben <B> here? hello @Somebody")
    await table.said(cafe, ben.user_id, ben.username, "yes, quietheron1234, what is on the menu")
    await table.said(cafe, ben.user_id, ben.username, "taken back")
    await table.row("UPDATE message SET deleted_at = now() WHERE content = 'taken back'")
    await table.said(cafe, ben.user_id, ben.username, "long ago", ago_ms=3 * 3_600_000)
    await table.said(other, anna.user_id, anna.username, "said elsewhere")
    await table.heard(cafe)
    chat = re.search(r"<chat>(.*)</chat>", table.upstream.requests[0].body["messages"][0]["content"][0]["text"], re.DOTALL)
    assert chat is not None
    assert chat[1] == "\n- is […] here? hello […]\n- yes, […], what is on the menu\n"


async def test_topics_are_compared_with_all_that_was_heard(table: Table, cafe: Cafe) -> None:
    anna, ben = await table.guest(cafe, "Rosalinde"), await table.guest(cafe, "Ben")
    await table.said(cafe, anna.user_id, anna.username, "my mail is someone.private@example.org", ago_ms=3 * 3_600_000)
    await table.said(cafe, anna.user_id, anna.username, "or other.secret@example.org")
    for number in range(31):
        await table.said(cafe, ben.user_id, ben.username, f"number {number}")
    table.rooms.ref(cafe.id).topics = ["private", "secret", "cake", "rosalinde", "rain"]
    await table.heard(cafe)
    assert "<topics>cake, rain</topics>" in table.upstream.requests[0].body["messages"][0]["content"][0]["text"]


async def test_the_asker_is_not_named_at_all(table: Table) -> None:
    cafe = await table.cafe()
    asker = await table.guest(cafe, "QuietHeron1234")
    await table.heard(cafe, who=asker)
    sent = table.upstream.requests[0].raw.decode()
    assert asker.user_id not in sent
    assert "QuietHeron" not in sent
