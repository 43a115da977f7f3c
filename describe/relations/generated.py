"""Operations on the form of tokens, as pairs made for the tokenizer at hand: casing, spacing, pieces, letters.

No file can hold these pairs, since which words are one token, and into which pieces the others fall, differs
by vocabulary. Words come from the packaged relations, so no frequency list is needed; the lower ids of a
vocabulary, which byte-pair merges give to frequent tokens, are taken first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Protocol

from describe.relations.pairs import Relation, SingleTokenVocabulary, load_relations

MOST = 120
"""Pairs of a generated relation, at most."""
FEW = 30
"""With fewer a relation is thin (MAPS drops relations below 30 pairs, section 4.1)."""
PREFIXES = tuple("un re dis in im pre over under sub non mis inter trans out ex de".split())
SUFFIXES = tuple("ing ed ly ness tion ment able ful less ism ist ity ous al er es s".split())

Pair = tuple[str, str]


class FormVocabulary(SingleTokenVocabulary, Protocol):
    """What is asked of a vocabulary to make pairs of forms."""

    @property
    def texts(self) -> Sequence[str]:
        """Token texts by id."""

    @property
    def spaced(self) -> bool:
        """Whether the space before a word is part of its token."""

    def pieces(self, text: str) -> list[int]:
        """The ids that the tokenizer cuts a text into."""


def generated_relations(vocabulary: FormVocabulary) -> tuple[Relation, ...]:
    """Every generated relation that has pairs in this vocabulary, by name."""
    space = " " if vocabulary.spaced else ""
    words = [w for w in _known_words() if vocabulary.id_of(space + w) is not None]
    words.sort(key=lambda word: vocabulary.id_of(space + word) or 0)
    found = []
    for name, sentence, make in _makers():
        pairs = _usable(make(words, space, vocabulary), vocabulary)
        if pairs:
            found.append(_relation(name, sentence, pairs))
    return tuple(sorted(found, key=lambda relation: relation.name))


Maker = Callable[[Sequence[str], str, FormVocabulary], Iterable[Pair]]


def _makers() -> list[tuple[str, str, Maker]]:
    """Name, sentence and maker of each: words (lower case, one token with `space` before) → pairs of texts."""
    capitalised = _each(lambda word, space: (space + word, space + word.capitalize()))
    lowered = _each(lambda word, space: (space + word.capitalize(), space + word))
    capitals = _each(lambda word, space: (space + word, space + word.upper()))
    unspaced = _each(lambda word, space: (space + word, word) if space else None)
    spaced = _each(lambda word, space: (word, space + word) if space else None)
    initial = _each(lambda word, space: (space + word, space + word[0].upper()))
    second = _each(lambda word, space: (space + word, space + word[1]))
    return [
        ("word_to_capitalised", "writes the word it reads with a capital", capitalised),
        ("capitalised_to_word", "writes the capitalised word it reads in lower case", lowered),
        ("word_to_all_capitals", "writes the word it reads in capitals", capitals),
        ("word_to_unspaced", "writes the word it reads without the space before it", unspaced),
        ("unspaced_to_word", "writes the word it reads with a space before it", spaced),
        ("word_to_capital_letter", "writes the first letter of the word it reads, as a capital", initial),
        ("word_to_second_letter", "writes the second letter of the word it reads", second),
        ("word_to_length", "writes how many letters the word it reads has", _lengths),
        ("word_to_prefix", "writes the prefix that the word it reads begins with", _prefixes),
        ("word_to_suffix", "writes the suffix that the word it reads ends with", _suffixes),
        (
            "fragment_to_continuation",
            "writes the piece that makes the fragment it reads a word",
            _continuations,
        ),
        ("accented_to_plain", "writes the word it reads without its accents", _plain),
        ("integer_to_next", "writes the integer after the one it reads", _integers),
    ]


def _each(make: Callable[[str, str], Pair | None]) -> Maker:
    return lambda words, space, _: (pair for word in words if (pair := make(word, space)) is not None)


def _lengths(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    for word in words:
        number = vocabulary.word_id(str(len(word)))
        if number is not None:
            yield space + word, vocabulary.texts[number]


def _prefixes(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    known = set(_known_words())
    for word in words:
        for prefix in PREFIXES:
            if word.startswith(prefix) and word[len(prefix) :] in known:
                yield space + word, space + prefix
                break


def _suffixes(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    known = set(_known_words())
    for word in words:
        for suffix in SUFFIXES:
            stem = word.removesuffix(suffix)
            if stem != word and (stem in known or f"{stem}e" in known):
                yield space + word, suffix
                break


def _continuations(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    """The two pieces of words that are no single token; a first piece is kept only if one word has it."""
    split: dict[str, set[str]] = {}
    known = set(_known_words())
    for word in _known_words():
        pieces = vocabulary.pieces(space + word)
        if len(pieces) == 2:
            first, second = (vocabulary.texts[piece] for piece in pieces)
            if first.strip() and second.strip() and first.strip() not in known:
                split.setdefault(first, set()).add(second)
    single = [(first, min(seconds)) for first, seconds in split.items() if len(seconds) == 1]
    # Long first pieces first: they say most about what completes them.
    yield from sorted(single, key=lambda pair: (-len(pair[0]), pair))


def _plain(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    for text in vocabulary.texts:
        word = text.strip()
        if len(word) < 2 or word.isascii() or not word.isalpha():
            continue
        bare = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
        if bare.isascii():
            yield text, bare


def _integers(words: Sequence[str], space: str, vocabulary: FormVocabulary) -> Iterator[Pair]:
    for number in range(1000):
        this, following = vocabulary.word_id(str(number)), vocabulary.word_id(str(number + 1))
        if this is not None and following is not None:
            yield vocabulary.texts[this], vocabulary.texts[following]


@cache
def _known_words() -> tuple[str, ...]:
    """The plain lower-case words of the packaged English relations, in alphabetical order."""
    words = {
        word
        for relation in load_relations()
        for pair in relation.pairs
        for word in (pair[:1] if relation.category == "translation" else pair)
    }
    return tuple(sorted(w for w in words if len(w) > 2 and w.isascii() and w.isalpha() and w.islower()))


def _usable(pairs: Iterable[Pair], vocabulary: FormVocabulary) -> dict[str, str]:
    """The first `MOST` pairs of two different single tokens, one target a source."""
    kept: dict[str, str] = {}
    for source, target in pairs:
        known = vocabulary.id_of(source) is not None and vocabulary.id_of(target) is not None
        if known and source != target and source not in kept:
            kept[source] = target
        if len(kept) == MOST:
            break
    return kept


def _relation(name: str, sentence: str, pairs: dict[str, str]) -> Relation:
    return Relation(
        name=name,
        category="algorithmic",
        description=f"A head with this operation {sentence}; pairs made for the tokenizer.",
        sentence=sentence,
        source="made from the vocabulary and the words of the packaged relations",
        licence="CC0-1.0",
        thin=len(pairs) < FEW,
        pairs=tuple(pairs.items()),
        exact=True,
    )
