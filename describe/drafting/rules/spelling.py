"""Operations on the letters of a word: shared beginnings and endings, pieces, single letters, length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache

from describe.drafting.rules.forms import Keys, Operation, letters
from describe.drafting.rules.lexicon import english_words

_NUMBER_NAMES = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
)
_ONE_LETTER_CHANGE = 4  # shorter words differ by one letter too easily


def spelling_operations() -> tuple[Operation, ...]:
    """Operations that see a word as letters, up to space and case, in scripts that have two cases."""
    return (*_beginnings_and_endings(), *_pieces(), *_fragments(), *_single_letters(), *_counts())


def _operation(name: str, sentence: str, source: _KeyFunction, target: _KeyFunction, rank: int) -> Operation:
    return Operation(name, "spelling", sentence, source, target, rank)


def _beginnings_and_endings() -> tuple[Operation, ...]:
    begins = "writes words that begin with the same {} letters as the word it reads"
    ends = "writes words that end in the same {} letters as the word it reads"
    return tuple(
        _operation(f"{name}_{size}", sentence.format(spelt), keys, keys, size * 8)
        for size, spelt in ((2, "two"), (3, "three"), (4, "four"), (5, "five"))
        for name, sentence, keys in (
            ("same_beginning", begins, _beginning(size)),
            ("same_ending", ends, _ending(size)),
        )
    )


def _pieces() -> tuple[Operation, ...]:
    return (
        _operation(
            "extends_beginning",
            "writes longer words that begin with the letters it reads",
            _whole(2),
            _proper_beginnings,
            42,
        ),
        _operation(
            "extends_ending",
            "writes longer words that end in the letters it reads",
            _whole(2),
            _proper_endings,
            42,
        ),
        _operation(
            "beginning_of_source",
            "writes a beginning of the word it reads",
            _proper_beginnings,
            _whole(2),
            42,
        ),
        _operation(
            "ending_of_source",
            "writes an ending of the word it reads",
            _proper_endings,
            _whole(2),
            42,
        ),
        _operation(
            "one_letter_changed",
            "writes words that differ from the word it reads in one letter",
            _with_a_gap,
            _with_a_gap,
            43,
        ),
        _operation(
            "one_letter_added",
            "writes words made by adding one letter to the word it reads",
            _whole(_ONE_LETTER_CHANGE - 1),
            _with_a_letter_less,
            43,
        ),
        _operation(
            "one_letter_removed",
            "writes words made by taking one letter from the word it reads",
            _with_a_letter_less,
            _whole(_ONE_LETTER_CHANGE - 1),
            43,
        ),
        _operation(
            "same_letters",
            "writes words made of the same letters as the word it reads, in another order",
            _sorted_letters,
            _sorted_letters,
            60,
        ),
    )


def _fragments() -> tuple[Operation, ...]:
    return (
        _operation(
            "completes_word",
            "writes pieces that make a word when put after the token it reads",
            _front_piece,
            _missing_fronts,
            45,
        ),
        _operation(
            "precedes_to_word",
            "writes pieces that make a word when put before the token it reads",
            _missing_fronts,
            _front_piece,
            45,
        ),
    )


def _single_letters() -> tuple[Operation, ...]:
    return (
        _operation("first_letter", "writes the first letter of the word it reads", _at(0), _letter, 70),
        _operation("second_letter", "writes the second letter of the word it reads", _at(1), _letter, 70),
        _operation("last_letter", "writes the last letter of the word it reads", _at(-1), _letter, 70),
        _operation("any_letter", "writes a letter of the word it reads", _letters_of, _letter, 55),
        _operation(
            "first_letter_inverse", "writes words that begin with the letter it reads", _letter, _at(0), 69
        ),
        _operation(
            "last_letter_inverse", "writes words that end in the letter it reads", _letter, _at(-1), 69
        ),
        _operation(
            "same_first_letter",
            "writes words that begin with the same letter as the word it reads",
            _at(0),
            _at(0),
            8,
        ),
        _operation(
            "same_last_letter",
            "writes words that end in the same letter as the word it reads",
            _at(-1),
            _at(-1),
            8,
        ),
    )


def _counts() -> tuple[Operation, ...]:
    return (
        _operation(
            "word_length",
            "writes the number of letters of the word it reads",
            lambda text: (len(letters(text)),) if len(letters(text)) > 1 else (),
            _as_length,
            70,
        ),
        _operation(
            "same_length",
            "writes words of as many letters as the word it reads",
            lambda text: (len(letters(text)),) if len(letters(text)) > 1 else (),
            lambda text: (len(letters(text)),) if len(letters(text)) > 1 else (),
            2,
        ),
    )


_KeyFunction = Callable[[str], Keys]


def _beginning(size: int) -> _KeyFunction:
    return lambda text: (letters(text)[:size],) if len(letters(text)) > size else ()


def _ending(size: int) -> _KeyFunction:
    return lambda text: (letters(text)[-size:],) if len(letters(text)) > size else ()


def _whole(least: int) -> _KeyFunction:
    return lambda text: (letters(text),) if len(letters(text)) >= least else ()


def _proper_beginnings(text: str) -> Keys:
    return [letters(text)[:size] for size in range(2, len(letters(text)))]


def _proper_endings(text: str) -> Keys:
    return [letters(text)[start:] for start in range(1, len(letters(text)) - 1)]


def _with_a_gap(text: str) -> Keys:
    spelt = letters(text)
    if len(spelt) < _ONE_LETTER_CHANGE:
        return ()
    return [f"{spelt[:gap]}*{spelt[gap + 1 :]}" for gap in range(len(spelt))]


def _with_a_letter_less(text: str) -> Keys:
    spelt = letters(text)
    if len(spelt) < _ONE_LETTER_CHANGE:
        return ()
    return [spelt[:gap] + spelt[gap + 1 :] for gap in range(len(spelt))]


def _sorted_letters(text: str) -> Keys:
    return ("".join(sorted(letters(text))),) if len(letters(text)) >= 3 else ()


def _front_piece(text: str) -> Keys:
    """A piece that may begin a word: two letters or more, lower-case after the first."""
    stripped = text.strip()
    return (letters(text),) if len(letters(text)) >= 2 and stripped[1:].islower() else ()


def _missing_fronts(text: str) -> Keys:
    """What has to stand before this token, which has no leading space, to make a word of the lexicon."""
    return _fronts().get(text, ())


@cache
def _fronts() -> dict[str, tuple[str, ...]]:
    fronts = defaultdict(list)
    for whole in english_words():
        for cut in range(2, len(whole)):
            fronts[whole[cut:]].append(whole[:cut])
    return {end: tuple(starts) for end, starts in fronts.items()}


def _letter(text: str) -> Keys:
    return (letters(text),) if len(letters(text)) == 1 else ()


def _at(place: int) -> _KeyFunction:
    return lambda text: (letters(text)[place],) if len(letters(text)) > 1 else ()


def _letters_of(text: str) -> Keys:
    return set(letters(text)) if len(letters(text)) > 1 else ()


def _as_length(text: str) -> Keys:
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit():
        return (int(stripped[:9]),) if not stripped.startswith("0") else ()
    named = stripped.casefold()
    return (_NUMBER_NAMES.index(named) + 1,) if named in _NUMBER_NAMES else ()
