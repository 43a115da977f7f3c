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
    [n] those of the sources themselves as targets, and `turned` [n] the rows of the targets as sources; both −1
    where sources are no single tokens.
    """

    rows: Ints
    targets: Ints
    own: Ints
    turned: Ints

    @property
    def is_read_backwards(self) -> bool:
        """Whether the sources are targets too, so that identity and reversed controls mean something."""
        return bool((self.own >= 0).all() and (self.turned >= 0).all())

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
    reversed: Floats  # [H, K] … and with targets as sources of their sources
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
        lists: [H, R, N] first targets of every row, best first, N at least the largest k; −1 in rows that
            list nothing which the relation asks for.
        pairs: the relation on this vocabulary.
        n_vocab: number of eligible targets.
        seed: of the re-pairings; every head, direction and k sees the same ones.
        ks: values of k.
    """
    n, which, deepest = pairs.n, pairs.which, max(ks)
    counts = np.bincount(which)
    listed = lists[:, pairs.rows, :deepest]  # [H, n, N]
    columns = _columns(listed, pairs, n_vocab)
    cut = np.asarray(ks) - 1
    # Pairs whose own target stands at each place of the lists: [H, N].
    hits = (columns == which[None, :, None]).sum(1)
    controls = [np.full((len(lists), len(ks)), np.nan)] * 2
    if pairs.is_read_backwards:
        controls = [
            (found == pairs.own[None, :, None]).sum(1).cumsum(1)[:, cut] / n
            for found in (listed, lists[:, pairs.turned, :deepest])
        ]
    # Targets of the relation among the first k of each row, each as often as the relation has it: [H, n, K].
    row_hits = np.append(counts, 0)[columns].cumsum(2)[:, :, cut]
    n_hits = hits.cumsum(1)[:, cut]
    return Scores(
        score=n_hits / n,
        null_mean=row_hits.sum(1) / n**2,
        p_value=_p_values(columns, which, counts, n_hits, row_hits, seed, ks),
        identity=controls[0],
        reversed=controls[1],
        mean_reciprocal_rank=(hits / np.arange(1, deepest + 1)).sum(1) / n,
    )


def hits_and_null(lists: NDArray[np.int64], pairs: TokenPairs, n_vocab: int) -> tuple[Ints, Floats]:
    """The part of `scores` that asks no p-value, at one k: pairs that hit, and the null's mean score; [H] each.

    Args:
        lists: [H, R, k], as for `scores`.
        pairs: the relation on this vocabulary.
        n_vocab: number of eligible targets.
    """
    columns = _columns(lists[:, pairs.rows], pairs, n_vocab)
    row_hits = np.append(np.bincount(pairs.which), 0)[columns]
    return (columns == pairs.which[None, :, None]).sum((1, 2)), row_hits.sum((1, 2)) / pairs.n**2


def _columns(listed: Ints, pairs: TokenPairs, n_vocab: int) -> Ints:
    """Listed targets as places among the relation's distinct ones; all others one past the last."""
    # Also in the last place, where −1, no target, looks it up.
    column = np.full(n_vocab + 1, len(pairs.distinct))
    column[pairs.distinct] = np.arange(len(pairs.distinct))
    return column[listed]


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
            hit = (row_hits[h, :, place] > 0).nonzero()[0]  # all other rows are hit by none
            table = np.zeros((len(hit), len(counts) + 1), dtype=bool)
            table[np.arange(len(hit))[:, None], columns[h, hit, : ks[place]]] = True
            p[h, place] = _repaired(table[:, which], hit, int(n_hits[h, place]), seed)
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


def _repaired(table: NDArray[np.bool_], rows: Ints, hits: int, seed: int) -> float:
    """P(T ≥ hits) by random re-pairings with the +1 correction (Phipson & Smyth, 2010).

    Args:
        table: [rows, n] which pair's target hits which row.
        rows: [rows] the rows that any target hits.
        hits: what was observed.
        seed: of the re-pairings.
    """
    for permutations in PERMUTATIONS:
        orders = _orders(table.shape[1], permutations, seed)
        counts = np.zeros(permutations, np.int16)
        for row, hit in zip(rows, table, strict=True):
            counts += hit[orders[row]]
        reached = 1 + int((counts >= hits).sum())
        if reached > 20:  # the first digit is known
            break
    return reached / (1 + permutations)


@lru_cache(maxsize=512)
def _orders(n: int, permutations: int, seed: int) -> NDArray[np.int16]:
    """Random re-pairings of n rows, [n, permutations]: which pair's target each row gets."""
    generator = np.random.default_rng((seed, n, permutations))
    orders = generator.permuted(np.tile(np.arange(n, dtype=np.int16), (permutations, 1)), axis=1)
    return np.ascontiguousarray(orders.T)


def within_class(values: NDArray[np.floating], pairs: TokenPairs) -> tuple[float, float]:
    """Share of pairs whose target is the highest (the lowest) among the relation's own targets.

    The mean row of the class is taken off first, and the source itself is no candidate: what is left is
    whether the head tells the members apart (method, section 4).

    Args:
        values: [n, D] entries of M for each pair's source and each distinct target.
        pairs: the relation.

    Returns:
        NaN where there is only one target to choose from.
    """
    distinct, which = pairs.distinct, pairs.which
    if len(distinct) < 2:
        return np.nan, np.nan
    left = values - values.mean(0)
    itself = (pairs.own[:, None] == distinct) & (which[:, None] != np.arange(len(distinct)))
    high = np.where(itself, -np.inf, left).argmax(1) == which
    low = np.where(itself, np.inf, left).argmin(1) == which
    return float(high.mean()), float(low.mean())
