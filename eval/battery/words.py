"""Suites of words and texts: repeated random words, natural text, words of several pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tokenizers

from data import battery_input
from eval.battery.suites import Suite, Untestable

SEQUENCES, LENGTH = 24, 40
"""Sequences of random words, and words before they repeat (head taxonomy, 2.1: 40 to 50; 24 units for the tests)."""
TEXT_TOKENS = 96
"""Tokens of a text that are read."""
PIECES_PROMPTS = 24
COPYING_EVERY = 5  # queries between two whose sources are all read
FEWEST_FOR_LOCAL = 16  # visible keys, for a share within 8 to mean something


class BatteryVocabulary(Protocol):
    """What of a vocabulary the suites read."""

    @property
    def texts(self) -> Sequence[str]:
        """Every token as text."""

    @property
    def special(self) -> frozenset[int]:
        """Control tokens."""

    @property
    def spaced(self) -> bool:
        """Whether words carry the space before them."""

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer."""

    def word_id(self, word: str) -> int | None:
        """The id of a word of one token."""

    def id_of(self, text: str) -> int | None:
        """The id of a text of one token."""

    def pieces(self, text: str) -> list[int]:
        """The tokens of a text."""


def single_words(vocabulary: BatteryVocabulary, words: Sequence[str]) -> list[int]:
    """The ids of those words that are one token each, every id once."""
    return list(dict.fromkeys(found for word in words if (found := vocabulary.word_id(word)) is not None))


def word_pool(vocabulary: BatteryVocabulary, needed: int) -> list[int]:
    """Ids of common words; of any words of the vocabulary where it knows too few of them."""
    found = single_words(vocabulary, battery_input("common_words")["words"])
    if len(found) < needed:
        word = re.compile(r" ?[a-z]{3,}")
        found += [i for i, text in enumerate(vocabulary.texts) if word.fullmatch(text) and i not in found]
    if len(found) < needed:
        raise Untestable(f"the vocabulary knows {len(found)} whole words, {needed} are needed")
    return found


def repeated(vocabulary: BatteryVocabulary, start: int, seed: int, length: int = LENGTH) -> Suite:
    """Random words read twice, and for the null other words before the same second half (taxonomy, 2.0 and 2.1).

    Topics: `induction` (the word after the first occurrence; target: the word that comes next; foil: the sequence's
    other words), `duplicate` (the first occurrence itself; null: the other words of the first half), `copying` (every
    earlier word, target itself; foil: another word), `previous` (the token before; null: the one before that).
    """
    generator = np.random.default_rng([seed, 1])
    pool = np.array(word_pool(vocabulary, 2 * length))
    suite = Suite("repeated words")
    for unit in range(SEQUENCES):
        drawn = generator.permutation(pool)[: 2 * length]
        words, others = drawn[:length].tolist(), drawn[length:].tolist()
        twice, unlike = suite.add([start, *words, *words]), suite.add([start, *others, *words])
        _induction(suite, (twice, unlike), unit, words)
        _copying(suite, twice, unit, words, generator)
        previous = suite.topic("previous")
        queries = range(3, 2 * length + 1)
        for query in queries:
            previous.own.add((unlike, query, query - 1), unit, 1 / len(queries))
            previous.null.add((unlike, query, query - 2), unit, 1 / len(queries))
    return suite


def _induction(suite: Suite, prompts: tuple[int, int], unit: int, words: list[int]) -> None:
    twice, unlike = prompts
    length = len(words)
    induction, duplicate = suite.topic("induction"), suite.topic("duplicate")
    weight = 1 / (length - 1)
    for at in range(length - 1):  # the last word of the second half has no successor in the first
        query, key = 1 + length + at, 2 + at
        following = words[at + 1]
        foil = tuple(word for word in words if word != following)
        induction.own.add((twice, query, key), unit, weight, (following,), foil)
        induction.null.add((unlike, query, key), unit, weight)
        duplicate.own.add((twice, query, key - 1), unit, weight)
        for other in range(length):
            if other not in (at, at + 1):  # neither the word itself nor its successor
                duplicate.null.add((twice, query, 1 + other), unit, weight / (length - 2))


def _copying(suite: Suite, prompt: int, unit: int, words: list[int], generator: np.random.Generator) -> None:
    """Effects of all earlier words on themselves, and on a word of the same sequence that is not they."""
    copying, length = suite.topic("copying"), len(words)
    shift = int(generator.integers(1, length))
    queries = range(length + 1, 2 * length + 1, COPYING_EVERY)
    for query in queries:
        for key in range(1, query):
            at = (key - 1) % length
            other = words[(at + shift) % length]
            copying.own.add((prompt, query, key), unit, 1 / len(queries), (words[at],), (other,))


def natural(vocabulary: BatteryVocabulary, start: int) -> Suite:
    """The shipped texts and code, a unit each; topic `previous` as in `repeated`."""
    suite = Suite("texts")
    for unit, entry in enumerate(battery_input("texts")["texts"]):
        tokens = [start, *vocabulary.pieces(entry["text"])][:TEXT_TOKENS]
        prompt = suite.add(tokens)
        previous = suite.topic("previous")
        queries = range(3, len(tokens))
        for query in queries:
            previous.own.add((prompt, query, query - 1), unit, 1 / len(queries))
            previous.null.add((prompt, query, query - 2), unit, 1 / len(queries))
    return suite


def pieces(vocabulary: BatteryVocabulary, start: int, seed: int) -> Suite:
    """Words of several pieces in frames; topic `pieces`: a piece's attention on the piece before (taxonomy, 2.18).

    The null is the attention of the first piece of a word, and of words of one piece, on the token before.

    Raises:
        Untestable: the tokenizer cuts too few words into pieces.
    """
    rare = battery_input("rare_words")
    words = [word for word in rare["words"] if len(_begins(vocabulary, f"a {word}")[0]) > 2]
    if len(words) < 3 * PIECES_PROMPTS:
        raise Untestable(
            f"the tokenizer cuts {len(words)} of the rare words, {3 * PIECES_PROMPTS} are needed"
        )
    generator = np.random.default_rng([seed, 2])
    suite = Suite("words of several pieces")
    for unit in range(PIECES_PROMPTS):
        frame = rare["texts"][unit % len(rare["texts"])]
        tokens, begins = _begins(vocabulary, frame.format(*generator.permutation(words)[:3]))
        prompt, topic = suite.add([start, *tokens]), suite.topic("pieces")
        queries = range(2, 1 + len(tokens))
        inner = [query for query in queries if begins[query - 1] is False]
        outer = [query for query in queries if begins[query - 1]]
        for cells, own in ((topic.own, inner), (topic.null, outer)):
            for query in own:
                cells.add((prompt, query, query - 1), unit, 1 / len(own))
    return suite


def _begins(vocabulary: BatteryVocabulary, text: str) -> tuple[list[int], list[bool | None]]:
    """A text's tokens, and which begin a word, by their places in the text; None for signs."""
    found = vocabulary.tokenizer.encode(text, add_special_tokens=False)
    firsts = {match.start() for match in re.finditer(r"\S+", text)}
    # A token may bring the space before the word; what holds letters, but no word's first, goes on with one.
    begins = [
        any(first <= place < last for place in firsts) if any(map(str.isalpha, text[first:last])) else None
        for first, last in found.offsets
    ]
    return list(found.ids), begins
