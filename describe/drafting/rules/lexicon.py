"""The words and pairs that the library knows: the lists of this room, and the packaged lexicon as lookups."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

import data
from describe.relations import load_relations

# Packaged relations that an operation of this room says for more words; their inverses likewise.
REPLACED_RELATIONS = {
    "adjective_to_adverb": "adverb",
    "adjective_to_comparative": "comparative",
    "adjective_to_superlative": "superlative",
    "cardinal_to_ordinal": "cardinal_to_ordinal",
    "determiner_to_plural": "function_word_plural",
    "copying": "copy_word",
    "extension_to_language": "extension_to_language",
    "keyword_to_partner": "opposite_program_word",
    "greek_letter_to_next": "next_greek_letter",
    "letter_to_next": "next_letter",
    "month_to_abbreviation": "month_to_abbreviation",
    "month_to_next_month": "next_month",
    "number_word_to_digit": "number_word_to_digit",
    "number_word_to_next": "next_number_word",
    "opening_to_closing": "closing_bracket",
    "ordinal_to_next": "next_ordinal",
    "pronoun_to_object": "object_pronoun",
    "pronoun_to_possessive": "possessive",
    "pronoun_to_reflexive": "reflexive",
    "roman_numeral_to_digit": "roman_to_digit",
    "singular_to_plural": "plural",
    "tag_to_closing": "closing_tag",
    "uk_to_us_spelling": "british_to_american",
    "verb_to_agent": "agent_noun",
    "verb_to_gerund": "gerund",
    "verb_to_past_participle": "past_participle",
    "verb_to_past_tense": "past_tense",
    "verb_to_third_person": "third_person",
    "weekday_to_next_weekday": "next_weekday",
    "word_to_first_letter": "first_letter",
    "word_to_last_letter": "last_letter",
    "word_to_negated": "negation",
    "year_to_following": "next_year",
}


@cache
def listed_pairs(family: str) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """The pairs of words that this room lists itself, by name, such as `adverb`: (quick, quickly).

    A relation that stands under the same name in `REPLACED_RELATIONS` adds its pairs.

    Args:
        family: a group of `pairs.json`: derivation, inflection, lexical or code.
    """
    content = json.loads((files(__package__) / "pairs.json").read_text(encoding="utf-8"))
    listed = {name: [_pair(entry) for entry in entries] for name, entries in content[family].items()}
    for relation in load_relations():
        listed.get(REPLACED_RELATIONS.get(relation.name, ""), []).extend(relation.pairs)
    return {name: tuple(dict.fromkeys(pairs)) for name, pairs in listed.items()}


def _pair(entry: str) -> tuple[str, str]:
    source, target = entry.split()
    return source, target


@cache
def english_words() -> frozenset[str]:
    """Every word of the lexicon in lower case: lemmas, their forms, members of classes, derived words."""
    words: set[str] = set()
    for lemma, kinds in data.inflections().items():
        words.add(lemma)
        words.update(form for forms in kinds.values() for form in forms)
    for word_class in data.word_classes().values():
        words.update(word_class.members)
    for pairs in listed_pairs("derivation").values():
        words.update(spelt for pair in pairs for spelt in pair)
    folded = (spelt.casefold() for spelt in words)
    return frozenset(spelt for spelt in folded if spelt.isascii() and spelt.isalpha() and len(spelt) > 2)


def lemmas_of(
    form_kinds: Iterable[str], *, of_kinds: Iterable[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """For each word, the lemmas of which it is one of the given forms.

    Args:
        form_kinds: kinds of `data.INFLECTION_KINDS`, or `lemma` for the word itself.
        of_kinds: only lemmas that have a form of one of these kinds, so that `lemma` means a verb, say.
    """
    wanted, required = set(form_kinds), None if of_kinds is None else set(of_kinds)
    found: dict[str, set[str]] = defaultdict(set)
    for lemma, kinds in data.inflections().items():
        if required is not None and required.isdisjoint(kinds):
            continue
        if "lemma" in wanted:
            found[lemma.casefold()].add(lemma)
        for kind in wanted & kinds.keys():
            for form in kinds[kind]:
                found[form.casefold()].add(lemma)
    return {form: tuple(sorted(lemmas)) for form, lemmas in found.items()}
