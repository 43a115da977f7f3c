"""What chance would give: permutation nulls, lifts, intervals and false-discovery control."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def permutation_test(hits: NDArray[np.bool_], seed: int, permutations: int = 9999) -> tuple[float, float]:
    """Are rows hit by their own targets more often than by one another's?

    Args:
        hits: [n, n] boolean; `hits[i, j]` = source i is hit by the targets of row j.
        seed: of the permutations.
        permutations: how many random re-pairings; the smallest p is 1 / (permutations + 1).

    Returns:
        (null_mean, p): the exact expected share of hits over all n! pairings, and P(share ≥ observed) with
        the +1 correction of Phipson & Smyth (2010), so that p is never 0 and the test is valid.
    """
    n = len(hits)
    if n == 0:
        return 0.0, 1.0
    observed = int(np.trace(hits))
    null_mean = float(hits.mean())
    if observed <= null_mean * n:
        return null_mean, 1.0
    generator = np.random.default_rng(seed)
    orders = generator.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
    counts = hits[np.arange(n), orders].sum(1)
    return null_mean, float((1 + (counts >= observed).sum()) / (1 + permutations))


def binomial_tail(hits: int, n: int, rate: float) -> float:
    """P(X ≥ hits) for X binomial(n, rate); 1 for no trials."""
    if hits <= 0 or n == 0:
        return 1.0
    if hits > n or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    # By logarithms: from some thousand trials on, a binomial coefficient is larger than any float.
    whole, log_hit, log_miss = math.lgamma(n + 1), math.log(rate), math.log1p(-rate)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_hit + (n - k) * log_miss)
        for k in range(hits, n + 1)
    )
    return min(1.0, math.fsum(terms))


def wilson(hits: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a share (default 95 %); (0, 1) when there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    share = hits / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact where nothing, or all, was hit; rounding would leave the share outside of them.
    return 0.0 if hits == 0 else (centre - half) / scale, 1.0 if hits == n else (centre + half) / scale


def benjamini_hochberg(p: Floats | list[float]) -> Floats:
    """q-values of p-values, in their order: the smallest false-discovery rate at which each is accepted."""
    values = np.asarray(p, dtype=np.float64)
    if len(values) == 0:
        return values
    order = np.argsort(values, kind="stable")
    ranked = values[order] * len(values) / np.arange(1, len(values) + 1)
    q = np.empty_like(values)
    q[order] = np.minimum(1.0, np.minimum.accumulate(ranked[::-1])[::-1])
    return q
