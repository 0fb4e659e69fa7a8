"""The laws of a channel, whatever the two do in it and whichever answers get lost: held against a model that is a list and two numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Struct

from brewd.cafe.events import DmDeleted, DmMessage, DmRead
from brewd.errors import Rejected, StoreError
from brewd.people.tokens import Identity
from brewd.runtime.clock import Clock
from brewd.runtime.ids import Ids
from brewd.store.postgres import Postgres
from brewd.store.records import DirectMessage
from tests.social.channels import Corner, open_corner

Step = tuple[str, int, str | None, int | None]

WHO = st.integers(0, 1)
LOSES = st.sampled_from([None, None, None, "before", "after"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, LOSES, st.none() | st.integers(0, 3)),
        st.tuples(st.just("at_once"), WHO, st.none(), st.none() | st.integers(0, 3)),
        st.tuples(st.just("delete"), WHO, LOSES, st.integers(1, 8)),
        st.tuples(st.just("read"), WHO, LOSES, st.integers(0, 12)),
        st.tuples(st.just("page"), WHO, st.none(), st.integers(1, 12)),
    ),
    max_size=20,
)
"""What is done, by whom, which answer is lost (on the way there or back), and the number of a name or a message."""


class Line(Struct):
    """A message as the model knows it."""

    author: int
    content: str
    name: int | None
    id: str = ""
    deleted: bool = False


class Model:
    """Two people in one channel, and what must be true after what they did. `read_to`: how far each has read."""

    def __init__(self, corner: Corner, people: tuple[Identity, Identity], channel_id: str) -> None:
        self.corner = corner
        self.people = people
        self.channel_id = channel_id
        self.lines: list[Line] = []
        self.read_to = [0, 0]
        self.said = 0
        self.deletions: set[str] = set()
        corner.ears.told.clear()

    async def play(self, steps: list[Step]) -> None:
        for kind, who, loses, number in [*steps, ("send", 0, None, None), ("send", 1, None, None)]:
            self.corner.pg.loses = loses
            await getattr(self, kind)(who, loses, number)
            self.corner.pg.loses = None
            await self.check()
        for who in (0, 1):
            self.check_told(who)
        assert len(self.corner.dms._turns) == 0

    async def send(self, who: int, loses: str | None, name: int | None) -> None:
        self.said += 1
        content = f"message {self.said}"
        known = self.named(who, name)
        try:
            sent = await self.corner.dms.send(self.people[who], self.channel_id, content, None if name is None else f"n{name}")
        except StoreError:
            assert loses is not None
            if loses == "after":
                self.lines.append(Line(who, content, name))
            return
        assert sent.duplicate is (known is not None)
        if known is None:
            known = Line(who, content, name, sent.message.id)
            self.lines.append(known)
        self.same(sent.message, known)

    async def at_once(self, who: int, _: None, name: int | None) -> None:
        """Both, and one of them twice under the same name: numbered as they were answered."""
        self.said += 1
        answers: list[tuple[int, Any]] = []

        async def send(person: int) -> None:
            content = f"at once {self.said} by {person}"
            answers.append((person, await self.corner.dms.send(self.people[person], self.channel_id, content, None if name is None else f"n{name}")))

        async with trio.open_nursery() as nursery:
            for person in (who, 1 - who, who):
                nursery.start_soon(send, person)
        for person, sent in sorted(answers, key=lambda answer: (answer[1].duplicate, answer[1].message.seq)):
            if not sent.duplicate:
                assert self.named(person, name) is None
                self.lines.append(Line(person, f"at once {self.said} by {person}", name, sent.message.id))
            self.same(sent.message, self.lines[sent.message.seq - 1])
            assert name is None or self.named(person, name) is self.lines[sent.message.seq - 1]

    async def delete(self, who: int, loses: str | None, nth: int) -> None:
        if nth > len(self.lines):
            return
        line = self.lines[nth - 1]
        try:
            deleted = await self.corner.dms.delete(self.people[who], line.id)
        except Rejected:
            assert line.author != who
            return
        except StoreError:
            line.deleted |= loses == "after"
            return
        if not line.deleted:
            self.deletions.add(line.id)
        line.deleted = True
        self.same(deleted, line)

    async def read(self, who: int, loses: str | None, seq: int) -> None:
        wanted = max(self.read_to[who], min(seq, len(self.lines)))
        try:
            read = await self.corner.dms.read(self.people[who], self.channel_id, seq)
        except StoreError:
            self.read_to[who] = wanted if loses == "after" else self.read_to[who]
            return
        self.read_to[who] = wanted
        assert (read.seq, read.unread) == (wanted, self.unread(who))

    async def page(self, who: int, _: None, before: int) -> None:
        page = await self.corner.dms.messages(self.people[who], self.channel_id, limit=4, before=before)
        assert [message.seq for message in page] == list(range(1, len(self.lines) + 1))[: before - 1][-4:]

    async def check(self) -> None:
        """What each of them finds is what was done."""
        for who in (0, 1):
            found = await self.corner.dms.messages(self.people[who], self.channel_id, limit=100)
            assert [message.seq for message in found] == list(range(1, len(self.lines) + 1))
            for message, line in zip(found, self.lines, strict=True):
                line.id = line.id or message.id
                self.same(message, line)
            (channel,) = await self.corner.dms.channels(self.people[who])
            assert channel.unread == self.unread(who)
            assert channel.last_message == (found[-1] if found else UNSET)

    def check_told(self, who: int) -> None:
        """Everything was told, once, in its order; a deletion after what it is of, unless that was told as deleted."""
        told = self.corner.ears.told[self.people[who].user_id]
        messages = [event.message for event in told if isinstance(event, DmMessage)]
        assert [message.seq for message in messages] == list(range(1, len(self.lines) + 1))
        for message, line in zip(messages, self.lines, strict=True):
            assert (message.id, message.content) == (line.id, "" if message.deleted else line.content)
            assert line.deleted or not message.deleted
        names = [event.client_msg_id for event in told if isinstance(event, DmMessage)]
        assert names == [UNSET if line.name is None or line.author != who else f"n{line.name}" for line in self.lines]
        assert self.deletions <= {event.message_id for event in told if isinstance(event, DmDeleted)} <= {line.id for line in self.lines if line.deleted}
        stands = [event.seq for event in told if isinstance(event, DmRead)]
        assert stands == sorted(set(stands))

    def named(self, who: int, name: int | None) -> Line | None:
        return next((line for line in self.lines if name is not None and (line.author, line.name) == (who, name)), None)

    def unread(self, who: int) -> int:
        return sum(line.author != who and not line.deleted for line in self.lines[self.read_to[who] :])

    def same(self, message: DirectMessage, line: Line) -> None:
        assert (message.id, message.user_id, message.deleted) == (line.id, self.people[line.author].user_id, line.deleted)
        assert message.content == ("" if line.deleted else line.content)


@pytest.fixture
async def corner(pg: Postgres, clock: Clock, ids: Ids) -> Corner:
    return await open_corner(pg, clock, ids)


async def test_the_laws_of_a_channel(corner: Corner) -> None:
    async def example(steps: list[Step]) -> None:
        people = (await corner.guest(), await corner.guest())
        await Model(corner, people, await corner.channel(*people)).play(steps)

    @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def examples(steps: list[Step]) -> None:
        trio.from_thread.run(partial(example, steps))

    await trio.to_thread.run_sync(examples)
