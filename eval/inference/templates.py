"""Neutral texts that a source is placed in: nothing in them asks for a relation (MAPS, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import tokenizers

TEMPLATES = (
    "No <X> means no",
    "The story of <X> contains",
    "This is a document about <X>",
    "When I think about <X> I think about",
)
"""The four of the released code."""
PAPERS_RELATIONS = (
    "adjective_to_comparative", "adjective_to_superlative", "copying", "country_to_capital", "country_to_language",
    "english_to_french", "english_to_spanish", "name_copying", "noun_to_pronoun", "object_to_superclass",
    "product_to_company", "verb_to_past_tense", "word_to_antonym", "word_to_compound", "word_to_first_letter",
    "word_to_homophone", "word_to_last_letter", "word_to_synonym", "work_to_location", "year_to_following",
)  # fmt: skip
"""The operations of MAPS (table 1), by our files of pairs."""
SOURCE = "<X>"
_STAND_IN = "house"  # any word; only the tokens around it are kept


class TokenizedVocabulary(Protocol):
    """What of a vocabulary the templates read."""

    @property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The subject's tokenizer."""


@dataclass(frozen=True)
class Template:
    """A template as tokens: those before the source, with what the tokenizer begins a text with, and those after."""

    text: str
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, text: str, vocabulary: TokenizedVocabulary) -> Template:
        """Cut a text with `SOURCE` in it into tokens; by their places in the text, so that no search can go wrong."""
        start = text.index(SOURCE)
        stop = start + len(_STAND_IN)
        found = vocabulary.tokenizer.encode(text.replace(SOURCE, _STAND_IN))
        before: list[int] = []
        after: list[int] = []
        for number, (token, (begin, end), special) in enumerate(
            zip(found.ids, found.offsets, found.special_tokens_mask, strict=True)
        ):
            if special:
                # What ends a text (some tokenizers add a token for it) has no place before the next word.
                if number == len(before):
                    before.append(token)
            elif end <= start and not _is_space(text, begin, end):
                before.append(token)
            elif begin >= stop:
                after.append(token)
        return cls(text, tuple(before), tuple(after))

    def prompt(self, source: Sequence[int]) -> tuple[int, ...]:
        """The template with a source of one token or more in its place."""
        return (*self.before, *source, *self.after)

    def position(self, source: Sequence[int]) -> int:
        """Where the last token of the source stands in `prompt(source)`."""
        return len(self.before) + len(source) - 1


def _is_space(text: str, begin: int, end: int) -> bool:
    """Whether a token is the space before the source: tokens of words bring their own."""
    return begin < end and text[begin:end].isspace()
