"""What a described head's own sources do to the logits of their mapped targets, by direct attribution.

Agreement asks whether a target is among the first of the head's output; this asks how much: the part of the head's
write that came from the source alone, through the attention that it really gets, in logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eval.inference.agreement import Claim
from eval.inference.attribution import Attribution, post_scale, read_by_heads
from eval.inference.dynamic import RunningWeights
from eval.inference.reading import AttendedReadings, forced

Floats = NDArray[np.float64]
FLIPS = 9999


class AttributedModel(RunningWeights, Protocol):
    """What of a subject model the effects read."""

    @property
    def logit_scale(self) -> float:
        """Multipliers of the logits and of the residual stream."""


@dataclass(frozen=True)
class Effect:
    """Mean effect of a claim's sources on their own targets and on one another's, in logits, with a p-value."""

    own: float
    null_mean: float
    p_value: float


class ClaimEffects:
    """Effects of sources on targets, claim by claim.

    Args:
        model: the subject.
        claims: what to look at.
        sources: [n] the token ids that the readings are of, ascending.
        device: where to compute.
    """

    def __init__(
        self,
        model: AttributedModel,
        claims: Sequence[Claim],
        sources: NDArray[np.int64],
        device: torch.device | str = "cpu",
    ) -> None:
        self._model, self._claims, self._sources, self._device = model, claims, sources, device
        self._attribution = Attribution(model, device=device)

    def of(self, readings: AttendedReadings) -> dict[str, Floats]:
        """By description: [n, n] the effect of source i, in its text, on the targets of source j, in logits."""
        final = self._attribution.final_scale(readings.last)
        tables = {}
        for layer in sorted({one.layer for one in self._claims}):
            circuits = self._model.layer(layer).to(self._device)
            values = forced(circuits, readings.states[layer])
            scale = post_scale(circuits, readings.outputs[layer]) * final
            for one in (claim for claim in self._claims if claim.layer == layer):
                rows = torch.from_numpy(np.searchsorted(self._sources, one.sources)).to(self._device)
                directions = self._attribution.readers(one.targets.tolist())
                readers = read_by_heads(directions, circuits)[:, one.head]
                weight = readings.attention[layer][rows, one.head] * scale[rows]
                effects = weight[:, None] * (values[rows, one.head] @ readers.T)
                tables[one.description_id] = effects.double().cpu().numpy()
        return tables


def effect(tables: Sequence[Floats], direction: str, seed: int) -> Effect:
    """A claim's effect over templates: tables [n, n] of each, own targets on the diagonal.

    The null of a source is its mean effect on the targets of the claim's other sources; p by sign flips over sources.
    """
    mean = np.mean(tables, axis=0)
    n = len(mean)
    own = np.diag(mean)
    others = (mean.sum(1) - own) / (n - 1) if n > 1 else np.zeros(n)
    side = 1.0 if direction == "promote" else -1.0
    difference = side * (own - others)
    if n < 2 or difference.sum() <= 0:
        return Effect(float(own.mean()), float(others.mean()), 1.0)
    signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, n)) * 2.0 - 1
    reached = int((signs @ difference >= difference.sum() * (1 - 1e-9)).sum())
    return Effect(float(own.mean()), float(others.mean()), (1 + reached) / (1 + FLIPS))
