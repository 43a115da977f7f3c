"""Operations on ordered classes: the next and the previous weekday, letter or number word; forms of dates."""

from __future__ import annotations

from collections.abc import Sequence

from describe.drafting.rules.forms import Keys, Listing, Operation, pair_operation, positions, swapped

WEEKDAYS = (
    "Monday Mon",
    "Tuesday Tue Tues",
    "Wednesday Wed",
    "Thursday Thu Thurs",
    "Friday Fri",
    "Saturday Sat",
    "Sunday Sun",
)
MONTHS = (
    "January Jan",
    "February Feb",
    "March Mar",
    "April Apr",
    "May",
    "June Jun",
    "July Jul",
    "August Aug",
    "September Sep Sept",
    "October Oct",
    "November Nov",
    "December Dec",
)
CARDINALS = tuple(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty".split()
)
ORDINALS = tuple(
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split()
)
_GREEK = tuple(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
    "upsilon phi chi psi omega".split()
)
_GREEK_LETTERS = tuple("αβγδεζηθικλμνξοπρστυφχψω")
_PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
_MAGNITUDES = ("hundred", "thousand", "million", "billion", "trillion")
_GROUPED = ("hundreds", "thousands", "millions", "billions", "trillions")
_UNITS_OF_TIME = tuple(
    f"{unit} {unit}s" for unit in "second minute hour day week month year decade".split()
) + ("century centuries",)

_ORDERED: tuple[tuple[str, str, Sequence[str], bool], ...] = (
    ("weekday", "the day of the week", WEEKDAYS, True),
    ("month", "the month", MONTHS, True),
    ("number_word", "the number word", CARDINALS, False),
    ("ordinal", "the ordinal", ORDINALS, False),
    ("letter", "the letter of the alphabet", tuple("abcdefghijklmnopqrstuvwxyz"), False),
    (
        "greek_letter",
        "the Greek letter",
        [" ".join(pair) for pair in zip(_GREEK, _GREEK_LETTERS, strict=True)],
        False,
    ),
    ("planet", "the planet of the solar system", _PLANETS, False),
    (
        "magnitude",
        "the named power of ten",
        [" ".join(p) for p in zip(_MAGNITUDES, _GROUPED, strict=True)],
        False,
    ),
    ("time_unit", "the unit of time", _UNITS_OF_TIME, False),
)


def sequence_operations() -> tuple[Operation, ...]:
    """The next and the previous of ordered classes, and other forms of dates."""
    ordered = tuple(
        _step(f"{word}_{name}", f"writes {phrase} that comes {place} the one it reads", entries, cyclic, by)
        for name, phrase, entries, cyclic in _ORDERED
        for word, place, by in (("next", "right after", 1), ("previous", "right before", -1))
    )
    return (*ordered, *_dates())


def _step(name: str, sentence: str, entries: Sequence[str], cyclic: bool, by: int) -> Operation:
    places = positions(entries)
    listing = Listing(places)

    def place(text: str) -> Keys:
        found = listing.find(text)
        return () if found is None else (places[found],)

    def place_after(text: str) -> Keys:
        return [(at + by) % len(entries) if cyclic else at + by for at in place(text) if isinstance(at, int)]

    return Operation(
        name,
        "sequence",
        sentence,
        place_after,
        place,
        90,
        source_words=listing.words,
        target_words=listing.words,
    )


def _dates() -> tuple[Operation, ...]:
    months, weekdays = [entry.split() for entry in MONTHS], [entry.split() for entry in WEEKDAYS]
    numbered = [(name, str(number)) for number, names in enumerate(months, start=1) for name in names]
    short_months = [(names[0], short) for names in months for short in names[1:]]
    short_days = [(names[0], short) for names in weekdays for short in names[1:]]
    pairs = (
        ("month_to_number", "writes the number of the month it reads", numbered),
        ("number_to_month", "writes the month with the number it reads", swapped(numbered)),
        ("month_to_abbreviation", "writes the abbreviation of the month it reads", short_months),
        (
            "abbreviation_to_month",
            "writes the full name of the abbreviated month it reads",
            swapped(short_months),
        ),
        ("weekday_to_abbreviation", "writes the abbreviation of the day of the week it reads", short_days),
        (
            "abbreviation_to_weekday",
            "writes the full name of the abbreviated day of the week it reads",
            swapped(short_days),
        ),
    )
    return tuple(
        pair_operation(name, "number form", sentence, listed, specificity=88)
        for name, sentence, listed in pairs
    )
