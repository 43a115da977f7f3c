"""Operations on the text of a token alone: copying, casing and spacing."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from describe.drafting.rules.forms import Keys, Operation, word


def surface_operations() -> tuple[Operation, ...]:
    """Copying in three strengths, then what keeps the word but changes its case, leading space or accents."""
    return (
        Operation(
            "copy_token", "copying", "writes the very token it reads", _text, _text, 100, excludes="nothing"
        ),
        Operation(
            "copy_word",
            "copying",
            "writes the word it reads again, in whatever case and spacing",
            _spelt_word,
            _spelt_word,
            80,
            excludes="nothing",
        ),
        Operation(
            "copy_variant",
            "copying",
            "writes the word it reads with another case or spacing",
            _spelt_word,
            _spelt_word,
            84,
            excludes="same token",
        ),
        Operation(
            "add_leading_space",
            "casing",
            "writes the token it reads with a space before it",
            _without_space,
            _after_space,
            96,
            excludes="nothing",
        ),
        Operation(
            "remove_leading_space",
            "casing",
            "writes the token it reads without the space before it",
            _after_space,
            _without_space,
            96,
            excludes="nothing",
        ),
        Operation(
            "capitalise",
            "casing",
            "writes the lower-case word it reads with a capital",
            _if_lower,
            _if_capitalised,
            92,
            excludes="nothing",
        ),
        Operation(
            "lowercase",
            "casing",
            "writes the word it reads with capitals in lower case",
            _if_with_capitals,
            _if_lower,
            92,
            excludes="nothing",
        ),
        Operation(
            "uppercase",
            "casing",
            "writes the word it reads in capitals",
            _if_not_capitals,
            _if_capitals,
            92,
            excludes="nothing",
        ),
        Operation(
            "remove_accents",
            "spelling",
            "writes the accented word it reads without its accents",
            _if_accented,
            _if_plain,
            92,
        ),
        Operation(
            "add_accents",
            "spelling",
            "writes the plain word it reads with accents added",
            _if_plain,
            _if_accented,
            92,
        ),
    )


@lru_cache(maxsize=1 << 16)
def without_accents(text: str) -> str:
    """The text without its combining marks: `café` → `cafe`."""
    decomposed = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not unicodedata.combining(c)))


def _text(text: str) -> Keys:
    return (text,) if text else ()


def _spelt_word(text: str) -> Keys:
    folded = word(text)
    return (folded,) if any(map(str.isalnum, folded)) else ()


def _without_space(text: str) -> Keys:
    return (text,) if text.strip() and not text[0].isspace() else ()


def _after_space(text: str) -> Keys:
    return _without_space(text[1:]) if text.startswith(" ") else ()


def _cased(text: str) -> str:
    stripped = text.strip()
    return stripped if stripped.isalpha() and stripped.upper() != stripped.lower() else ""


def _if_lower(text: str) -> Keys:
    stripped = _cased(text)
    return (stripped.casefold(),) if stripped.islower() else ()


def _if_capitalised(text: str) -> Keys:
    stripped = _cased(text)
    lower_rest = stripped[1:] == stripped[1:].lower()
    return (stripped.casefold(),) if stripped[:1].isupper() and lower_rest else ()


def _if_with_capitals(text: str) -> Keys:
    stripped = _cased(text)
    return (stripped.casefold(),) if stripped and not stripped.islower() else ()


def _if_capitals(text: str) -> Keys:
    stripped = _cased(text)
    return (stripped.casefold(),) if len(stripped) > 1 and stripped.isupper() else ()


def _if_not_capitals(text: str) -> Keys:
    stripped = _cased(text)
    return (stripped.casefold(),) if len(stripped) > 1 and not stripped.isupper() else ()


def _if_accented(text: str) -> Keys:
    folded = word(text)
    if not folded.isalpha() or folded.isascii():
        return ()
    plain = without_accents(folded)
    return (plain,) if plain != folded and plain.isascii() else ()


def _if_plain(text: str) -> Keys:
    folded = word(text)
    return (folded,) if folded.isascii() and folded.isalpha() else ()
