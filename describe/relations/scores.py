"""How strongly heads implement a relation, from the lists of first targets: scores, each with its null.

φ_k is the share of pairs (s, t) with t among the k first targets of s (MAPS, section 3.1). A head that
writes the same words whatever it reads has a high φ, so nothing here stands without what the same lists give
when the targets are shuffled among the sources (method, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

KS = (1, 3, 5, 10, 25)
"""MAPS uses 10 and, where many words copy themselves anyway, 1; for large vocabularies 25 and 3 (section 3.1)."""
LARGE_VOCABULARY = 100_000
"""MAPS takes 25 and 3 for Llama-3 (128,256 tokens), 10 and 1 for GPT-2 and Pythia (about 50,000)."""
PERMUTATIONS = (199, 1999, 9999)
"""Random re-pairings, more of them the smaller the p-value is."""
CERTAIN, UNCERTAIN = 1e-4, 0.1
"""A bound on the p-value stands for it outside these: below, re-pairings could not resolve it; above, no rate of
false discoveries in use accepts it."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TokenPairs:
    """A relation on one vocabulary: n pairs of one source row and one target each.

    `rows` [n] index the lists of first targets, `targets` [n] are positions among the eligible targets, `own`
    [n] those of the sources themselves as targets, −1 for a source that is no single token.
    """

    rows: Ints
    targets: Ints
    own: Ints

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.rows)

    @cached_property
    def distinct(self) -> Ints:
        """The distinct targets in ascending order, [D]."""
        return np.unique(self.targets)

    @cached_property
    def which(self) -> Ints:
        """The place of each pair's target among the distinct ones, [n]."""
        return np.searchsorted(self.distinct, self.targets)


@dataclass(frozen=True)
class Scores:
    """Of one relation in one direction for H heads, at K values of k."""

    score: Floats  # [H, K] share of the pairs
    null_mean: Floats  # [H, K] exact mean over all re-pairings of sources and targets
    p_value: Floats  # [H, K] P(score at least this high) over re-pairings
    identity: Floats  # [H, K] the score with each source as its own target; NaN where that means nothing
    mean_reciprocal_rank: Floats  # [H]; a rank beyond the lists counts 0

    @property
    def lift(self) -> Floats:
        """Score over the null, [H, K]."""
        return self.score - self.null_mean


def main_k(copying: bool, n_vocab: int) -> int:
    """The k at which MAPS reads a relation: smaller for copying, larger for large vocabularies."""
    if n_vocab > LARGE_VOCABULARY:
        return 3 if copying else 25
    return 1 if copying else 10


def scores(
    lists: NDArray[np.int64], pairs: TokenPairs, n_vocab: int, seed: int, ks: tuple[int, ...] = KS
) -> Scores:
    """Score one relation.

    Args:
        lists: [H, R, N] first targets of every row, best first; N at least the largest k.
        pairs: the relation on this vocabulary.
        n_vocab: number of eligible targets.
        seed: of the re-pairings; every head, direction and k sees the same ones.
        ks: values of k.
    """
    n, deepest = pairs.n, max(ks)
    distinct, which = pairs.distinct, pairs.which
    counts = np.bincount(which)
    column = np.full(n_vocab, len(distinct))  # of a target that is not in the relation: one past the last
    column[distinct] = np.arange(len(distinct))
    listed = lists[:, pairs.rows, :deepest]  # [H, n, N]
    columns = column[listed]
    cut = np.asarray(ks) - 1
    # Pairs whose own target, and whose source itself, stand at each place of the lists: [H, N].
    hits = (columns == which[None, :, None]).sum(1)
    same = (listed == pairs.own[None, :, None]).sum(1)
    # Targets of the relation among the first k of each row, each as often as the relation has it: [H, n, K].
    row_hits = np.append(counts, 0)[columns].cumsum(2)[:, :, cut]
    n_hits = hits.cumsum(1)[:, cut]
    return Scores(
        score=n_hits / n,
        null_mean=row_hits.sum(1) / n**2,
        p_value=_p_values(columns, which, counts, n_hits, row_hits, seed, ks),
        identity=np.where((pairs.own >= 0).all(), same.cumsum(1)[:, cut] / n, np.nan),
        mean_reciprocal_rank=(hits / np.arange(1, deepest + 1)).sum(1) / n,
    )


