"""What an operation and a token class are, and how listed words are found behind a token's text.

An operation holds for a source and a target token iff the keys of the source and those of the target meet: so
every operation is its own definition, and a whole vocabulary is tested by set algebra (`keys.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from describe.records import Direction

Keys = Collection[Hashable]
Excludes = Literal["nothing", "same token", "same word"]


@dataclass(frozen=True)
class Operation:
    """What a target token is, given the source token: `holds` is the definition, `sentence` says it."""

    name: str
    family: str  # copying, casing, spelling, inflection, sequence, knowledge, code …
    sentence: str  # completes "The head …": "writes the past tense of the verb it reads"
    source_keys: Callable[[str], Keys]
    target_keys: Callable[[str], Keys]
    specificity: int  # of two operations that both hold, the one with the higher number says more
    excludes: Excludes = "same word"  # whether a copy of the source may count as the operation
    source_words: frozenset[str] | None = None  # the only words (see `word`) with source keys; None: any
    target_words: frozenset[str] | None = None  # the same for target keys

    def holds(self, source: str, target: str) -> bool:
        """Whether the operation holds for two token texts, with their real leading spaces."""
        if self.excludes == "same token" and source == target:
            return False
        if self.excludes == "same word" and word(source) == word(target):
            return False
        return not set(self.source_keys(source)).isdisjoint(self.target_keys(target))

    def clause(self, direction: Direction) -> str:
        """Completes "The head …" for what the head promotes or suppresses."""
        return in_direction(self.sentence, direction)


@dataclass(frozen=True)
class TokenClass:
    """A class of tokens, to say what a head reads whatever it writes, or writes whatever it reads."""

    name: str
    plural: str  # a noun phrase: "names of countries"
    contains: Callable[[str], bool]
    words: frozenset[str] | None = None  # the only words (see `word`) that may belong; None: any

    def clause(self, direction: Direction) -> str:
        """Completes "The head …" when the targets are of the class whatever the source is."""
        return in_direction(f"writes {self.plural}", direction)


def in_direction(sentence: str, direction: Direction) -> str:
    """Turn "writes …" into "suppresses …" where a head suppresses; other verbs get a frame that is true."""
    if direction == "promote":
        return sentence
    verb, _, rest = sentence.partition(" ")
    return f"suppresses {rest}" if verb == "writes" else f"suppresses what a head writes that {sentence}"


@lru_cache(maxsize=1 << 19)
def word(text: str) -> str:
    """The word of a token, up to surrounding space and case."""
    return text.strip().casefold()


@lru_cache(maxsize=1 << 19)
def letters(text: str) -> str:
    """The word of a token if it is all letters of a script with two cases (Latin, Cyrillic …), else ''.

    Scripts without case are left out because "first letter" says little of a Chinese character.
    """
    folded = word(text)
    return folded if folded.isalpha() and all(letter.upper() != letter for letter in folded) else ""


class Listing:
    """Listed words, found behind token texts.

    A word listed in lower case is met in any case. A word listed with a capital is a name or a symbol and
    is met as written or, from three letters on, in capitals: "he" is not helium, nor "turkey" a country.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._folded: dict[str, str] = {}
        for entry in listed:
            if entry == entry.lower():
                self._folded.setdefault(entry.casefold(), entry)
                continue
            self._exact[entry] = entry
            if len(entry) > 2:
                self._exact.setdefault(entry.upper(), entry)
        self.words = frozenset(self._folded) | frozenset(map(word, self._exact))

    def find(self, text: str) -> str | None:
        """The listed word that a token's text spells, or None."""
        stripped = text.strip()
        return self._exact.get(stripped) or self._folded.get(stripped.casefold())


def pair_operation(
    name: str,
    family: str,
    sentence: str,
    pairs: Iterable[tuple[str, str]],
    *,
    specificity: int,
    excludes: Excludes = "same word",
) -> Operation:
    """The operation that listed pairs define: the target is one of the answers listed for the source."""
    answers: dict[str, list[str]] = {}
    for source, target in pairs:
        answers.setdefault(source, []).append(target)
    sources = Listing(answers)
    targets = Listing(target for listed in answers.values() for target in listed)
    keys = {source: tuple({word(target) for target in listed}) for source, listed in answers.items()}

    def source_keys(text: str) -> Keys:
        found = sources.find(text)
        return () if found is None else keys[found]

    def target_keys(text: str) -> Keys:
        found = targets.find(text)
        return () if found is None else (word(found),)

    return Operation(
        name=name,
        family=family,
        sentence=sentence,
        source_keys=source_keys,
        target_keys=target_keys,
        specificity=specificity,
        excludes=excludes,
        source_words=sources.words,
        target_words=targets.words,
    )


def swapped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs read from target to source."""
    return [(target, source) for source, target in pairs]


def positions(entries: Sequence[str]) -> dict[str, int]:
    """The place of each entry of a sequence; `"Monday Mon"` are two spellings of one place."""
    return {spelling: place for place, entry in enumerate(entries) for spelling in entry.split()}
