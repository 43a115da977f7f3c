"""Predefined operations: the pairs that define them, and how strongly a head implements them."""

from describe.relations.pairs import (
    CATEGORIES,
    Category,
    Inverse,
    Relation,
    SingleTokenVocabulary,
    inverted,
    load_relation,
    load_relations,
    relation_digest,
    scored_relations,
    usable_pairs,
)

__all__ = [
    "CATEGORIES",
    "Category",
    "Inverse",
    "Relation",
    "SingleTokenVocabulary",
    "inverted",
    "load_relation",
    "load_relations",
    "relation_digest",
    "scored_relations",
    "usable_pairs",
]
