"""Operations on word forms (plural, tenses, degrees) and on derived words (adverbs, agents, negations)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import data
from describe.drafting.rules.forms import Operation, pair_operation, swapped, word
from describe.drafting.rules.lexicon import lemmas_of, listed_pairs

_VERB = ("past", "past_participle", "gerund", "third_person")
_DEGREES = ("comparative", "superlative")

# name, sentence, kinds a source may be, kind the target is, kinds that make a lemma of that part of speech
_FORMS = (
    ("plural", "writes the plural of the noun it reads", ("lemma",), "plural", ("plural",)),
    ("singular", "writes the singular of the plural noun it reads", ("plural",), "lemma", ("plural",)),
    ("past_tense", "writes the past tense of the verb it reads", ("lemma", *_VERB), "past", _VERB),
    (
        "past_participle",
        "writes the past participle of the verb it reads",
        ("lemma", *_VERB),
        "past_participle",
        _VERB,
    ),
    ("gerund", "writes the -ing form of the verb it reads", ("lemma", *_VERB), "gerund", _VERB),
    (
        "third_person",
        "writes the third person singular of the verb it reads",
        ("lemma", *_VERB),
        "third_person",
        _VERB,
    ),
    ("base_form", "writes the base form of the inflected verb it reads", _VERB, "lemma", _VERB),
    (
        "comparative",
        "writes the comparative of the adjective it reads",
        ("lemma", *_DEGREES),
        "comparative",
        _DEGREES,
    ),
    (
        "superlative",
        "writes the superlative of the adjective it reads",
        ("lemma", *_DEGREES),
        "superlative",
        _DEGREES,
    ),
    (
        "positive_degree",
        "writes the plain form of the comparative or superlative it reads",
        _DEGREES,
        "lemma",
        _DEGREES,
    ),
)

_DERIVED = {
    "adverb": (
        "writes the adverb formed from the adjective it reads",
        "writes the adjective of the adverb it reads",
    ),
    "agent_noun": (
        "writes the noun for who or what does the action of the verb it reads",
        "writes the verb for what the person or thing it reads does",
    ),
    "negation": (
        "writes the word it reads with a negating prefix",
        "writes the word it reads without its negating prefix",
    ),
    "repetition": (
        "writes the word it reads with the prefix re-",
        "writes the word it reads without its prefix re-",
    ),
    "nominal_tion": (
        "writes the noun in -tion or -sion formed from the verb it reads",
        "writes the verb of the noun in -tion or -sion it reads",
    ),
    "nominal_ment": (
        "writes the noun in -ment formed from the verb it reads",
        "writes the verb of the noun in -ment it reads",
    ),
    "nominal_ance": (
        "writes the noun in -ance or -ence formed from the verb it reads",
        "writes the verb of the noun in -ance or -ence it reads",
    ),
    "nominal_ness": (
        "writes the noun in -ness formed from the adjective it reads",
        "writes the adjective of the noun in -ness it reads",
    ),
    "nominal_ity": (
        "writes the noun in -ity formed from the adjective it reads",
        "writes the adjective of the noun in -ity it reads",
    ),
    "adjective_able": (
        "writes the adjective in -able formed from the verb it reads",
        "writes the verb of the adjective in -able it reads",
    ),
    "adjective_ful": (
        "writes the adjective in -ful formed from the word it reads",
        "writes the word from which the adjective in -ful it reads is formed",
    ),
    "adjective_less": (
        "writes the adjective in -less formed from the word it reads",
        "writes the word from which the adjective in -less it reads is formed",
    ),
    "adjective_y": (
        "writes the adjective in -y formed from the noun it reads",
        "writes the noun of the adjective in -y it reads",
    ),
    "ist_person": (
        "writes the person in -ist named after the thing it reads",
        "writes what the person in -ist it reads is named after",
    ),
    "verb_ize": (
        "writes the verb for making something what the word it reads says",
        "writes the word from which the verb it reads is formed",
    ),
    "doctrine_ism": (
        "writes the noun in -ism formed from the word it reads",
        "writes the word from which the noun in -ism it reads is formed",
    ),
}

# Function words, which the inflections of nouns, verbs and adjectives do not hold.
_FUNCTION_WORDS = {
    "object_pronoun": "writes the object form of the pronoun it reads",
    "possessive": "writes the possessive of the pronoun it reads",
    "reflexive": "writes the reflexive of the pronoun it reads",
    "function_word_plural": "writes the plural of the pronoun, determiner or auxiliary it reads",
    "contraction": "writes the short form of the function word it reads",
}
_PLAIN_PRONOUNS = {
    "object_pronoun": "writes the subject form of the pronoun it reads",
    "possessive": "writes the pronoun of the possessive it reads",
    "reflexive": "writes the plain form of the reflexive pronoun it reads",
}


def inflection_operations() -> tuple[Operation, ...]:
    """Forms of one word; a copy never counts, so a copying head does not pass for one that inflects."""
    inflected = tuple(
        _form_operation(
            name, sentence, lemmas_of(sources, of_kinds=kinds), lemmas_of([target], of_kinds=kinds), 88
        )
        for name, sentence, sources, target, kinds in _FORMS
    )
    every_form = lemmas_of(["lemma", *data.INFLECTION_KINDS])
    same_lemma = _form_operation(
        "same_lemma", "writes other forms of the word it reads", every_form, every_form, 75
    )
    function_words = tuple(
        pair_operation(name, "inflection", sentence, listed_pairs("inflection")[name], specificity=88)
        for name, sentence in _FUNCTION_WORDS.items()
    )
    plain_pronouns = tuple(
        pair_operation(
            f"{name}_inverse", "inflection", said, swapped(listed_pairs("inflection")[name]), specificity=87
        )
        for name, said in _PLAIN_PRONOUNS.items()
    )
    return (*inflected, same_lemma, *function_words, *plain_pronouns)


def derivation_operations() -> tuple[Operation, ...]:
    """Words formed from other words, in both directions, and the word family that joins all of them."""
    operations = []
    for kind, (formed, base) in _DERIVED.items():
        pairs = listed_pairs("derivation")[kind]
        operations.append(pair_operation(kind, "derivation", formed, pairs, specificity=87))
        operations.append(
            pair_operation(f"{kind}_inverse", "derivation", base, swapped(pairs), specificity=86)
        )
    families = _word_families()
    family = _form_operation(
        "same_family", "writes words formed from the same word as the one it reads", families, families, 73
    )
    return (*operations, family)


def _form_operation(
    name: str,
    sentence: str,
    sources: dict[str, tuple[str, ...]],
    targets: dict[str, tuple[str, ...]],
    specificity: int,
) -> Operation:
    return Operation(
        name=name,
        family="derivation" if name == "same_family" else "inflection",
        sentence=sentence,
        source_keys=lambda text: sources.get(word(text), ()),
        target_keys=lambda text: targets.get(word(text), ()),
        specificity=specificity,
        source_words=frozenset(sources),
        target_words=frozenset(targets),
    )


def _word_families() -> dict[str, tuple[str, ...]]:
    """For every word its roots: words joined by inflection or derivation share one."""
    bases: dict[str, set[str]] = defaultdict(set)
    for pairs in listed_pairs("derivation").values():
        for base, derived in pairs:
            bases[derived].add(base)
    lemmas = lemmas_of(["lemma", *data.INFLECTION_KINDS])
    every_word = {*lemmas, *bases, *(base for found in bases.values() for base in found)}
    return {spelt: tuple(sorted(_roots({spelt}, lemmas, bases))) for spelt in every_word}


def _roots(
    words: Iterable[str], lemmas: dict[str, tuple[str, ...]], bases: dict[str, set[str]]
) -> frozenset[str]:
    """Everything a word comes from, itself included: one step back at a time until nothing new is met."""
    seen: set[str] = set()
    ahead = set(words)
    while ahead:
        seen |= ahead
        ahead = {root for spelt in ahead for root in (*lemmas.get(spelt, ()), *bases.get(spelt, ()))} - seen
    return frozenset(seen)
