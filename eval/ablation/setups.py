"""Tasks that ask for a relation: a text for each, and the pairs of the relation that are placed in it (MAPS, 4.3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.jobs.relation_layers import UsableRelation
from describe.jobs.relation_pairs import usable
from describe.relations import Relation
from describe.relations.generated import FEW
from eval.ablation.heads import most_removed, removal_order
from eval.inference.templates import Template

if TYPE_CHECKING:
    from describe.records import ModelShape
    from describe.subject.vocabulary import Vocabulary
    from eval.inference.correlating import Static

TEXTS: Mapping[str, str] = {
    "country_to_capital": "The capital of <X> is",
    "country_to_language": "The official language of <X> is",
    "product_to_company": "Nesquik is made by Nestlé; Mustang is made by Ford; <X> is made by",
    "object_to_superclass": "A <X> is a kind of",
    "adjective_to_comparative": " lovely-> lovelier; edgy-> edgier; <X>->",
    "verb_to_past_tense": " hike->hiked; purchase-> purchased; <X>->",
    "word_to_first_letter": " word-> w, o, r, d; cat-> c, a, t; <X>->",
    "word_to_last_letter": " word-> d, r, o, w; cat-> t, a, c; <X>->",
    "year_to_following": " 1300-> 1301; 1000-> 1001; <X>->",
    "copying": " walk-> walk; cat-> cat; water-> water; <X>->",
    "name_copying": " John-> John; Donna-> Donna; <X>->",
    "noun_to_pronoun": " mother-> she; father-> he; tribe-> they; actress-> she; apartment-> it; <X>->",
    "english_to_spanish": " apartment-> departamento; computer-> computadora; tribe-> tribu; <X>->",
}
"""The thirteen of the released code by our files of pairs, to the letter: one example lacks its space there, too."""
PAIRS, QUICK_PAIRS = 60, 30
"""Pairs of a relation that are placed in its text; a sample of the longer ones."""
QUICK_SET_UPS = 4


@dataclass(frozen=True)
class SetUp:
    """A relation's task on a model: its text, its pairs and its heads."""

    relation: UsableRelation
    template: Template
    heads: NDArray[np.int64]  # as they are removed, layer x n_heads + head; only those with a score
    lift: float  # static, of the best head

    @property
    def name(self) -> str:
        """The relation's."""
        return self.relation.name

    @property
    def prompts(self) -> Tensor:
        """Token ids [n, t]; sources are one token, so all are of one length."""
        return torch.tensor([self.template.prompt((int(source),)) for source in self.relation.sources])


def set_ups(
    relations: Sequence[Relation],
    texts: Mapping[str, str],
    vocabulary: Vocabulary,
    excluded: Collection[int],
    static: Mapping[str, tuple[NDArray[np.float64], float]],
    shape: ModelShape,
) -> tuple[list[SetUp], dict[str, str]]:
    """The tasks that a model can be given, all their pairs in them, and the other relations with the reason.

    Args:
        relations: whole relations; those without a text are left out without a word.
        texts: by relation.
        vocabulary: of the subject.
        excluded: token ids that are no source and no target.
        static: by relation, scores of all heads [n_layers x n_heads] and the best lift.
        shape: sizes of the model.
    """
    found, left_out = [], {}
    asked = [one for one in relations if one.name in texts]
    total = shape.n_layers * shape.n_heads
    for one in usable(asked, vocabulary, excluded).relations:
        template = Template.of(texts[one.name], vocabulary)
        # A source that stands in the text's examples has its answer beside it.
        own = without(one, {*template.before, *template.after})
        if one.name not in static:
            left_out[one.name] = "no scores from the weights"
        elif len(static[one.name][0]) != total:
            left_out[one.name] = f"scores of {len(static[one.name][0])} of {total} heads"
        elif len(own.sources) < FEW:
            left_out[one.name] = f"{len(own.sources)} pairs, {FEW} are needed"
        else:
            scores, lift = static[one.name]
            found.append(SetUp(own, template, removal_order(scores, most_removed(total)), lift))
    return found, left_out


def without(relation: UsableRelation, tokens: Iterable[int]) -> UsableRelation:
    """The relation without the pairs whose source is among some tokens."""
    keep = ~np.isin(relation.sources, sorted(tokens))
    return replace(relation, sources=relation.sources[keep], targets=relation.targets[keep])


def sampled(set_up: SetUp, pairs: int, seed: int) -> SetUp:
    """At most `pairs` pairs of a task, drawn with a seed, in their order."""
    relation = set_up.relation
    generator = np.random.default_rng([seed, *relation.name.encode()])
    keep = np.sort(generator.permutation(len(relation.sources))[:pairs])
    cut = replace(relation, sources=relation.sources[keep], targets=relation.targets[keep])
    return replace(set_up, relation=cut)


def static_of(static: Static, preset: str) -> dict[str, tuple[NDArray[np.float64], float]]:
    """What `set_ups` reads of a catalogue's scores: what heads promote, by relation, in one preset."""
    return {
        relation: (found.score, float(found.lift.max()))
        for (relation, own, direction), found in static.items()
        if own == preset and direction == "promote"
    }
