"""Relations cut to a vocabulary: which pairs can be scored, with sources of one token or of several."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from describe.jobs.relation_layers import UsableRelation
from describe.relations import Relation
from describe.relations.generated import FEW, FormVocabulary

FEWEST = 5
"""Pairs below which not even a thin relation is scored: six of its re-pairings would be one in twenty."""


@dataclass(frozen=True)
class UsablePairs:
    """Relations on a vocabulary; `words` are the several-token sources that the relations' sources index."""

    relations: Sequence[UsableRelation]
    words: Sequence[Sequence[int]]


def usable(
    relations: Sequence[Relation],
    vocabulary: FormVocabulary,
    excluded: Collection[int] = (),
    *,
    several: bool = False,
    first_token: bool = False,
) -> UsablePairs:
    """Cut relations to the pairs that can be scored.

    Args:
        relations: whole relations.
        vocabulary: of the subject.
        excluded: token ids that are no source and no target.
        several: take the pairs whose source is several tokens, and those only.
        first_token: let a target of several tokens stand for its first; else such pairs are left out.
    """
    words: dict[tuple[int, ...], int] = {}
    found = []
    for relation in relations:
        pairs: dict[int, int] = {}
        for source, target in relation.pairs:
            target_id = _target(relation, target, vocabulary, first_token)
            source_id = (vocabulary.id_of if relation.exact else vocabulary.word_id)(source)
            if target_id is None or target_id in excluded or (source_id is not None) == several:
                continue
            if several:
                pieces = tuple(_pieces(source, vocabulary))
                source_id = words.setdefault(pieces, len(words)) if len(pieces) > 1 else None
            if source_id is not None and (several or source_id not in excluded):
                pairs.setdefault(source_id, target_id)
        ids = np.array(list(pairs.items()), dtype=np.int64).reshape(-1, 2)
        found.append(UsableRelation(relation.name, relation.copying, relation.thin, ids[:, 0], ids[:, 1]))
    return UsablePairs(found, list(words))


def few_pairs(pairs: UsablePairs) -> tuple[UsablePairs, Mapping[str, int]]:
    """The relations with pairs enough to be scored, and the others with how many they have."""
    kept, too_few = [], {}
    for one in pairs.relations:
        if len(one.sources) >= (FEWEST if one.thin else FEW):
            kept.append(replace(one, thin=len(one.sources) < FEW))
        else:
            too_few[one.name] = len(one.sources)
    return UsablePairs(kept, pairs.words), too_few


def _target(relation: Relation, target: str, vocabulary: FormVocabulary, first_token: bool) -> int | None:
    found = (vocabulary.id_of if relation.exact else vocabulary.word_id)(target)
    if found is None and first_token:
        pieces = _pieces(target, vocabulary)
        return pieces[0] if pieces else None
    return found


def _pieces(word: str, vocabulary: FormVocabulary) -> list[int]:
    """A word's tokens as they stand in running text, after a space."""
    return vocabulary.pieces(f" {word.strip()}" if vocabulary.spaced else word)
