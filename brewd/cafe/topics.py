"""What a room talks about: words of four letters and more, weighted by how recently they were said.

A word's weight halves every hour. Instead of aging every weight, new words are counted in ever larger units: a word said t ms
after `_since_ms` adds 2^(t/half-life), so weights compare at any time and a score is weight/2^(now/half-life) (forward decay:
Cormode et al., "Forward Decay", ICDE 2009). The unit is rebased before it could overflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from brewd.cafe.events import TopicView

HALF_LIFE_MS = 3_600_000
KEPT_MAX = 50
CANDIDATES_MAX = 2 * KEPT_MAX  # room for newcomers to prove themselves before the weakest are let go
WORD_LETTERS_MIN = 4
WORD_LETTERS_MAX = 40
SCORE_MIN = 0.05
_REBASE_MS = 100 * HALF_LIFE_MS

_WORD = re.compile(rf"[^\W\d_]{{{WORD_LETTERS_MIN},}}")
_ASCII_WORD = re.compile(rf"[a-z]{{{WORD_LETTERS_MIN},}}")  # finds the same where every letter is one of these, in less than half the time

# fmt: off
STOP_WORDS = frozenset([
    "about", "above", "after", "again", "against", "also", "although", "always", "another", "anyone", "anything", "aren", "around", "back",
    "because", "been", "before", "being", "below", "between", "both", "came", "cannot", "come", "could", "couldn", "didn", "does", "doesn", "doing",
    "done", "down", "during", "each", "either", "else", "enough", "even", "ever", "every", "everyone", "everything", "from", "further", "gave",
    "give", "goes", "going", "gone", "gonna", "good", "great", "hadn", "hasn", "have", "haven", "having", "hello", "here", "hers", "herself",
    "himself", "into", "itself", "just", "keep", "kind", "know", "last", "least", "less", "like", "little", "long", "look", "looking", "made",
    "make", "many", "maybe", "mean", "might", "more", "most", "much", "must", "myself", "need", "never", "next", "nice", "nobody", "none", "nothing",
    "okay", "once", "only", "other", "others", "ought", "ours", "ourselves", "over", "perhaps", "please", "pretty", "quite", "rather", "really",
    "right", "said", "same", "says", "seem", "seen", "shall", "shan", "should", "shouldn", "since", "some", "somebody", "someone", "something",
    "soon", "still", "such", "sure", "take", "tell", "than", "thank", "thanks", "that", "them", "themselves", "then", "there", "these", "they",
    "thing", "things", "think", "this", "those", "though", "through", "today", "together", "took", "toward", "under", "until", "unless", "upon",
    "very", "wanna", "want", "wasn", "well", "went", "were", "weren", "what", "whatever", "when", "where", "whether", "which", "while", "whom",
    "whose", "will", "wish", "with", "within", "without", "wonder", "would", "wouldn", "yeah", "your", "yours", "yourself", "yourselves",

    "aber", "alle", "allem", "allen", "aller", "alles", "auch", "beim", "bist", "dann", "dass", "dein", "deine", "denn", "dich", "diese", "dieser",
    "dieses", "doch", "dort", "durch", "eine", "einem", "einen", "einer", "eines", "etwas", "euch", "euer", "ganz", "gegen", "haben", "hast",
    "hatte", "heute", "hier", "hinter", "ihre", "ihren", "immer", "jede", "jeder", "jedes", "jetzt", "kann", "kein", "keine", "könnte", "machen",
    "mehr", "mein", "meine", "mich", "nach", "nein", "nicht", "nichts", "noch", "oder", "ohne", "schon", "sehr", "sein", "seine", "sich", "sind",
    "soll", "sondern", "über", "unser", "unter", "viel", "vielleicht", "warum", "weil", "wenn", "werden", "wieder", "wird", "wirst", "wohl",
    "wollen", "würde", "zwischen",
])
# fmt: on


def words_of(text: str) -> set[str]:
    """The topic words of a text: lower-cased, each once, stop words out."""
    words = _ASCII_WORD.findall(text.lower()) if text.isascii() else _WORD.findall(text.casefold())
    return {word for word in words if len(word) <= WORD_LETTERS_MAX and word not in STOP_WORDS}


class Topics:
    """The weighted words of one room, at most `KEPT_MAX` of them shown."""

    __slots__ = ("_since_ms", "_weights")

    def __init__(self, now_ms: int) -> None:
        self._since_ms = now_ms
        self._weights: dict[str, float] = {}

    def add(self, text: str, now_ms: int) -> bool:
        """Count the words of a message; whether there were any."""
        words = words_of(text)
        if not words:
            return False
        if now_ms - self._since_ms > _REBASE_MS:
            self._rebase(now_ms)
        weights = self._weights
        unit = self._unit(now_ms)
        for word in words:
            weights[word] = weights.get(word, 0.0) + unit
        if len(weights) > CANDIDATES_MAX:
            self._weights = dict(self._strongest(KEPT_MAX))
        return True

    def forget(self, text: str) -> bool:
        """Drop the words of a deleted message, whoever else said them; whether any was there."""
        known = len(self._weights)
        for word in words_of(text):
            self._weights.pop(word, None)
        return len(self._weights) < known

    def top(self, limit: int, now_ms: int) -> list[TopicView]:
        """The strongest words with their decayed scores (1.0 is one mention just now), strongest first, ties by word."""
        unit = self._unit(now_ms)
        strongest = self._strongest(min(limit, KEPT_MAX))
        return [TopicView(word, round(weight / unit, 3)) for word, weight in strongest if weight / unit >= SCORE_MIN]

    def restore(self, topics: Iterable[tuple[str, float]], now_ms: int) -> None:
        """Start from scores as `top` gave them at `now_ms`."""
        self._since_ms = now_ms
        self._weights = dict(topics)

    def _strongest(self, limit: int) -> list[tuple[str, float]]:
        return sorted(self._weights.items(), key=lambda item: (-item[1], item[0]))[:limit]

    def _unit(self, now_ms: int) -> float:
        """What one mention weighs now. After a month of silence nothing is left anyway: the bound keeps the number finite."""
        return float(2.0 ** min((now_ms - self._since_ms) / HALF_LIFE_MS, 1000.0))

    def _rebase(self, now_ms: int) -> None:
        unit = self._unit(now_ms)
        self._weights = {word: weight / unit for word, weight in self._weights.items() if weight / unit >= SCORE_MIN}
        self._since_ms = now_ms
