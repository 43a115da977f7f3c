"""Operations on numbers: steps and multiples of numbers and years, and one number in several notations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from describe.drafting.rules.forms import Keys, Operation, positions
from describe.drafting.rules.sequences import CARDINALS, ORDINALS

_LARGE = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_LARGE |= {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
_LARGE_ORDINALS = {
    "thirtieth": 30,
    "fortieth": 40,
    "fiftieth": 50,
    "sixtieth": 60,
    "seventieth": 70,
    "eightieth": 80,
}
_LARGE_ORDINALS |= {"ninetieth": 90, "hundredth": 100, "thousandth": 1000, "millionth": 1_000_000}
_ROMAN_SIGNS = (
    ("M", 1000),
    ("CM", 900),
    ("D", 500),
    ("CD", 400),
    ("C", 100),
    ("XC", 90),
    ("L", 50),
    ("XL", 40),
    ("X", 10),
    ("IX", 9),
    ("V", 5),
    ("IV", 4),
    ("I", 1),
)
_ROMAN_NUMBERS = (*range(1, 101), 200, 300, 400, 500, 1000)  # beyond, most are words or acronyms (MIX, DC)


def _integer(text: str) -> int | None:
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit()) or len(stripped) > 9:
        return None
    return int(stripped) if stripped == "0" or not stripped.startswith("0") else None


def _year(text: str) -> int | None:
    number = _integer(text)
    return number if number is not None and 1000 <= number <= 2199 else None


def _decade(text: str) -> int | None:
    """A round year, or a decade written like 1980s."""
    year = _year(text.strip().removesuffix("s"))
    return year if year is not None and year % 10 == 0 else None


def _numeric(
    name: str,
    sentence: str,
    read: Callable[[str], int | None],
    answers: Callable[[int], Sequence[int]],
    specificity: int,
) -> Operation:
    """Source and target are read as numbers, and the target is one of the answers to the source."""

    def source_keys(text: str) -> Keys:
        number = read(text)
        return () if number is None else answers(number)

    def target_keys(text: str) -> Keys:
        number = read(text)
        return () if number is None else (number,)

    return Operation(name, "sequence", sentence, source_keys, target_keys, specificity)


def _near(number: int, reach: int) -> Sequence[int]:
    return [number + by for by in range(-reach, reach + 1) if by]


def number_operations() -> tuple[Operation, ...]:
    """Steps, neighbours and multiples of numbers and years, and the same number in another notation."""
    return (*_arithmetic(), *_notations())


def _arithmetic() -> tuple[Operation, ...]:
    return (
        _numeric("next_number", "writes the number after the one it reads", _integer, lambda n: [n + 1], 90),
        _numeric(
            "previous_number", "writes the number before the one it reads", _integer, lambda n: [n - 1], 90
        ),
        _numeric("next_year", "writes the year after the one it reads", _year, lambda n: [n + 1], 91),
        _numeric("previous_year", "writes the year before the one it reads", _year, lambda n: [n - 1], 91),
        _numeric("next_decade", "writes the decade after the one it reads", _decade, lambda n: [n + 10], 91),
        _numeric(
            "previous_decade", "writes the decade before the one it reads", _decade, lambda n: [n - 10], 91
        ),
        _numeric("double", "writes twice the number it reads", _integer, lambda n: [2 * n], 89),
        _numeric(
            "half", "writes half the number it reads", _integer, lambda n: [n // 2] if n % 2 == 0 else [], 89
        ),
        _numeric(
            "ten_times", "writes ten times the number it reads", _integer, lambda n: [10 * n] if n else [], 89
        ),
        _numeric(
            "close_number",
            "writes numbers within two of the one it reads",
            _integer,
            lambda n: _near(n, 2),
            66,
        ),
        _numeric(
            "close_year", "writes years within five of the one it reads", _year, lambda n: _near(n, 5), 67
        ),
        Operation(
            "same_century",
            "sequence",
            "writes other years of the century of the year it reads",
            _century,
            _century,
            60,
        ),
        Operation(
            "same_number_of_digits",
            "sequence",
            "writes other numbers of as many digits as the number it reads",
            _digits,
            _digits,
            50,
        ),
    )


def _century(text: str) -> Keys:
    year = _year(text)
    return () if year is None else (year // 100,)


def _digits(text: str) -> Keys:
    return () if _integer(text) is None else (len(text.strip()),)


def roman(number: int) -> str:
    """A number from 1 to 3999 in Roman numerals."""
    signs = ""
    for sign, worth in _ROMAN_SIGNS:
        signs += sign * (number // worth)
        number %= worth
    return signs


_ROMAN = {roman(number): number for number in _ROMAN_NUMBERS}
_CARDINAL_VALUES = positions(CARDINALS) | _LARGE
_ORDINAL_VALUES = positions(ORDINALS) | _LARGE_ORDINALS


def _roman_value(text: str) -> int | None:
    """A Roman numeral in capitals, or in lower case where it is longer than one letter."""
    stripped = text.strip()
    return _ROMAN.get(stripped.upper() if stripped.islower() and len(stripped) > 1 else stripped)


def _cardinal(text: str) -> int | None:
    return _CARDINAL_VALUES.get(text.strip().casefold())


def _ordinal(text: str) -> int | None:
    return _ORDINAL_VALUES.get(text.strip().casefold())


def _numeral(text: str) -> Sequence[int]:
    found = (read(text) for read in (_integer, _cardinal, _ordinal, _roman_value))
    return [number for number in found if number is not None]


def _suffix(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _notations() -> tuple[Operation, ...]:
    def other(
        name: str, sentence: str, source: Callable[[str], int | None], target: Callable[[str], int | None]
    ) -> Operation:
        def keys(read: Callable[[str], int | None]) -> Callable[[str], Keys]:
            return lambda text: () if (number := read(text)) is None else (number,)

        return Operation(name, "number form", sentence, keys(source), keys(target), 90)

    return (
        other(
            "digit_to_number_word", "writes the word for the number it reads in digits", _integer, _cardinal
        ),
        other("number_word_to_digit", "writes the digits of the number word it reads", _cardinal, _integer),
        other("cardinal_to_ordinal", "writes the ordinal of the number word it reads", _cardinal, _ordinal),
        other("ordinal_to_cardinal", "writes the number word of the ordinal it reads", _ordinal, _cardinal),
        other("digit_to_ordinal", "writes the ordinal of the number it reads in digits", _integer, _ordinal),
        other("ordinal_to_digit", "writes the digits of the ordinal it reads", _ordinal, _integer),
        other(
            "digit_to_roman",
            "writes the Roman numeral of the number it reads in digits",
            _integer,
            _roman_value,
        ),
        other("roman_to_digit", "writes the digits of the Roman numeral it reads", _roman_value, _integer),
        other(
            "next_roman",
            "writes the Roman numeral after the one it reads",
            lambda text: None if (number := _roman_value(text)) is None else number + 1,
            _roman_value,
        ),
        other(
            "previous_roman",
            "writes the Roman numeral before the one it reads",
            lambda text: None if (number := _roman_value(text)) is None else number - 1,
            _roman_value,
        ),
        Operation(
            "number_to_ordinal_suffix",
            "number form",
            "writes the ordinal ending (st, nd, rd, th) of the number it reads",
            lambda text: () if (number := _integer(text)) is None else (_suffix(number),),
            lambda text: (text.strip(),) if text.strip() in ("st", "nd", "rd", "th") else (),
            89,
        ),
        Operation(
            "same_number",
            "number form",
            "writes the number it reads in another notation",
            _numeral,
            _numeral,
            78,
        ),
    )
