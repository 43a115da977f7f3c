"""Is a head's score more than its null's, over independent units? Sign flips, then Benjamini and Hochberg."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from describe.core.nulls import benjamini_hochberg

Floats = NDArray[np.float64]
FLIPS = 20_000
"""Random sign flips at least: with 270 heads the smallest p, 5e-5, passes for a single head (q = .0135)."""
FLIPS_A_HEAD = 60
"""With more heads more flips, so that a single head of them all can still pass: q = 1 / 60."""
_AT_ONCE = 2_000


@dataclass(frozen=True)
class Leg:
    """One half of a class's test, for every head: arrays [n_layers, n_heads]; a null of NaN is none."""

    score: Floats
    null: Floats
    p: Floats

    @classmethod
    def of(cls, own: Floats, null: Floats, seed: int, sign: int = 1, flips: int = FLIPS) -> Leg:
        """Test own against null [n_units, n_layers, n_heads]; with `sign` −1, that it is less."""
        return cls(own.mean(0), null.mean(0), sign_flip(sign * (own - null), seed, flips))

    def reaching(self, least: float, sign: int = 1) -> Floats:
        """The p-value where the score reaches the least that counts, in its direction, else 1."""
        return np.where(sign * self.score >= least, self.p, 1.0)


def sign_flip(differences: Floats, seed: int, flips: int = FLIPS) -> Floats:
    """One-sided p that the mean of differences [n_units, …] is above 0: [...], never 0.

    Under the null, a unit's difference is as likely with either sign (Heads Hypothesis, in decoder form; the
    +1 correction is that of Phipson & Smyth, 2010). Heads share their flips, so that their p-values depend on each
    other as their scores do.
    """
    n_units = len(differences)
    if n_units == 0:
        return np.ones(differences.shape[1:])
    flat = differences.reshape(n_units, -1)
    observed = flat.sum(0)
    # What rounding makes of equal sums must count as equal, or p would fall below the smallest possible.
    least = observed - 1e-9 * np.abs(flat).sum(0)
    flips = max(flips, FLIPS_A_HEAD * flat.shape[1])
    generator = np.random.default_rng(seed)
    reached = np.zeros(flat.shape[1], dtype=np.int64)
    done = 0
    while done < flips:
        size = min(_AT_ONCE, flips - done)
        signs = generator.integers(0, 2, (size, n_units)) * 2.0 - 1
        reached += (signs @ flat >= least).sum(0)
        done += size
    p = np.where(observed > 0, (1 + reached) / (1 + flips), 1.0)
    return np.asarray(p.reshape(differences.shape[1:]), dtype=np.float64)


def q_values(p: Floats, counted: NDArray[np.bool_] | None = None) -> Floats:
    """The q-values of every head's p, over the heads that are counted; 1 for the others."""
    counted = np.ones(p.shape, dtype=bool) if counted is None else counted
    q = np.ones(p.shape)
    q[counted] = benjamini_hochberg(p[counted])
    return q
