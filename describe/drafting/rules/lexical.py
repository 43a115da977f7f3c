"""Operations on meaning: the packaged relations with their inverses, members of a class, a few word lists."""

from __future__ import annotations

import data
from describe.drafting.rules.forms import Keys, Listing, Operation, pair_operation, swapped, word
from describe.drafting.rules.lexicon import REPLACED_RELATIONS, listed_pairs
from describe.relations import Relation, load_relations

_LISTS = {
    "british_to_american": "writes the American spelling of the British spelling it reads",
    "abbreviation_to_word": "writes the full form of the abbreviation it reads",
    "question_word_to_answer": "writes words that answer or name what the question word it reads asks for",
    "correlative_partner": "writes the partner of the correlative word it reads (more … than)",
}
_INVERSE_LISTS = {
    "british_to_american": "writes the British spelling of the American spelling it reads",
    "abbreviation_to_word": "writes the abbreviation of the word it reads",
}

_SMALLEST_CLASS = 4  # of three members, "another member" is hardly a pattern
_LARGEST_CLASS = 2000


def lexical_operations() -> tuple[Operation, ...]:
    """Word lists, packaged relations (inverted too where their file names an inverse), members of classes."""
    listed = listed_pairs("lexical")
    lists = [pair_operation(n, "lexical", said, listed[n], specificity=86) for n, said in _LISTS.items()]
    inverse_lists = [
        pair_operation(f"{name}_inverse", "lexical", sentence, swapped(listed[name]), specificity=86)
        for name, sentence in _INVERSE_LISTS.items()
    ]
    return (*lists, *inverse_lists, *_relations(), _same_word_class(), *_same_class())


def relation_operations(relation: Relation) -> tuple[Operation, ...]:
    """The operation of a relation and, where its file names one, of its inverse.

    A relation whose pairs are a word and itself (copying names) is about copies, so there copies count.
    """
    copies = all(source == target for source, target in relation.pairs)
    forward = pair_operation(
        relation.name,
        relation.category,
        relation.sentence,
        relation.pairs,
        specificity=86 if copies else 85,
        excludes="nothing" if copies else "same word",
    )
    if relation.inverse is None:
        return (forward,)
    # Unlike a relation score, a rule may have many answers: any country where Spanish is spoken will do.
    backward = pair_operation(
        relation.inverse.name,
        relation.category,
        relation.inverse.sentence,
        swapped(relation.pairs),
        specificity=84,
    )
    return (forward, backward)


def _relations() -> list[Operation]:
    return [
        operation
        for relation in load_relations()
        if relation.name not in REPLACED_RELATIONS
        for operation in relation_operations(relation)
    ]


def _same_word_class() -> Operation:
    """All classes at once, for a head that answers countries by countries and colours by colours."""
    listings = {name: Listing(word_class.members) for name, word_class in data.word_classes().items()}
    words = frozenset(spelt for listing in listings.values() for spelt in listing.words)
    holders: dict[str, list[str]] = {}
    for name, listing in listings.items():
        for spelt in listing.words:
            holders.setdefault(spelt, []).append(name)

    def keys(text: str) -> Keys:
        return [name for name in holders.get(word(text), ()) if listings[name].find(text) is not None]

    return Operation(
        name="same_word_class",
        family="semantic",
        sentence="writes words of the same class as the one it reads (a colour for a colour)",
        source_keys=keys,
        target_keys=keys,
        specificity=48,
        source_words=words,
        target_words=words,
    )


def _same_class() -> list[Operation]:
    operations = []
    for word_class in data.word_classes().values():
        if _SMALLEST_CLASS <= len(word_class.members) <= _LARGEST_CLASS:
            operations.append(_other_member(word_class))
    return operations


def _other_member(word_class: data.WordClass) -> Operation:
    members = Listing(word_class.members)

    def keys(text: str) -> Keys:
        return () if members.find(text) is None else (word_class.name,)

    return Operation(
        name=f"same_class_{word_class.name}",
        family="semantic",
        sentence=f"writes other {word_class.plural}",
        source_keys=keys,
        target_keys=keys,
        specificity=50,
        source_words=members.words,
        target_words=members.words,
    )
