"""Relation scores of a model, layer by layer: the lists of first targets, and all that is counted from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.factors import LayerFactors
from describe.core.nulls import wilson
from describe.core.ranks import first_and_last
from describe.core.spaces import value_states
from describe.jobs.projecting import ProjectedModel, Projector
from describe.jobs.relation_entries import AskedEntries
from describe.records import DIRECTIONS
from describe.relations.scores import KS, Scores, TokenPairs, main_k, scores, within_class
from describe.settings import ProjectionSettings
from describe.subject.block0 import State

Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class UsableRelation:
    """A relation cut to a vocabulary: [n] pairs of a source (a token id, or the place of a word) and a target id."""

    name: str
    copying: bool
    thin: bool
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]


class RelationLayers:
    """Scores every relation on every head of a layer at a time.

    Args:
        model: the subject.
        settings: how a head is put into vocabulary space; the `paper` preset's relation scores take the first
            MLP's output for every layer but the first (MAPS, section 3.1 and released code).
        excluded: token ids by reason, no targets and no sources where the settings filter tokens.
        relations: what to score; pairs with an excluded token are left out.
        word_states: states of several-token sources around block 0, by name (entry, exit), [n_words, d];
            None where sources are single tokens.
        device: where to compute.
        seed: of re-pairings.
    """

    def __init__(
        self,
        model: ProjectedModel,
        settings: ProjectionSettings,
        excluded: Mapping[str, Iterable[int]],
        relations: Sequence[UsableRelation],
        *,
        word_states: Mapping[State, Tensor] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self._projector = Projector(model, settings, excluded, device, seed)
        self._words = word_states
        self._seed = seed
        eligible = self._projector.eligible.numpy()
        place = np.full(model.shape.n_vocab, -1)
        place[eligible] = np.arange(len(eligible))
        self._relations = [kept for one in relations if len((kept := self._placed(one, place)).sources)]
        # The reversed control reads the targets: they are rows too.
        read = ("sources",) if self._words is not None else ("sources", "targets")
        rows = np.unique(np.concatenate([getattr(one, name) for one in self._relations for name in read]))
        self._rows = torch.from_numpy(rows)

        def rows_of(values: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.searchsorted(rows, values)

        def nowhere(relation: UsableRelation) -> NDArray[np.int64]:
            return np.full(len(relation.sources), -1)

        self._pairs = [
            TokenPairs(
                rows=rows_of(one.sources),
                targets=one.targets,
                # Words of several tokens are no targets: neither their own nor anything's read backwards.
                own=one.sources if self._words is None else nowhere(one),
                turned=rows_of(one.targets) if self._words is None else nowhere(one),
            )
            for one in self._relations
        ]
        self._asked = AskedEntries(self._pairs, self._projector.device)

    @property
    def n_pairs(self) -> dict[str, int]:
        """Pairs that are scored, by relation."""
        return {one.name: len(one.sources) for one in self._relations}

    def prepare(self, layer: int) -> None:
        """Have the source states that a layer reads at hand; `layers` does it by itself."""
        self._projector.space(layer)

    def layers(self, layers: Iterable[int]) -> Iterator[tuple[int, Columns]]:
        """The rows of `relation_scores` of each layer, column by column; q-values come once all are known."""
        for layer in layers:
            yield layer, self._score(layer)

    def _placed(self, relation: UsableRelation, place: NDArray[np.int64]) -> UsableRelation:
        """The relation with eligible positions for token ids; pairs with an excluded token left out."""
        targets = place[relation.targets]
        sources = relation.sources if self._words is not None else place[relation.sources]
        keep = (targets >= 0) & (sources >= 0)
        return UsableRelation(relation.name, relation.copying, relation.thin, sources[keep], targets[keep])

    def _factors(self, layer: int) -> LayerFactors:
        settings = self._projector.settings
        space, folded = self._projector.space(layer)
        if self._words is None:
            states = space.states[self._rows.to(space.states.device)]
        else:
            circuits = self._projector.model.layer(layer).to(self._projector.device)
            states = value_states(self._words["entry" if layer == 0 else "exit"], circuits, settings.gains)
            states = states[self._rows]
        return LayerFactors(
            space,
            folded,
            self._projector.U,
            states,
            centred=settings.centred,
            standardised=settings.standardised,
        )

    def _score(self, layer: int) -> Columns:
        factors = self._factors(layer)
        n_heads, deepest = self._projector.model.shape.n_heads, max(KS)
        lists = np.empty((2, n_heads, len(self._rows), deepest), dtype=np.int64)
        within = np.empty((len(self._pairs), 2, n_heads))
        for index in range(n_heads):
            head = factors.head(index)
            blocks, extremes = self._asked.of(head)
            for side, found in zip(lists, first_and_last(head, deepest, extremes), strict=True):
                side[index] = found.cpu().numpy()
            for own, block, pairs in zip(within, blocks, self._pairs, strict=True):
                own[:, index] = within_class(block.cpu().numpy(), pairs)
        columns: dict[str, list[NDArray[np.generic]]] = {}
        for number, (relation, pairs) in enumerate(zip(self._relations, self._pairs, strict=True)):
            for direction, listed, within_side in zip(DIRECTIONS, lists, within[number], strict=True):
                counted = scores(listed, pairs, len(self._projector.eligible), self._seed)
                part = self._columns(layer, relation, direction, counted, within_side)
                for name, column in part.items():
                    columns.setdefault(name, []).append(column)
        return {name: np.concatenate(parts) for name, parts in columns.items()}

    def _columns(
        self,
        layer: int,
        relation: UsableRelation,
        direction: str,
        found: Scores,
        within: NDArray[np.float64],
    ) -> Columns:
        H, K = found.score.shape
        n = len(relation.sources)
        hits = np.rint(found.score * n).astype(int)
        ends = np.array([[wilson(int(one), n) for one in row] for row in hits])
        size = H * K
        main = main_k(relation.copying, self._projector.model.shape.n_vocab)
        each: dict[str, NDArray[np.generic]] = {
            "layer": np.full(size, layer, np.int32),
            "head": np.repeat(np.arange(H, dtype=np.int32), K),
            "relation": np.full(size, relation.name, object),
            "direction": np.full(size, direction, object),
            "k": np.tile(np.array(KS, np.int32), H),
            "main": np.tile(np.array(KS) == main, H),
            "thin": np.full(size, relation.thin),
            "score": found.score.ravel(),
            "n_pairs": np.full(size, n, np.int32),
            "null_mean": found.null_mean.ravel(),
            "lift": found.lift.ravel(),
            "p_value": found.p_value.ravel(),
            "within_class": np.repeat(within, K),
            "identity_score": found.identity.ravel(),
            "reversed_score": found.reversed.ravel(),
            "ci_low": ends[:, :, 0].ravel(),
            "ci_high": ends[:, :, 1].ravel(),
            "mean_reciprocal_rank": np.repeat(found.mean_reciprocal_rank, K),
        }
        return each
