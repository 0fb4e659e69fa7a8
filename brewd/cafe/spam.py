"""Spam: what a message looks like beside those before it, and what that leads to. Pure; one `Spam` for a room.

| rule | severity | a message that |
| --- | --- | --- |
| `duplicate` | soft | says what its author said less than `duplicate_ms` ago |
| `capitals` | soft | has more capitals than `capitals_percent` of at least `capitals_letters_min` letters |
| `links` | soft | has more than `links_max` links |
| `repeats` | soft | has a character `repeats_min` times in a row |
| `words` | hard | has a word or phrase of the list, as whole words |
| `raid` | hard | is one more copy of a text of which `raid_copies` went out, by more than one author, within `duplicate_ms` |
| `warnings` | hard | is the author's `warnings`th soft one within `warnings_ms` |
| `blocks` | hard | is the author's `blocks`th blocked one within `blocks_ms`: muted for `mute_ms` |

Texts are compared as they look (see `folding`). Soft: the author is warned and the message goes out. Hard: it does not. Copies
that are turned away are remembered too, so while a raid goes on no more of its copies get through.

Warnings and texts are forgotten in a restart, but for the texts of the messages the room starts with; blocks are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from brewd.cafe import looks
from brewd.cafe.folding import skeleton
from brewd.config_spam import Spam as SpamConfig

Severity = Literal["soft", "hard"]
Verdicts = Literal["allow", "warn", "block", "mute"]

TEXTS_MAX: Final = 4096
"""Texts remembered in a room. With more within `duplicate_ms`, the oldest are forgotten first."""

SPEAKERS_MAX: Final = 8
"""Who said a text, remembered of each."""

LATEST_MAX: Final = 10_000
"""Users whose newest text waits for the mirror; of more, nothing is shown."""

OFFENDERS_MAX: Final = 10_000
"""Users whose warnings, and whose blocks, are remembered; with more, those whose last one is longest ago are forgotten first."""


BLOCKS: Final = "blocks"
"""The rule that mutes."""

Said = tuple[str | int, ...]
"""Who said a text, and when, and who next, and when, in the order of time: one flat tuple, since there is one for every message."""


class Violation(Struct, frozen=True):
    """A rule that was broken: its name, `soft` or `hard`, and a sentence for the author."""

    type: str
    severity: Severity
    detail: str


class Verdict(Struct, frozen=True, gc=False):
    """What becomes of a message. `rule`: the one that decided, when it is not allowed just so. `text`: what it is remembered by."""

    action: Verdicts
    text: int
    rule: str | None = None
    violations: tuple[Violation, ...] = ()

    @property
    def detail(self) -> str:
        """What the deciding rule says."""
        return next((violation.detail for violation in self.violations if violation.type == self.rule), "")


class SpamRules(Struct, frozen=True):
    """The numbers in the table above, and the words that are not wanted."""

    duplicate_ms: int = 300_000
    capitals_percent: int = 50
    capitals_letters_min: int = 10
    capitals_max: int = 5  # so many are never too many: what 50 % of 10 letters are
    links_max: int = 2
    repeats_min: int = 7
    words: looks.Index = {}
    raid_copies: int = 2
    raid_chars_min: int = 32
    warnings: int = 3
    warnings_ms: int = 3_600_000
    blocks: int = 3
    blocks_ms: int = 86_400_000
    mute_ms: int = 86_400_000


def rules_of(config: SpamConfig) -> SpamRules | None:
    """As the operator set them; None when nothing is to be spam."""
    if not config.enabled:
        return None
    return SpamRules(
        duplicate_ms=_ms(config.duplicate_s),
        capitals_percent=config.capitals_percent,
        capitals_letters_min=config.capitals_letters_min,
        capitals_max=config.capitals_percent * config.capitals_letters_min // 100,
        links_max=config.links_max,
        repeats_min=config.repeats_min,
        words=looks.index_of(config.words),
        raid_copies=config.raid_copies,
        raid_chars_min=config.raid_chars_min,
        warnings=config.warnings,
        warnings_ms=_ms(config.warnings_s),
        blocks=config.blocks,
        blocks_ms=_ms(config.blocks_s),
        mute_ms=_ms(config.mute_s),
    )


class Spam:
    """What a room remembers of its texts and of those who broke rules. `judge` looks; everything else writes.

    Texts are remembered in two halves: when the newer one is full, or as old as matters, it becomes the older one, and that is
    let go. So nothing is ever sorted or swept. `latest`: the newest text of those who spoke since the mirror came by.
    """

    __slots__ = ("_blocks", "_newer", "_older", "_turned_ms", "_warnings", "latest", "rules")

    def __init__(self, rules: SpamRules) -> None:
        self.rules = rules
        self.latest: dict[str, int] = {}
        self._newer: dict[int, Said] = {}
        self._older: dict[int, Said] = {}
        self._turned_ms = 0
        self._warnings: dict[str, tuple[int, ...]] = {}
        self._blocks: dict[str, tuple[int, ...]] = {}

    def judge(self, user_id: str, content: str, now_ms: int) -> Verdict:
        """What would become of this message now. Takes nothing, and is not remembered."""
        rules = self.rules
        plain = skeleton(content)
        text = hash(plain)
        said = self._newer.get(text) or self._older.get(text, ())
        is_plain = looks.is_plain(content, rules.capitals_max, rules.links_max, rules.repeats_min)
        if is_plain and not said and not rules.words:
            return Verdict("allow", text)
        return self._verdict(user_id, text, [*self._said_before(user_id, plain, said, now_ms), *self._looks_like(content, is_plain)], now_ms)

    def judge_aside(self, user_id: str, content: str, said_ms: int | None, now_ms: int) -> Verdict:
        """The same for what is for one other alone: held beside no text of anybody else, nor of the room. `said_ms`: when its author last said it there."""
        rules = self.rules
        is_plain = looks.is_plain(content, rules.capitals_max, rules.links_max, rules.repeats_min)
        violations = [self._duplicate()] if said_ms is not None and now_ms - said_ms < rules.duplicate_ms else []
        return self._verdict(user_id, 0, [*violations, *self._looks_like(content, is_plain)], now_ms)

    def _verdict(self, user_id: str, text: int, violations: list[Violation], now_ms: int) -> Verdict:
        rules = self.rules
        if not violations:
            return Verdict("allow", text)
        broken = next((violation for violation in violations if violation.severity == "hard"), None)
        if broken is None and _count(self._warnings, user_id, now_ms - rules.warnings_ms) + 1 >= rules.warnings:
            broken = Violation("warnings", "hard", f"You were warned already: the {_nth(rules.warnings)} such message is not sent.")
            violations.append(broken)
        if broken is None:
            return Verdict("warn", text, violations[0].type, tuple(violations))
        if _count(self._blocks, user_id, now_ms - rules.blocks_ms) + 1 < rules.blocks:
            return Verdict("block", text, broken.type, tuple(violations))
        violations.append(Violation(BLOCKS, "hard", f"This is the {_nth(rules.blocks)} message that was not sent: you may not speak for a while."))
        return Verdict("mute", text, broken.type, tuple(violations))

    def accepted(self, user_id: str, verdict: Verdict, now_ms: int) -> None:
        """The message goes out."""
        self._remember(user_id, verdict.text, now_ms)
        if verdict.violations:
            self.warned(user_id, now_ms)
        if len(self.latest) < LATEST_MAX:
            self.latest[user_id] = verdict.text

    def blocked(self, user_id: str, verdict: Verdict, now_ms: int) -> None:
        """It does not."""
        self._remember(user_id, verdict.text, now_ms)
        self.stopped(user_id, now_ms)

    def withdrawn(self, user_id: str, content: str, *, warned: bool) -> None:
        """It was to go out, and was never stored: to say it again is no repetition, and what was warned of did not happen."""
        text = hash(skeleton(content))
        for half in (self._newer, self._older):
            said = half.get(text, ())
            last = max((at for at, who in enumerate(said) if who == user_id), default=None)
            if last is not None:
                half[text] = said[:last] + said[last + 2 :]
        if warned:
            self.unwarned(user_id)

    def warned(self, user_id: str, now_ms: int) -> None:
        """A warning counts."""
        _add(self._warnings, user_id, now_ms, self.rules.warnings)

    def unwarned(self, user_id: str) -> None:
        """The last one does not."""
        if user_id in self._warnings:
            self._warnings[user_id] = self._warnings[user_id][:-1]

    def stopped(self, user_id: str, now_ms: int) -> None:
        """A message that was not sent counts."""
        _add(self._blocks, user_id, now_ms, self.rules.blocks)

    def forgive(self, user_id: str) -> None:
        """Nobody was ever warned or blocked."""
        self._warnings.pop(user_id, None)
        self._blocks.pop(user_id, None)

    def forget(self, aliases: Mapping[str, str]) -> None:
        """These people are gone; that somebody said what they said is remembered, for as long as it matters."""
        for user_id in aliases:
            self.forgive(user_id)
            self.latest.pop(user_id, None)
        for half in (self._newer, self._older):
            for text, said in half.items():
                if any(who in aliases for who in said[::2]):
                    half[text] = tuple(part if at % 2 else aliases.get(str(part), part) for at, part in enumerate(said))

    def restore(self, user_id: str, content: str, at_ms: int) -> None:
        """It was said before the room was opened."""
        self._remember(user_id, hash(skeleton(content)), at_ms)

    def restore_block(self, user_id: str, at_ms: int) -> None:
        _add(self._blocks, user_id, at_ms, self.rules.blocks)

    def _said_before(self, user_id: str, plain: bytes, said: Said, now_ms: int) -> Iterator[Violation]:
        rules = self.rules
        copies = [who for who, at_ms in _pairs(said) if now_ms - at_ms < rules.duplicate_ms]
        by_others = any(who != user_id for who in copies)
        if by_others and len(copies) >= rules.raid_copies and len(plain.decode("utf-8", "surrogatepass")) >= rules.raid_chars_min:
            yield Violation("raid", "hard", "Several people have said just this a moment ago.")
        elif user_id in copies:
            yield self._duplicate()

    def _duplicate(self) -> Violation:
        return Violation("duplicate", "soft", f"You said this less than {_span(self.rules.duplicate_ms)} ago.")

    def _looks_like(self, content: str, is_plain: bool) -> Iterator[Violation]:
        rules = self.rules
        word = looks.unwanted(content, rules.words)
        if word is not None:
            yield Violation("words", "hard", f"“{word}” is not wanted here.")
        if is_plain:
            return
        if looks.shouts(content, rules.capitals_percent, rules.capitals_letters_min):
            yield Violation("capitals", "soft", f"More than {rules.capitals_percent} % of it are capitals.")
        if looks.links(content, rules.links_max):
            yield Violation("links", "soft", f"There are more than {rules.links_max} links in it.")
        if looks.repeats(content, rules.repeats_min):
            yield Violation("repeats", "soft", f"There is a character {rules.repeats_min} times in a row in it.")

    def _remember(self, user_id: str, text: int, now_ms: int) -> None:
        newer = self._newer
        if len(newer) >= TEXTS_MAX // 2 or now_ms - self._turned_ms >= self.rules.duplicate_ms:
            self._older, self._newer, self._turned_ms = newer, {}, now_ms
            newer = self._newer
        said = newer.get(text) or self._older.get(text)
        newer[text] = (*said[2 - 2 * SPEAKERS_MAX :], user_id, now_ms) if said else (user_id, now_ms)


def _count(times_ms: dict[str, tuple[int, ...]], user_id: str, since_ms: int) -> int:
    return sum(at_ms > since_ms for at_ms in times_ms.get(user_id, ()))


def _add(times_ms: dict[str, tuple[int, ...]], user_id: str, at_ms: int, kept: int) -> None:
    times_ms[user_id] = (*times_ms.pop(user_id, ()), at_ms)[-kept:]
    if len(times_ms) > OFFENDERS_MAX:
        del times_ms[next(iter(times_ms))]


def _pairs(said: Said) -> Iterator[tuple[str, int]]:
    return zip(said[::2], said[1::2], strict=True)  # type: ignore[arg-type]


def _nth(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _span(span_ms: int) -> str:
    return f"{span_ms // 60_000} minutes" if span_ms >= 120_000 and span_ms % 60_000 == 0 else f"{span_ms / 1000:g} s"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
