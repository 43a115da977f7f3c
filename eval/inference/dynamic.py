"""Relation scores of what heads write at inference: the same rule as for the weights, on other rows (MAPS, section 4.2).

A row is a head's output at the last position times the unembedding. Two readouts: `raw`, the released code's, which
leaves every norm's gain out, to be held against the `paper` preset; and `direct`, the direct path to the logits with
the gains of the sandwich norm and of the final norm folded in, to be held against the `default` preset. The norms'
scales are positive numbers of a prompt: they change no rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.circuits import LayerCircuits, Norm
from describe.core.factors import HeadFactors
from describe.core.ranks import first_and_last
from describe.core.spaces import fold_layer, fold_unembedding
from describe.jobs.relation_entries import AskedEntries
from describe.jobs.relation_layers import UsableRelation
from describe.records import DIRECTIONS, ModelShape
from describe.relations.scores import TokenPairs, hits_and_null, main_k
from eval.inference.reading import Readings, forced

Readout = Literal["raw", "direct"]
CONTEXTS = ("with", "without")
READOUTS: Mapping[str, Readout] = {"paper": "raw", "default": "direct"}
"""By the preset whose static scores a readout is held against."""
Columns = dict[str, NDArray[np.generic]]


class RunningWeights(Protocol):
    """What of a subject model the scores read."""

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""

    def unembedding(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unembedding as rows [V, d]."""

    def final_norm(self, dtype: torch.dtype = torch.float32) -> Norm:
        """The norm before the unembedding."""

    def layer(self, layer: int, dtype: torch.dtype = torch.float32) -> LayerCircuits:
        """The OV circuits of one layer."""


@dataclass(frozen=True)
class PlacedPairs:
    """A relation's pairs: which of the sources that were read [n], and the target's token id [n]."""

    relation: UsableRelation
    rows: NDArray[np.int64]


class DynamicScores:
    """Scores relations on the outputs of every head of a layer at a time.

    Args:
        model: the subject.
        relations: the pairs, with rows of the readings.
        excluded: token ids that are no targets in the `direct` readout, as in the default preset.
        device: where to compute.
    """

    def __init__(
        self,
        model: RunningWeights,
        relations: Sequence[PlacedPairs],
        excluded: Iterable[int] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self._model, self._relations, self._device = model, relations, device
        W_U, norm = model.unembedding(), model.final_norm()
        keep = torch.ones(len(W_U), dtype=torch.bool)
        keep[torch.as_tensor(sorted(excluded), dtype=torch.int64)] = False
        direct = fold_unembedding(W_U, norm, gains=True)[keep].contiguous()
        self._U = {"raw": W_U.to(device), "direct": direct.to(device)}
        self._place = {"raw": np.arange(len(W_U)), "direct": np.cumsum(keep.numpy()) - 1}
        missing = [one.relation.name for one in relations if not keep[one.relation.targets].all()]
        if missing:
            raise ValueError(f"targets of {missing} are excluded")

    def layers(self, readings: Readings) -> Iterator[tuple[int, Columns]]:
        """The rows of `dynamic_scores` of each layer, column by column, for one template."""
        for layer in range(self._model.shape.n_layers):
            circuits = self._model.layer(layer).to(self._device)
            z = readings.z[layer].to(self._device)
            alone = forced(circuits, readings.states[layer].to(self._device))
            outputs = torch.cat([z, alone])
            parts = [self._score(layer, circuits, outputs, readout) for readout in READOUTS.values()]
            yield layer, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _score(self, layer: int, circuits: LayerCircuits, outputs: Tensor, readout: Readout) -> Columns:
        """Scores of the outputs z [with, then without context: 2 n, n_heads, d_head] by one readout."""
        W_O = fold_layer(circuits, gains=readout == "direct").W_O
        U, n = self._U[readout], len(outputs) // 2
        pairs = [
            self._pairs(one, readout, offset) for offset in range(0, 2 * n, n) for one in self._relations
        ]
        asked = AskedEntries(pairs, self._device)
        ks = [main_k(one.relation.copying, self._model.shape.n_vocab) for one in self._relations]
        lists = np.empty((2, len(W_O), len(outputs), max(ks)), dtype=np.int64)
        for head in range(len(W_O)):
            factors = HeadFactors(outputs[:, head].contiguous(), U @ W_O[head].T)
            _, extremes = asked.of(factors)
            for side, found in zip(lists, first_and_last(factors, max(ks), extremes), strict=True):
                side[head] = found.cpu().numpy()
        rows: dict[str, list[NDArray[np.generic]]] = {}
        for number, one in enumerate(pairs):
            relation = self._relations[number % len(self._relations)].relation
            k = ks[number % len(self._relations)]
            for direction, listed in zip(DIRECTIONS, lists, strict=True):
                hits, null_mean = hits_and_null(listed[:, :, :k], one, len(U))
                part: dict[str, NDArray[np.generic]] = {
                    "layer": np.full(len(W_O), layer, np.int32),
                    "head": np.arange(len(W_O), dtype=np.int32),
                    "relation": np.full(len(W_O), relation.name, object),
                    "context": np.full(len(W_O), CONTEXTS[number // len(self._relations)], object),
                    "readout": np.full(len(W_O), readout, object),
                    "direction": np.full(len(W_O), direction, object),
                    "k": np.full(len(W_O), k, np.int32),
                    "score": hits / one.n,
                    "null_mean": null_mean,
                    "n_pairs": np.full(len(W_O), one.n, np.int32),
                }
                for name, column in part.items():
                    rows.setdefault(name, []).append(column)
        return {name: np.concatenate(parts) for name, parts in rows.items()}

    def _pairs(self, one: PlacedPairs, readout: Readout, offset: int) -> TokenPairs:
        nothing = np.full(len(one.rows), -1)
        targets = self._place[readout][one.relation.targets]
        return TokenPairs(one.rows + offset, targets, own=nothing, turned=nothing)
