"""What the removal of a relation's heads costs beyond that of random ones: the area between two curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REPLICATES = 2000
"""Bootstrap replicates of an area; its smallest p-value is one in `REPLICATES` + 1."""
TESTABLE = 0.1
"""Accuracy with all heads in place below which there is nothing to lose (MAPS, 4.3)."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Curves:
    """Right answers of a task while heads are removed, by the same counts of heads from 0 on."""

    counts: NDArray[np.int64]  # [c], ascending from 0
    relation: NDArray[np.bool_]  # [c, n prompts]
    random: NDArray[np.bool_]  # [draws, c, n prompts]

    @property
    def reading(self) -> int:
        """The place in `counts` at which MAPS reads: the first where nothing is right any more, else the last."""
        lost = np.flatnonzero(~self.relation.any(1))
        return int(lost[0]) if len(lost) else len(self.counts) - 1


@dataclass(frozen=True)
class Area:
    """Mean accuracy that the relation's heads cost more than random ones, with its 95 % interval and p-value."""

    area: float
    ci_low: float
    ci_high: float
    p_value: float


def area_between(curves: Curves, seed: int) -> Area:
    """The area between the curves over counts 0 to the last, m: of (random − relation), by trapezoids, over m.

    Of every count, also beyond the reading: where to stop is then no choice that depends on the outcome. The
    bootstrap resamples prompts, the same for both curves. The relation's heads are one set, and the draws say how far
    sets of heads differ by themselves: each replicate adds that difference, Student's t with as many degrees of freedom
    as the draws leave, times their standard deviation times √(1 + 1 / draws). p is the share of replicates with no area
    above 0, +1 in both counts so that it is never 0.

    Args:
        curves: with at least one head removed and two draws.
        seed: of the bootstrap.
    """
    weights = trapezoid_weights(curves.counts)
    lost = np.einsum("c,dcn->dn", weights, curves.random.astype(float)) - weights @ curves.relation
    n_draws, n = lost.shape
    generator = np.random.default_rng(seed)
    prompts = generator.multinomial(n, np.full(n, 1 / n), REPLICATES) / n
    between = float(lost.mean(1).std(ddof=1)) * np.sqrt(1 + 1 / n_draws)
    replicates = prompts @ lost.mean(0) + between * generator.standard_t(n_draws - 1, REPLICATES)
    low, high = np.quantile(replicates, (0.025, 0.975))
    # Rounding must not make a difference of exactly nothing look like one.
    none = int((replicates <= 1e-12).sum())
    return Area(float(lost.mean()), float(low), float(high), (1 + none) / (1 + REPLICATES))


def trapezoid_weights(counts: NDArray[np.int64]) -> Floats:
    """Weights [c] whose sum with a curve's values is its mean height over the counts, by trapezoids."""
    gaps = np.diff(counts).astype(float)
    weights = np.zeros(len(counts))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights / float(gaps.sum())
