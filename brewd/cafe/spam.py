"""Spam: what a message looks like beside those before it, and what that leads to. Pure; one `Spam` for a room.

| rule | severity | a message that |
| --- | --- | --- |
| `duplicate` | soft | says what its author said less than `duplicate_ms` ago |
| `capitals` | soft | has more capitals than `capitals_percent` of at least `capitals_letters_min` letters |
| `links` | soft | has more than `links_max` links |
| `repeats` | soft | has a character `repeats_min` times in a row |
| `words` | hard | has a word or phrase of the list, as whole words |
| `raid` | hard | is one more copy of a text somebody else said first, of which there were `raid_copies` within `duplicate_ms`; a short one only with a link |
| `warnings` | hard | is the author's `warnings`th soft one within `warnings_ms` |
| `blocks` | hard | is the author's `blocks`th blocked one within `blocks_ms`: muted for `mute_ms` |

Texts are compared as they look (see `folding`), long ones without their numbers. Soft: the author is warned and the message goes
out. Hard: it does not. Copies that are turned away are remembered too, so while a raid goes on no more of its copies get through.

Nobody is muted for what others do. Who said a text first only repeats it, whoever copies it, so nobody can make a raid of another's
words. And who copies a text may not know of the raid: their first block by that rule tells them of it, and does not count as one of
the `blocks`. All further ones do, whether they go on with that text or with another.

Warnings and texts are forgotten in a restart, but for the texts of the messages the room starts with; blocks are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from brewd.cafe import looks
from brewd.cafe.folding import INVISIBLE_ASCII, LOWER_ASCII, skeleton
from brewd.config_spam import Spam as SpamConfig

Severity = Literal["soft", "hard"]
Verdicts = Literal["allow", "warn", "block", "mute"]

HALF_MAX: Final = 2048
TEXTS_MAX: Final = 2 * HALF_MAX
"""Texts remembered in a room. With more within `duplicate_ms`, the oldest are forgotten first."""

SPEAKERS_MAX: Final = 8
"""Who said a text, remembered of each: the first, and the latest."""

DIGITS_CHARS_MIN: Final = 64
_DIGITS: Final = b"0123456789"

LATEST_MAX: Final = 10_000
"""Users whose newest text waits for the mirror; of more, nothing is shown."""

OFFENDERS_MAX: Final = 10_000
"""Users whose warnings, and whose blocks, are remembered; with more, those whose last one is longest ago are forgotten first."""

RAID: Final = "raid"
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
    """What a room remembers of its texts and of those who broke rules. `glance` and `judge` look; everything else writes.

    Texts are remembered in two halves: when the newer one is full, or as old as matters, it becomes the older one, and that is
    let go. So nothing is ever sorted or swept. `latest`: the newest text of those who spoke since the mirror came by.
    """

    __slots__ = ("_blocks", "_capitals_max", "_dots_max", "_newer", "_older", "_raids", "_rows", "_rules", "_turned_ms", "_warnings", "latest")

    def __init__(self, rules: SpamRules) -> None:
        self.rules = rules
        self.latest: dict[str, int] = {}
        self._newer: dict[int, Said] = {}
        self._older: dict[int, Said] = {}
        self._turned_ms = 0
        self._warnings: dict[str, tuple[int, ...]] = {}
        self._raids: dict[str, tuple[int, ...]] = {}
        self._blocks: dict[str, tuple[int, ...]] = {}

    @property
    def rules(self) -> SpamRules:
        return self._rules

    @rules.setter
    def rules(self, rules: SpamRules) -> None:
        self._rules = rules
        self._rows = looks.rows(rules.repeats_min)
        self._capitals_max, self._dots_max = (min(most, rules.repeats_min - 1) for most in (rules.capitals_max, rules.links_max))

    def glance(self, content: str) -> int | None:
        """What nearly every message is: ASCII, new, and without anything that could break a rule. Then what it is remembered by; None says nothing.

        `looks.is_plain` and `_number` in one go: a call costs as much as what they do.
        """
        if not content.isascii():
            return None
        rules, raw = self._rules, content.encode()
        kinds = raw.translate(looks.KIND).decode()
        vowels, consonants, others = self._rows
        if vowels in kinds or consonants in kinds or others in kinds or ("." in kinds and kinds.count(".") > self._dots_max):
            return None
        if kinds.count("A") > self._capitals_max or (rules.words and looks.unwanted(content, rules.words) is not None):
            return None
        text = hash(raw.translate(LOWER_ASCII, INVISIBLE_ASCII)) if len(raw) < DIGITS_CHARS_MIN else _number(content)
        return None if text in self._newer or text in self._older else text

    def judge(self, user_id: str, content: str, now_ms: int) -> Verdict:
        """What would become of this message now. Takes nothing, and is not remembered."""
        text = _number(content)
        said = self._newer.get(text) or self._older.get(text, ())
        return self._verdict(user_id, text, [*self._said_before(user_id, content, said, now_ms), *self._looks_like(content)], now_ms)

    def judge_aside(self, user_id: str, content: str, said_ms: int | None, now_ms: int) -> Verdict:
        """The same for what is for one other alone: held beside no text of anybody else, nor of the room. `said_ms`: when its author last said it there."""
        rules = self.rules
        violations = [_duplicate(rules)] if said_ms is not None and now_ms - said_ms < rules.duplicate_ms else []
        return self._verdict(user_id, 0, [*violations, *self._looks_like(content)], now_ms)

    def _verdict(self, user_id: str, text: int, violations: list[Violation], now_ms: int) -> Verdict:
        rules = self.rules
        if not violations:
            return Verdict("allow", text)
        hard = [violation for violation in violations if violation.severity == "hard"]
        if not hard and _count(self._warnings, user_id, now_ms - rules.warnings_ms) + 1 >= rules.warnings:
            hard = [Violation("warnings", "hard", f"You were warned already: the {_nth(rules.warnings)} such message is not sent.")]
            violations += hard
        if not hard:
            return Verdict("warn", text, violations[0].type, tuple(violations))
        broken = min(hard, key=_is_raid)  # the others do not need somebody else
        if not self._counts(user_id, broken.type, now_ms) or _count(self._blocks, user_id, now_ms - rules.blocks_ms) + 1 < rules.blocks:
            return Verdict("block", text, broken.type, tuple(violations))
        violations.append(Violation(BLOCKS, "hard", f"This is the {_nth(rules.blocks)} message that was not sent: you may not speak for a while."))
        return Verdict("mute", text, broken.type, tuple(violations))

    def accepted(self, user_id: str, text: int, now_ms: int, *, warned: bool = False) -> None:
        """The message goes out."""
        self._remember(user_id, text, now_ms)
        if len(self.latest) < LATEST_MAX:
            self.latest[user_id] = text
        if warned:
            self.warned(user_id, now_ms)

    def blocked(self, user_id: str, verdict: Verdict, now_ms: int) -> None:
        """It does not."""
        self._remember(user_id, verdict.text, now_ms)
        self.stopped(user_id, verdict.rule, now_ms)

    def withdrawn(self, user_id: str, content: str, *, warned: bool) -> None:
        """It was to go out, and was never stored: to say it again is no repetition, and what was warned of did not happen."""
        text = _number(content)
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

    def stopped(self, user_id: str, rule: str | None, at_ms: int) -> None:
        """A message that was not sent counts, unless it is the first of a raid."""
        counts = self._counts(user_id, rule, at_ms)
        if rule == RAID:
            _add(self._raids, user_id, at_ms, 1)
        if counts:
            _add(self._blocks, user_id, at_ms, self.rules.blocks)

    def forgive(self, user_id: str) -> None:
        """Nobody was ever warned or blocked."""
        for times_ms in (self._warnings, self._raids, self._blocks):
            times_ms.pop(user_id, None)

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
        self._remember(user_id, _number(content), at_ms)

    def restore_block(self, user_id: str, rule: str | None, at_ms: int) -> None:
        self.stopped(user_id, rule, at_ms)

    def _said_before(self, user_id: str, content: str, said: Said, now_ms: int) -> Iterator[Violation]:
        rules = self.rules
        copies = [who for who, at_ms in _pairs(said) if now_ms - at_ms < rules.duplicate_ms]
        if not copies:
            return
        by_others = said[0] != user_id and any(who != user_id for who in copies)
        if by_others and len(copies) >= rules.raid_copies and (_chars(skeleton(content)) >= rules.raid_chars_min or looks.links(content, 0)):
            yield Violation(RAID, "hard", "Several people have said just this a moment ago. Whoever goes on with it will be muted.")
        elif user_id in copies:
            yield _duplicate(rules)

    def _looks_like(self, content: str) -> Iterator[Violation]:
        rules = self.rules
        word = looks.unwanted(content, rules.words)
        if word is not None:
            yield Violation("words", "hard", f"“{word}” is not wanted here.")
        if looks.is_plain(content, rules.capitals_max, rules.links_max, rules.repeats_min):
            return
        if looks.shouts(content, rules.capitals_percent, rules.capitals_letters_min):
            yield Violation("capitals", "soft", f"More than {rules.capitals_percent} % of it are capitals.")
        if looks.links(content, rules.links_max):
            yield Violation("links", "soft", f"There are more than {rules.links_max} links in it.")
        if looks.repeats(content, rules.repeats_min):
            yield Violation("repeats", "soft", f"There is a character {rules.repeats_min} times in a row in it.")

    def _counts(self, user_id: str, rule: str | None, now_ms: int) -> bool:
        """Whether a block counts towards a mute. The first of a raid does not: it can be honest, and others can be the cause of it."""
        return rule != RAID or _count(self._raids, user_id, now_ms - self.rules.blocks_ms) > 0

    def _remember(self, user_id: str, text: int, now_ms: int) -> None:
        newer = self._newer
        if len(newer) >= HALF_MAX or now_ms - self._turned_ms >= self._rules.duplicate_ms:
            self._older, self._newer, self._turned_ms = newer, {}, now_ms
            newer = self._newer
        if text not in newer and text not in self._older:
            newer[text] = (user_id, now_ms)
            return
        said = newer.get(text) or self._older.get(text, ())
        if all(now_ms - at_ms >= self._rules.duplicate_ms for _, at_ms in _pairs(said[-2:])):
            newer[text] = (user_id, now_ms)
        elif len(said) < 2 * SPEAKERS_MAX:
            newer[text] = (*said, user_id, now_ms)
        else:  # all but the second: who was the first matters for as long as the text goes round
            newer[text] = (*said[:2], *said[4:], user_id, now_ms)


def _number(content: str) -> int:
    """What a text is remembered by. A long one is the same whatever numbers are in it."""
    text = skeleton(content)
    if len(text) >= DIGITS_CHARS_MIN and _chars(rest := text.translate(None, _DIGITS)) >= DIGITS_CHARS_MIN:
        text = rest
    return hash(text)


def _chars(text: bytes) -> int:
    return len(text.decode("utf-8", "surrogatepass"))


def _duplicate(rules: SpamRules) -> Violation:
    return Violation("duplicate", "soft", f"You said this less than {_span(rules.duplicate_ms)} ago.")


def _is_raid(violation: Violation) -> bool:
    return violation.type == RAID


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
