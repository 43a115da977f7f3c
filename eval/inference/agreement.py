"""Does a head do at inference what its description was drawn from? Its own salient sources, placed in context.

A source agrees if one of its first mapped targets is among the first targets of what the head writes, in at least half
of the templates. The null is the same with the targets of other sources of the head: a head that writes the same
words whatever it reads agrees with all of its mappings and has no lift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from describe.core.factors import HeadFactors
from describe.core.nulls import permutation_test, wilson
from describe.core.ranks import first_and_last
from describe.core.spaces import fold_layer, fold_unembedding
from describe.records import DIRECTIONS
from eval.inference.dynamic import RunningWeights
from eval.inference.reading import Readings, forced

TARGETS = 5
"""Mapped targets of a source that are looked for (MAPS maps five)."""
FIRST = 25
"""Targets of the head's output among which they are looked for: the largest k of MAPS."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Claim:
    """A description with what it was drawn from: token ids of sources [n] and of their mapped targets [n, ≤ TARGETS]."""

    description_id: str
    layer: int
    head: int
    cluster: int | None
    direction: str
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Share of a claim's sources that agree, with interval, null and p-value."""

    share: float
    ci_low: float
    ci_high: float
    null_mean: float
    p_value: float


class AgreementTables:
    """Which sources' targets every source's output holds, claim by claim.

    Args:
        model: the subject.
        claims: what to look at.
        sources: [n] the token ids that the readings are of, ascending.
        excluded: token ids that are no targets, as in the run that described the heads.
        gains: read outputs with the norms' gains, as that run's mappings were made.
        device: where to compute.
    """

    def __init__(
        self,
        model: RunningWeights,
        claims: Sequence[Claim],
        sources: NDArray[np.int64],
        excluded: Sequence[int] = (),
        *,
        gains: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self._model, self._claims, self._sources, self._device = model, claims, sources, device
        self._gains = gains
        keep = torch.ones(model.shape.n_vocab, dtype=torch.bool)
        keep[torch.as_tensor(sorted(excluded), dtype=torch.int64)] = False
        self._ids = keep.nonzero(as_tuple=True)[0].numpy()
        U = fold_unembedding(model.unembedding(), model.final_norm(), gains)
        self._U = U[keep].contiguous().to(device)

    def of(self, readings: Readings) -> dict[tuple[str, str], Bools]:
        """By description and context: [n, n] whether the output for source i holds a target of source j."""
        tables = {}
        for layer in sorted({one.layer for one in self._claims}):
            circuits = self._model.layer(layer).to(self._device)
            W_O = fold_layer(circuits, self._gains).W_O
            z = readings.z[layer].to(self._device)
            alone = forced(circuits, readings.states[layer].to(self._device))
            for one in (claim for claim in self._claims if claim.layer == layer):
                rows = torch.from_numpy(np.searchsorted(self._sources, one.sources)).to(self._device)
                both = torch.cat([z[rows, one.head], alone[rows, one.head]])
                lists = self._lists(both, W_O[one.head], one.direction)
                for context, listed in zip(("with", "without"), np.split(lists, 2), strict=True):
                    tables[one.description_id, context] = holds_any(listed, one.targets)
        return tables

    def _lists(self, outputs: Tensor, W_O: Tensor, direction: str) -> NDArray[np.int64]:
        """Token ids of the first targets in one direction: [n, FIRST] from outputs z [n, d_head]."""
        sides = first_and_last(HeadFactors(outputs, self._U @ W_O.T), FIRST)
        return np.asarray(self._ids[sides[DIRECTIONS.index(direction)].cpu().numpy()], dtype=np.int64)


def holds_any(lists: NDArray[np.int64], targets: NDArray[np.int64]) -> Bools:
    """[n, n] whether list i [n, k] holds one of the targets of source j [n, t]."""
    table = np.zeros((len(lists), len(targets)), dtype=bool)
    for rank in range(targets.shape[1]):
        table |= (lists[:, :, None] == targets[None, None, :, rank]).any(1)
    return table


def in_half(tables: Sequence[Bools]) -> Bools:
    """What holds in at least half of the templates."""
    return np.asarray(2 * np.sum(tables, axis=0) >= len(tables))


def agreement(table: Bools, seed: int) -> Agreement:
    """The share of sources whose output holds their own targets, against those of the head's other sources."""
    n, hits = len(table), int(np.trace(table))
    null_mean, p_value = permutation_test(table, seed)
    return Agreement(hits / n, *wilson(hits, n), null_mean, p_value)