def _p_values(
    columns: Ints, which: Ints, counts: Ints, n_hits: Ints, row_hits: Ints, seed: int, ks: tuple[int, ...]
) -> Floats:
    """P(T ≥ hits) over re-pairings, [H, K]: bounds where they settle it, random re-pairings elsewhere."""
    H, n = columns.shape[:2]
    p = np.ones(n_hits.shape)
    excess = n_hits - row_hits.sum(1) / n
    above = excess > 1e-9
    if not above.any():
        return p
    bound = tail_bounds(n_hits[above], row_hits.transpose(0, 2, 1)[above])
    # Cantelli's inequality with the exact variance (Hoeffding, 1951) settles what is nowhere near the tail.
    spread = np.empty(n_hits.shape)
    offsets = np.arange(H)[:, None, None] * (len(counts) + 1)
    for place, k in enumerate(ks):
        flat = np.bincount((columns[:, :, :k] + offsets).ravel(), minlength=H * (len(counts) + 1))
        spread[:, place] = (counts * flat.reshape(H, -1)[:, :-1] ** 2).sum(1)
    total = row_hits.sum(1)
    rows = (row_hits**2).sum(1)
    variance = (total - rows / n - spread / n + total**2 / n**2) / max(1, n - 1)
    cantelli = variance[above] / (variance[above] + excess[above] ** 2)
    p[above] = np.minimum(bound, cantelli)
    for h, place in zip(*np.nonzero(above), strict=True):
        if CERTAIN <= p[h, place] < UNCERTAIN:
            table = np.zeros((n, len(counts) + 1), dtype=bool)
            table[np.arange(n)[:, None], columns[h, :, : ks[place]]] = True
            p[h, place] = _repaired(table, which, int(n_hits[h, place]), seed)
    return p


def tail_bounds(hits: Ints, row_hits: Ints) -> Floats:
    """Upper bounds of P(T ≥ hits), T the hits of a random re-pairing: [T] tests.

    P(T ≥ t) ≤ E[C(T, t)] = r_t (n − t)! / n!, with r_t the rook number: the ways to choose t entries of the
    table that are hits and share neither source nor target. It is at most the elementary symmetric polynomial
    e_t of the hits by row. Useful far in the tail, where random re-pairings say no more than "rarer than
    all that were drawn".

    Args:
        hits: [T] what was observed.
        row_hits: [T, n] how many of the n targets hit each row.
    """
    n = row_hits.shape[1]
    most = int(hits.max(initial=0))
    steps = 1.0 / (n - np.arange(1, most + 1) + 1)
    terms = np.zeros((len(hits), most + 1))  # e_t (n − t)! / n!, which stays small where the bound is useful
    terms[:, 0] = 1.0
    for row in row_hits.T[row_hits.any(0)]:
        terms[:, 1:] += row[:, None] * steps * terms[:, :-1]
        np.minimum(terms, 1e200, out=terms)
    return np.minimum(1.0, terms[np.arange(len(hits)), hits])


def _repaired(table: NDArray[np.bool_], which: Ints, hits: int, seed: int) -> float:
    """P(T ≥ hits) by random re-pairings with the +1 correction (Phipson & Smyth, 2010).

    Args:
        table: [n, distinct + 1] which target hits which row.
        which: [n] column of each pair's own target.
        hits: what was observed.
        seed: of the re-pairings.
    """
    n = len(which)
    for permutations in PERMUTATIONS:
        orders = _orders(n, permutations, seed)
        reached = 1 + int((table[np.arange(n), which[orders]].sum(1) >= hits).sum())
        if reached > 20:  # the first digit is known
            break
    return reached / (1 + permutations)


@lru_cache(maxsize=512)
def _orders(n: int, permutations: int, seed: int) -> NDArray[np.int16]:
    generator = np.random.default_rng((seed, n, permutations))
    return generator.permuted(np.tile(np.arange(n, dtype=np.int16), (permutations, 1)), axis=1)


def within_class(values: Floats, pairs: TokenPairs) -> tuple[Floats, Floats]:
    """Share of pairs whose target is the highest (the lowest) among the relation's own targets: ([H], [H]).

    The mean row of the class is taken off first, and the source itself is no candidate: what is left is
    whether the head tells the members apart (method, section 4).

    Args:
        values: [H, n, D] entries of M for each pair's source and each distinct target.
        pairs: the relation.

    Returns:
        NaN where there is only one target to choose from.
    """
    distinct, which = pairs.distinct, pairs.which
    if len(distinct) < 2:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    left = values - values.mean(1, keepdims=True)
    itself = (pairs.own[:, None] == distinct) & (which[:, None] != np.arange(len(distinct)))
    high = np.where(itself, -np.inf, left).argmax(2) == which
    low = np.where(itself, np.inf, left).argmin(2) == which
    return high.mean(1), low.mean(1)
