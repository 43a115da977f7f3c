"""Classes of tokens: by meaning (the packaged word lists), by form, by script, by kind of sign."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import data
from describe.drafting.rules.forms import Listing, TokenClass, letters, word
from describe.drafting.rules.lexicon import english_words, lemmas_of

_ENDINGS = (
    "ing ed ly tion sion ment ness ity er or est able ible ful less ous ive al ic ical ist ism ize ise "
    "ify ance ence ant ent ship hood dom ward wise ology graphy itis osis ish age ary ory ure ate en ian "
    "ville ton burg berg stein sky son"
).split()
_BEGINNINGS = (
    "un re dis in im non mis pre pro anti inter trans sub super over under out counter de en ex micro "
    "macro multi mono bi tri semi auto bio geo neuro hydro electro photo thermo psycho tele hyper post "
    "fore self up down back"
).split()

# Name in the Unicode character names, noun phrase.
_SCRIPTS = {
    "CYRILLIC": "Cyrillic text",
    "GREEK": "Greek letters",
    "ARABIC": "Arabic text",
    "HEBREW": "Hebrew text",
    "DEVANAGARI": "Devanagari text",
    "BENGALI": "Bengali text",
    "TAMIL": "Tamil text",
    "TELUGU": "Telugu text",
    "THAI": "Thai text",
    "GEORGIAN": "Georgian text",
    "ARMENIAN": "Armenian text",
    "CJK": "Chinese characters",
    "HIRAGANA": "Japanese hiragana",
    "KATAKANA": "Japanese katakana",
    "HANGUL": "Korean text",
}
_CODE_NAME = re.compile(r"[A-Za-z]+(_[A-Za-z0-9]+)+|_+[A-Za-z]\w*|[a-z]+([A-Z][a-z]+)+|([A-Z][a-z]+){2,}")
_CODE_SIGNS = frozenset("{}[]()<>=+-*/%&|^~;:@#$\\_!")


def token_class_list() -> tuple[TokenClass, ...]:
    """Every class, those of meaning first; a token may be in many."""
    return (*_listed(), *_forms(), *_endings(), *_spelling(), *_scripts(), *_signs())


def _listed() -> tuple[TokenClass, ...]:
    def of(listing: Listing) -> Callable[[str], bool]:
        return lambda text: listing.find(text) is not None

    listings = ((entry, Listing(entry.members)) for entry in data.word_classes().values())
    return tuple(TokenClass(entry.name, entry.plural, of(found), found.words) for entry, found in listings)


def _forms() -> tuple[TokenClass, ...]:
    verbs = ("past", "gerund", "third_person")
    kinds = (
        ("plural_nouns", "plural nouns", ["plural"], None),
        ("past_tense_verbs", "past tense verbs", ["past"], None),
        ("past_participles", "past participles", ["past_participle"], None),
        ("ing_forms", "-ing forms of verbs", ["gerund"], None),
        ("third_person_verbs", "verbs in the third person singular", ["third_person"], None),
        ("base_verbs", "verbs in the base form", ["lemma"], verbs),
        ("singular_nouns", "singular nouns", ["lemma"], ["plural"]),
        ("comparatives", "comparatives", ["comparative"], None),
        ("superlatives", "superlatives", ["superlative"], None),
        ("gradable_adjectives", "adjectives and adverbs that can be compared", ["lemma"], ["comparative"]),
    )

    def of(forms: frozenset[str]) -> Callable[[str], bool]:
        return lambda text: word(text) in forms

    found = (
        (name, plural, frozenset(lemmas_of(forms, of_kinds=of_kinds)))
        for name, plural, forms, of_kinds in kinds
    )
    return tuple(TokenClass(name, plural, of(forms), forms) for name, plural, forms in found)


def _endings() -> tuple[TokenClass, ...]:
    def ends(ending: str) -> Callable[[str], bool]:
        return lambda text: len(letters(text)) > len(ending) + 1 and letters(text).endswith(ending)

    def begins(beginning: str) -> Callable[[str], bool]:
        return lambda text: len(letters(text)) > len(beginning) + 1 and letters(text).startswith(beginning)

    return (
        *(TokenClass(f"ending_{part}", f"words ending in -{part}", ends(part)) for part in _ENDINGS),
        *(
            TokenClass(f"beginning_{part}", f"words beginning with {part}-", begins(part))
            for part in _BEGINNINGS
        ),
        *(
            TokenClass(f"initial_{letter}", f"words beginning with {letter.upper()}", _begins_with(letter))
            for letter in "abcdefghijklmnopqrstuvwxyz"
        ),
    )


def _begins_with(letter: str) -> Callable[[str], bool]:
    return lambda text: len(letters(text)) > 1 and letters(text)[0] == letter


def _spelling() -> tuple[TokenClass, ...]:
    return (
        TokenClass(
            "english_words", "English words", lambda text: word(text) in english_words(), english_words()
        ),
        TokenClass("capitalised_words", "capitalised words", _is_capitalised),
        TokenClass(
            "all_capitals",
            "words in capitals",
            lambda text: len(letters(text)) > 1 and text.strip().isupper(),
        ),
        TokenClass(
            "lower_case_words",
            "lower-case words",
            lambda text: len(letters(text)) > 1 and text.strip().islower(),
        ),
        TokenClass("word_pieces", "pieces that go on inside a word (lower-case, no space before)", _is_piece),
        TokenClass("word_starts", "tokens that start a word with a space", _starts_word),
        TokenClass("short_pieces", "pieces of two or three letters without a space before", _is_short_piece),
        TokenClass("long_words", "words of ten letters or more", lambda text: len(letters(text)) >= 10),
        TokenClass("single_letters", "single letters", lambda text: len(letters(text)) == 1),
        TokenClass(
            "capital_letters",
            "single capital letters",
            lambda t: len(letters(t)) == 1 and t.strip().isupper(),
        ),
        TokenClass("accented_words", "words with accented letters", _is_accented),
        TokenClass("contractions", "short forms with an apostrophe", _is_contraction),
        TokenClass("numbers", "numbers in digits", lambda text: _is_digits(text.strip())),
        TokenClass(
            "single_digits", "single digits", lambda text: len(text.strip()) == 1 and _is_digits(text.strip())
        ),
        TokenClass("years", "years from 1000 to 2199", _is_year),
        TokenClass("numbers_with_letters", "mixtures of letters and digits", _is_mixed),
    )


def _is_capitalised(text: str) -> bool:
    stripped = text.strip()
    return len(letters(text)) > 1 and stripped[0].isupper() and stripped[1:].islower()


def _is_piece(text: str) -> bool:
    return text.isalpha() and text.islower() and bool(letters(text))


def _is_short_piece(text: str) -> bool:
    return _is_piece(text) and 2 <= len(text) <= 3


def _starts_word(text: str) -> bool:
    return text.startswith(" ") and bool(letters(text)) and text[1:] == text.strip()


def _is_accented(text: str) -> bool:
    folded = letters(text)
    if not folded or folded.isascii():
        return False
    return any(not c.isascii() and unicodedata.name(c, "").startswith("LATIN ") for c in folded)


def _is_contraction(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z]*['’](s|t|re|ve|ll|d|m)", text.strip(), flags=re.IGNORECASE))


def _is_digits(stripped: str) -> bool:
    return stripped.isascii() and stripped.isdigit()


def _is_year(text: str) -> bool:
    stripped = text.strip()
    return _is_digits(stripped) and len(stripped) == 4 and 1000 <= int(stripped) <= 2199


def _is_mixed(text: str) -> bool:
    stripped = text.strip()
    return stripped.isalnum() and any(map(str.isdigit, stripped)) and any(map(str.isalpha, stripped))


@lru_cache(maxsize=1 << 14)
def _script_of(character: str) -> str:
    return unicodedata.name(character, "").split(" ", 1)[0].split("-", 1)[0]


def _scripts() -> tuple[TokenClass, ...]:
    def written_in(script: str) -> Callable[[str], bool]:
        return lambda text: (
            not text.isascii() and any(_script_of(c) == script for c in text.strip() if c.isalpha())
        )

    each = tuple(
        TokenClass(f"script_{name.lower()}", said, written_in(name)) for name, said in _SCRIPTS.items()
    )
    return (*each, TokenClass("non_latin_text", "text in other scripts than Latin", _is_non_latin))


def _is_non_latin(text: str) -> bool:
    found = [] if text.isascii() else [c for c in text if c.isalpha()]
    return bool(found) and not any(_script_of(c) in ("LATIN", "FULLWIDTH", "") for c in found)


def _signs() -> tuple[TokenClass, ...]:
    return (
        TokenClass("whitespace", "spaces and line breaks", lambda text: bool(text) and not text.strip()),
        TokenClass("line_breaks", "line breaks", lambda text: "\n" in text and not text.strip()),
        TokenClass("punctuation", "punctuation and other signs", _is_signs),
        TokenClass("single_signs", "single signs", lambda text: _is_signs(text) and len(text.strip()) == 1),
        TokenClass("sentence_ends", "marks that end a sentence", _only(".!?…。！？")),
        TokenClass("commas_and_colons", "commas, colons and semicolons", _only(",;:、，；：")),
        TokenClass("brackets", "brackets", _only("()[]{}<>（）【】「」『』《》")),
        TokenClass("quotation_marks", "quotation marks", _only("\"'`“”‘’«»„")),
        TokenClass("dashes", "dashes", _only("-–—−―")),
        TokenClass("currency_signs", "currency signs", _only("$€£¥₹₽₩₿¢")),
        TokenClass("arithmetic_signs", "arithmetic signs", _only("+*/=×÷±%^-−<>≤≥")),
        TokenClass("emoji", "emoji and pictographs", _is_emoji),
        TokenClass("code_signs", "runs of signs used in code", _is_code_signs),
        TokenClass("code_names", "names as written in code (camelCase, snake_case)", _is_code_name),
        TokenClass(
            "tags",
            "pieces of markup tags",
            lambda text: text.strip().startswith(("<", "</")) and _lettered(text),
        ),
        TokenClass(
            "escapes", "escape sequences", lambda text: bool(re.fullmatch(r"\\[A-Za-z0-9]+", text.strip()))
        ),
        TokenClass("byte_pieces", "pieces of characters (bytes)", _is_bytes),
    )


def _is_signs(text: str) -> bool:
    stripped = text.strip()
    return bool(stripped) and not any(c.isalnum() or c.isspace() or c == "\ufffd" for c in stripped)


def _only(signs: str) -> Callable[[str], bool]:
    allowed = frozenset(signs)
    return lambda text: bool(text.strip()) and allowed.issuperset(text.strip())


def _lettered(text: str) -> bool:
    return any(map(str.isalpha, text)) and not _is_bytes(text)


def _is_emoji(text: str) -> bool:
    return any(
        (unicodedata.category(c) == "So" and ord(c) >= 0x2300) or 0x1F300 <= ord(c) <= 0x1FAFF for c in text
    )


def _is_code_signs(text: str) -> bool:
    stripped = text.strip()
    return len(stripped) > 1 and _CODE_SIGNS.issuperset(stripped) and len(set(stripped)) > 1


def _is_code_name(text: str) -> bool:
    return bool(_CODE_NAME.fullmatch(text.strip()))


def _is_bytes(text: str) -> bool:
    return "\ufffd" in text or bool(re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", text.strip()))
